/**
 * A token's permissions ∩ its subject's grants, compiled. Most sessions hold the same two, so the compiled copy hangs on the array
 * of grants and is shared by all of them; it goes with the array.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { CompiledPermissions, Permission } from '../../cmtp/permission.ts'
import { compilePermissions, intersectPermissions, parsePermissions } from '../../cmtp/permission.ts'

/** Different tokens' permissions kept compiled for one array of grants. */
const COMPILED_SETS = 256

export class Rules {
  readonly #compiled = new WeakMap<readonly Permission[], Map<string, CompiledPermissions>>()

  /** Throws `CMESH_IAM_NO_SESSION` for permissions that are none. */
  of(perms: readonly string[], grants: readonly Permission[]): CompiledPermissions {
    let compiled = this.#compiled.get(grants)
    if (compiled === undefined || compiled.size >= COMPILED_SETS) {
      compiled = new Map<string, CompiledPermissions>()
      this.#compiled.set(grants, compiled)
    }
    const text = JSON.stringify(perms)
    let rules = compiled.get(text)
    if (rules === undefined) compiled.set(text, rules = compilePermissions(intersectPermissions(parse(perms), grants)))
    return rules
  }
}

function parse(perms: readonly string[]): readonly Permission[] {
  try {
    return parsePermissions(perms)
  } catch (cause) {
    if (!(cause instanceof CMeshError)) throw cause
    throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'the token has no valid perms' }, { cause })
  }
}

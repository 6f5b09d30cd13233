/**
 * Whether who asked for a transaction may have it, decided where it is ordered: from the log alone, so that every replica decides
 * alike. The guard decided before, by what its node knew then; what was granted, taken back or banned meanwhile is found here.
 *
 * Not asked again: what a session is like (assurance, attributes), which the log does not carry. Neither a clock nor a token is ever seen:
 * time is the log's, and of a token there is only what the caller signed of it.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { isContractAddress, type Route } from '../../cmtp/fqmn.ts'
import { checkRequestProof, needsProof } from '../../cmtp/identity/request-proof.ts'
import { actionName, actionOf, allowedBy, compilePermissions, type CompiledPermissions, type Permission } from '../../cmtp/permission.ts'
import { JOIN_FQMN } from '../contracts/members.ts'
import { contractRefusal } from '../iam/contract-principal.ts'
import { readRecord, readSeq, RECHECK_KEY, REVOKED_KEY } from '../iam/records.ts'
import { Rights } from '../iam/rights.ts'
import { isRotated } from '../iam/rotations.ts'
import type { Transaction } from './batch.ts'
import { SYSTEM_SPACE, type TransactionContext } from './transaction.ts'

export interface Authority {
  /** Throws `CMESH_IAM_REVOKED`, `CMESH_IAM_DENIED` or `CMESH_IAM_PROOF`, which becomes the transaction's outcome. */
  check(transaction: Transaction, route: Route, context: Pick<TransactionContext, 'system' | 'timeMs' | 'seq'>): void
}

const OF_MEMBERS: ReadonlySet<string> = new Set(['answer', 'checkpoint', 'epoch', 'settled', 'skipped'])

/** The mesh's authority: the records of the system space, from the block on that `recheck` names. A log from before it runs as it did. */
export class OrderedAuthority implements Authority {
  readonly #rights = new Rights()
  readonly #compiled = new WeakMap<readonly Permission[], CompiledPermissions>()

  check(transaction: Transaction, route: Route, { system, timeMs, seq }: Pick<TransactionContext, 'system' | 'timeMs' | 'seq'>): void {
    const from = readSeq(system, RECHECK_KEY)
    if (from === 0 || seq < from) return
    const { sub, sid } = transaction
    // Whoever is none yet has no right but this one, which its certificate gives.
    if (sid === '' && route.bare === JOIN_FQMN) return
    if (isContractAddress(sub)) {
      if (contractRefusal(sub, route) !== undefined) throw denied(route)
      return
    }
    if (this.#rights.isMember(system, sub) && isOfMembers(route)) return
    if (this.#rights.isBanned(system, sub) || isRotated(system, sub)) throw new CMeshError('CMESH_IAM_REVOKED', { what: 'identity' })
    if (sid !== '' && system.get(REVOKED_KEY) !== undefined && readRecord<Record<string, number>>(system, REVOKED_KEY)?.[sid] !== undefined) {
      throw new CMeshError('CMESH_IAM_REVOKED', { what: 'session' })
    }
    if (allowedBy(this.#compile(this.#rights.of(system, sub, timeMs, 'log')), actionOf(route), route) === undefined) throw denied(route)
    if (!needsProof(route)) return
    const { id, fqmn, body, deadlineMs, proof } = transaction
    checkRequestProof(proof, { sub, id, fqmn, body, deadlineMs })
  }

  #compile(permissions: readonly Permission[]): CompiledPermissions {
    let compiled = this.#compiled.get(permissions)
    if (compiled === undefined) this.#compiled.set(permissions, compiled = compilePermissions(permissions))
    return compiled
  }
}

/**
 * What members order in the mesh's own name: answers to contracts, the first checkpoint, the beginning of an epoch, the end of delayed calls, and rights that the
 * configuration carries into the log.
 */
function isOfMembers({ service, segments: [contract, name = ''] }: Route): boolean {
  return service === 'I' || (service === 'S' && contract === SYSTEM_SPACE && OF_MEMBERS.has(name))
}

function denied(route: Route): CMeshError {
  return new CMeshError('CMESH_IAM_DENIED', { permission: actionName(actionOf(route)), fqmn: route.bare })
}

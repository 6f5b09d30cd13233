/** Why an identity may do what an address asks for, or what it lacks: the answer to `0xI:explain`. It reads the book and decides nothing. */
import type { Route } from '../../cmtp/fqmn.ts'
import { actionName, actionOf, allowedBy, compilePermissions, OPERATOR_SET, parsePermission, parsePermissions, type Permission } from '../../cmtp/permission.ts'
import { conditionOf, isMet, type Condition } from './conditions.ts'
import type { GrantBook } from './grant-book.ts'
import { NODE_SET } from './grants.ts'
import { heirOf, isRotated } from './rotations.ts'

export interface Reason {
  readonly from: 'operator' | 'member' | 'newcomer' | 'grant' | 'capability'
  /** The pattern or permission that allows it. */
  readonly perm: string
  /** Of a grant: its id, who granted it, and its conditions; of a capability: its last link, and whose rights it hands on. */
  readonly id?: string
  readonly by?: string
  readonly condition?: Condition
}

export interface Explanation {
  readonly did: string
  readonly fqmn: string
  readonly allowed: boolean
  /** Everything that allows it now. */
  readonly by: readonly Reason[]
  /** What would, for a session or at a time that meets its conditions. */
  readonly conditional: readonly Reason[]
  /** The permission that would allow it and nothing else; `null` where it is allowed. */
  readonly missing: string | null
  readonly banned: boolean
  /** Which DID counts for it today, where another took its place. */
  readonly rotatedTo?: string
}

export function explain(book: GrantBook, did: string, route: Route, nowMs: number): Explanation {
  const { rights, records } = book
  const action = actionOf(route)
  const banned = book.isBanned(did)
  const rotated = isRotated(records, did)
  const out = banned || rotated
  const allows = (permissions: readonly Permission[]): string | undefined => allowedBy(compilePermissions(permissions), action, route)
  const by: Reason[] = []
  const conditional: Reason[] = []
  const base = rights.base(records, did)
  const pattern = allows(base)
  if (pattern !== undefined) by.push({ from: base === OPERATOR_SET ? 'operator' : base === NODE_SET ? 'member' : 'newcomer', perm: `${actionName(action)} ${pattern}` })
  for (const grant of base === OPERATOR_SET ? [] : book.grants(did)) {
    if (allows([parsePermission(grant.perm)]) === undefined) continue
    const condition = conditionOf(grant)
    const reason: Reason = { from: 'grant', perm: grant.perm, id: grant.id, by: grant.by, ...(Object.keys(condition).length > 0 && { condition }) }
    if (isMet(grant, nowMs, 'none')) by.push(reason)
    else if (isMet(grant, nowMs, 'ever')) conditional.push(reason)
  }
  for (const cap of book.capabilities(did)) {
    const held = cap.live ? allows(parsePermissions(cap.perms)) : undefined
    if (held === undefined || allows(rights.rootOf(records, cap, nowMs)) === undefined) continue
    by.push({ from: 'capability', perm: `${actionName(action)} ${held}`, id: cap.links.at(-1)?.jti as string, by: cap.root })
  }
  const allowed = !out && by.length > 0
  return {
    did, fqmn: route.text, allowed, by: out ? [] : by, conditional: out ? [] : conditional,
    missing: allowed ? null : `${actionName(action)} ${route.bare}`, banned, ...(rotated && { rotatedTo: heirOf(records, did) }),
  }
}

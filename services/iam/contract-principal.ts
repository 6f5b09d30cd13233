/**
 * What a contract may ask for in its own name. A contract has no session and nobody grants it anything: it acts under these
 * rules alone, whoever called it. Deterministic, since a refusal is part of a transaction's result.
 *
 * It may read what a newcomer may, call any function of any contract but the system's, and publish on channels that begin
 * with `contracts.<its address>.`.
 */
import type { Route } from '../../cmtp/fqmn.ts'
import { actionOf, compilePermissions, covers, NEWCOMER_READ_SET } from '../../cmtp/permission.ts'

const SYSTEM_CONTRACT = '0x000'
const READS = compilePermissions(NEWCOMER_READ_SET)

/** Why the contract may not ask for the address; `undefined` when it may. The address has to be checked again once its names are resolved. */
export function contractRefusal(contract: string, route: Route): string | undefined {
  const [first = ''] = route.segments
  if (!route.write) {
    if (route.service === 'S' && first === SYSTEM_CONTRACT) return `${route.bare} belongs to the system contract`
    // A tail relays to an inbox, which a contract does not have.
    if (route.service === 'E' && route.segments.at(-1) === 'tail') return 'a contract cannot follow a channel'
    return covers(READS, actionOf(route), route) ? undefined : `a contract may not read ${route.bare}`
  }
  switch (route.service) {
    case 'S':
      return first === SYSTEM_CONTRACT ? `${route.bare} belongs to the system contract` : undefined
    case 'E':
      if (route.inner === undefined && first.startsWith(`contracts.${contract}.`)) return undefined
      return `a contract publishes on channels that begin with contracts.${contract}. alone, not on ${route.bare}`
    default:
      return `a contract may not write to ${route.bare}`
  }
}

/**
 * What this node orders when it starts: that every transaction is checked against the ordered grants and that the log has checkpoints, each
 * once in the life of a mesh, and the grants of its configuration where they are missing. Each of those has an id that follows from what it says, so nothing is
 * granted twice, and what was taken back stays so.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../cmtp/errors.ts'
import { formatPermission, type Permission } from '../cmtp/permission.ts'
import type { GrantBook } from '../services/iam/grant-book.ts'
import { RECHECK_KEY, seededKey } from '../services/iam/records.ts'
import type { Log } from '../services/log.ts'
import { CHECKPOINT_KEY } from '../services/state/checkpoints.ts'
import type { StateService } from '../services/state/service.ts'

export interface SeedParts {
  readonly book: GrantBook
  readonly state: Pick<StateService, 'orderOwn'>
  /** This node's DID. */
  readonly node: string
  /** As `parseGrants` gives it. */
  readonly granted: ReadonlyMap<string, readonly Permission[]>
  readonly log: Log
}

/**
 * Resolves when what was missing is durable; rejects as `StateService.orderOwn` does, but for a grant that the mesh refuses: that one is
 * left out and told of, as it would be refused at every start. A node that is no member orders nothing.
 */
export async function orderSeeds({ book, state, node, granted, log }: SeedParts): Promise<void> {
  if (!book.rights.isMember(book.records, node)) return
  const orders: Promise<void>[] = []
  if (book.records.get(RECHECK_KEY) === undefined) orders.push(state.orderOwn('0xIW:recheck', {}))
  if (book.records.get(CHECKPOINT_KEY) === undefined) orders.push(state.orderOwn('0xSW:0x000:checkpoint', {}))
  for (const [did, permissions] of granted) {
    const standing = new Set(book.grants(did).map(grant => grant.id))
    for (const permission of permissions.map(formatPermission)) {
      const seed = seedOf(did, permission)
      if (!standing.has(seed) && book.records.get(seededKey(seed)) === undefined) {
        orders.push(state.orderOwn('0xIW:grant', { did, permission, seed }).catch((error: unknown) => {
          if (!(error instanceof CMeshError) || error.retry !== 'terminal' || error.status >= 500) throw error
          log.warn({ err: error, code: error.code, did, permission }, 'a grant of iam.grants was refused; the node goes on without it')
        }))
      }
    }
  }
  // All of one turn, so that they are ordered together.
  await Promise.all(orders)
}

/** The id of a grant of the configuration: 32 hex digits. */
export function seedOf(did: string, permission: string): string {
  return hash('sha256', `CMesh/1 seed\n${did}\n${permission}`, 'hex').slice(0, 32)
}

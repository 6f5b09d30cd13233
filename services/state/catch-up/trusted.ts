/**
 * The place in the log that a node can trust before it has the log: one that a quorum of members claims alike. Claims are signed; where the
 * node's own log does not say yet who the members are, those count that the mesh certified, and the log that comes of it is asked afterwards.
 */
import { decodeClaim, verifyClaim } from '../../../cmtp/claim.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { CLAIM_SUBJECT } from '../../../cmtp/subject.ts'
import type { Bus } from '../../bus/provider.ts'
import { quorumOf } from '../../consensus/provider.ts'
import type { LogAnchor } from '../provider.ts'

export interface TrustedParts {
  readonly bus: Pick<Bus, 'subscribe'>
  /** DIDs whose claims count. */
  readonly members: () => readonly string[]
  readonly verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean
  /** How long a quorum may take to say the same, in ms. Default 15,000. */
  readonly timeoutMs?: number
  /**
   * Where nobody knows yet who the members are, and `members` says who may be one: how long to listen before anything is trusted, in ms.
   * A quorum is then one of all that claimed anything at all, so that no single one is believed because it was heard first. Default: they are known.
   */
  readonly settleMs?: number
  /** How many have to claim it, where those whose claims count are not all that there are. Default: a quorum of those. */
  readonly quorum?: () => number
  /** ms. Default: the process's own. */
  readonly nowMs?: () => number
}

export interface Trusted extends LogAnchor {
  /** DIDs of those that claim it. */
  readonly by: readonly string[]
}

/** Most different places that are remembered of one member: it says one each a group commit. */
const PLACES = 1_024

/** Resolves with the first place at or behind `upTo` that a quorum claims. Rejects with `CMESH_STATE_CATCH_UP` when none does in time. */
export function trustedHead(parts: TrustedParts, upTo: number): Promise<Trusted> {
  const { bus, members, verify, quorum, timeoutMs = 15_000, settleMs = 0, nowMs = () => performance.now() } = parts
  const settledMs = nowMs() + settleMs
  return new Promise((resolve, reject) => {
    /** What each has claimed, by its DID: nobody takes the room of another's. */
    const said = new Map<string, Set<string>>()
    const end = (): void => {
      clearTimeout(late)
      subscription.unsubscribe()
    }
    const late = setTimeout(() => {
      end()
      reject(new CMeshError('CMESH_STATE_CATCH_UP', { reason: `no quorum of the members claims the same place from sequence ${upTo} on` }))
    }, timeoutMs)
    const subscription = bus.subscribe(CLAIM_SUBJECT, ({ data }) => {
      const claim = decodeClaim(data)
      const all = members()
      if (claim === undefined || !all.includes(claim.did) || !verifyClaim(claim, verify)) return
      const { did, epoch, seq, chain } = claim
      const places = said.get(did) ?? new Set<string>()
      said.set(did, places)
      if (seq < upTo) return
      const place = `${epoch} ${seq} ${chain}`
      places.add(place)
      for (const oldest of places) {
        if (places.size <= PLACES) break
        places.delete(oldest)
      }
      const counted = settleMs === 0 ? all : all.filter(each => said.has(each))
      const by = counted.filter(each => said.get(each)?.has(place))
      if (by.length < (quorum?.() ?? quorumOf(counted)) || nowMs() < settledMs) return
      end()
      resolve({ epoch, seq, chain: Buffer.from(chain, 'hex'), by })
    })
  })
}

/** Whether those that claimed a place are a quorum of the members that the log itself names. */
export function isTrusted({ by }: Pick<Trusted, 'by'>, members: readonly string[]): boolean {
  return by.filter(did => members.includes(did)).length >= quorumOf(members)
}

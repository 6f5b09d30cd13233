/**
 * The place in the log that a node can trust before it has the log: one that a quorum of members claims alike. Claims are signed; where the
 * node's own log does not say yet who the members are, those count that the mesh certified, and the log that comes of it is asked afterwards.
 */
import { decodeClaim, verifyClaim, type Claim } from '../../../cmtp/claim.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { CLAIM_SUBJECT } from '../../../cmtp/subject.ts'
import type { Bus } from '../../bus/provider.ts'
import type { LogAnchor } from '../provider.ts'

export interface TrustedParts {
  readonly bus: Pick<Bus, 'subscribe'>
  /** DIDs whose claims count. */
  readonly members: () => readonly string[]
  readonly verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean
  /** How long a quorum may take to say the same, in ms. Default 15,000. */
  readonly timeoutMs?: number
}

export interface Trusted extends LogAnchor {
  /** DIDs of those that claim it. */
  readonly by: readonly string[]
}

/** Most different places that are remembered: members say one each a group commit. */
const PLACES = 4_096

/** Resolves with the first place at or behind `upTo` that a quorum claims. Rejects with `CMESH_STATE_CATCH_UP` when none does in time. */
export function trustedHead({ bus, members, verify, timeoutMs = 15_000 }: TrustedParts, upTo: number): Promise<Trusted> {
  return new Promise((resolve, reject) => {
    const places = new Map<string, Map<string, Claim>>()
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
      if (claim === undefined || claim.seq < upTo || !all.includes(claim.did) || !verifyClaim(claim, verify)) return
      const place = `${claim.epoch} ${claim.seq} ${claim.chain}`
      const by = places.get(place) ?? new Map<string, Claim>()
      if (places.size >= PLACES) places.clear()
      places.set(place, by.set(claim.did, claim))
      if (by.size < quorumOf(all)) return
      end()
      resolve({ epoch: claim.epoch, seq: claim.seq, chain: Buffer.from(claim.chain, 'hex'), by: [...by.keys()] })
    })
  })
}

/** Throws `CMESH_STATE_CATCH_UP` when those that claimed a place are no quorum of the members that the log itself names. */
export function checkTrusted({ by }: Trusted, members: readonly string[]): void {
  if (by.filter(did => members.includes(did)).length >= quorumOf(members)) return
  throw new CMeshError('CMESH_STATE_CATCH_UP', { reason: 'those that claimed the log are no quorum of the members that it names' })
}

function quorumOf(members: readonly string[]): number {
  return Math.floor(members.length / 2) + 1
}

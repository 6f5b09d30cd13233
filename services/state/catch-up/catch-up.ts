/**
 * Brings a log up to a place that a quorum of members signed, with the blocks of any other replica and without executing anything. Which
 * replica sends them does not matter, for only what hashes to the signed chain value gets into the log.
 *
 * Invariants: the log is not touched before everything up to the signed place is held and checked; whatever others send costs time and
 * disk, bounded, and nothing else; what was received goes on being good when the one that sent it goes away.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Bus } from '../../bus/provider.ts'
import type { LogBefore } from '../../consensus/provider.ts'
import type { Log } from '../../log.ts'
import type { Block, HeldBlocks, LogAnchor, StateHead, StateStore } from '../provider.ts'
import { Descent } from './descent.ts'
import { divergedAt } from './divergence.ts'
import { Peer } from './peer.ts'
import { Peers } from './peers.ts'

export interface CatchUpProgress {
  /** Received and checked so far, of how many. */
  readonly blocks: number
  readonly of: number
  readonly bytes: number
}

export interface CatchUpParts {
  /** The connection of the services. */
  readonly bus: Pick<Bus, 'request' | 'subscribe' | 'publish'>
  /** DID of this node. */
  readonly did: string
  readonly store: Pick<StateStore, 'head' | 'replica' | 'flush'>
  readonly log: Log
  /** How long one answer may take, in ms. Default 5,000. */
  readonly timeoutMs?: number
  /** How long others may take to say that they are there, in ms. Default 1,000. */
  readonly answerMs?: number
  /** How often all others are tried. Default 3. */
  readonly rounds?: number
  /** Takes back what this node has claimed of its log: called before it is noted that the log counts no more. Default: nothing was claimed. */
  readonly forget?: () => Promise<void>
}

export interface CatchUpTask {
  /** What a quorum of the members signed. */
  readonly trusted: LogAnchor
  /** Sees each block, in order, after its writes are in the spaces. */
  readonly onBlock: (block: Block) => void
  /** Called once all of it is held and checked, and waited for before any of it gets into the log. */
  readonly onHeld?: () => Promise<void>
  readonly onProgress?: (progress: CatchUpProgress) => void
  readonly signal?: AbortSignal
}

/**
 * Resolves with the new head, which is the trusted one, once it is durable; with the old one where that goes further. Rejects with
 * `CMESH_STATE_CATCH_UP` when no other replica could give what is missing, `CMESH_STATE_DIVERGED` when this log is not the one that
 * the quorum has (that is noted then, and nothing else changed), `CMESH_STATE_FULL`, or `CMESH_CLIENT_ABORTED`. Nothing may be committed meanwhile.
 */
export async function catchUp(parts: CatchUpParts, task: CatchUpTask): Promise<StateHead> {
  const { head: from, replica } = parts.store
  const { trusted, onBlock } = task
  if (trusted.seq < from.seq || (trusted.seq === from.seq && same(trusted.chain, from.chain))) return from
  if (replica === undefined) throw failed('the state of this node keeps no blocks')
  if (trusted.seq === from.seq) throw await divergedAt(parts, trusted)
  const held = await replica.hold()
  try {
    const descent = await receive(parts, task, held)
    if (!same(descent.low.chain, from.chain)) throw await divergedAt(parts, { epoch: trusted.epoch, ...descent.low })
    await task.onHeld?.()
    const head = await held.ingest(descent.parts, onBlock)
    if (head.seq === trusted.seq && head.epoch === trusted.epoch && same(head.chain, trusted.chain)) return head
    throw new CMeshError('CMESH_STATE_HALTED', { reason: `what was received up to ${trusted.seq} changed on the disk before it was taken in` })
  } finally {
    await held.discard()
  }
}

/** Holds everything between the log and the trusted place. Rejects with `CMESH_STATE_CATCH_UP` where no other replica could give it. */
export async function receive(
  parts: CatchUpParts, { trusted, onProgress, signal }: Pick<CatchUpTask, 'onProgress' | 'signal'> & { readonly trusted: LogBefore }, held: HeldBlocks,
): Promise<Descent> {
  const { bus, did, store: { head: from }, log, timeoutMs = 5_000, answerMs = 1_000, rounds = 3 } = parts
  const descent = new Descent({
    held, from, trusted, onProgress: (blocks, bytes) => { onProgress?.({ blocks, of: trusted.seq - from.seq, bytes }) },
  })
  const peers = new Peers({ bus, did, answerMs })
  let reason = 'none that has them answered'
  try {
    for (let round = 0; round < rounds; round++) {
      const tried = new Set<string>()
      peers.ask()
      for (let peer = await peers.next(trusted.seq, tried); peer !== undefined; peer = await peers.next(trusted.seq, tried)) {
        tried.add(peer)
        try {
          await descent.with(new Peer(bus, peer, { timeoutMs, ...(signal !== undefined && { signal }) }))
          return descent
        } catch (thrown) {
          const error = CMeshError.from(thrown, 'catching up')
          if (!isPeersFault(error)) throw error
          reason = error.code === 'CMESH_STATE_CATCH_UP' ? String(error.detail['reason']) : error.message
          log.warn({ peer, code: error.code, reason, low: descent.low.seq }, 'another member could not give the blocks that this node lacks')
        }
      }
    }
  } finally {
    peers.close()
  }
  throw failed(reason)
}

/** What another one may do better; anything else is this node's. */
function isPeersFault({ code }: CMeshError): boolean {
  return code === 'CMESH_STATE_CATCH_UP' || code === 'CMESH_BUS_TIMEOUT' || code === 'CMESH_BUS_NO_RESPONDERS' || code === 'CMESH_BUS_DISCONNECTED'
}

function same(one: Uint8Array, other: Uint8Array): boolean {
  return Buffer.compare(one, other) === 0
}

function failed(reason: string): CMeshError {
  return new CMeshError('CMESH_STATE_CATCH_UP', { reason })
}

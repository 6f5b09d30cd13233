/**
 * Fetches the blocks between a log and a chain value that a quorum signed, from the end to the beginning: a block that hashes with the
 * chain value before it to one that is trusted makes that one trusted too. So every segment is known to be right when it is there, whoever
 * sent it, and who sends anything else is found out at the first.
 *
 * Invariants: what is counted as held is the quorum's; it grows downwards without a gap; a failed peer leaves it as it was.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import { chainAfter } from '../block.ts'
import { CHAIN_STEP, type HeldBlocks, type LogAnchor } from '../provider.ts'
import type { Peer } from './peer.ts'

/** Segments fetched at once from a peer that has shown itself good; one after another until then. */
const AT_ONCE = 8
/** A segment may take this long, and as much again for every so many bytes. */
const SEGMENT = Object.freeze({ ms: 15_000, bytesPerMs: 128 })

type Place = Pick<LogAnchor, 'seq' | 'chain'>

/** The blocks behind `before` up to `after`: at most `CHAIN_STEP`. */
interface Segment {
  readonly part: number
  readonly before: Place
  readonly after: Place
}

interface Failure { readonly thrown: unknown }

export interface DescentParts {
  readonly held: HeldBlocks
  /** Where the log ends. */
  readonly from: Place
  /** Up to where its blocks are wanted: trusted. */
  readonly trusted: Place
  /** Blocks and bytes that are held, each time there are more. */
  readonly onProgress: (blocks: number, bytes: number) => void
}

export class Descent {
  readonly #parts: DescentParts
  readonly #held: number[] = []
  #low: Place
  #part = 0
  #bytes = 0

  constructor(parts: DescentParts) {
    this.#parts = parts
    this.#low = parts.trusted
  }

  /** What is held begins behind this place, which is as trusted as the end. */
  get low(): Place {
    return this.#low
  }

  /** Parts of what is held, oldest first. */
  get parts(): readonly number[] {
    return this.#held.toReversed()
  }

  /** Goes down to where the log ends, or rejects with what was wrong with the peer: what it had sent until then stays where it was right. */
  async with(peer: Peer): Promise<void> {
    const stop = new AbortController()
    const asked = peer.until(stop.signal)
    const segments = (await this.#segments(asked)).reverse()
    const running: { readonly segment: Segment, readonly done: Promise<number | Failure> }[] = []
    let failure: Failure | undefined
    for (let accepted = 0; accepted < segments.length && failure === undefined; accepted++) {
      const most = Math.min(AT_ONCE, 1 + accepted)
      for (let next = segments[accepted + running.length]; next !== undefined && running.length < most; next = segments[accepted + running.length]) {
        running.push({ segment: next, done: this.#fetch(asked, next).catch((thrown: unknown) => ({ thrown })) })
      }
      const first = running.shift()
      if (first === undefined) break
      const done = await first.done
      if (typeof done === 'number') this.#accept(first.segment, done)
      else {
        failure = done
        running.unshift(first)
      }
    }
    if (failure === undefined) return
    stop.abort()
    for (const { segment, done } of running) {
      await done
      await this.#parts.held.drop(segment.part)
    }
    throw failure.thrown
  }

  #accept({ part, before }: Segment, bytes: number): void {
    this.#held.push(part)
    this.#low = before
    this.#bytes += bytes
    this.#parts.onProgress(this.#parts.trusted.seq - before.seq, this.#bytes)
  }

  /** What is still wanted, oldest first, by the chain values that the peer gives. */
  async #segments(peer: Peer): Promise<Segment[]> {
    const { from } = this.#parts
    const first = (Math.floor(from.seq / CHAIN_STEP) + 1) * CHAIN_STEP
    const last = Math.floor((this.#low.seq - 1) / CHAIN_STEP) * CHAIN_STEP
    // Where its log is another than ours from the beginning, that shows in the end.
    const start = from.seq === 0 ? from : { seq: from.seq, chain: await peer.chainAt(from.seq) }
    const steps = (await peer.chains(first, last)).map((chain, i) => ({ seq: first + i * CHAIN_STEP, chain }))
    const places: readonly Place[] = [start, ...steps, this.#low]
    return places.slice(1).map((after, i) => ({ part: this.#part++, before: places[i] as Place, after }))
  }

  /** Resolves with how many bytes it has, once all of it is held. */
  async #fetch(peer: Peer, { part, before, after }: Segment): Promise<number> {
    const { held } = this.#parts
    const began = performance.now()
    let { seq, chain } = before
    let bytes = 0
    while (seq < after.seq) {
      const blocks = await peer.blocks(seq + 1, after.seq)
      for (const block of blocks) {
        chain = chainAfter(chain, block)
        bytes += block.length
      }
      seq += blocks.length
      if (performance.now() - began > SEGMENT.ms + bytes / SEGMENT.bytesPerMs) throw fault(peer, 'it is too slow')
      if (seq === after.seq && Buffer.compare(chain, after.chain) !== 0) throw fault(peer, `its blocks up to ${after.seq} are not those that a quorum signed`)
      await held.write(part, blocks)
    }
    return bytes
  }
}

function fault(peer: Peer, reason: string): CMeshError {
  return new CMeshError('CMESH_STATE_CATCH_UP', { reason: `${peer.did}: ${reason}` })
}

/**
 * What a node has said of its log, held against the log it finds when it starts: one that ends before that place has lost what was
 * acknowledged, and one with another chain there is another log. Either stops the node; nothing is numbered anew in silence.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { StateHead } from './provider.ts'

/** A state position that a node has claimed. */
export interface ClaimedPosition {
  readonly epoch: number
  readonly seq: number
  /** 32 bytes in hex. */
  readonly chain: string
  readonly timeMs: number
  /** Several nodes shared the order that the log was made by. */
  readonly shared?: true
}

/** Where the last claim is kept between runs. */
export interface LastClaim {
  /** `undefined` before there was one. */
  read(): ClaimedPosition | undefined
  /** May be lost in a crash: an older claim holds as well. */
  write(claim: ClaimedPosition): void
}

/** Digits of a chain value that an error shows. */
const SHOWN = 16

/** Holds one log against one claim while it is read back, and while the order adds to it. */
export class ClaimCheck {
  readonly #claim: ClaimedPosition | undefined
  #found: string | undefined

  constructor(claim: ClaimedPosition | undefined) {
    this.#claim = claim
  }

  /** Sequence that was claimed; 0 for none. */
  get claimed(): number {
    return this.#claim?.seq ?? 0
  }

  /** Told the head behind each block. */
  see({ seq, chain }: StateHead): void {
    if (seq === this.#claim?.seq) this.#found = Buffer.from(chain).toString('hex')
  }

  /** The epoch in which a log that ends at `head` goes on: a loss that was accepted has begun another. */
  epochBehind(head: StateHead): number {
    return Math.max(head.epoch, this.#claim?.epoch ?? 0)
  }

  /** Throws `CMESH_STATE_FORKED` when the block that was claimed was seen and is another. */
  checkChain(): void {
    if (this.#claim === undefined || this.#found === undefined || this.#found === this.#claim.chain) return
    const { seq, chain } = this.#claim
    throw new CMeshError('CMESH_STATE_FORKED', { seq, chain: this.#found.slice(0, SHOWN), claimed: chain.slice(0, SHOWN) })
  }

  /**
   * Throws `CMESH_CONSENSUS_ALONE` when this node is to order alone what other members ordered with it: nobody else would have what it
   * acknowledges, and the places it gives out are given out by them too.
   */
  checkAlone(others: number): void {
    if (others > 0 && this.#claim?.shared === true) throw new CMeshError('CMESH_CONSENSUS_ALONE', { count: others })
  }

  /** Throws `CMESH_STATE_BEHIND` when the log ends, at `head`, before the claim, `CMESH_STATE_FORKED` when it is another. */
  check(head: number): void {
    this.checkChain()
    if (head < this.claimed) throw new CMeshError('CMESH_STATE_BEHIND', { head, claimed: this.claimed })
  }
}

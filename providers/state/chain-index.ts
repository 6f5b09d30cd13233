/**
 * Chain values of sequences before the head, in memory: the newest, since replicas compare those, and every 256th, so that any other one
 * is found by reading the few blocks behind one of them. 32 bytes for each 256 blocks, whatever the length of the log.
 */
import { emptyChain } from '../../services/state/block.ts'
import { CHAIN_STEP, type StateHead } from '../../services/state/provider.ts'

const RECENT = 16_384

export class ChainIndex {
  readonly #recent: Uint8Array[] = []
  readonly #steps: Uint8Array[] = [emptyChain()]
  #seq = 0

  /** Takes the next sequence; they come densely, from 1. */
  add({ seq, chain }: Pick<StateHead, 'seq' | 'chain'>): void {
    this.#seq = seq
    this.#recent[seq % RECENT] = chain
    if (seq % CHAIN_STEP === 0) this.#steps.push(chain)
  }

  /** The nearest sequence at or below `seq` whose chain value is known. */
  nearest(seq: number): Pick<StateHead, 'seq' | 'chain'> {
    const recent = seq > this.#seq - RECENT ? this.#recent[seq % RECENT] : undefined
    if (seq > 0 && recent !== undefined) return { seq, chain: recent }
    const step = Math.floor(seq / CHAIN_STEP)
    return { seq: step * CHAIN_STEP, chain: this.#steps[step] as Uint8Array }
  }
}

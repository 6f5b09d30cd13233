/**
 * Chain values of sequences before the head, in memory: the newest, since replicas compare those, and every 256th, so that any other one
 * is found by reading the few blocks behind one of them. 32 bytes for each 256 blocks, whatever the length of the log. Of a log that began
 * with a snapshot those before it are not known until somebody asks: what is read then is learned, so that each block is read once.
 */
import { emptyChain } from '../../services/state/block.ts'
import { CHAIN_STEP, type StateHead } from '../../services/state/provider.ts'

type Place = Pick<StateHead, 'seq' | 'chain'>

const RECENT = 16_384
const EMPTY: Place = Object.freeze({ seq: 0, chain: emptyChain() })

export class ChainIndex {
  #recent: Uint8Array[] = []
  readonly #steps = new Map<number, Uint8Array>()
  #start = EMPTY
  /** Every 256th up to here is known, also before the start. */
  #learned = EMPTY
  #seq = 0

  /** Forgets what it knows, and goes on behind this place. */
  begin(place: Place = EMPTY): void {
    this.#recent = []
    this.#steps.clear()
    this.#start = place
    this.#learned = EMPTY
    this.#seq = place.seq
  }

  /** Takes the next sequence; they come densely. */
  add({ seq, chain }: Place): void {
    this.#seq = seq
    this.#recent[seq % RECENT] = chain
    if (seq % CHAIN_STEP === 0) this.#steps.set(seq, chain)
  }

  /** Takes what was found by reading from the last one that `nearest` gave. */
  learn(place: Place): void {
    if (place.seq !== this.#learned.seq + CHAIN_STEP) return
    this.#steps.set(place.seq, place.chain)
    this.#learned = place
  }

  /** The nearest sequence at or below `seq` whose chain value is known. */
  nearest(seq: number): Place {
    const recent = seq > this.#seq - RECENT ? this.#recent[seq % RECENT] : undefined
    if (seq > this.#start.seq && recent !== undefined) return { seq, chain: recent }
    const chain = this.#steps.get(seq - seq % CHAIN_STEP)
    if (chain !== undefined) return { seq: seq - seq % CHAIN_STEP, chain }
    if (seq >= this.#start.seq) return this.#start
    return seq >= this.#learned.seq ? this.#learned : EMPTY
  }
}

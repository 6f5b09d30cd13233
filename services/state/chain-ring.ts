/** The chain values of the last blocks, by sequence: enough to compare with whoever is a little behind. */

const SIZE = 16_384

export class ChainRing {
  readonly #seqs = new Float64Array(SIZE).fill(-1)
  readonly #chains = new Array<Uint8Array>(SIZE)

  add(seq: number, chain: Uint8Array): void {
    this.#seqs[seq % SIZE] = seq
    this.#chains[seq % SIZE] = chain
  }

  /** `undefined` for a sequence that is too old, or that was not yet. */
  at(seq: number): Uint8Array | undefined {
    return this.#seqs[seq % SIZE] === seq ? this.#chains[seq % SIZE] : undefined
  }
}

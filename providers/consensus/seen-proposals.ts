/**
 * Which proposals were ordered, and where: the last `size` surely, the last two times `size` at most. Two generations that
 * take turns, since deleting the oldest key of a Map one by one is quadratic in V8.
 */
export class SeenProposals {
  readonly #size: number
  #young = new Map<string, number>()
  #old = new Map<string, number>()

  constructor(size: number) {
    this.#size = size
  }

  get(id: string): number | undefined {
    return this.#young.get(id) ?? this.#old.get(id)
  }

  add(id: string, seq: number): void {
    if (this.#young.size >= this.#size) {
      this.#old = this.#young
      this.#young = new Map()
    }
    this.#young.set(id, seq)
  }
}

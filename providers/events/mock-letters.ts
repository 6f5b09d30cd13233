/** Dead letters in memory, the oldest of which go past a number of bytes, as those of one owner do past a part of it. */
import type { DeadLetters, StoredLetter } from '../../services/events/provider.ts'
import { checkLetter, costOf, shareOf } from './letters.ts'

export class MockLetters implements DeadLetters {
  readonly #maxBytes: number
  readonly #assertOpen: () => void
  /** In the order of their places. */
  readonly #letters = new Map<string, StoredLetter>()
  readonly #owners = new Map<string, string>()
  #place = 0

  constructor(maxBytes: number, assertOpen: () => void) {
    this.#maxBytes = maxBytes
    this.#assertOpen = assertOpen
  }

  async put(id: string, data: Uint8Array, owner: string): Promise<void> {
    this.#assertOpen()
    checkLetter(data)
    if (this.#letters.has(id)) return
    this.#letters.set(id, { id, place: ++this.#place, data: Uint8Array.from(data) })
    this.#owners.set(id, owner)
    const all = [...this.#letters.keys()]
    this.#bound(all.filter(each => this.#owners.get(each) === owner), shareOf(this.#maxBytes))
    this.#bound(all, this.#maxBytes)
  }

  /** Forgets the oldest of those past so many bytes; never the newest one. */
  #bound(ids: readonly string[], most: number): void {
    let bytes = 0
    for (const [i, id] of ids.toReversed().entries()) {
      const letter = this.#letters.get(id)
      bytes += letter === undefined ? 0 : costOf(letter.data)
      if (bytes > most && i > 0) this.#forget(id)
    }
  }

  async get(id: string): Promise<StoredLetter | undefined> {
    this.#assertOpen()
    return this.#letters.get(id)
  }

  async list(from: number, limit: number): Promise<readonly StoredLetter[]> {
    this.#assertOpen()
    return [...this.#letters.values()].filter(({ place }) => place >= from).slice(0, limit)
  }

  async remove(id: string): Promise<boolean> {
    this.#assertOpen()
    return this.#forget(id)
  }

  #forget(id: string): boolean {
    this.#owners.delete(id)
    return this.#letters.delete(id)
  }
}

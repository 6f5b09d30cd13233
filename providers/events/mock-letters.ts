/** Dead letters in memory, the oldest of which go past a number of bytes. */
import type { DeadLetters, StoredLetter } from '../../services/events/provider.ts'
import { checkLetter } from './letters.ts'

export class MockLetters implements DeadLetters {
  readonly #maxBytes: number
  readonly #assertOpen: () => void
  /** In the order of their places. */
  readonly #letters = new Map<string, StoredLetter>()
  #place = 0
  #bytes = 0

  constructor(maxBytes: number, assertOpen: () => void) {
    this.#maxBytes = maxBytes
    this.#assertOpen = assertOpen
  }

  async put(id: string, data: Uint8Array): Promise<void> {
    this.#assertOpen()
    checkLetter(data)
    if (this.#letters.has(id)) return
    this.#letters.set(id, { id, place: ++this.#place, data: Uint8Array.from(data) })
    this.#bytes += data.length
    for (const oldest of this.#letters.keys()) {
      if (this.#bytes <= this.#maxBytes || this.#letters.size === 1) break
      this.#forget(oldest)
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
    this.#bytes -= this.#letters.get(id)?.data.length ?? 0
    return this.#letters.delete(id)
  }
}

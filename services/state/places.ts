/** So many may wait for one thing, and so many of one caller: whoever holds all of its own keeps nobody else from theirs. */
import { CMeshError } from '../../cmtp/errors.ts'

export interface PlacesParts {
  /** What is waited for, as the refusal names it. */
  readonly what: string
  readonly most: number
  readonly mostOfOne: number
  /** Told to who is refused. */
  readonly retryAfterMs: number
}

export class Places {
  readonly #parts: PlacesParts
  readonly #taken = new Map<string, number>()
  #all = 0

  constructor(parts: PlacesParts) {
    this.#parts = parts
  }

  /** Throws `CMESH_ROUTER_BUSY` where there is none; each that is taken is left once. */
  take(caller: string): void {
    const { what, most, mostOfOne, retryAfterMs } = this.#parts
    const own = this.#taken.get(caller) ?? 0
    if (own >= mostOfOne || this.#all >= most) throw new CMeshError('CMESH_ROUTER_BUSY', { what, limit: own >= mostOfOne ? mostOfOne : most, retryAfterMs })
    this.#taken.set(caller, own + 1)
    this.#all++
  }

  leave(caller: string): void {
    const own = this.#taken.get(caller) ?? 0
    if (own > 1) this.#taken.set(caller, own - 1)
    else this.#taken.delete(caller)
    this.#all--
  }
}

/**
 * Shares the thread between those whose views run code of contracts: so much gas a turn of the event loop, and what is asked beyond
 * that waits for the next turn, each caller's in turn. One caller's thousand views hold up neither the broker's connection nor
 * anybody else's view for longer than a few of them take.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { FairQueue } from '../fair-queue.ts'

/** After so much gas the event loop turns before more code runs: some 7 ms. */
const TURN_GAS = 10_000_000
/** Most views that wait of one caller: twice what a batch holds. */
const MOST_OF_ONE = 2_048
/** Most views that wait of all. */
const MOST = 65_536
/** Told to who is refused, in ms. */
const RETRY_AFTER_MS = 100

export class Turns {
  readonly #waiting = new FairQueue<() => void>()
  #spent = 0
  #scheduled = false

  /** Views that wait for their turn. */
  get waiting(): number {
    return this.#waiting.size
  }

  /** Whether this turn has gas left: what is done then is done here and now, and `spend` told. */
  get free(): boolean {
    return this.#spent < TURN_GAS
  }

  /**
   * Runs `work` here and now while this turn has gas left, else when it is the caller's turn; it is told whether it waited, and says by
   * `spend` what it used. Throws `CMESH_ROUTER_BUSY` when too much waits.
   */
  take<T>(caller: string, work: (waited: boolean) => T): T | Promise<T> {
    // Whoever waits does so because nothing is left, so nobody is overtaken.
    if (this.free) return work(false)
    if (this.#waiting.sizeOf(caller) >= MOST_OF_ONE) throw busy(MOST_OF_ONE)
    if (this.#waiting.size >= MOST) throw busy(MOST)
    return new Promise<T>((resolve, reject) => {
      this.#waiting.push(caller, () => {
        try {
          resolve(work(true))
        } catch (error) {
          reject(error instanceof Error ? error : new Error(String(error)))
        }
      })
    })
  }

  /** Gas that was used in this turn. */
  spend(gas: number): void {
    this.#spent += gas
    if (this.#scheduled) return
    this.#scheduled = true
    setImmediate(this.#turn)
  }

  readonly #turn = (): void => {
    this.#spent = 0
    this.#scheduled = false
    while (this.#spent < TURN_GAS) {
      const next = this.#waiting.shift()
      if (next === undefined) return
      next()
    }
  }
}

function busy(limit: number): CMeshError {
  return new CMeshError('CMESH_ROUTER_BUSY', { what: 'views that wait for their turn', limit, retryAfterMs: RETRY_AFTER_MS })
}

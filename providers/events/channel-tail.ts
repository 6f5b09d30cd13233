/**
 * One live subscription: hands over the events of one channel that are stored from now on, each once, in order, without
 * a hole. What arrives live is handed on at once while it follows what was handed over last; anything else only says how
 * far the channel has come, and the events up to there are read from the stream one by one.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { MeshEvent } from '../../services/events/provider.ts'
import { pause } from '../jetstream/publish.ts'

/** An event is stored; `event` only when all of it is known. */
export interface Stored {
  readonly seq: number
  /** The sequence of the event before it on the same channel; 0 for none. */
  readonly previous: number
  readonly event: MeshEvent | undefined
}

export interface ChannelTailParts {
  readonly channel: string
  /** Events with a higher sequence are handed over. */
  readonly after: number
  readonly handler: (event: MeshEvent) => void
  readonly next: (channel: string, seq: number) => Promise<MeshEvent | undefined>
  readonly onFailure: (failure: CMeshError) => void
  /** Waits, or until the signal is aborted. Default: a timer. */
  readonly pause?: (ms: number, signal: AbortSignal) => Promise<void>
}

/** A replica can be behind the one whose event was seen. So often it is asked again before the event counts as discarded. */
const LAGGARD_TRIES = 8
const LAGGARD_FIRST_MS = 5

export class ChannelTail {
  readonly channel: string
  readonly #parts: ChannelTailParts
  readonly #closed = new AbortController()
  #last: number
  /** The stream has events of this channel up to here, as far as is known. */
  #target: number
  /** How often the stream's end was asked for, and which of these questions is answered. */
  #rechecks = 0
  #rechecked = 0
  #reading = false

  constructor(parts: ChannelTailParts) {
    this.channel = parts.channel
    this.#parts = parts
    this.#last = parts.after
    this.#target = parts.after
  }

  stored({ seq, previous, event }: Stored): void {
    if (seq <= this.#last) return
    if (!this.#reading && event !== undefined && previous <= this.#last) {
      this.#hand(event)
      return
    }
    this.#target = Math.max(this.#target, seq)
    this.resume()
  }

  /** Events may have been missed: looks for them up to the stream's end. */
  recheck(): void {
    this.#rechecks++
    this.resume()
  }

  /** Reads what is known to be missing, if anything is and nobody reads it yet. A read that failed is taken up again by this. */
  resume(): void {
    if (this.#reading) return
    this.#read().catch((thrown: unknown) => { this.#parts.onFailure(CMeshError.from(thrown, 'events')) })
  }

  /** The stream was made anew and ends at `seq`. */
  restart(seq: number): void {
    this.#last = Math.min(this.#last, seq)
    this.#target = this.#last
  }

  close(): void {
    this.#closed.abort()
  }

  async #read(): Promise<void> {
    this.#reading = true
    try {
      for (let misses = 0; this.#wanting();) {
        const question = this.#rechecks
        const event = await this.#parts.next(this.channel, this.#last + 1)
        if (event !== undefined) {
          misses = 0
          this.#hand(event)
        } else if (this.#last >= this.#target) {
          this.#rechecked = question
        } else if (++misses > LAGGARD_TRIES) {
          this.#last = this.#target
        } else {
          await (this.#parts.pause ?? pause)(LAGGARD_FIRST_MS * 2 ** misses, this.#closed.signal)
        }
      }
    } finally {
      // In the same turn as the last look at what is wanted, so that nothing told in between is left lying.
      this.#reading = false
    }
  }

  #wanting(): boolean {
    return !this.#closed.signal.aborted && (this.#last < this.#target || this.#rechecked < this.#rechecks)
  }

  #hand(event: MeshEvent): void {
    this.#last = event.seq
    if (this.#closed.signal.aborted) return
    try {
      this.#parts.handler(event)
    } catch (thrown) {
      // The handler broke its promise; the connection and the other subscriptions must not pay for it.
      this.#parts.onFailure(CMeshError.from(thrown, `a subscriber of ${this.channel}`))
    }
  }
}

/** Dead letters, as a client sees and settles them: those of groups it may take from, and of its own delayed calls. */
import { REQUEST } from '../cmtp/correlate.ts'
import type { CMeshError } from '../cmtp/errors.ts'
import { isSegment } from '../cmtp/fqmn.ts'
import { checkOptions, integer } from './options.ts'
import type { ChannelEvent } from './subscription.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

interface LetterOutlineCommon {
  readonly id: string
  /** When it was written, ms since 1970. */
  readonly timeMs: number
  /** How often it was tried. */
  readonly attempts: number
  /** Of the last try. */
  readonly error: Pick<CMeshError, 'message'> & { readonly code: string }
}

/** An event that a group did not get done, or a delayed call that failed for good. */
export type LetterOutline = LetterOutlineCommon & (
  | { readonly kind: 'event', readonly channel: string, readonly group: string, readonly seq: number }
  | { readonly kind: 'call', readonly did: string, readonly fqmn: string, readonly atMs: number }
)

/** What a hop of the last try said. */
export interface LetterLayer {
  readonly hop: string
  readonly node: string
  readonly fqmn: string
  readonly decision: string
  readonly grant: string
  readonly status: number
  readonly startUs: number
  readonly durationUs: number
  readonly gas: string
}

export type DeadLetter = LetterOutlineCommon & (
  | { readonly kind: 'event', readonly channel: string, readonly group: string, readonly seq: number, readonly eventTimeMs: number, readonly data: ChannelEvent['data'], readonly origin?: ChannelEvent['origin'] }
  | { readonly kind: 'call', readonly did: string, readonly fqmn: string, readonly atMs: number, readonly body: ChannelEvent['data'], readonly layers: readonly LetterLayer[] }
)

export interface LetterRange {
  /** Place of the first letter, inclusive; `next` of the page before. Default 1. */
  readonly from?: number | undefined
  /** 1 to 1,000. Default 100. */
  readonly limit?: number | undefined
}

export interface LetterPage {
  readonly letters: readonly (LetterOutline & { readonly place: number })[]
  /** Where the next page begins; null when this was the last. */
  readonly next: number | null
}

const RANGE_CHECKS = { from: integer(1, Number.MAX_SAFE_INTEGER), limit: integer(1, 1_000) }
const ADDRESS = 'events.dead'
/** Sent once: what a second sending finds is that the letter is gone, or the first one not yet done. */
const ONCE = { resendMs: REQUEST.timeoutMaxMs }

export class DeadLetters {
  readonly #call: VerbCall

  /** Use `client.dlq`. */
  constructor(call: VerbCall) {
    this.#call = call
  }

  /** The letters that you may see, the oldest first, without what was in them. */
  async list(range: LetterRange = {}, options: VerbOptions = {}): Promise<LetterPage> {
    checkOptions('a range of letters', range, RANGE_CHECKS)
    return (await this.#call(`0xE:${ADDRESS}:list`, { ...options, body: JSON.stringify([range.from ?? null, range.limit ?? null]) })).json()
  }

  /** All of a letter. Rejects with `CMESH_EVENTS_NO_LETTER`. */
  async show(id: string, options: VerbOptions = {}): Promise<DeadLetter> {
    return (await this.#call(`0xE:${ADDRESS}:show`, { ...options, body: JSON.stringify([id]) })).json()
  }

  /** Gives the event to its group once more, or makes the call again. False where there is no such letter any more. */
  async replay(id: string, options: VerbOptions = {}): Promise<boolean> {
    return isSegment(id) && (await this.#call(`0xEW:${ADDRESS}:${id}:replay`, { ...options, ...ONCE })).json<{ readonly replayed: boolean }>().replayed
  }

  /** Removes a letter. False where there is no such letter any more. */
  async drop(id: string, options: VerbOptions = {}): Promise<boolean> {
    return isSegment(id) && (await this.#call(`0xEW:${ADDRESS}:${id}:drop`, { ...options, ...ONCE })).json<{ readonly dropped: boolean }>().dropped
  }
}

/**
 * The miner: takes request events from its sources, sends each through the mesh's own front door, and publishes on
 * `events.mined` which request ended in which final hash. It has no rights of its own: a frame is judged by the token it
 * carries, which must be that of the session it came from, an address by the session that `frameFor` lends to it. It keeps no
 * position; the sources do.
 *
 *   idle → running → draining → stopped        (a failed start goes to stopped, its sources undone)
 *
 * Invariants: an entry is done only once its pair is published; while events cannot be published entries stay under way,
 * which holds the sources back; the sources' limits bound what is under way, publishes included.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { ReplyFrame, RequestFrame } from '../../cmtp/frame.ts'
import { MINED_CHANNEL } from '../events/channel.ts'
import { GiveUp } from './give-up.ts'
import type { MinerEntry, MinerOutcome, MinerSource, MinerSourceStats } from './provider.ts'

export interface MinerParts {
  readonly sources: readonly MinerSource[]
  /** The front door: a whole request frame of a session in, the reply frame out. Resolves for a bad request as well. */
  readonly route: (frame: Uint8Array, sid: string) => Promise<Uint8Array>
  /** A request frame for an address, under a session that may only read. Throws a coded error for what is no address. */
  readonly frameFor: (fqmn: string) => Framed | Promise<Framed>
  /** Stores an event; a second one with the same id on the channel is none. */
  readonly publish: (channel: string, data: Uint8Array, options: { readonly id: string }) => Promise<unknown>
  /** Told of failures that no caller hears of, at most one of a kind per `QUIET_MS`. */
  readonly onFailure: (failure: CMeshError) => void
  /** Monotonic, in ms. Default `performance.now`. */
  readonly now?: () => number
  /** Resolves after so many ms. Default: a timer that ends with the drain's time. */
  readonly pause?: (ms: number) => Promise<void>
}

/** A request frame and the session it is asked under. */
export interface Framed {
  readonly frame: Uint8Array
  readonly sid: string
}

export interface MinerStats {
  /** Pairs published. */
  readonly mined: number
  /** Tries that gave none: the front door failed or could not answer now, or the pair could not be published. */
  readonly failed: number
  /** Pieces of the sources that were no request. */
  readonly garbage: number
  /** Entries given up. */
  readonly abandoned: number
  /** What waits in the sources, in each one's own unit. */
  readonly lagEntries: number
  readonly lagBytes: number
  readonly sources: Readonly<Record<string, MinerSourceStats>>
}

/** What is published on `events.mined`, as JSON. */
export interface MinedPair {
  /** SHA-256 of the request frame, 64 lower-case hex digits. */
  readonly request: string
  /** Final hash of the reply, 64 lower-case hex digits; null when the request asked for none. */
  readonly final: string | null
  /** The reply's status. */
  readonly status: number
}

/** Answers that say "not now": rate limited, no responder or draining. The request was not carried out. */
const PASSING_STATUS = new Set([429, 503])
const PUBLISH_FIRST_MS = 50
const PUBLISH_LAST_MS = 2_000
/** A kind of failure is told of once in this time. */
const QUIET_MS = 10_000

type State = 'idle' | 'running' | 'draining' | 'stopped'

export class MinerService {
  readonly #parts: MinerParts
  readonly #now: () => number
  readonly #pause: (ms: number) => Promise<void>
  readonly #giveUp = new GiveUp()
  readonly #toldMs = new Map<string, number>()
  #state: State = 'idle'
  #mined = 0
  #failed = 0
  #started: Promise<void> | undefined
  #drained: Promise<void> | undefined

  constructor(parts: MinerParts) {
    this.#parts = parts
    this.#now = parts.now ?? (() => performance.now())
    this.#pause = parts.pause ?? (ms => this.#giveUp.pause(ms))
  }

  get state(): State {
    return this.#state
  }

  /** Starts the sources one after the other. Memoised. When one fails, those before it are stopped and its error is given. */
  start(): Promise<void> {
    this.#started ??= this.#start()
    return this.#started
  }

  /**
   * Takes no more entries; resolves when those under way are done, or at the latest when `timeoutMs` (default 10,000) has
   * passed and the rest were handed back to their sources, to come again at the next start. Memoised.
   */
  drain(timeoutMs = 10_000): Promise<void> {
    this.#drained ??= this.#drain(timeoutMs)
    return this.#drained
  }

  /** Drains without waiting for what is under way. Idempotent; after `drain` it cuts that short. */
  async stop(): Promise<void> {
    this.#giveUp.now()
    await this.drain(0)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop()
  }

  stats(): MinerStats {
    const all = this.#parts.sources.map(source => [source.name, source.stats()] as const)
    const sum = (of: (stats: MinerSourceStats) => number): number => all.reduce((total, [, stats]) => total + of(stats), 0)
    return {
      mined: this.#mined,
      failed: this.#failed,
      garbage: sum(stats => stats.garbage),
      abandoned: sum(stats => stats.abandoned),
      lagEntries: sum(stats => (stats.lagUnit === 'entries' ? stats.lag : 0)),
      lagBytes: sum(stats => (stats.lagUnit === 'bytes' ? stats.lag : 0)),
      sources: Object.fromEntries(all),
    }
  }

  async #start(): Promise<void> {
    if (this.#state !== 'idle') throw new CMeshError('CMESH_ROUTER_DRAINING')
    this.#state = 'running'
    const started: MinerSource[] = []
    try {
      for (const source of this.#parts.sources) {
        started.push(source)
        await source.start(entry => this.#handle(entry))
      }
    } catch (thrown) {
      this.#giveUp.now()
      for (const source of started.reverse()) await source.stop()
      this.#state = 'stopped'
      throw CMeshError.from(thrown, 'miner')
    }
  }

  async #drain(timeoutMs: number): Promise<void> {
    const wasIdle = this.#state === 'idle'
    if (this.#state !== 'stopped') this.#state = 'draining'
    if (!wasIdle) await this.#started?.catch(() => undefined)
    const givingUp = setTimeout(() => { this.#giveUp.now() }, timeoutMs)
    try {
      await Promise.all(this.#parts.sources.map(source => source.stop()))
    } finally {
      clearTimeout(givingUp)
      this.#state = 'stopped'
    }
  }

  async #handle(entry: MinerEntry): Promise<MinerOutcome> {
    try {
      const framed = await this.#frameOf(entry)
      if ('garbage' in framed) return framed
      const { frame, sid } = framed
      // The hash first: the frame is the source's memory, and what the front door does with it is its own affair.
      const request = hash('sha256', frame, 'hex')
      const reply = await this.#giveUp.wait(this.#parts.route(frame, sid))
      if (reply === undefined) return 'retry'
      const { status, finalHash } = ReplyFrame.decode(reply)
      if (PASSING_STATUS.has(status)) {
        this.#failed++
        return 'retry'
      }
      return await this.#publish({ request, final: finalHash.length === 0 ? null : finalHash.toString('hex'), status })
    } catch (thrown) {
      this.#failed++
      this.#tell(CMeshError.from(thrown, 'miner'))
      return 'retry'
    }
  }

  async #frameOf(entry: MinerEntry): Promise<Framed | { readonly garbage: string }> {
    try {
      if ('frame' in entry) return { frame: RequestFrame.decode(entry.frame).bytes, sid: entry.sid }
      return await this.#parts.frameFor(entry.fqmn)
    } catch (thrown) {
      // What is wrong with the entry itself stays wrong. A session that cannot be had now is another matter.
      if (thrown instanceof CMeshError && isEntryFault(thrown, 'frame' in entry)) return { garbage: thrown.message }
      throw thrown
    }
  }

  /** Goes on until the pair is stored: the request was carried out, and must not be once more only to get another pair. */
  async #publish(pair: MinedPair): Promise<MinerOutcome> {
    const data = Buffer.from(JSON.stringify(pair))
    for (let attempt = 0; ; attempt++) {
      try {
        // By its request, so that an entry which comes again shortly after is not published twice.
        const stored = this.#parts.publish(MINED_CHANNEL, data, { id: pair.request }).then(() => true)
        if (await this.#giveUp.wait(stored) === undefined) return 'retry'
        this.#mined++
        return 'done'
      } catch (thrown) {
        this.#failed++
        this.#tell(CMeshError.from(thrown, 'miner'))
      }
      if (this.#giveUp.over) return 'retry'
      await this.#pause(Math.min(PUBLISH_LAST_MS, PUBLISH_FIRST_MS * 2 ** attempt))
    }
  }

  #tell(failure: CMeshError): void {
    const now = this.#now()
    const last = this.#toldMs.get(failure.code)
    if (last !== undefined && now - last < QUIET_MS) return
    this.#toldMs.set(failure.code, now)
    this.#parts.onFailure(failure)
  }
}

/** Every refusal to decode a frame is the frame's fault; of an address only what the grammar says is. */
function isEntryFault(error: CMeshError, isFrame: boolean): boolean {
  return isFrame || error.code.startsWith('CMESH_FQMN_')
}

/**
 * Makes delayed calls when they are due. What it has to do stands in the system space, so a runner that was killed is followed by one that
 * goes on where the log says; of several members the one on duty makes them, and the log sees to it that a call is executed once.
 *
 * Invariants: (1) a call is due when log time says so, or this node's clock: what it then proposes moves log time there; (2) at most `inFlight`
 * are made at once, and `ofOne` of one identity, whose calls may fail slowly while others' are due; (3) one that fails for good has its dead letter before its record goes; (4) one timer serves all.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Layer } from '../../cmtp/layer.ts'
import type { Clock } from '../clock.ts'
import type { Log } from '../log.ts'
import { wasNotAsked } from '../not-asked.ts'
import type { LaterOutcome } from './delivery.ts'
import type { DelayedCall } from './records.ts'

export interface LaterRunnerParts {
  /** The call as it stands in the log; `undefined` once it is over. */
  readonly read: (id: string) => DelayedCall | undefined
  /** Makes the call. Never rejects. */
  readonly call: (later: DelayedCall, attempt: number) => Promise<LaterOutcome>
  /** Writes the dead letter. */
  readonly bury: (later: DelayedCall, failure: LaterFailure) => Promise<void>
  /** Orders that it is over; resolves when that is durable. */
  readonly settle: (id: string) => Promise<void>
  /** Whether this node makes calls for all members: the others wait until it has, or they must. Default: it does. */
  readonly onDuty?: () => boolean
  readonly clock: Clock
  readonly log: Log
  /** Most calls made at once. Default 32. */
  readonly inFlight?: number
  /** Most of them for one identity. Default 8. */
  readonly ofOne?: number
  /** How often a call is tried whose failure may pass. Default 5. */
  readonly attempts?: number
  /** First pause before trying again, in ms; doubled up to 30 s. Default 1,000. */
  readonly retryMs?: number
}

export interface LaterFailure {
  readonly error: CMeshError
  readonly attempts: number
  readonly layers: readonly Layer[]
}

const RETRY_MAX_MS = 30_000
/** Longest that one timer is set for: what is due later waits for the next. */
const TIMER_MAX_MS = 3_600_000
/** How often who is not on duty looks whether a call was made, in ms. */
const LOOK_MS = 200
/** How long a stop waits for calls under way, in ms. */
const STOP_MS = 2_000

interface Waiting extends Pick<DelayedCall, 'id' | 'did' | 'fqmn' | 'atMs'> {
  running: boolean
}

export class LaterRunner {
  readonly stats = { made: 0, failed: 0 }
  readonly #parts: LaterRunnerParts
  readonly #waiting = new Map<string, Waiting>()
  readonly #running = new Set<Promise<void>>()
  readonly #wakes = new Set<() => void>()
  #logMs = 0
  /** When the first of those that wait is due. */
  #nextMs = Infinity
  #timer: NodeJS.Timeout | undefined
  #started = false
  #stopped = false

  constructor(parts: LaterRunnerParts) {
    this.#parts = parts
  }

  /** Takes up a call whose block is durable. */
  add({ id, did, fqmn, atMs }: DelayedCall): void {
    if (this.#waiting.has(id)) return
    this.#waiting.set(id, { id, did, fqmn, atMs, running: false })
    this.#arm()
  }

  /** The record of a call went, by its execution, its cancellation or its settlement. */
  over(id: string): void {
    this.#waiting.delete(id)
  }

  /** Log time as of a durable block. */
  advance(logMs: number): void {
    this.#logMs = Math.max(this.#logMs, logMs)
    if (this.#logMs >= this.#nextMs) this.#arm()
  }

  /** Those of a DID, or all, by when they are due. */
  list(did: string | undefined): Pick<DelayedCall, 'id' | 'did' | 'fqmn' | 'atMs'>[] {
    return [...this.#waiting.values()].filter(each => did === undefined || each.did === did)
      .sort((a, b) => a.atMs - b.atMs).map(({ id, did: whose, fqmn, atMs }) => ({ id, did: whose, fqmn, atMs }))
  }

  /** From now on calls are made: whom they are for can be reached. */
  start(): void {
    this.#started = true
    this.#arm()
  }

  /** Makes no more, waits a little for those under way, then lets them be: the next runner goes on. Idempotent. */
  async stop(): Promise<void> {
    this.halt()
    let timer: NodeJS.Timeout | undefined
    const enough = new Promise<void>(resolve => { timer = setTimeout(resolve, STOP_MS) })
    await Promise.race([Promise.all(this.#running), enough])
    clearTimeout(timer)
  }

  /** Begins nothing any more. */
  halt(): void {
    this.#stopped = true
    clearTimeout(this.#timer)
    for (const wake of this.#wakes) wake()
  }

  #arm(): void {
    clearTimeout(this.#timer)
    if (!this.#started || this.#stopped) return
    const nowMs = Math.max(this.#parts.clock.nowMs(), this.#logMs)
    let nextMs = Infinity
    const { inFlight = 32, ofOne = 8 } = this.#parts
    const running = this.#runningOfEach()
    for (const each of [...this.#waiting.values()].filter(({ running }) => !running).sort((a, b) => a.atMs - b.atMs)) {
      if (each.atMs > nowMs) {
        nextMs = each.atMs
        break
      }
      if (this.#running.size >= inFlight) return
      const ofThis = running.get(each.did) ?? 0
      // Looked at again when one of them is over.
      if (ofThis >= ofOne) continue
      running.set(each.did, ofThis + 1)
      each.running = true
      const run = this.#run(each.id).finally(() => {
        this.#running.delete(run)
        this.#arm()
      })
      this.#running.add(run)
    }
    this.#nextMs = nextMs
    if (nextMs !== Infinity) this.#timer = setTimeout(() => { this.#arm() }, Math.min(TIMER_MAX_MS, Math.max(1, nextMs - nowMs))).unref()
  }

  #runningOfEach(): Map<string, number> {
    const counts = new Map<string, number>()
    for (const { did, running } of this.#waiting.values()) if (running) counts.set(did, (counts.get(did) ?? 0) + 1)
    return counts
  }

  /** Never rejects. */
  async #run(id: string): Promise<void> {
    const { attempts = 5, retryMs = 1_000, onDuty = () => true, log } = this.#parts
    while (!onDuty() && !this.#stopped && this.#parts.read(id) !== undefined) await this.#pause(LOOK_MS)
    for (let attempt = 1; !this.#stopped; attempt++) {
      try {
        const later = this.#parts.read(id)
        if (later === undefined) return this.over(id)
        const { error, ordered, layers } = await this.#parts.call(later, attempt)
        if (this.#stopped || (error === undefined && ordered)) return this.#made(ordered)
        // Whether it was ordered is in the log, which is asked until it says.
        const unknown = error?.code === 'CMESH_ROUTER_UNKNOWN_OUTCOME'
        const passing = unknown || (error?.retry === 'retry' && attempt < attempts)
        if (error !== undefined && wasNotAsked(error)) {
          // It was none of its attempts.
          attempt--
          await this.#pause(retryMs)
          continue
        }
        // Whoever else made it, or took it back, has taken its record out.
        if (!passing && this.#parts.read(id) !== undefined) {
          if (error !== undefined) await this.#parts.bury(later, { error, attempts: attempt, layers })
          await this.#parts.settle(id)
          if (error === undefined) this.#made(true)
          else this.stats.failed++
          return
        }
      } catch (thrown) {
        const error = CMeshError.from(thrown, 'a delayed call', id)
        log.warn({ err: error, code: error.code, later: id }, 'a delayed call could not be settled; trying again')
      }
      await this.#pause(Math.min(RETRY_MAX_MS, retryMs * 2 ** Math.min(attempt - 1, 10)))
    }
  }

  #made(done: boolean): void {
    if (done) this.stats.made++
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const done = (): void => {
        clearTimeout(timer)
        this.#wakes.delete(done)
        resolve()
      }
      const timer = setTimeout(done, this.#stopped ? 0 : ms)
      this.#wakes.add(done)
    })
  }
}

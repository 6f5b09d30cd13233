/**
 * The roots of this node on the audit channel, so that who listens has them before anybody could rewrite them. What is made while one event is
 * published goes into the next; an event comes at most every `PAUSE_MS`, and holds at most `MOST` roots.
 *
 * Invariants: roots go out in the order of the log, each once; where the channel takes nothing for long the oldest that wait are left out,
 * which the next one shows: it holds the hash of the one before it.
 */
import { decodeRootRecord, rootNumbers, rootRecordHash } from '../../cmtp/receipt/root.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { AUDIT_CHANNEL } from '../events/channel.ts'
import type { EventsProvider } from '../events/provider.ts'
import type { Log } from '../log.ts'

const PAUSE_MS = 50
const MOST = 64
/** Roots that wait at most. */
const WAITING = 4_096

export interface RootStreamParts {
  readonly events: Pick<EventsProvider, 'publish'>
  readonly log: Log
}

export class RootStream {
  readonly #parts: RootStreamParts
  readonly #waiting: Buffer[] = []
  #open = false
  #timer: NodeJS.Timeout | undefined
  #publishing: Promise<void> | undefined
  #leftOut = 0

  constructor(parts: RootStreamParts) {
    this.#parts = parts
  }

  /** Roots that wait to be published. */
  get pending(): number {
    return this.#waiting.length
  }

  /** Roots that never were. */
  get leftOut(): number {
    return this.#leftOut
  }

  /** From now on the channel can be published on. */
  start(): void {
    this.#open = true
    this.#soon()
  }

  /** A root that is on the log. Never throws. */
  add(record: Buffer): void {
    this.#waiting.push(record)
    if (this.#waiting.length > WAITING) {
      this.#waiting.shift()
      this.#leftOut++
    }
    this.#soon()
  }

  /** Publishes what waits, as far as the channel takes it, and nothing more after that. */
  async stop(): Promise<void> {
    const wasOpen = this.#open
    this.#open = false
    clearTimeout(this.#timer)
    await this.#publishing
    if (!wasOpen) return
    for (let before = Infinity; this.#waiting.length > 0 && this.#waiting.length < before;) {
      before = this.#waiting.length
      await this.#publish()
    }
  }

  #soon(): void {
    if (!this.#open || this.#timer !== undefined || this.#publishing !== undefined) return
    this.#timer = setTimeout(() => {
      this.#timer = undefined
      this.#publishing = this.#publish().finally(() => {
        this.#publishing = undefined
        if (this.#waiting.length > 0) this.#soon()
      })
    }, PAUSE_MS)
  }

  /** Never rejects. */
  async #publish(): Promise<void> {
    const records = this.#waiting.slice(0, MOST)
    const newest = records.at(-1)
    if (newest === undefined) return
    try {
      const last = decodeRootRecord(newest)
      const body = { mesh: last.mesh, node: last.node, log: hex(last.log), roots: records.map(rootJson) }
      await this.#parts.events.publish(AUDIT_CHANNEL, Buffer.from(JSON.stringify(body)), { id: rootRecordHash(newest).toString('hex') })
      // Some may have been left out meanwhile.
      while (this.#waiting[0] !== undefined && records.includes(this.#waiting[0])) this.#waiting.shift()
    } catch (error) {
      this.#parts.log.debug({ err: error, code: CMeshError.from(error, 'events').code }, 'roots of the audit log could not be published yet')
    }
  }
}

/** A root record whole, and in words. */
function rootJson(record: Buffer): object {
  const { batch, first, count, timeUs, merkleRoot } = rootNumbers(record)
  return { batch, first, count, timeUs, root: hex(merkleRoot), record: record.toString('base64url') }
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

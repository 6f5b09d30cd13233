/**
 * The outbox: publishes what contracts emitted, from the blocks that hold it. Each event has the id
 * `<epoch>.<seq>.<transaction>.<index>`, so that publishing again stores nothing twice within the events provider's window.
 * The watermark is the last block whose events are all out; after a crash publishing starts behind it, so none is lost. Of several members one is on
 * duty; the others keep what waits until that one says it is out, and go on where it stopped when it is away.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { contractEventChannel } from '../events/channel.ts'
import type { EventOrigin, EventsProvider } from '../events/provider.ts'
import type { Log } from '../log.ts'
import type { Duty } from './duty.ts'
import type { Block, EmittedEvent } from './provider.ts'

/** Where the watermark is kept between runs. */
export interface Watermark {
  /** Sequence of the last block whose events are out; 0 for none. */
  read(): number
  /** May be lost in a crash: an older value is only slower. */
  write(seq: number): void
}

export interface OutboxParts {
  readonly events: Pick<EventsProvider, 'publish'>
  readonly watermark: Watermark
  readonly log: Log
  /** Among several members: which of them publishes for all, and how far they say it has come. Default: this one does. */
  readonly duty?: () => OutboxDuty | undefined
  /** First pause before trying again, in ms; doubled up to 5 s. Default 100. */
  readonly retryMs?: number
  /** How often who is not on duty looks whether it has become so, in ms. Default 200. */
  readonly lookMs?: number
}

export type OutboxDuty = Pick<Duty, 'onDuty' | 'outElsewhere' | 'saidOut' | 'accompanied' | 'idles'>

/** A block whose events are published here, or by another member in any case. */
interface Waiting {
  readonly block: Block
  readonly elsewhere: boolean
}

const RETRY_MAX_MS = 5_000
const LOOK_MS = 200
/** How often in a row who is on duty may be found to say that nothing is out, while this one has something, before this one publishes it: ten seconds. */
const IDLE_LOOKS = 50
/** How long a stop waits for events that cannot be published just now, in ms; the attempt under way then is the last. */
const STOP_MS = 2_000

export class Outbox {
  readonly #parts: OutboxParts
  #queue: Waiting[] = []
  #running: Promise<void> | undefined
  #stopped = false
  #wake: (() => void) | undefined

  constructor(parts: OutboxParts) {
    this.#parts = parts
  }

  /** Blocks whose events are not out yet. */
  get pending(): number {
    return this.#queue.length
  }

  /** Sequence of the oldest block whose events are not out yet. */
  get oldest(): number | undefined {
    return this.#queue[0]?.block.seq
  }

  /** The last block whose events are out; 0 while this one waits for what others have: whoever has it then need not wait for this one. */
  get out(): number {
    return this.#queue[0]?.elsewhere === true ? 0 : this.#parts.watermark.read()
  }

  /** Takes up a durable block, in order. A block at or below the watermark is skipped. */
  add(block: Block): void {
    if (this.#stopped || block.seq <= this.#parts.watermark.read()) return
    if (hasEvents(block)) this.#take({ block, elsewhere: false })
  }

  /**
   * A block came from another member, which publishes its events, and those of what comes before: none is published here, then or after a restart. Until another
   * says that they are out nothing behind them is either, as long as any is there.
   */
  passed(block: Block): void {
    if (this.#stopped || block.seq <= this.#parts.watermark.read() || !hasEvents(block)) return
    // Of several the last says all.
    if (this.#queue.length > 1 && this.#queue.at(-1)?.elsewhere) this.#queue.pop()
    this.#take({ block, elsewhere: true })
  }

  /**
   * The log goes on behind `seq`. A watermark further on is of an end that the log no longer has, since it was given up: its places are given out
   * anew, and what is in them then is not out.
   */
  goesOnBehind(seq: number): void {
    if (this.#parts.watermark.read() > seq) this.#parts.watermark.write(seq)
  }

  /** Resolves when everything taken up is out. */
  async flush(): Promise<void> {
    while (this.#running !== undefined) await this.#running
  }

  /** Waits a little longer for what is on its way, then stops trying: the rest goes out after the next start. Idempotent. */
  async stop(): Promise<void> {
    const enough = setTimeout(() => {
      this.#stopped = true
      this.#wake?.()
    }, STOP_MS)
    await this.flush()
    clearTimeout(enough)
    this.#stopped = true
  }

  #take(waiting: Waiting): void {
    this.#queue.push(waiting)
    this.#running ??= this.#run()
  }

  async #run(): Promise<void> {
    for (let waiting = this.#queue[0]; waiting !== undefined; waiting = this.#queue[0]) {
      const { block, elsewhere } = waiting
      if (!await (elsewhere ? this.#awaitOthers(block) : this.#publish(block))) break
      this.#parts.watermark.write(block.seq)
      this.#queue.shift()
    }
    // In one go with the last look into the queue, so that a block which comes a moment later starts anew.
    this.#running = undefined
  }

  /** Resolves once another member has published this block's events, or none is there; with false when stopped before. */
  async #awaitOthers({ seq }: Block): Promise<boolean> {
    for (let duty = this.#parts.duty?.(); duty !== undefined && duty.saidOut() < seq && duty.accompanied(); duty = this.#parts.duty?.()) {
      if (this.#stopped) return false
      await this.#pause(this.#parts.lookMs ?? LOOK_MS)
    }
    return !this.#stopped
  }

  /** Publishes one block's events until they are stored, or sees that another member did; false when stopped before. */
  async #publish(block: Block): Promise<boolean> {
    // What another member says is out was published by it, whoever is on duty by now: this one may have taken the block from it.
    for (let idle = 0; ; idle++) {
      const duty = this.#parts.duty?.()
      if (duty === undefined) break
      if (duty.outElsewhere() >= block.seq) return true
      if (!duty.idles()) idle = 0
      if (duty.onDuty() || idle >= IDLE_LOOKS) break
      if (this.#stopped) return false
      await this.#pause(this.#parts.lookMs ?? LOOK_MS)
    }
    for (let delayMs = this.#parts.retryMs ?? 100; ; delayMs = Math.min(delayMs * 2, RETRY_MAX_MS)) {
      if (this.#stopped) return false
      try {
        await Promise.all(block.transactions.flatMap((transaction, t) => transaction.events.map((event, e) =>
          this.#store(event, `${block.epoch}.${block.seq}.${t}.${e}`, { request: transaction.id, block: block.seq, index: e }))))
        return true
      } catch (error) {
        const { code } = CMeshError.from(error, 'events')
        if (this.#stopped) return false
        this.#parts.log.warn({ err: error, code, seq: block.seq }, 'the events of a block could not be published; trying again')
        await this.#pause(delayMs)
      }
    }
  }

  async #store(event: EmittedEvent, id: string, origin: EventOrigin): Promise<void> {
    try {
      await this.#parts.events.publish(contractEventChannel(event.contract, event.topic), event.data, { id, origin })
    } catch (error) {
      if (!(error instanceof CMeshError) || !error.code.startsWith('CMESH_EVENTS_')) throw error
      // Trying again would fail again and hold up every event behind it; the block keeps the event.
      this.#parts.log.error({ err: error, code: error.code, id }, 'an event of a contract cannot be published')
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

/** Looks at the transactions last: those of a block that was read back are read when they are asked for. */
function hasEvents(block: Block): boolean {
  return block.holds?.events !== 0 && block.transactions.some(({ events }) => events.length > 0)
}

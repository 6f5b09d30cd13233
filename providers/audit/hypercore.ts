/**
 * The audit log on a Hypercore, one block a batch, and the notes in segments beside it: `<dir>/log`, `<dir>/key`, `<dir>/layers`. Appending to a
 * Hypercore costs nearly the same for one block and for many, and what somebody waits for comes in small batches; so a batch is first written ahead
 * (`ahead.ts`), by which it is durable, and put onto the log with others soon after.
 *
 * Invariants: a batch is ahead before its notes, and these are written before its block, so that a block on the log has notes; what is ahead
 * of the log when it opens is put onto it then; notes of batches that neither has are cut off, and where they are of more than one batch, or what
 * is ahead does not follow on the log, this has lost blocks that were there, which stops it.
 */
import { join } from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import type { AuditBatch, AuditEntry, AuditHead, AuditLog } from '../../services/audit/provider.ts'
import { HypercoreLog } from '../state/log.ts'
import { Ahead, aheadIn, aheadOf } from './ahead.ts'
import { Notes, type NotesOptions } from './notes.ts'

/** How often batches are put onto the log at most, ms; the first one after a while is at once. */
const PUT_EVERY_MS = 20
/** So many bytes of them are put onto it before another is taken. */
const MOST_AHEAD = 16 * 1024 * 1024

export interface HypercoreAuditOptions extends Pick<NotesOptions, 'maxBytes' | 'maxAgeMs'> {
  readonly dir: string
  /** `os` survives kill −9 of every process, `disk` a power cut. */
  readonly durability: 'os' | 'disk'
  /** ms since 1970. Default: the system's clock. */
  readonly now?: () => number
}

export class HypercoreAuditLog implements AuditLog {
  readonly durability: 'os' | 'disk'
  readonly #dir: string
  readonly #notes: Notes
  #log: HypercoreLog | undefined
  #ahead: Ahead | undefined
  /** Batches, those that are ahead of the log among them. */
  #length = 0
  /** Written ahead, and not on their way onto the log yet. */
  #waiting: AuditBatch[] = []
  #waitingBytes = 0
  /** On their way onto the log. */
  #leaving: readonly AuditBatch[] = []
  #putting: Promise<void> = Promise.resolve()
  #timer: NodeJS.Timeout | undefined
  #putMs = 0
  #opening: Promise<AuditHead> | undefined
  #closing: Promise<void> | undefined
  #failure: CMeshError | undefined
  #newest: Promise<unknown> = Promise.resolve()

  constructor({ dir, durability, maxBytes, maxAgeMs, now = Date.now }: HypercoreAuditOptions) {
    this.#dir = dir
    this.durability = durability
    this.#notes = new Notes({ dir: join(dir, 'layers'), sync: durability === 'disk', maxBytes, maxAgeMs, now })
  }

  get path(): string {
    return this.#dir
  }

  get id(): Uint8Array {
    return this.#opened().publicKey
  }

  get noteBytes(): number {
    return this.#notes.bytes
  }

  open(): Promise<AuditHead> {
    this.#opening ??= this.#open()
    return this.#opening
  }

  async #open(): Promise<AuditHead> {
    let log: HypercoreLog | undefined
    try {
      log = await HypercoreLog.open({ dir: this.#dir, durability: this.durability, keyPair: undefined })
      this.#log = log
      const { batches, beyond = -1 } = aheadOf(await aheadIn(this.#dir), log.length, await this.#last(log))
      const length = log.length + batches.length
      // Nothing is cut off before it is known that the log goes on from here.
      const noted = Math.max(await this.#notes.last(), beyond)
      if (noted > length || beyond >= 0) throw new CMeshError('CMESH_AUDIT_BEHIND', { path: this.#dir, length, noted: noted + 1 })
      await this.#notes.open(log.length)
      await this.#notes.recover(batches)
      if (batches.length > 0) await log.append(batches.map(({ block }) => block))
      this.#length = length
      const last = await this.#last(log)
      this.#ahead = await Ahead.open(this.#dir, this.durability === 'disk', last)
      return { length, last }
    } catch (thrown) {
      this.#log = undefined
      await this.#ahead?.close(false)
      this.#ahead = undefined
      await log?.close()
      throw asAudit(thrown)
    }
  }

  async #last(log: HypercoreLog): Promise<Uint8Array | undefined> {
    return log.length === 0 ? undefined : await this.read(log.length - 1)
  }

  get failure(): CMeshError | undefined {
    return this.#failure
  }

  append(batch: AuditBatch): Promise<void> {
    const appended = this.#newest.then(() => this.#append(batch))
    this.#newest = appended.catch(() => undefined)
    return appended.then(() => (this.#waitingBytes > MOST_AHEAD ? this.#put() : undefined))
  }

  async #append(batch: AuditBatch): Promise<void> {
    if (this.#closing !== undefined) throw new CMeshError('CMESH_AUDIT_FULL', { reason: 'the log is closed' })
    if (this.#failure !== undefined) throw this.#failure
    if (batch.number !== this.#length) throw new RangeError(`batch ${this.#length} comes next, not ${batch.number}`)
    try {
      await (this.#ahead as Ahead).write(batch)
    } catch (thrown) {
      throw this.#failed(thrown)
    }
    this.#length++
    // Its notes are the caller's again once this resolves.
    this.#waiting.push({ ...batch, notes: Buffer.from(batch.notes) })
    this.#waitingBytes += batch.block.length + batch.notes.length
    this.#timer ??= setTimeout(() => { void this.#put() }, Math.max(0, this.#putMs + PUT_EVERY_MS - performance.now()))
  }

  /** Puts what is ahead onto the log. Never rejects: what fails here fails the log for good. */
  #put(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#putting = this.#putting.then(() => this.#putWaiting())
    return this.#putting
  }

  async #putWaiting(): Promise<void> {
    // Between two batches: one that is being written stands in the file that is turned away from, or in the next one.
    const turned = this.#newest.then(() => this.#turn())
    this.#newest = turned
    const done = await turned
    if (done === undefined) return
    try {
      await this.#notes.write(this.#leaving)
      await this.#opened().append(this.#leaving.map(({ block }) => block))
      await done(this.#waiting.length === 0)
    } catch (thrown) {
      // What was on its way is still there to be read, and is put onto the log by the next start.
      this.#failed(thrown)
      return
    }
    this.#leaving = []
  }

  /** All that is ahead leaves; gives what is to be called once it is on the log, or nothing where none is. */
  #turn(): ((idle: boolean) => Promise<void>) | undefined {
    if (this.#waiting.length === 0 || this.#failure !== undefined) return undefined
    this.#putMs = performance.now()
    this.#leaving = this.#waiting
    this.#waiting = []
    this.#waitingBytes = 0
    return this.#ahead?.turn()
  }

  /** What may have been written in part is not written to again. */
  #failed(thrown: unknown): CMeshError {
    this.#failure ??= writeFailure(thrown)
    return this.#failure
  }

  async read(number: number): Promise<Uint8Array> {
    const log = this.#opened()
    const ahead = [...this.#leaving, ...this.#waiting].find(each => each.number === number)
    if (ahead !== undefined) return ahead.block
    if (!Number.isInteger(number) || number < 0 || number >= log.length) throw new RangeError(`there is no batch ${number}`)
    let block: Uint8Array | undefined
    try {
      await log.read(bytes => { block = bytes }, number, number + 1)
    } catch (thrown) {
      throw asAudit(thrown)
    }
    return block as Uint8Array
  }

  async find(id: Uint8Array): Promise<readonly AuditEntry[]> {
    await this.#put()
    const { length } = this.#opened()
    // Notes are there before their block.
    return (await this.#notes.find(id)).filter(({ batch }) => batch < length)
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  async #close(): Promise<void> {
    await Promise.allSettled([this.#opening])
    await this.#newest
    await this.#put()
    // A disk that takes nothing more takes no index either; it is made anew when the log opens.
    await Promise.allSettled([this.#notes.close()])
    await this.#ahead?.close(this.#failure === undefined)
    await this.#log?.close()
  }

  #opened(): HypercoreLog {
    if (this.#log === undefined) throw new CMeshError('CMESH_AUDIT_FULL', { reason: 'the log is not open' })
    return this.#log
  }
}

function writeFailure(thrown: unknown): CMeshError {
  if (thrown instanceof CMeshError) return asAudit(thrown)
  return new CMeshError('CMESH_AUDIT_FULL', { reason: reasonOf(thrown) }, { cause: thrown })
}

/** What the log of a state says, of this one; what the file system says of the notes. */
function asAudit(thrown: unknown): CMeshError {
  if (!(thrown instanceof CMeshError)) return new CMeshError('CMESH_AUDIT_FULL', { reason: reasonOf(thrown) }, { cause: thrown })
  const { code, detail: { path = '', block = 0, reason = '' } } = thrown
  if (code === 'CMESH_STATE_FULL') return new CMeshError('CMESH_AUDIT_FULL', { reason }, { cause: thrown })
  if (code === 'CMESH_STATE_CORRUPT') return new CMeshError('CMESH_AUDIT_CORRUPT', { path, batch: block, reason }, { cause: thrown })
  return thrown
}

function reasonOf(thrown: unknown): string {
  return (thrown instanceof Error ? thrown.message : String(thrown)).slice(0, 300).replace(/[.\s]+$/, '')
}

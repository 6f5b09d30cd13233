/**
 * The audit log on a Hypercore, one block a batch, and the notes in segments beside it: `<dir>/log`, `<dir>/key`, `<dir>/layers`.
 *
 * Invariants: notes are written before their block, so that a block on the log has notes; notes of batches that the log does not have are cut
 * off when it opens, and where they are of more than the one batch that was under way the log has lost blocks that were there, which stops it.
 */
import { join } from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import type { AuditBatch, AuditEntry, AuditHead, AuditLog } from '../../services/audit/provider.ts'
import { HypercoreLog } from '../state/log.ts'
import { Notes, type NotesOptions } from './notes.ts'

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
      const { length } = log
      const noted = await this.#notes.open(length)
      if (noted > length) throw new CMeshError('CMESH_AUDIT_BEHIND', { path: log.path, length, noted: noted + 1 })
      this.#log = log
      return { length, last: length === 0 ? undefined : await this.read(length - 1) }
    } catch (thrown) {
      this.#log = undefined
      await log?.close()
      throw asAudit(thrown)
    }
  }

  append(batch: AuditBatch): Promise<void> {
    const appended = this.#newest.then(() => this.#append(batch))
    this.#newest = appended.catch(() => undefined)
    return appended
  }

  async #append(batch: AuditBatch): Promise<void> {
    if (this.#closing !== undefined) throw new CMeshError('CMESH_AUDIT_FULL', { reason: 'the log is closed' })
    if (this.#failure !== undefined) throw this.#failure
    const log = this.#opened()
    if (batch.number !== log.length) throw new RangeError(`batch ${log.length} comes next, not ${batch.number}`)
    try {
      await this.#notes.write(batch)
      await log.append([batch.block])
    } catch (thrown) {
      // What may have been written in part is not written to again.
      this.#failure = writeFailure(thrown)
      throw this.#failure
    }
  }

  async read(number: number): Promise<Uint8Array> {
    const log = this.#opened()
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
    // A disk that takes nothing more takes no index either; it is made anew when the log opens.
    await Promise.allSettled([this.#notes.close()])
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

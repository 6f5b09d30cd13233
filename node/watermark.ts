/**
 * The outbox's watermark in a file. Written at most once in `WRITE_MS` and when closed; an older value after a crash only
 * means that some events are offered again, which their ids make harmless.
 */
import { readFileSync, writeFileSync, renameSync } from 'node:fs'
import type { Watermark } from '../services/state/outbox.ts'

const WRITE_MS = 1_000

export class FileWatermark implements Watermark {
  readonly #file: string
  readonly #onFailure: (error: unknown) => void
  #seq: number
  #timer: NodeJS.Timeout | undefined

  /** `onFailure` is told when the file cannot be written: the next value is written all the same. */
  constructor(file: string, onFailure: (error: unknown) => void) {
    this.#file = file
    this.#onFailure = onFailure
    this.#seq = readSequence(file)
  }

  read(): number {
    return this.#seq
  }

  write(seq: number): void {
    this.#seq = seq
    this.#timer ??= setTimeout(() => { this.#save() }, WRITE_MS).unref()
  }

  /** Writes what is not written yet. Idempotent. */
  close(): void {
    if (this.#timer !== undefined) this.#save()
  }

  #save(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
    const fresh = `${this.#file}.new`
    try {
      writeFileSync(fresh, `${this.#seq}\n`, { mode: 0o600 })
      renameSync(fresh, this.#file)
    } catch (error) {
      this.#onFailure(error)
    }
  }
}

function readSequence(file: string): number {
  try {
    const seq = Number(readFileSync(file, 'utf8').trim())
    return Number.isSafeInteger(seq) && seq > 0 ? seq : 0
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return 0
    throw error
  }
}

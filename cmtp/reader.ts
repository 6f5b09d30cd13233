/**
 * Reads fields one after the other, each within its bytes or refused with the offset; what it gives are views. Total over any bytes.
 */
import type { CMeshError } from './errors.ts'
import { readUint64 } from './frame.ts'

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export class Reader {
  readonly #bytes: Buffer
  readonly #base: number
  readonly #refuse: (offset: number, expected: string, cause?: unknown) => CMeshError
  at = 0

  /** `base`: offset of the bytes in what an error counts from. */
  constructor(bytes: Buffer, base: number, refuse: (offset: number, expected: string, cause?: unknown) => CMeshError) {
    this.#bytes = bytes
    this.#base = base
    this.#refuse = refuse
  }

  take(length: number, expected: string): Buffer {
    if (this.at + length > this.#bytes.length) throw this.fault(expected)
    this.at += length
    return this.#bytes.subarray(this.at - length, this.at)
  }

  byte(expected: string): number {
    return this.take(1, expected)[0] as number
  }

  /** A u64 that a number holds. */
  count(expected: string): number {
    const value = readUint64(this.take(8, expected), 0)
    if (!Number.isSafeInteger(value)) throw this.fault('a number below 2^53', 8)
    return value
  }

  /** A text behind the length of its UTF-8, a u16. */
  text(): string {
    const length = this.take(2, 'a length of a text').readUInt16BE(0)
    const start = this.at
    const bytes = this.take(length, 'a text')
    try {
      return UTF8.decode(bytes)
    } catch (cause) {
      throw this.#refuse(this.#base + start, 'UTF-8', cause)
    }
  }

  /** Checks that nothing follows; hands `value` through. */
  end<T>(value?: T): T {
    if (this.at !== this.#bytes.length) throw this.fault('the end')
    return value as T
  }

  /** The refusal of what stands where the reader is, or `back` bytes before. */
  fault(expected: string, back = 0): CMeshError {
    return this.#refuse(this.#base + this.at - back, expected)
  }
}

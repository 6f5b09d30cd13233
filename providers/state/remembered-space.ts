/**
 * The mesh's own records: packed as those of a contract are, with the ones in use at hand. A request asks for the same few again and again, and
 * who asks remembers what it made of a record by the very bytes that it got: those it gets again while they are in use and nobody has
 * written the key.
 */
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import { PackedSpace, type ByteSpace } from './packed-space.ts'

/** Keys at hand at least, while their records have no more than 512 bytes on average. */
const REMEMBERED = { entries: 16_384, weight: 8 * 1024 * 1024 }

export class RememberedSpace implements ByteSpace {
  readonly #packed = new PackedSpace()
  /** Copies, so that none keeps more than itself; `null` for a key that is not there. */
  readonly #inUse = new TwoGenerations<string, Uint8Array | null>(REMEMBERED)

  get size(): number {
    return this.#packed.size
  }

  get(key: string): Uint8Array | undefined {
    let value = this.#inUse.get(key, weightOf)
    if (value === undefined) {
      value = this.#packed.get(key)?.slice() ?? null
      this.#inUse.set(key, value, weightOf(value))
    }
    return value ?? undefined
  }

  has(key: string): boolean {
    return this.get(key) !== undefined
  }

  set(key: string, value: Uint8Array): this {
    this.#packed.set(key, value)
    this.#inUse.delete(key)
    return this
  }

  delete(key: string): boolean {
    this.#inUse.delete(key)
    return this.#packed.delete(key)
  }

  setBytes(bytes: Uint8Array, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number): void {
    this.#packed.setBytes(bytes, keyAt, keyBytes, valueAt, valueBytes)
    this.#forget(bytes, keyAt, keyBytes)
  }

  deleteBytes(bytes: Uint8Array, keyAt: number, keyBytes: number): boolean {
    this.#forget(bytes, keyAt, keyBytes)
    return this.#packed.deleteBytes(bytes, keyAt, keyBytes)
  }

  clear(): void {
    this.#packed.clear()
    this.#inUse.clear()
  }

  keys(): Iterable<string> {
    return this.#packed.keys()
  }

  [Symbol.iterator](): Iterator<[string, Uint8Array]> {
    return this.#packed[Symbol.iterator]()
  }

  #forget(bytes: Uint8Array, at: number, length: number): void {
    if (this.#inUse.size > 0) this.#inUse.delete(Buffer.from(bytes.buffer, bytes.byteOffset + at, length).toString('latin1'))
  }
}

function weightOf(value: Uint8Array | null): number {
  return value?.length ?? 0
}

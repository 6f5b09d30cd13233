/**
 * HalfSipHash-1-3 of a key, 32 bits, over words of four bytes that are padded with zeros. Whoever writes to a contract chooses its keys, so
 * which of them share a place in a table must not be known beforehand: the hash has a secret of 64 bits, drawn for each table.
 */
import { randomFillSync } from 'node:crypto'

export class KeyHash {
  readonly #k0: number
  readonly #k1: number

  constructor(secret: Int32Array = randomFillSync(new Int32Array(2))) {
    this.#k0 = secret[0] as number
    this.#k1 = secret[1] as number
  }

  /** Of the key of `length` bytes that begins at the word `at`; the last word is padded with zeros. */
  of(words: Int32Array, at: number, length: number): number {
    let v0 = this.#k0
    let v1 = this.#k1
    let v2 = 0x6c796765 ^ v0
    let v3 = 0x74656462 ^ v1
    const end = at + ((length + 3) >>> 2)
    for (let i = at; i <= end; i++) {
      const word = i < end ? words[i] as number : length
      v3 ^= word
      v0 = (v0 + v1) | 0
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0
      v0 = (v0 << 16) | (v0 >>> 16)
      v2 = (v2 + v3) | 0
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2
      v0 = (v0 + v3) | 0
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0
      v2 = (v2 + v1) | 0
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2
      v2 = (v2 << 16) | (v2 >>> 16)
      v0 ^= word
    }
    v2 ^= 0xff
    for (let i = 0; i < 3; i++) {
      v0 = (v0 + v1) | 0
      v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0
      v0 = (v0 << 16) | (v0 >>> 16)
      v2 = (v2 + v3) | 0
      v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2
      v0 = (v0 + v3) | 0
      v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0
      v2 = (v2 + v1) | 0
      v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2
      v2 = (v2 << 16) | (v2 >>> 16)
    }
    return v1 ^ v3
  }
}

/** Golden vectors: JSON under `test/vectors`, made outside the code under test. */
import { readFileSync } from 'node:fs'

/** One encoding that decodes to `meaning` and is what `meaning` encodes to. */
export interface AcceptedVector<M> {
  readonly name: string
  readonly hex: string
  readonly meaning: M
}

/** Bytes that a decoder refuses with exactly this code and detail. */
export interface RefusedVector {
  readonly name: string
  readonly hex: string
  readonly code: string
  readonly detail: Readonly<Record<string, string | number>>
}

export interface CodecVectors<M> {
  readonly accepted: readonly AcceptedVector<M>[]
  readonly refused: readonly RefusedVector[]
}

/** `file` is relative to `test/vectors`. */
export function readVectors<T>(file: string): T {
  return JSON.parse(readFileSync(new URL(`../vectors/${file}`, import.meta.url), 'utf8')) as T
}

export function bytesOf(hex: string): Buffer {
  return Buffer.from(hex, 'hex')
}

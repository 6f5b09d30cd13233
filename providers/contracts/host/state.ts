/** Host functions on the contract's own state. */
import { LIMITS } from '../../../cmtp/limits.ts'
import { CALL_LIMITS } from '../call-limits.ts'
import type { Frame } from '../frame.ts'
import { SortedKeys, type KeyCursor } from '../sorted-keys.ts'
import { bounded, copy, fill, handOver, latin1, mustWrite, stop } from './bytes.ts'

export function get(frame: Frame, pointer: number, length: number): number {
  const bytes = keyBytes(length)
  frame.charge(frame.run.costs.get, bytes)
  const value = frame.draft.get(latin1(frame, pointer, bytes))
  return value === undefined ? -1 : fill(frame, value)
}

export function set(frame: Frame, keyPointer: number, keyLength: number, pointer: number, length: number): void {
  const [keySize, valueSize] = [keyBytes(keyLength), bounded(length, LIMITS.stateValueBytes, 'CMESH_CONTRACT_VALUE_SIZE', 'a value')]
  frame.charge(frame.run.costs.set, keySize + valueSize)
  mustWrite(frame)
  handOver(frame, keySize + valueSize)
  frame.run.journal.set(frame.draft, latin1(frame, keyPointer, keySize), copy(frame, pointer, valueSize))
  boundWrites(frame)
}

export function del(frame: Frame, pointer: number, length: number): number {
  const bytes = keyBytes(length)
  frame.charge(frame.run.costs.del, bytes)
  mustWrite(frame)
  handOver(frame, bytes)
  const found = frame.run.journal.delete(frame.draft, latin1(frame, pointer, bytes))
  boundWrites(frame)
  return found ? 1 : 0
}

const SCAN = { reverse: 1, keysOnly: 2 } as const

/**
 * Entries with `from` <= key < `to`, as many as are asked for and fit. Each key that is looked at costs, also one that the call
 * itself deleted, so that nobody walks for free.
 */
export function scan(
  frame: Frame, fromPointer: number, fromLength: number, toPointer: number, toLength: number, limit: number, flags: number,
): number {
  const { run: { costs }, draft } = frame
  const [fromSize, toSize] = [keyBytes(fromLength), keyBytes(toLength)]
  frame.charge(costs.scan, fromSize + toSize)
  if ((flags & ~(SCAN.reverse | SCAN.keysOnly)) !== 0) throw stop('CMESH_CONTRACT_ABI', 'a scan has no such flag')
  const most = Math.min(limit >>> 0, CALL_LIMITS.scanEntries)
  const from = latin1(frame, fromPointer, fromSize)
  const to = toSize === 0 ? undefined : latin1(frame, toPointer, toSize)
  const entries: (readonly [string, Uint8Array])[] = []
  let size = 0
  const keys = new MergedKeys(frame, from, to, (flags & SCAN.reverse) !== 0)
  while (entries.length < most) {
    const key = keys.next()
    if (key === undefined) break
    frame.take(costs.scan.entry ?? 0)
    const value = draft.get(key)
    if (value === undefined) continue
    const entry = [key, (flags & SCAN.keysOnly) === 0 ? value : NO_VALUE] as const
    const entrySize = ENTRY_BYTES + key.length + entry[1].length
    if (entries.length > 0 && size + entrySize > CALL_LIMITS.scanBytes) break
    frame.take(costs.scan.byte * entrySize)
    entries.push(entry)
    size += entrySize
  }
  fill(frame, packed(entries, size))
  return entries.length
}

const NO_VALUE = new Uint8Array(0)
/** The two lengths in front of key and value. */
const ENTRY_BYTES = 6

/** `length of the key (u16) ‖ key ‖ length of the value (u32) ‖ value` for each entry, little-endian. */
function packed(entries: readonly (readonly [string, Uint8Array])[], size: number): Uint8Array {
  const bytes = Buffer.alloc(size)
  let at = 0
  for (const [key, value] of entries) {
    at = bytes.writeUInt16LE(key.length, at)
    at += bytes.write(key, at, 'latin1')
    at = bytes.writeUInt32LE(value.length, at)
    bytes.set(value, at)
    at += value.length
  }
  return bytes
}

/** The keys of a space and of what the call changed in it, each once, in order. */
class MergedKeys {
  readonly #cursors: readonly KeyCursor[]
  readonly #beyond: (key: string) => boolean
  readonly #reverse: boolean

  constructor({ draft }: Frame, from: string, to: string | undefined, reverse: boolean) {
    const { home } = draft
    home.sorted ??= new SortedKeys(home.space.keys())
    const sources = draft.size === 0 ? [home.sorted] : [home.sorted, draft.sorted]
    this.#cursors = sources.map((keys) => reverse ? keys.descending(to) : keys.ascending(from))
    this.#beyond = reverse ? (key) => key < from : (key) => to !== undefined && key >= to
    this.#reverse = reverse
  }

  next(): string | undefined {
    let first: string | undefined
    for (const { key } of this.#cursors) {
      if (key !== undefined && (first === undefined || (this.#reverse ? key > first : key < first))) first = key
    }
    if (first === undefined || this.#beyond(first)) return undefined
    for (const cursor of this.#cursors) if (cursor.key === first) cursor.advance()
    return first
  }
}

function keyBytes(length: number): number {
  return bounded(length, LIMITS.stateKeyBytes, 'CMESH_CONTRACT_KEY_SIZE', 'a key')
}

function boundWrites(frame: Frame): void {
  if (frame.run.journal.size > CALL_LIMITS.writes) throw stop('CMESH_CONTRACT_LIMIT', `a call writes at most ${CALL_LIMITS.writes} keys`)
}

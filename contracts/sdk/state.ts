/**
 * What a contract keeps between calls: values under keys of its own, which no other contract sees. A key has at most 256 bytes
 * of UTF-8, a value at most 65,536. Numbers are 8 bytes, little-endian. Everything a call wrote is undone when it fails.
 */
import { revert } from './errors'
import { del, get, glance, set, take } from './host'
import { keyAt, MOST } from './keys'
import { decoded, encoded, narrowed } from './text'

const number = memory.data(8)

/** Where the key is that `keyed` was given last. */
let at: usize = 0

/** Writes the key as UTF-8, and gives its length. */
function keyed(key: string): i32 {
  const units = key.length
  at = keyAt()
  if (units <= MOST && narrowed(changetype<usize>(key), units, at)) return units
  const name = encoded(key)
  at = changetype<usize>(name)
  return name.byteLength
}

function length(key: string): i32 {
  const bytes = keyed(key)
  return get(at, bytes)
}

export namespace state {
  export function has(key: string): bool {
    return length(key) >= 0
  }

  /** Gives whether there was something to remove. */
  export function remove(key: string): bool {
    const bytes = keyed(key)
    return del(at, bytes) != 0
  }

  export function getBytes(key: string): ArrayBuffer | null {
    const bytes = length(key)
    return bytes < 0 ? null : take(bytes)
  }

  export function setBytes(key: string, value: ArrayBuffer): void {
    const bytes = keyed(key)
    set(at, bytes, changetype<usize>(value), value.byteLength)
  }

  export function getString(key: string, fallback: string = ''): string {
    const bytes = length(key)
    return bytes < 0 ? fallback : decoded(glance(bytes), bytes)
  }

  export function setString(key: string, value: string): void {
    setBytes(key, encoded(value))
  }

  export function getU64(key: string, fallback: u64 = 0): u64 {
    const bytes = getBytes(key)
    if (!bytes) return fallback
    if (bytes.byteLength != 8) revert('the state under ' + key + ' is not a number')
    return load<u64>(changetype<usize>(bytes))
  }

  export function setU64(key: string, value: u64): void {
    const bytes = keyed(key)
    store<u64>(number, value)
    set(at, bytes, number, 8)
  }
}

/**
 * What a contract keeps between calls: values under keys of its own, which no other contract sees. A key has at most 256 bytes
 * of UTF-8, a value at most 65,536. Numbers are 8 bytes, little-endian. Everything a call wrote is undone when it fails.
 */
import { revert } from './errors'
import { del, get, set, take } from './host'

const number = memory.data(8)

function encode(text: string): ArrayBuffer {
  return String.UTF8.encode(text, false, String.UTF8.ErrorMode.ERROR)
}

function length(key: string): i32 {
  const name = encode(key)
  return get(changetype<usize>(name), name.byteLength)
}

export namespace state {
  export function has(key: string): bool {
    return length(key) >= 0
  }

  /** Gives whether there was something to remove. */
  export function remove(key: string): bool {
    const name = encode(key)
    return del(changetype<usize>(name), name.byteLength) != 0
  }

  export function getBytes(key: string): ArrayBuffer | null {
    const bytes = length(key)
    return bytes < 0 ? null : take(bytes)
  }

  export function setBytes(key: string, value: ArrayBuffer): void {
    const name = encode(key)
    set(changetype<usize>(name), name.byteLength, changetype<usize>(value), value.byteLength)
  }

  export function getString(key: string, fallback: string = ''): string {
    const bytes = getBytes(key)
    return bytes ? String.UTF8.decode(bytes) : fallback
  }

  export function setString(key: string, value: string): void {
    setBytes(key, encode(value))
  }

  export function getU64(key: string, fallback: u64 = 0): u64 {
    const bytes = getBytes(key)
    if (!bytes) return fallback
    if (bytes.byteLength != 8) revert('the state under ' + key + ' is not a number')
    return load<u64>(changetype<usize>(bytes))
  }

  export function setU64(key: string, value: u64): void {
    const name = encode(key)
    store<u64>(number, value)
    set(changetype<usize>(name), name.byteLength, number, 8)
  }
}

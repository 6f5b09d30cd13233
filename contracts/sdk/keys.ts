/**
 * Keys of maps as bytes that sort as the keys do: whole numbers big-endian with the sign turned round, `bool` as one byte, strings
 * as UTF-8 (which sorts by code point), bytes as they are. In a compound key each string or bytes but the last ends with
 * 00 01, and a 00 within it becomes 00 FF, so that no part reaches into the next.
 */
import { revert } from './errors'
import { decoded, narrowed } from './text'

/** Longest key of the state, in bytes. */
export const MOST = 256
/** The key of the call to the host that is being made: nothing else happens between writing it and making the call. */
const buffer = memory.data(256)

/** Two keys as one: `pair(owner, spender)`. Sorts by the first part, then by the second. */
export class Pair<A, B> {
  constructor(public first: A, public second: B) {}

  __write(at: usize, end: usize, last: bool): usize {
    return writeKey<B>(writeKey<A>(at, end, this.first, false), end, this.second, last)
  }

  __read(at: usize, end: usize, last: bool): usize {
    at = readKey<A>(at, end, false)
    this.first = keyRead<A>()
    at = readKey<B>(at, end, last)
    this.second = keyRead<B>()
    return at
  }

  /** What all keys with this first part begin with. It reads nothing of the pair it is asked of. */
  __bound<P>(name: string, part: P): ArrayBuffer {
    return boundOf<A>(name, <A>part, false)
  }
}

export function pair<A, B>(first: A, second: B): Pair<A, B> {
  return new Pair<A, B>(first, second)
}

/** Where `cellKey` and `mapKey` write. */
export function keyAt(): usize {
  return buffer
}

/** Writes the name as a key to the shared buffer, and gives its length. */
export function cellKey(name: string): i32 {
  return <i32>(writeName(name) - buffer)
}

/** Writes the name, a slash and the key behind it to the shared buffer, and gives their length together. */
export function mapKey<K>(name: string, key: K): i32 {
  return <i32>(writeKey<K>(writePrefix(name), buffer + MOST, key, true) - buffer)
}

/** What all keys of a map begin with. */
export function prefixOf(name: string): ArrayBuffer {
  return copied(writePrefix(name))
}

/** The same as `mapKey` as bytes of its own; `last` is false for the first part of a compound key. */
export function boundOf<K>(name: string, key: K, last: bool): ArrayBuffer {
  return copied(writeKey<K>(writePrefix(name), buffer + MOST, key, last))
}

function copied(end: usize): ArrayBuffer {
  const bytes = new ArrayBuffer(<i32>(end - buffer))
  memory.copy(changetype<usize>(bytes), buffer, end - buffer)
  return bytes
}

function writePrefix(name: string): usize {
  const at = writeName(name)
  store<u8>(at, 0x2f)
  return at + 1
}

/** Names are ASCII, so that they need no encoding. */
function writeName(name: string): usize {
  const units = name.length
  let seen = units > 128 ? 0x80 : 0
  for (let i = 0; i < units && i < 128; i++) {
    const code = <i32>load<u16>(changetype<usize>(name) + (<usize>i << 1))
    seen |= code
    store<u8>(buffer + i, <u8>code)
  }
  if (seen > 0x7f) revert('the name of a cell or a map has at most 128 characters of ASCII')
  return buffer + units
}

/** The first bytes after all that begin with these. There are some: a name ends in a slash. */
export function afterAll(bytes: ArrayBuffer): ArrayBuffer {
  let length = bytes.byteLength
  const from = changetype<usize>(bytes)
  while (load<u8>(from + length - 1) == 0xff) length--
  const next = bytes.slice(0, length)
  const last = changetype<usize>(next) + length - 1
  store<u8>(last, load<u8>(last) + 1)
  return next
}

/** The first bytes after these alone. Nothing is longer than the longest key, so that after it comes what does not begin with it. */
export function afterOne(bytes: ArrayBuffer): ArrayBuffer {
  const length = bytes.byteLength
  if (length >= MOST) return afterAll(bytes)
  const next = new ArrayBuffer(length + 1)
  memory.copy(changetype<usize>(next), changetype<usize>(bytes), length)
  return next
}

/** Writes a key and gives where it ends. */
export function writeKey<K>(at: usize, end: usize, key: K, last: bool): usize {
  if (isString<K>()) {
    const text = changetype<string>(key)
    let length = text.length
    if (length > <i32>(end - at) || !narrowed(changetype<usize>(text), length, at)) {
      length = String.UTF8.byteLength(text)
      bounded(at, end, length)
      String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, at, false, String.UTF8.ErrorMode.ERROR)
    }
    return last ? at + length : delimit(at, end, length)
  }
  if (isInteger<K>()) {
    bounded(at, end, sizeof<K>())
    if (isBoolean<K>()) store<u8>(at, key ? 1 : 0)
    else if (sizeof<K>() == 8) store<u64>(at, bswap<u64>(isSigned<K>() ? <u64>key ^ 0x8000000000000000 : <u64>key))
    else if (sizeof<K>() == 4) store<u32>(at, bswap<u32>(isSigned<K>() ? <u32>key ^ 0x80000000 : <u32>key))
    else if (sizeof<K>() == 2) store<u16>(at, bswap<u16>(isSigned<K>() ? <u16>key ^ 0x8000 : <u16>key))
    else store<u8>(at, isSigned<K>() ? <u8>key ^ 0x80 : <u8>key)
    return at + sizeof<K>()
  }
  if (isFloat<K>()) ERROR('A key is a whole number, bool, string, Uint8Array or a pair of these')
  if (idof<K>() == idof<Uint8Array>()) {
    const view = changetype<Uint8Array>(key)
    const length = view.byteLength
    bounded(at, end, length)
    memory.copy(at, view.dataStart, length)
    return last ? at + length : delimit(at, end, length)
  }
  return key.__write(at, end, last)
}

function bounded(at: usize, end: usize, length: i32): void {
  if (length > <i32>(end - at)) revert('a key and the name of its map have at most 256 bytes together')
}

/** Marks the end of a part, and whatever in it looks like an end. */
function delimit(at: usize, end: usize, length: i32): usize {
  let zeros = 0
  for (let i = 0; i < length; i++) zeros += i32(!load<u8>(at + i))
  bounded(at, end, length + zeros + 2)
  let from = at + length
  let to = from + zeros
  const stop = to
  while (from < to) {
    const byte = load<u8>(--from)
    if (!byte) store<u8>(--to, 0xff)
    store<u8>(--to, byte)
  }
  store<u8>(stop, 0)
  store<u8>(stop + 1, 1)
  return stop + 2
}

/** What `readKey` read: a number as its bits, anything else as its address. */
let bits: u64 = 0

export function keyRead<K>(): K {
  if (isInteger<K>()) return <K>bits
  return changetype<K>(<usize>bits)
}

/** Reads a key that `writeKey` wrote, and gives where it ends. */
export function readKey<K>(at: usize, end: usize, last: bool): usize {
  if (isInteger<K>()) {
    if (sizeof<K>() > end - at) foreign()
    if (isBoolean<K>()) bits = load<u8>(at)
    else if (sizeof<K>() == 8) bits = bswap<u64>(load<u64>(at)) ^ (isSigned<K>() ? 0x8000000000000000 : 0)
    else if (sizeof<K>() == 4) bits = bswap<u32>(load<u32>(at)) ^ (isSigned<K>() ? 0x80000000 : 0)
    else if (sizeof<K>() == 2) bits = bswap<u16>(load<u16>(at)) ^ (isSigned<K>() ? 0x8000 : 0)
    else bits = load<u8>(at) ^ (isSigned<K>() ? 0x80 : 0)
    return at + sizeof<K>()
  }
  if (isString<K>() || idof<K>() == idof<Uint8Array>()) {
    const part = last ? end : undelimit(at, end)
    const length = last ? <i32>(end - at) : plainLength
    const from = last ? at : plain
    if (isString<K>()) {
      bits = <u64>changetype<usize>(decoded(from, length))
    } else {
      const bytes = new Uint8Array(length)
      memory.copy(bytes.dataStart, from, length)
      bits = <u64>changetype<usize>(bytes)
    }
    return part
  }
  const key = changetype<K>(__new(offsetof<K>(), idof<K>()))
  at = key.__read(at, end, last)
  bits = <u64>changetype<usize>(key)
  return at
}

/** A part without its marks, as `undelimit` left it. */
let plain: usize = 0
let plainLength: i32 = 0

function undelimit(at: usize, end: usize): usize {
  plain = heap.alloc(end - at)
  let to = plain
  while (at < end) {
    const byte = load<u8>(at++)
    if (!byte) {
      if (at < end && load<u8>(at++) == 1) {
        plainLength = <i32>(to - plain)
        return at
      }
    }
    store<u8>(to++, byte)
  }
  foreign()
  return end
}

function foreign(): void {
  revert('a key of the map is of another type')
}

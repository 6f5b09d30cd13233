/**
 * A map whose entries can be listed in the order of their keys, a page at a time:
 *
 *     const bids = new SortedMap<Pair<u64, string>, string>('bids')
 *     const best = bids.last()
 *     const page = bids.range().within(42).reverse().entries(20)
 *
 * The order is that of numbers, of code points, of bytes, and of a pair's first part before its second. Listing costs gas for each
 * entry and each byte of it: ask for no more than you need. Only a contract that lists has its keys kept in order by the engine.
 */
import { scan, reglen, take } from './host'
import { afterAll, afterOne, boundOf, keyRead, prefixOf, readKey } from './keys'
import { StateMap } from './map'
import { memoryValue } from './values'

const BACKWARD = 1
const KEYS_ONLY = 2
/** Most entries and bytes that one scan of the host gives. */
const MOST_ENTRIES = 256
const MOST_BYTES = 65536

export class Entry<K, V> {
  constructor(public key: K, public value: V) {}
}

export class SortedMap<K, V> extends StateMap<K, V> {
  /** The entry with the lowest key, or null. */
  first(): Entry<K, V> | null {
    return this.range().first()
  }

  /** The entry with the highest key, or null. */
  last(): Entry<K, V> | null {
    return this.range().reverse().first()
  }

  /** All entries; narrow it with its methods. */
  range(): Range<K, V> {
    return new Range<K, V>(this.name)
  }
}

/** The entries of the last scan: where the next one begins, and the first. */
let at: usize = 0
let page: usize = 0

/** Part of a sorted map. Bounds only ever narrow it, in any order; nothing is read before one of the last four methods. */
export class Range<K, V> {
  private lower: ArrayBuffer
  private upper: ArrayBuffer
  private flags: i32 = 0

  constructor(private name: string) {
    const prefix = prefixOf(name)
    this.lower = prefix
    this.upper = afterAll(prefix)
  }

  /** Keys from this one on. */
  from(key: K): Range<K, V> {
    return this.raise(boundOf<K>(this.name, key, true))
  }

  /** Keys greater than this one: what follows a page. */
  after(key: K): Range<K, V> {
    return this.raise(afterOne(boundOf<K>(this.name, key, true)))
  }

  /** Keys less than this one: what follows a page that was read backwards. */
  before(key: K): Range<K, V> {
    return this.sink(boundOf<K>(this.name, key, true))
  }

  /** Keys up to this one. */
  through(key: K): Range<K, V> {
    return this.sink(afterOne(boundOf<K>(this.name, key, true)))
  }

  /** Of a map with `Pair` keys: those whose first part this is. Of one with strings: those that begin with it. */
  within<P>(part: P): Range<K, V> {
    const bound = isString<K>() ? boundOf<P>(this.name, part, true) : changetype<K>(0).__bound<P>(this.name, part)
    return this.raise(bound).sink(afterAll(bound))
  }

  /** From the highest key to the lowest. */
  reverse(): Range<K, V> {
    this.flags ^= BACKWARD
    return this
  }

  /** The first entry, or null. */
  first(): Entry<K, V> | null {
    const found = this.entries(1)
    return found.length ? found[0] : null
  }

  /** At most `limit` entries; fewer only when there are no more. */
  entries(limit: i32 = 100): Entry<K, V>[] {
    const entries = new Array<Entry<K, V>>()
    while (entries.length < limit) {
      const found = this.scan(limit - entries.length, 0)
      for (let i = 0; i < found; i++) {
        const key = this.key()
        entries.push(new Entry<K, V>(key, this.value()))
      }
      if (!this.more(found, limit - entries.length, largest<V>())) break
    }
    return entries
  }

  /** At most `limit` keys; fewer only when there are no more. */
  keys(limit: i32 = 100): K[] {
    const keys = new Array<K>()
    while (keys.length < limit) {
      const found = this.scan(limit - keys.length, KEYS_ONLY)
      for (let i = 0; i < found; i++) {
        keys.push(this.key())
        at += 4
      }
      if (!this.more(found, limit - keys.length, 0)) break
    }
    return keys
  }

  /** At most `limit` values, in the order of their keys; fewer only when there are no more. */
  values(limit: i32 = 100): V[] {
    const values = new Array<V>()
    while (values.length < limit) {
      const found = this.scan(limit - values.length, 0)
      for (let i = 0; i < found; i++) {
        at += 2 + <usize>load<u16>(at)
        values.push(this.value())
      }
      if (!this.more(found, limit - values.length, largest<V>())) break
    }
    return values
  }

  private raise(bound: ArrayBuffer): Range<K, V> {
    if (compare(bound, this.lower) > 0) this.lower = bound
    return this
  }

  private sink(bound: ArrayBuffer): Range<K, V> {
    if (compare(bound, this.upper) < 0) this.upper = bound
    return this
  }

  private scan(limit: i32, flags: i32): i32 {
    const lower = this.lower
    const upper = this.upper
    const found = scan(changetype<usize>(lower), lower.byteLength, changetype<usize>(upper), upper.byteLength,
      min(limit, MOST_ENTRIES), this.flags | flags)
    page = changetype<usize>(take(reglen()))
    at = page
    return found
  }

  private key(): K {
    const start = at + 2
    at = start + <usize>load<u16>(at)
    readKey<K>(start + this.name.length + 1, at, true)
    return keyRead<K>()
  }

  private value(): V {
    const length = load<u32>(at)
    const start = at + 4
    at = start + <usize>length
    return memoryValue<V>(start, length, this.name)
  }

  /**
   * Whether another scan may find more: `wanted` are still wanted, and either this one gave as many as a scan gives or its list had no
   * room for another entry, whose value has at most `valueBytes`. Then the range is narrowed to what was not seen.
   */
  private more(found: i32, wanted: i32, valueBytes: i32): bool {
    if (!found || !wanted) return false
    if (found < MOST_ENTRIES && <i32>(at - page) + 262 + valueBytes <= MOST_BYTES) return false
    let last = page
    for (let i = 1; i < found; i++) {
      last += 2 + <usize>load<u16>(last)
      last += 4 + <usize>load<u32>(last)
    }
    const bytes = new ArrayBuffer(load<u16>(last))
    memory.copy(changetype<usize>(bytes), last + 2, bytes.byteLength)
    if (this.flags & BACKWARD) this.upper = bytes
    else this.lower = afterOne(bytes)
    return true
  }
}

/** Most bytes that a value of the type has. */
function largest<V>(): i32 {
  return isInteger<V>() || isFloat<V>() ? sizeof<V>() : MOST_BYTES
}

function compare(a: ArrayBuffer, b: ArrayBuffer): i32 {
  const order = memory.compare(changetype<usize>(a), changetype<usize>(b), min(a.byteLength, b.byteLength))
  return order ? order : a.byteLength - b.byteLength
}

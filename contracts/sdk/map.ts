/**
 * Many values under keys:
 *
 *     const balances = new StateMap<string, u64>('balances')
 *
 * `K`: `bool`, a whole number, `string`, `Uint8Array` or a `Pair` of these; `V` as for a `Cell`. In the state an entry's key is the
 * map's name, a slash and the key's bytes (`keys.ts`), at most 256 bytes together. A map cannot be listed; a `SortedMap` can.
 */
import { del } from './host'
import { keyAt, mapKey } from './keys'
import { findValue, registerValue, saveValue, zero } from './values'

export class StateMap<K, V> {
  constructor(public readonly name: string) {}

  /** The value of the key; while none was set 0, false, '' or no bytes. A record reverts then. */
  get(key: K): V {
    const length = findValue(keyAt(), mapKey<K>(this.name, key))
    return length < 0 ? zero<V>(this.name) : registerValue<V>(length, this.name)
  }

  /** The value of the key, or `fallback` while none was set. */
  getOr(key: K, fallback: V): V {
    const length = findValue(keyAt(), mapKey<K>(this.name, key))
    return length < 0 ? fallback : registerValue<V>(length, this.name)
  }

  set(key: K, value: V): void {
    saveValue<V>(keyAt(), mapKey<K>(this.name, key), value)
  }

  has(key: K): bool {
    return findValue(keyAt(), mapKey<K>(this.name, key)) >= 0
  }

  /** Gives whether there was a value. */
  delete(key: K): bool {
    return del(keyAt(), mapKey<K>(this.name, key)) != 0
  }
}

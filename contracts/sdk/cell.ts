/**
 * One value that a contract keeps. Made once, at the top of the contract's file:
 *
 *     const owner = new Cell<string>('owner')
 *
 * `T`: `bool`, a whole number, `f64`, `string`, `Uint8Array`, `ArrayBuffer` or a class that is an `@record`. The name is the key in
 * the state: no two cells or maps of a contract share one, and it has no slash.
 */
import { del } from './host'
import { cellKey, keyAt } from './keys'
import { findValue, registerValue, saveValue, zero } from './values'

export class Cell<T> {
  constructor(public readonly name: string) {}

  /** The value; while none was set 0, false, '' or no bytes. A record reverts then. */
  get(): T {
    const length = findValue(keyAt(), cellKey(this.name))
    return length < 0 ? zero<T>(this.name) : registerValue<T>(length, this.name)
  }

  /** The value, or `fallback` while none was set. */
  getOr(fallback: T): T {
    const length = findValue(keyAt(), cellKey(this.name))
    return length < 0 ? fallback : registerValue<T>(length, this.name)
  }

  set(value: T): void {
    saveValue<T>(keyAt(), cellKey(this.name), value)
  }

  has(): bool {
    return findValue(keyAt(), cellKey(this.name)) >= 0
  }

  /** Gives whether there was a value. */
  delete(): bool {
    return del(keyAt(), cellKey(this.name)) != 0
  }
}

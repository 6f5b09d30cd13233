/**
 * What a contract may know of the call it is in. All of it comes from the ordered log, so that every replica sees the same.
 */
import { ctx as hostNumber, ctxs as hostText, take } from './host'

export namespace ctx {
  /** Sequence of the block this call runs in; in a view, of the last block applied. */
  export function sequence(): u64 {
    return <u64>hostNumber(0)
  }

  /** Log time in ms since 1970: the clock of the log, not of a machine. */
  export function time(): u64 {
    return <u64>hostNumber(1)
  }

  /** Who calls: a DID, or the address of a contract. */
  export function caller(): string {
    return String.UTF8.decode(take(hostText(0)))
  }

  /** The address of this contract. */
  export function self(): string {
    return String.UTF8.decode(take(hostText(1)))
  }
}

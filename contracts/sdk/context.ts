/**
 * What a contract may know of the call it is in. All of it comes from the ordered log, so that every replica sees the same.
 */
import { ctx as hostNumber, ctxs as hostText, glance } from './host'
import { decoded } from './text'

function text(field: i32): string {
  const length = hostText(field)
  return decoded(glance(length), length)
}

export namespace ctx {
  /** Sequence of the block this call runs in; in a view, of the last block applied. */
  export function sequence(): u64 {
    return <u64>hostNumber(0)
  }

  /** Log time in ms since 1970: the clock of the log, not of a machine. */
  export function time(): u64 {
    return <u64>hostNumber(1)
  }

  /** What is left of the call's gas. */
  export function gasLeft(): u64 {
    return <u64>hostNumber(2)
  }

  /** Who calls: a DID, or the address of a contract. Rights are given to the caller. */
  export function caller(): string {
    return text(0)
  }

  /** Whose request began it, through however many contracts. Context, never a right: whoever it calls may call on. */
  export function origin(): string {
    return text(2)
  }

  /** The address of this contract. */
  export function self(): string {
    return text(1)
  }
}

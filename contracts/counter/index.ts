/**
 * The smallest contract with state: one number that only goes up.
 */
import { Cell, emit, number, revert } from 'cmesh/sdk'

const value = new Cell<u64>('value')

/** Where counting begins. */
@init
export function init(start: u64 = 0): void {
  value.set(start)
}

/** Adds to the counter, emits `incremented` with the new value and gives it. */
export function increment(by: u64 = 1): u64 {
  const before = value.get()
  const after = before + by
  if (after < before) revert('the counter ends at 18446744073709551615')
  value.set(after)
  emit('incremented', number(after))
  return after
}

/** The value now. */
@view
export function get(): u64 {
  return value.get()
}

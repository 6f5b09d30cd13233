/**
 * The smallest contract with state: one number that only goes up.
 */
import { emit, number, revert, state } from 'cmesh/sdk'

const VALUE = 'value'

/** Where counting begins. */
@init
export function init(start: u64 = 0): void {
  state.setU64(VALUE, start)
}

/** Adds to the counter, emits `incremented` with the new value and gives it. */
export function increment(by: u64 = 1): u64 {
  const before = state.getU64(VALUE)
  const after = before + by
  if (after < before) revert('the counter ends at 18446744073709551615')
  state.setU64(VALUE, after)
  emit('incremented', number(after))
  return after
}

/** The value now. */
@view
export function get(): u64 {
  return state.getU64(VALUE)
}

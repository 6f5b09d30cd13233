/**
 * Arithmetic on u64 amounts that reverts where the language would wrap around. An amount is a `u64`: up to 18,446,744,073,709,551,615
 * of the smallest unit.
 */
import { revert } from './errors'

export namespace checked {
  export function add(a: u64, b: u64): u64 {
    const sum = a + b
    if (sum < a) revert('the sum is more than 18446744073709551615')
    return sum
  }

  export function sub(a: u64, b: u64): u64 {
    if (b > a) revert('the difference is less than 0')
    return a - b
  }

  export function mul(a: u64, b: u64): u64 {
    const product = a * b
    if (a && product / a != b) revert('the product is more than 18446744073709551615')
    return product
  }

  /** a × b ÷ c, rounded down, with whatever lies between: for shares and fees. */
  export function mulDiv(a: u64, b: u64, c: u64): u64 {
    if (!c) revert('a division by 0')
    const low = a * b
    const high = highHalf(a, b)
    if (!high) return low / c
    if (high >= c) revert('the quotient is more than 18446744073709551615')
    return divide(high, low, c)
  }
}

/** The upper 64 bits of a product. */
function highHalf(a: u64, b: u64): u64 {
  const a0 = a & 0xffffffff
  const a1 = a >> 32
  const b0 = b & 0xffffffff
  const b1 = b >> 32
  const middle = a1 * b0 + ((a0 * b0) >> 32)
  const cross = a0 * b1 + (middle & 0xffffffff)
  return a1 * b1 + (middle >> 32) + (cross >> 32)
}

/** (high · 2^64 + low) ÷ c, bit by bit; high < c, so that it fits. */
function divide(high: u64, low: u64, c: u64): u64 {
  let rest = high
  let quotient: u64 = 0
  for (let i = 63; i >= 0; i--) {
    const over = rest >> 63
    rest = (rest << 1) | ((low >> <u64>i) & 1)
    quotient <<= 1
    if (over || rest >= c) {
      rest -= c
      quotient |= 1
    }
  }
  return quotient
}

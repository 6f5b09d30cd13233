/**
 * Gas, stack slots and marks of stores of one instance, as the host reads and sets them. The globals themselves would do: but a 64-bit global is a BigInt
 * to JavaScript and each access a call into the engine, which together take longer than most host functions. So a second, tiny instance
 * shares the globals and hands them over as numbers. Gas is at most 2^53 − 1, so that none is lost.
 */

/** In text; a test holds the bytes equal to it. */
export const GAUGE_TEXT = `(module
  (import "c" "g" (global $gas (mut i64)))
  (import "c" "s" (global $slots (mut i32)))
  (import "c" "r" (global $reach (mut i32)))
  (func (export "arm") (param f64 i32)
    (global.set $gas (i64.trunc_f64_s (local.get 0)))
    (global.set $slots (local.get 1))
    (global.set $reach (i32.const 0)))
  (func (export "take") (param i32) (result i32)
    (global.set $gas (i64.sub (global.get $gas) (i64.extend_i32_u (local.get 0))))
    (i64.ge_s (global.get $gas) (i64.const 0)))
  (func (export "takeMuch") (param f64) (result i32)
    (global.set $gas (i64.sub (global.get $gas) (i64.trunc_f64_s (local.get 0))))
    (i64.ge_s (global.get $gas) (i64.const 0)))
  (func (export "gas") (result f64) (f64.convert_i64_s (global.get $gas)))
  (func (export "slots") (result i32) (global.get $slots))
  (func (export "reach") (result i32) (global.get $reach)))`

export const GAUGE_BYTES: Uint8Array = Buffer.from(
  'AGFzbQEAAAABGAVgAnx/AGABfwF/YAF8AX9gAAF8YAABfwIWAwFjAWcDfgEBYwFzA38BAWMBcgN/AQMHBgABAgMEBAcvBgNhcm0AAAR0YWtlAAEIdGFrZU11Y2gAAgNnYXMAAwVzbG90cwAEBXJlYW'
  + 'NoAAUKQQYPACAAsCQAIAEkAUEAJAILDwAjACAArX0kACMAQgBZCw8AIwAgALB9JAAjAEIAWQsFACMAuQsEACMBCwQAIwIL', 'base64')

const MODULE = new WebAssembly.Module(GAUGE_BYTES)

export interface Gauge {
  /** Sets what the next run may use, and forgets the marks. */
  readonly arm: (gas: number, slots: number) => void
  /** Takes gas, less than 2^31; 0 when there was less. A whole number of 32 bits crosses in half the time of any other. */
  readonly take: (gas: number) => number
  /** The same for any amount. */
  readonly takeMuch: (gas: number) => number
  /** Gas left; negative once more was used than there was. */
  readonly gas: () => number
  /** Stack slots left, likewise. */
  readonly slots: () => number
  /** The addresses that were marked, OR-ed. */
  readonly reach: () => number
}

export function gaugeOf(gas: WebAssembly.Global, slots: WebAssembly.Global, reach: WebAssembly.Global): Gauge {
  const { exports } = new WebAssembly.Instance(MODULE, { c: { g: gas, s: slots, r: reach } })
  return exports as unknown as Gauge
}

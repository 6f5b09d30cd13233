/**
 * What the generated wrappers call with a function's result, which crosses to the host as JSON text. Nothing becomes
 * `null`, and a number beyond ±(2^53 − 1) stands in quotes (see `json.ts`).
 */
import { output } from './host'
import { numberEnd, quote, writeNumber } from './json'

const word = memory.data(8)

export function resultVoid(): void {
  store<u32>(word, 0x6c6c756e) // "null"
  output(word, 4)
}

export function resultBool(value: bool): void {
  store<u64>(word, value ? 0x65757274 : 0x65736c6166) // "true", "false"
  output(word, value ? 4 : 5)
}

export function resultString(value: string): void {
  const text = String.UTF8.encode(quote(value))
  output(changetype<usize>(text), text.byteLength)
}

export function resultU64(value: u64): void {
  put(value, false)
}

export function resultI64(value: i64): void {
  // −2^63 negates to itself, which is its magnitude as u64.
  put(<u64>(value < 0 ? -value : value), value < 0)
}

export function resultU32(value: u32): void {
  put(<u64>value, false)
}

export function resultI32(value: i32): void {
  resultI64(<i64>value)
}

function put(magnitude: u64, negative: bool): void {
  const at = writeNumber(magnitude, negative)
  output(at, <i32>(numberEnd() - at))
}

/** Bytes as hex digits, which is how they cross to callers. */
import { hexDigit } from './escapes'
import { failure, Result, success } from './result'

const DIGITS = '0123456789abcdef'

/** Two lower-case digits a byte. */
export function hex(bytes: Uint8Array): string {
  const length = bytes.length
  const text = changetype<string>(__new(<usize>length << 2, idof<string>()))
  for (let i = 0; i < length; i++) {
    const at = changetype<usize>(text) + (<usize>i << 2)
    store<u16>(at, <u16>DIGITS.charCodeAt(bytes[i] >> 4))
    store<u16>(at + 2, <u16>DIGITS.charCodeAt(bytes[i] & 15))
  }
  return text
}

/** The bytes that an even number of digits of either case stands for. */
export function unhex(text: string): Result<Uint8Array> {
  if (text.length & 1) return failure<Uint8Array>('expected an even number of hex digits')
  const bytes = new Uint8Array(text.length >> 1)
  for (let i = 0; i < text.length; i += 2) {
    const high = hexDigit(text.charCodeAt(i))
    const low = hexDigit(text.charCodeAt(i + 1))
    if (high > 15 || low > 15) return failure<Uint8Array>('expected an even number of hex digits')
    bytes[i >> 1] = <u8>((high << 4) | low)
  }
  return success(bytes)
}

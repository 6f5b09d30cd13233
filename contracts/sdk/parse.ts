/**
 * Reading JSON: `parse<u64>(text)`, and `member<string>(text, 'name')` for one field of an object. What does not fit is an error, not
 * a revert. `T`: bool, i32, u32, i64, u64, string, Uint8Array (hex) or an array of these.
 */
import { finished, open, peek, problem, read, skipSpace, skipValue, step, wrong } from './reader'
import { failure, Result, success } from './result'

export function parse<T>(text: string): Result<T> {
  const bytes = String.UTF8.encode(text)
  return parseBytes<T>(changetype<usize>(bytes), bytes.byteLength)
}

/** The text as UTF-8 that lies at `start`. For the SDK itself. */
export function parseBytes<T>(start: usize, length: i32): Result<T> {
  open(start, length)
  skipSpace()
  const value = read<T>()
  skipSpace()
  if (!finished()) wrong('one value')
  return outcome<T>(value)
}

/** One field of a JSON object; of two with one name the first. */
export function member<T>(text: string, name: string): Result<T> {
  const bytes = String.UTF8.encode(text)
  open(changetype<usize>(bytes), bytes.byteLength)
  skipSpace()
  if (peek() != 0x7b) return failure<T>('expected an object')
  do {
    step()
    skipSpace()
    if (peek() == 0x7d) break
    const found = read<string>()
    skipSpace()
    if (peek() != 0x3a) wrong('a colon after the name of a field')
    step()
    skipSpace()
    if (problem().length) break
    if (found == name) return outcome<T>(read<T>())
    skipValue()
    skipSpace()
  } while (peek() == 0x2c)
  return failure<T>(problem().length ? 'expected ' + problem() : 'there is no field ' + name)
}

function outcome<T>(value: T): Result<T> {
  return problem().length ? failure<T>('expected ' + problem()) : success<T>(value)
}

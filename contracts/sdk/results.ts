/**
 * What the generated wrappers call with a function's result, which crosses to the host as JSON text (see `writer.ts`). Nothing
 * becomes `null`.
 */
import { output, ROOM, room } from './host'
import { numberEnd, writeNumber } from './json'
import { plainWritten } from './text'
import { JsonWriter } from './writer'

const word = memory.data(8)

export function nothing(): void {
  store<u32>(word, 0x6c6c756e) // "null"
  output(word, 4)
}

export function result<T>(value: T): void {
  if (isBoolean<T>()) {
    store<u64>(word, value ? 0x65757274 : 0x65736c6166) // "true", "false"
    output(word, value ? 4 : 5)
  } else if (isInteger<T>()) {
    const negative = isSigned<T>() && <i64>value < 0
    // The lowest number negates to itself, which is its magnitude as u64.
    const at = writeNumber(negative ? <u64>-(<i64>value) : <u64>value, negative)
    output(at, <i32>(numberEnd() - at))
  } else {
    if (isString<T>()) {
      if (short(changetype<string>(value))) return
    }
    const writer = new JsonWriter(isString<T>() ? changetype<string>(value).length + 16 : 120)
    writer.value<T>(value)
    output(writer.start, writer.length)
  }
}

/** Whether the text was one that needs no room of its own, and no escapes. */
function short(text: string): bool {
  const units = text.length
  if (units > ROOM - 2 || plainWritten(changetype<usize>(text), units, room + 1) != units) return false
  store<u8>(room, 0x22)
  store<u8>(room + 1 + units, 0x22)
  output(room, units + 2)
  return true
}

/**
 * How a value of each type lies in the state: whole numbers little-endian in their own width, `bool` as one byte, a string as
 * UTF-8, bytes as they are, an `@record` as its fields one after the other (strings and bytes with their length before them).
 * Under a key there is always one type; bytes that cannot be a value of it revert.
 */
import { revert } from './errors'
import { get, glance, reg, set, take } from './host'
import { decoded, encoded, narrowed } from './text'

const scratch = memory.data(8)

/** What stands for a value that was never written: 0, false, '' or no bytes. A record has none. */
export function zero<V>(what: string): V {
  if (isString<V>()) return changetype<V>('')
  if (isInteger<V>() || isFloat<V>()) return <V>0
  if (idof<V>() == idof<ArrayBuffer>()) return changetype<V>(new ArrayBuffer(0))
  if (idof<V>() == idof<Uint8Array>()) return changetype<V>(new Uint8Array(0))
  revert('there is nothing in ' + what)
  return changetype<V>(0)
}

export function saveValue<V>(key: usize, keyLength: i32, value: V): void {
  if (isString<V>()) {
    const text = encoded(changetype<string>(value))
    set(key, keyLength, changetype<usize>(text), text.byteLength)
  } else if (isInteger<V>() || isFloat<V>()) {
    store<V>(scratch, value)
    set(key, keyLength, scratch, sizeof<V>())
  } else if (isArray<V>()) {
    ERROR('An array is not kept as one value: keep its elements in a map, or in an @record as a string or bytes')
  } else if (idof<V>() == idof<ArrayBuffer>()) {
    set(key, keyLength, changetype<usize>(value), changetype<ArrayBuffer>(value).byteLength)
  } else if (idof<V>() == idof<Uint8Array>()) {
    const view = changetype<Uint8Array>(value)
    set(key, keyLength, view.dataStart, view.byteLength)
  } else {
    const record = new RecordWriter()
    value.__save<RecordWriter>(record)
    set(key, keyLength, record.start, record.length)
  }
}

/** Whether there is one: the length of what `readRegister` then gives, −1 when there is none. */
export function findValue(key: usize, keyLength: i32): i32 {
  return get(key, keyLength)
}

/** The value that lies in the host's register with this length. `what` names it where it cannot be one. */
export function registerValue<V>(length: i32, what: string): V {
  if (isInteger<V>() || isFloat<V>()) {
    if (length != sizeof<V>()) foreign(what)
    reg(scratch)
    return load<V>(scratch)
  }
  if (idof<V>() == idof<ArrayBuffer>()) return changetype<V>(take(length))
  if (idof<V>() == idof<Uint8Array>()) return changetype<V>(Uint8Array.wrap(take(length)))
  return memoryValue<V>(glance(length), length, what)
}

/** The value whose bytes lie at `from`. */
export function memoryValue<V>(from: usize, length: i32, what: string): V {
  if (isString<V>()) return changetype<V>(decoded(from, length))
  if (isInteger<V>() || isFloat<V>()) {
    if (length != sizeof<V>()) foreign(what)
    return load<V>(from)
  }
  if (idof<V>() == idof<ArrayBuffer>()) return changetype<V>(copy(from, length))
  if (idof<V>() == idof<Uint8Array>()) return changetype<V>(Uint8Array.wrap(copy(from, length)))
  const reader = new RecordReader(from, length)
  const value = changetype<V>(__new(offsetof<V>(), idof<V>()))
  value.__load<RecordReader>(reader)
  if (!reader.whole) foreign(what)
  return value
}

function copy(from: usize, length: i32): ArrayBuffer {
  const bytes = new ArrayBuffer(length)
  memory.copy(changetype<usize>(bytes), from, length)
  return bytes
}

function foreign(what: string): void {
  revert('the state of ' + what + ' is of another type')
}

/** Fields of a record, written one after the other. */
export class RecordWriter {
  start: usize
  private at: usize
  private end: usize

  constructor() {
    const start = heap.alloc(120)
    this.start = start
    this.at = start
    this.end = start + 120
  }

  get length(): i32 {
    return <i32>(this.at - this.start)
  }

  field<T>(value: T): void {
    if (isString<T>()) {
      const text = changetype<string>(value)
      let length = text.length
      this.sized(length)
      if (!narrowed(changetype<usize>(text), length, this.at)) {
        this.at -= 4
        length = String.UTF8.byteLength(text)
        this.sized(length)
        String.UTF8.encodeUnsafe(changetype<usize>(text), text.length, this.at, false, String.UTF8.ErrorMode.ERROR)
      }
      this.at += length
    } else if (isInteger<T>() || isFloat<T>()) {
      this.room(sizeof<T>())
      store<T>(this.at, value)
      this.at += sizeof<T>()
    } else if (idof<T>() == idof<Uint8Array>()) {
      const view = changetype<Uint8Array>(value)
      this.sized(view.byteLength)
      memory.copy(this.at, view.dataStart, view.byteLength)
      this.at += view.byteLength
    } else {
      ERROR('A field of an @record is of type bool, i32, u32, i64, u64, string or Uint8Array')
    }
  }

  private sized(length: i32): void {
    this.room(<usize>length + 4)
    store<u32>(this.at, length)
    this.at += 4
  }

  private room(bytes: usize): void {
    if (this.at + bytes <= this.end) return
    const length = this.at - this.start
    const capacity = (length + bytes) * 2
    this.start = heap.realloc(this.start, capacity)
    this.at = this.start + length
    this.end = this.start + capacity
  }
}

/** Reads what `RecordWriter` wrote; once something does not fit, all that follows is empty and `whole` stays false. */
export class RecordReader {
  private at: usize
  private end: usize

  constructor(from: usize, length: i32) {
    this.at = from
    this.end = from + length
  }

  /** All was read and nothing is left. */
  get whole(): bool {
    return this.at == this.end
  }

  field<T>(): T {
    if (isInteger<T>() || isFloat<T>()) {
      const from = this.take(sizeof<T>())
      return from ? load<T>(from) : <T>0
    }
    const head = this.take(4)
    const length = head ? load<u32>(head) : 0
    const from = this.take(length)
    if (isString<T>()) return changetype<T>(from ? decoded(from, length) : '')
    return changetype<T>(Uint8Array.wrap(copy(from, from ? length : 0)))
  }

  private take(bytes: usize): usize {
    const from = this.at
    if (!from || bytes > this.end - from) {
      this.at = 0
      return 0
    }
    this.at = from + bytes
    return from
  }
}

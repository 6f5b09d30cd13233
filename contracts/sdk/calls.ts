/**
 * Reaching beyond the contract. `call` and `read` run another contract's function now, within this call and its gas: what the inner
 * one did is undone when it fails, and this contract goes on. `send` leaves a message that goes out once the block is durable.
 * The other side sees this contract's address as its caller.
 */
import { call as hostCall, reglen, send as hostSend, take } from './host'
import { parseBytes } from './parse'
import { failure, Result } from './result'
import { decoded, encoded } from './text'
import { JsonWriter } from './writer'

/** Arguments of a nested call, in order. */
export class Args {
  private writer: JsonWriter = new JsonWriter()
  private count: i32 = 0

  /** `T`: bool, a whole number, string, Uint8Array, an array of these or an `@record`. A bare number is an i32. */
  add<T>(value: T): Args {
    this.writer.byte(this.count++ ? 0x2c : 0x5b)
    this.writer.value<T>(value)
    return this
  }

  /** The arguments as JSON text, for the host. */
  __text(): JsonWriter {
    if (!this.count) this.writer.byte(0x5b)
    this.writer.byte(0x5d)
    return this.writer
  }
}

export function args(): Args {
  return new Args()
}

/**
 * Calls a function of another contract as a write. `T` is its result type, `Nothing` when it has none. `gas`: the most it may use,
 * 0 for all that may be passed on: 63/64 of what is left.
 */
export function call<T>(address: string, name: string, given: Args | null = null, gas: u64 = 0): Result<T> {
  return nested<T>('0xSW:', address, name, given, gas)
}

/** Calls a view of another contract; in a view nothing else can be called. */
export function read<T>(address: string, name: string, given: Args | null = null, gas: u64 = 0): Result<T> {
  return nested<T>('0xS:', address, name, given, gas)
}

function nested<T>(verb: string, address: string, name: string, given: Args | null, gas: u64): Result<T> {
  const fqmn = String.UTF8.encode(verb + address + ':' + name)
  const text = given ? given.__text() : null
  const failed = hostCall(changetype<usize>(fqmn), fqmn.byteLength, text ? text.start : 0, text ? text.length : 0, <i64>gas)
  const length = reglen()
  const output = length > 0 ? take(length) : new ArrayBuffer(0)
  if (failed) return failure<T>(decoded(changetype<usize>(output), output.byteLength))
  return parseBytes<T>(changetype<usize>(output), output.byteLength)
}

/**
 * Sends a message to any address this contract may reach, after the block. `body`: string, args(), ArrayBuffer or Uint8Array. `reply`:
 * an `@reply` function of this contract that is called with the answer; without one the answer is dropped. `gas` is set aside for the
 * message's way, what it runs and its reply: at least 50,000 for one to a function that writes, or with a reply. Gives the message's
 * number within the call; a call sends at most 16.
 */
export function send<B>(fqmn: string, body: B, reply: string = '', gas: u64 = 0): i32 {
  const to = String.UTF8.encode(fqmn)
  const name = String.UTF8.encode(reply)
  let data: usize = 0
  let length: i32 = 0
  if (isString<B>()) {
    const text = encoded(changetype<string>(body))
    data = changetype<usize>(text)
    length = text.byteLength
  } else if (idof<B>() == idof<Uint8Array>()) {
    data = changetype<Uint8Array>(body).dataStart
    length = changetype<Uint8Array>(body).byteLength
  } else if (idof<B>() == idof<ArrayBuffer>()) {
    data = changetype<usize>(body)
    length = changetype<ArrayBuffer>(body).byteLength
  } else if (idof<B>() == idof<Args>()) {
    const text = changetype<Args>(body).__text()
    data = text.start
    length = text.length
  } else {
    ERROR('The body of a message is a string, an ArrayBuffer, a Uint8Array or args()')
  }
  return hostSend(changetype<usize>(to), to.byteLength, data, length, changetype<usize>(name), name.byteLength, <i64>gas)
}

/**
 * The host interface: the functions of module `cmesh` that a contract may import (`contracts/ABI.md`). Pointers and lengths
 * come from the contract and are taken as hostile: each is read as unsigned and checked against the memory as it is now.
 *
 * Invariants:
 * 1. A function either does what it says or throws a `ContractStop`; anything else that is thrown is the host's own failure.
 * 2. Whatever was thrown stays in the frame (`stopped`): a contract that catches it is stopped again at its next host call, and
 *    the engine does not take its result.
 * 3. No bytes handed out or kept are a view into the contract's memory.
 */
import { isUtf8 } from 'node:buffer'
import { LIMITS } from '../../cmtp/limits.ts'
import { CALL_LIMITS, ContractStop } from './frame.ts'
import type { Frame } from './frame.ts'

/** Name and signature of each host function. */
export const HOST_SIGNATURES: ReadonlyMap<string, string> = new Map([
  ['input', '() -> (i32)'],
  ['reg', '(i32) -> ()'],
  ['reglen', '() -> (i32)'],
  ['output', '(i32, i32) -> ()'],
  ['get', '(i32, i32) -> (i32)'],
  ['set', '(i32, i32, i32, i32) -> ()'],
  ['del', '(i32, i32) -> (i32)'],
  ['emit', '(i32, i32, i32, i32) -> ()'],
  ['ctx', '(i32) -> (i64)'],
  ['ctxs', '(i32) -> (i32)'],
  ['fail', '(i32, i32) -> ()'],
])

type HostFunction = (a: number, b: number, c: number, d: number) => unknown
type FrameFunction = (frame: Frame, a: number, b: number, c: number, d: number) => unknown

/** The import object of every instance. `frame` gives the call under way. */
export function hostImports(frame: () => Frame | undefined): { readonly cmesh: Readonly<Record<string, HostFunction>> } {
  const functions: Readonly<Record<string, FrameFunction>> = { input, reg, reglen, output, get, set, del, emit, ctx, ctxs }
  const guarded = Object.entries(functions).map(([name, run]) => [name, guard(frame, run, false)] as const)
  return { cmesh: Object.freeze({ ...Object.fromEntries(guarded), fail: guard(frame, fail, true) }) }
}

/** While the module starts there is neither context nor state, only a way to refuse. */
function guard(frame: () => Frame | undefined, run: FrameFunction, whileStarting: boolean): HostFunction {
  return (a, b, c, d) => {
    const current = frame()
    if (current === undefined) throw new Error('a host function was called outside a call')
    if (current.stopped !== undefined) throw current.stopped
    try {
      if (current.starting && !whileStarting) throw trap('a host function was called while the module starts')
      return run(current, a, b, c, d)
    } catch (thrown) {
      current.stopped = thrown
      throw thrown
    }
  }
}

function input(frame: Frame): number {
  if (!isUtf8(frame.call.input)) throw trap('the input is not UTF-8')
  return fill(frame, frame.call.input)
}

function reg(frame: Frame, pointer: number): void {
  const value = frame.register
  if (value === undefined) throw trap('the register is empty')
  frame.memory.bytes.set(value, start(frame, pointer, value.length))
}

function reglen(frame: Frame): number {
  return frame.register === undefined ? -1 : frame.register.length
}

function output(frame: Frame, pointer: number, length: number): void {
  frame.output = taken(frame, pointer, length, LIMITS.stateValueBytes, 'an output')
  if (!isUtf8(frame.output)) throw trap('the output is not UTF-8')
}

function get(frame: Frame, pointer: number, length: number): number {
  const at = bounded(frame, pointer, length >>> 0, LIMITS.stateKeyBytes, 'a key')
  const value = frame.journal.get(frame.memory.latin1(at, length >>> 0))
  return value === undefined ? -1 : fill(frame, value)
}

function set(frame: Frame, keyPointer: number, keyLength: number, valuePointer: number, valueLength: number): void {
  mustWrite(frame)
  const name = key(frame, keyPointer, keyLength)
  frame.journal.set(name, taken(frame, valuePointer, valueLength, LIMITS.stateValueBytes, 'a value'))
  boundWrites(frame)
}

function del(frame: Frame, pointer: number, length: number): number {
  mustWrite(frame)
  const found = frame.journal.delete(key(frame, pointer, length))
  boundWrites(frame)
  return found ? 1 : 0
}

function emit(frame: Frame, topicPointer: number, topicLength: number, dataPointer: number, dataLength: number): void {
  mustWrite(frame)
  if (frame.events.length >= CALL_LIMITS.events) throw limit(`a call emits at most ${CALL_LIMITS.events} events`)
  const at = handedOver(frame, topicPointer, topicLength >>> 0, CALL_LIMITS.topicBytes, 'a topic')
  const topic = frame.memory.latin1(at, topicLength)
  if (!TOPIC.test(topic)) throw trap('a topic has 1 to 128 characters of A-Z a-z 0-9 . _ - ~ ^')
  const data = taken(frame, dataPointer, dataLength, LIMITS.eventBytes, 'the data of an event')
  frame.events.push({ contract: frame.call.address, topic, data })
}

/** A topic is part of a channel's name, which is a segment of an FQMN. */
const TOPIC = /^[A-Za-z0-9._~^-]+$/

function ctx(frame: Frame, field: number): bigint {
  if (field !== 0 && field !== 1) throw trap('there is no such number in the context')
  frame.readClock = true
  return BigInt(field === 0 ? frame.call.context.seq : frame.call.context.timeMs)
}

function ctxs(frame: Frame, field: number): number {
  if (field !== 0 && field !== 1) throw trap('there is no such text in the context')
  if (field === 0) frame.readCaller = true
  return fill(frame, Buffer.from(field === 0 ? frame.call.context.caller : frame.call.address))
}

function fail(frame: Frame, pointer: number, length: number): never {
  const from = start(frame, pointer, length >>> 0)
  const bytes = frame.memory.bytes
  let end = from + (length >>> 0)
  if (end - from > CALL_LIMITS.reasonBytes) {
    end = from + CALL_LIMITS.reasonBytes
    // Cut before the character that would be cut through: a continuation byte is 10xxxxxx.
    while (end > from && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--
  }
  const reason = Buffer.from(bytes.subarray(from, end))
  throw isUtf8(reason) ? new ContractStop('revert', reason.toString()) : trap('the reason of a revert is not UTF-8')
}

/** Puts a value into the register and gives its length. */
function fill(frame: Frame, value: Uint8Array): number {
  frame.register = value
  return value.length
}

/** Where a checked range of the memory starts. */
function start(frame: Frame, pointer: number, length: number): number {
  const at = pointer >>> 0
  if (at + length > frame.memory.bytes.length) throw trap('a host function was given a range outside the memory')
  return at
}

/** The same for a range that is handed over: within `most` bytes and the call's total. */
function handedOver(frame: Frame, pointer: number, length: number, most: number, what: string): number {
  const at = bounded(frame, pointer, length, most, what)
  frame.handedOver += length
  if (frame.handedOver > CALL_LIMITS.handedOverBytes) {
    throw limit(`a call hands over at most ${CALL_LIMITS.handedOverBytes} bytes of keys, values, events and output`)
  }
  return at
}

/** The same for a range of at most `most` bytes. */
function bounded(frame: Frame, pointer: number, length: number, most: number, what: string): number {
  if (length > most) throw limit(`${what} has ${length} bytes; at most ${most} are allowed`)
  return start(frame, pointer, length)
}

/** A copy of a range that is handed over. */
function taken(frame: Frame, pointer: number, length: number, most: number, what: string): Uint8Array {
  const at = handedOver(frame, pointer, length >>> 0, most, what)
  return frame.memory.bytes.slice(at, at + (length >>> 0))
}

/** A key to write. */
function key(frame: Frame, pointer: number, length: number): string {
  return frame.memory.latin1(handedOver(frame, pointer, length >>> 0, LIMITS.stateKeyBytes, 'a key'), length >>> 0)
}

function mustWrite(frame: Frame): void {
  if (frame.call.view) throw new ContractStop('readonly', 'a view may not write state or emit events')
}

function boundWrites(frame: Frame): void {
  if (frame.journal.size > CALL_LIMITS.writes) throw limit(`a call writes at most ${CALL_LIMITS.writes} keys`)
}

function trap(reason: string): ContractStop {
  return new ContractStop('trap', reason)
}

function limit(reason: string): ContractStop {
  return new ContractStop('limit', reason)
}

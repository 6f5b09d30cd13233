/**
 * Pointers and lengths of host functions. They come from the contract and are taken as hostile: each is read as unsigned and checked
 * against the memory as it is now. No bytes handed out or kept are a view into the contract's memory.
 */
import { isUtf8 } from 'node:buffer'
import type { ContractFailure } from '../../../services/contracts/provider.ts'
import { CALL_LIMITS } from '../call-limits.ts'
import type { Frame } from '../frame.ts'
import { ContractStop } from '../stop.ts'

export function stop(failure: ContractFailure, reason: string): ContractStop {
  return new ContractStop(failure, reason)
}

/** A length as it is meant, within `most`; the failure of one that is not carries the code of what it measures. */
export function bounded(length: number, most: number, failure: ContractFailure, what: string): number {
  const bytes = length >>> 0
  if (bytes > most) throw stop(failure, `${what} has ${bytes} bytes; at most ${most} are allowed`)
  return bytes
}

/** Where a range of the memory starts. `length` is unsigned already. */
export function start(frame: Frame, pointer: number, length: number): number {
  const at = pointer >>> 0
  const size = frame.instance.memory.bytes.length
  if (at + length > size) throw stop('CMESH_CONTRACT_MEMORY_OOB', `bytes ${at} to ${at + length} of ${size}`)
  return at
}

const EMPTY = new Uint8Array(0)
/** Up to here bytes are copied one by one: a native call would take longer. */
export const SHORT = 32

/** A copy of a range. */
export function copy(frame: Frame, pointer: number, length: number): Uint8Array {
  const at = start(frame, pointer, length)
  if (length === 0) return EMPTY
  const { bytes } = frame.instance.memory
  if (length > SHORT) return bytes.slice(at, at + length)
  const own = new Uint8Array(length)
  for (let i = 0; i < length; i++) own[i] = bytes[at + i] as number
  return own
}

/** Whether a range is the same as these bytes, of which there are few. */
export function holds(frame: Frame, pointer: number, length: number, known: Uint8Array): boolean {
  if (length !== known.length || length > SHORT) return false
  const at = start(frame, pointer, length)
  const { bytes } = frame.instance.memory
  for (let i = 0; i < length; i++) if (bytes[at + i] !== known[i]) return false
  return true
}

/** A range as a byte string. */
export function latin1(frame: Frame, pointer: number, length: number): string {
  return frame.instance.memory.latin1(start(frame, pointer, length), length)
}

/** Whether bytes are UTF-8. Short ASCII, which is most, is told without a native call. */
export function isText(bytes: Uint8Array): boolean {
  if (bytes.length > 32) return isUtf8(bytes)
  for (let i = 0; i < bytes.length; i++) if ((bytes[i] as number) > 0x7f) return isUtf8(bytes)
  return true
}

/** Copies bytes into the memory. */
export function put(frame: Frame, pointer: number, bytes: Uint8Array): void {
  frame.instance.write(start(frame, pointer, bytes.length), bytes)
}

/** Puts a value into the register and gives its length. */
export function fill(frame: Frame, value: Uint8Array): number {
  frame.register = value
  return value.length
}

/** Counts bytes that the call hands over. */
export function handOver(frame: Frame, bytes: number): void {
  frame.run.handedOver += bytes
  if (frame.run.handedOver > CALL_LIMITS.handedOverBytes) {
    throw stop('CMESH_CONTRACT_LIMIT', `a call hands over at most ${CALL_LIMITS.handedOverBytes} bytes of keys, values, events, messages and output`)
  }
}

export function mustWrite(frame: Frame): void {
  if (frame.view) throw stop('CMESH_CONTRACT_READONLY', 'a view may not write state, emit events or send messages')
}

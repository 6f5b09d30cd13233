/** Host functions for what a call is given and gives: input, register, output, context, refusal. */
import { LIMITS } from '../../../cmtp/limits.ts'
import { CALL_LIMITS } from '../call-limits.ts'
import type { Frame } from '../frame.ts'
import { copy, fill, bounded, handOver, holds, isText, put, SHORT, start, stop } from './bytes.ts'

export function input(frame: Frame): number {
  frame.charge(frame.run.costs.input, frame.input.length)
  if (!isText(frame.input)) throw stop('CMESH_CONTRACT_UTF8', 'the input is not')
  return fill(frame, frame.input)
}

export function reg(frame: Frame, pointer: number): void {
  const value = frame.register
  frame.charge(frame.run.costs.reg, value?.length)
  if (value === undefined) throw stop('CMESH_CONTRACT_ABI', 'the register is empty')
  put(frame, pointer, value)
}

export function reglen(frame: Frame): number {
  frame.charge(frame.run.costs.reglen)
  return frame.register === undefined ? -1 : frame.register.length
}

export function output(frame: Frame, pointer: number, length: number): void {
  const bytes = bounded(length, LIMITS.stateValueBytes, 'CMESH_CONTRACT_OUTPUT_SIZE', 'an output')
  frame.charge(frame.run.costs.output, bytes)
  handOver(frame, bytes)
  const { run: { outputs }, instance } = frame
  if (outputs !== undefined && bytes > 0) {
    frame.output = outputs.copy(instance.memory, start(frame, pointer, bytes), bytes)
    if (!outputs.ascii && !isText(frame.output)) throw stop('CMESH_CONTRACT_UTF8', 'the output is not')
    return
  }
  // Most functions that write say the same every time, and what is said is kept for long by whoever may be asked for it again.
  if (holds(frame, pointer, bytes, instance.said)) {
    frame.output = instance.said
    return
  }
  frame.output = copy(frame, pointer, bytes)
  if (!isText(frame.output)) throw stop('CMESH_CONTRACT_UTF8', 'the output is not')
  if (bytes <= SHORT) instance.said = frame.output
}

const CONTEXT = { seq: 0, timeMs: 1, gas: 2 } as const

export function ctx(frame: Frame, field: number): bigint {
  const { run } = frame
  frame.charge(run.costs.ctx)
  switch (field) {
    case CONTEXT.seq:
      run.readClock = true
      return BigInt(run.context.seq)
    case CONTEXT.timeMs:
      run.readClock = true
      return BigInt(run.context.timeMs)
    case CONTEXT.gas:
      return BigInt(frame.instance.gas)
    default:
      throw stop('CMESH_CONTRACT_ABI', 'the context has no such number')
  }
}

const TEXTS = { caller: 0, self: 1, origin: 2 } as const

export function ctxs(frame: Frame, field: number): number {
  const { run } = frame
  const value = Buffer.from(text(frame, field))
  frame.charge(run.costs.ctxs, value.length)
  return fill(frame, value)
}

function text(frame: Frame, field: number): string {
  switch (field) {
    case TEXTS.caller:
      // The caller of a nested contract is the contract around it, whoever asked for that.
      if (frame.depth === 1) frame.run.readCaller = true
      return frame.caller
    case TEXTS.self:
      return frame.contract.address
    case TEXTS.origin:
      frame.run.readCaller = true
      return frame.run.context.origin
    default:
      throw stop('CMESH_CONTRACT_ABI', 'the context has no such text')
  }
}

export function fail(frame: Frame, pointer: number, length: number): never {
  const said = length >>> 0
  const kept = Math.min(said, CALL_LIMITS.reasonBytes)
  frame.charge(frame.run.costs.fail, kept)
  const from = start(frame, pointer, said)
  const { bytes } = frame.instance.memory
  let end = from + kept
  // Cut before the character that would be cut through: a continuation byte is 10xxxxxx.
  if (kept < said) while (end > from && ((bytes[end] ?? 0) & 0xc0) === 0x80) end--
  const reason = Buffer.from(bytes.subarray(from, end))
  throw isText(reason) ? stop('CMESH_CONTRACT_REVERT', reason.toString()) : stop('CMESH_CONTRACT_UTF8', 'the reason of a refusal is not')
}

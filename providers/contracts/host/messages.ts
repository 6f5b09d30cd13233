/** Host functions that reach beyond the contract: events, nested calls, messages. */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Route } from '../../../cmtp/fqmn.ts'
import { LIMITS } from '../../../cmtp/limits.ts'
import { CALL_LIMITS } from '../call-limits.ts'
import type { Frame } from '../frame.ts'
import { ContractStop } from '../stop.ts'
import { bounded, copy, fill, handOver, latin1, mustWrite, start, stop } from './bytes.ts'

/** A topic is part of a channel's name, which is a segment of an FQMN. */
const TOPIC = /^[A-Za-z0-9._~^-]+$/

export function emit(frame: Frame, topicPointer: number, topicLength: number, pointer: number, length: number): void {
  const { run } = frame
  const topicSize = bounded(topicLength, CALL_LIMITS.topicBytes, 'CMESH_CONTRACT_VALUE_SIZE', 'a topic')
  const size = bounded(length, LIMITS.eventBytes, 'CMESH_CONTRACT_VALUE_SIZE', 'the data of an event')
  frame.charge(run.costs.emit, topicSize + size)
  mustWrite(frame)
  if (run.events.length >= CALL_LIMITS.events) throw stop('CMESH_CONTRACT_LIMIT', `a call emits at most ${CALL_LIMITS.events} events`)
  handOver(frame, topicSize + size)
  const topic = latin1(frame, topicPointer, topicSize)
  if (!TOPIC.test(topic)) throw stop('CMESH_CONTRACT_ABI', 'a topic has 1 to 128 characters of A-Z a-z 0-9 . _ - ~ ^')
  run.emitted({ contract: frame.contract.address, topic, data: copy(frame, pointer, size) })
}

const OK = 0
const FAILED = 1

/**
 * Calls a function of a contract and puts its result into the register; when that fails, `CODE: reason`. A failure of the inner
 * contract is for the outer one to handle: what the inner one did is undone, the gas it used is spent.
 */
export function call(
  frame: Frame, fqmnPointer: number, fqmnLength: number, pointer: number, length: number, gas: bigint,
): number {
  const { run } = frame
  const fqmnSize = bounded(fqmnLength, LIMITS.fqmnBytes, 'CMESH_CONTRACT_ADDRESS', 'an address')
  const size = bounded(length, CALL_LIMITS.inputBytes, 'CMESH_CONTRACT_VALUE_SIZE', 'the input of a call')
  frame.charge(run.costs.call, fqmnSize + size)
  const body = copy(frame, pointer, size)
  start(frame, fqmnPointer, fqmnSize)
  try {
    const route = routeAt(frame, fqmnPointer, fqmnSize)
    const output = run.nested(frame, target(route), argumentsOf(route, body), positive(gas))
    fill(frame, output)
    return OK
  } catch (thrown) {
    if (!(thrown instanceof ContractStop)) throw thrown
    fill(frame, Buffer.from(`${thrown.failure}: ${thrown.reason}`))
    return FAILED
  }
}

export interface CallTarget {
  readonly address: string
  readonly function: string
  readonly write: boolean
}

/** A nested call goes by contract address alone: names and other services answer only through the log. */
function target(route: Route): CallTarget {
  const [address = '', name] = route.segments
  if (route.service !== 'S') throw stop('CMESH_CONTRACT_ADDRESS', 'only 0xS and 0xSW addresses can be called; `send` reaches others')
  if (address === SYSTEM_CONTRACT) throw stop('CMESH_CONTRACT_ADDRESS', `${SYSTEM_CONTRACT} cannot be called by a contract`)
  if (name === undefined) throw stop('CMESH_CONTRACT_ADDRESS', 'the address names no function')
  return { address, function: name, write: route.write }
}

const SYSTEM_CONTRACT = '0x000'

function argumentsOf({ args }: Route, body: Uint8Array): Uint8Array {
  if (args === undefined) return body
  if (body.length > 0) throw stop('CMESH_CONTRACT_ADDRESS', 'arguments stand in the address and in the input')
  return Buffer.from(args)
}

/** Gives the index of the message among those of the call from outside. */
export function send(
  frame: Frame, fqmnPointer: number, fqmnLength: number, bodyPointer: number, bodyLength: number,
  replyPointer: number, replyLength: number, gas: bigint,
): number {
  const { run, contract } = frame
  const fqmnSize = bounded(fqmnLength, LIMITS.fqmnBytes, 'CMESH_CONTRACT_ADDRESS', 'an address')
  const bodySize = bounded(bodyLength, LIMITS.stateValueBytes, 'CMESH_CONTRACT_VALUE_SIZE', 'the body of a message')
  const replySize = bounded(replyLength, MOST_NAME, 'CMESH_CONTRACT_NO_FUNCTION', 'the name of a function')
  frame.charge(run.costs.send, fqmnSize + bodySize + replySize)
  mustWrite(frame)
  if (run.sends.length >= CALL_LIMITS.sends) throw stop('CMESH_CONTRACT_LIMIT', `a call sends at most ${CALL_LIMITS.sends} messages`)
  handOver(frame, fqmnSize + bodySize + replySize)
  const route = routeAt(frame, fqmnPointer, fqmnSize)
  const reply = latin1(frame, replyPointer, replySize)
  const setAside = positive(gas)
  if (reply !== '') checkReply(frame, reply, setAside)
  const message = { from: contract.address, fqmn: route.text, body: copy(frame, bodyPointer, bodySize), reply, gas: setAside }
  const refused = run.admit?.(message)
  if (refused !== undefined) throw stop(refused.failure, refused.reason)
  frame.take(setAside)
  run.sent(message)
  return run.sends.length - 1
}

/** Longest name of a function (`abi.ts`). */
const MOST_NAME = 64

function checkReply(frame: Frame, reply: string, gas: number): void {
  const named = frame.instance.code.entries.get(reply)
  if (named?.mode !== 'reply') throw stop('CMESH_CONTRACT_NO_FUNCTION', `there is no reply function ${reply}`)
  if (gas === 0) throw stop('CMESH_CONTRACT_ABI', 'a message with a reply function sets gas aside for it')
}

/** An i64 as a number; anything below 1 is 0, and what no call can have is the most there is. */
function positive(gas: bigint): number {
  return gas < 1n ? 0 : Number(gas > MOST_GAS ? MOST_GAS : gas)
}

const MOST_GAS = BigInt(Number.MAX_SAFE_INTEGER)

function routeAt(frame: Frame, pointer: number, length: number): Route {
  try {
    return frame.run.routes.fromBytes(Buffer.from(copy(frame, pointer, length).buffer), 0, length)
  } catch (thrown) {
    if (thrown instanceof CMeshError) throw stop('CMESH_CONTRACT_ADDRESS', thrown.message.replace(/\.$/, ''))
    throw thrown
  }
}

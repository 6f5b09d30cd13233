/**
 * The outbox of contracts: messages that contracts sent and nobody has answered yet, as records of the system space. A message is
 * written by the transaction that sent it, so it is there if and only if that transaction is; it goes when its answer is
 * ordered. Who delivers it is the courier (courier.ts).
 *
 *     outbox/<sequence>.<transaction>.<index>   a message under way
 *     sending/<contract>                        how many of the contract's are under way
 *
 * A message that makes code run pays for it: `MESSAGE_GAS` for its way, and what is left of its gas for the function it calls
 * and for the one that takes its answer. Since all of it was set aside from the gas of the call that sent it, whatever
 * contracts send to one another ends with the gas of the transaction that began it.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn, type Route } from '../../cmtp/fqmn.ts'
import { contractRefusal } from '../iam/contract-principal.ts'
import type { Space } from '../state/provider.ts'
import type { Recorder } from '../state/transaction.ts'
import type { ContractEngine, SendRefusal, SentMessage } from './provider.ts'

/** Gas that the way of a message costs: two entries of the log and what a node does for them. */
export const MESSAGE_GAS = 50_000
/** Most messages of one contract under way. */
export const MESSAGES_PER_CONTRACT = 64

/** A message under way. */
export interface OutboxMessage {
  readonly id: string
  readonly from: string
  readonly fqmn: string
  readonly body: Buffer
  readonly reply: string
  readonly gas: number
  /** Who began the call that sent it. */
  readonly origin: string
  /** What its delivery came to, once that is in the log. */
  readonly delivered: Delivered | undefined
}

/** What the addressee answered. */
export interface Delivered {
  readonly status: number
  /** Gas that the delivery used. */
  readonly gas: number
  /** A result or a wire error, JSON text. */
  readonly body: string
}

type StoredMessage = Omit<OutboxMessage, 'id' | 'body' | 'delivered'> & { readonly body: string, readonly delivered?: Delivered }

const PREFIX = 'outbox/'

/** The id of the message that a key of the system space holds; `undefined` for another key. */
export function messageIdOf(key: string): string | undefined {
  return key.startsWith(PREFIX) ? key.slice(PREFIX.length) : undefined
}

export function readMessage(system: Pick<Space, 'get'>, id: string): OutboxMessage | undefined {
  const bytes = system.get(PREFIX + id)
  if (bytes === undefined) return undefined
  const { body, delivered, ...rest } = JSON.parse(Buffer.from(bytes).toString('utf8')) as StoredMessage
  return { ...rest, id, body: Buffer.from(body, 'base64'), delivered }
}

/** Ids of all messages under way, the oldest first. */
export function pendingMessages(system: Space): string[] {
  const ids: string[] = []
  for (const key of system.keys()) {
    const id = messageIdOf(key)
    if (id !== undefined) ids.push(id)
  }
  return ids
}

/** Id of the transaction that delivers a message, or that answers it: the same whoever orders it, and however often. */
export function transactionIdOf(purpose: 'send' | 'answer', id: string): string {
  return OWN_IDS + hash('sha256', `cmesh/${purpose}\0${id}`, 'hex').slice(0, 32 - OWN_IDS.length)
}

/** What the ids of the mesh's own transactions begin with, and nobody else's: an id of a request begins with its time, which is not there before 10889. */
export const OWN_IDS = 'ffff'

/** Most gas for the function a message calls, and for the one that takes the answer after `used` of it. */
export function deliveryGas({ gas, reply }: Pick<OutboxMessage, 'gas' | 'reply'>): number {
  const left = gas - MESSAGE_GAS
  // Half is kept for the answer: a contract that could not hear of a failure could not make up for it.
  return reply === '' ? left : Math.floor(left / 2)
}

export function replyGas({ gas }: Pick<OutboxMessage, 'gas'>, used: number): number {
  return gas - MESSAGE_GAS - used
}

/** Decides for one transaction which messages may be sent. */
export class Admission {
  readonly #system: Pick<Space, 'get'>
  readonly #engine: Pick<ContractEngine, 'abi'>
  readonly #admitted = new Map<string, number>()

  constructor(system: Pick<Space, 'get'>, engine: Pick<ContractEngine, 'abi'>) {
    this.#system = system
    this.#engine = engine
  }

  readonly admit = ({ from, fqmn, reply, gas }: SentMessage): SendRefusal | undefined => {
    const route = parsed(fqmn)
    if (typeof route === 'string') return { failure: 'CMESH_CONTRACT_ADDRESS', reason: route }
    const denied = contractRefusal(from, route)
    if (denied !== undefined) return { failure: 'CMESH_CONTRACT_DENIED', reason: denied }
    if (reply !== '' && this.#engine.abi(from)?.functions.some(({ name, mode }) => name === reply && mode === 'reply') !== true) {
      return { failure: 'CMESH_CONTRACT_ABI', reason: `${reply} is no reply function of ${from}` }
    }
    // What runs no code can cause nothing more; it is paid for by what sending costs.
    const runs = reply !== '' || (route.service === 'S' && route.write)
    if (runs && gas < MESSAGE_GAS) return { failure: 'CMESH_CONTRACT_LIMIT', reason: `${gas} gas is less than the ${MESSAGE_GAS} that the way of a message costs` }
    const admitted = this.#admitted.get(from) ?? 0
    if (pendingOf(this.#system, from) + admitted >= MESSAGES_PER_CONTRACT) {
      return { failure: 'CMESH_CONTRACT_LIMIT', reason: `at most ${MESSAGES_PER_CONTRACT} messages of a contract are under way at once` }
    }
    this.#admitted.set(from, admitted + 1)
    return undefined
  }
}

/** Block, transaction and origin of a call that sent something. */
export interface SendPlace {
  readonly seq: number
  readonly tx: string
  readonly origin: string
}

/** Writes what a call sent. */
export function keepMessages(system: Recorder, sends: readonly SentMessage[], place: SendPlace): void {
  let index = 0
  for (const { from, fqmn, body, reply, gas } of sends) {
    while (system.get(keyAt(place, index)) !== undefined) index++
    const message: StoredMessage = { from, fqmn, body: Buffer.from(body).toString('base64'), reply, gas, origin: place.origin }
    system.setJson(keyAt(place, index), message)
    count(system, from, 1)
  }
}

function keyAt({ seq, tx }: SendPlace, index: number): string {
  return `${PREFIX}${seq}.${tx}.${index}`
}

/** Notes in the same transaction that a message was delivered, so that it never is again. */
export function keepDelivered(system: Recorder, id: string, delivered: Delivered): void {
  system.setJson(PREFIX + id, { ...system.getJson(PREFIX + id) as StoredMessage, delivered })
}

/** Takes an answered message out. */
export function forgetMessage(system: Recorder, { id, from }: OutboxMessage): void {
  system.delete(PREFIX + id)
  count(system, from, -1)
}

function pendingOf(system: Pick<Space, 'get'>, contract: string): number {
  const bytes = system.get(`sending/${contract}`)
  return bytes === undefined ? 0 : Number(Buffer.from(bytes).toString('utf8'))
}

function count(system: Recorder, contract: string, change: number): void {
  const pending = pendingOf(system, contract) + change
  if (pending > 0) system.setJson(`sending/${contract}`, pending)
  else system.delete(`sending/${contract}`)
}

/** The route, or why there is none. */
function parsed(fqmn: string): Route | string {
  try {
    return parseFqmn(fqmn)
  } catch (error) {
    if (error instanceof CMeshError) return error.message
    throw error
  }
}

/**
 * The ordered part of a contract's messages: what happens in the log when one is delivered to a contract, and when it is
 * answered. The courier proposes these transactions; nothing here trusts it for more than the answer itself.
 *
 * Invariants:
 * 1. A transaction in a contract's name runs only for a message of that contract in the outbox, with its address, its body and
 *    its gas, and once.
 * 2. A message is answered once: its answer takes it out, whatever the function that hears of it does.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn, type Route } from '../../cmtp/fqmn.ts'
import { argumentsOf } from '../call.ts'
import { contractRefusal } from '../iam/contract-principal.ts'
import type { Transaction } from '../state/batch.ts'
import { failedExecution, jsonExecution, SYSTEM_SPACE, type Execution, type TransactionContext } from '../state/transaction.ts'
import { checkCallable, systemArguments } from './arguments.ts'
import type { ContractExecution } from './execution.ts'
import { isMember } from './members.ts'
import { deliveryGas, forgetMessage, keepDelivered, readMessage, replyGas, transactionIdOf, type Delivered, type OutboxMessage } from './messages.ts'

/** What an answer's transaction says became of it. */
export interface AnswerOutcome {
  /** False for a message that is not under way, since it was answered before. */
  readonly answered: boolean
  /** Status of the function that took the answer, where there is one. */
  readonly reply?: number
  /** Its wire error. */
  readonly error?: unknown
}

export class Deliveries {
  readonly #execution: ContractExecution

  constructor(execution: ContractExecution) {
    this.#execution = execution
  }

  /** A call of a contract by a contract, from the outbox. The transaction's `jti` names the message. */
  deliver(transaction: Transaction, route: Route, context: TransactionContext): Execution {
    const { sub, fqmn, body, jti, id } = transaction
    const message = readMessage(context.system, jti)
    const sent = message !== undefined && message.from === sub && message.fqmn === fqmn && message.body.equals(body) && id === transactionIdOf('send', jti)
    if (!sent) throw new CMeshError('CMESH_CONTRACT_DENIED', { contract: sub, reason: 'it sent no such message, or has its answer' })
    const denied = contractRefusal(sub, parseFqmn(fqmn))
    if (denied !== undefined) throw new CMeshError('CMESH_CONTRACT_DENIED', { contract: sub, reason: denied })
    if (message.delivered !== undefined) return { ...jsonExecution(null), status: message.delivered.status, output: Buffer.from(message.delivered.body) }
    const [contract = '', name] = route.segments
    checkCallable(this.#execution.engine, contract, name)
    const execution = this.#execution.run({
      address: contract, function: name, input: argumentsOf({ route, body }), caller: sub, origin: message.origin, tx: id,
      gasLimit: this.#within(deliveryGas(message)),
    }, context)
    if (execution.status < 400) {
      keepDelivered(context.system, jti, { status: execution.status, gas: Number(execution.gas), body: Buffer.from(execution.output).toString('utf8') })
    }
    return execution
  }

  /** `answer:["<message>"]`, the body a `Delivered` as JSON. A failure of the function that takes it is part of the outcome, not one of its own. */
  answer(transaction: Transaction, route: Route, context: TransactionContext): Execution {
    const { system } = context
    if (!isMember(system, transaction.sub)) throw new CMeshError('CMESH_IAM_DENIED', { permission: 'write', fqmn: route.bare })
    const [id] = systemArguments(route, 'answer takes ["<message>"]', value => typeof value === 'string')
    const delivered = parseDelivered(transaction.body)
    const message = readMessage(system, id as string)
    if (message === undefined) return outcome({ answered: false })
    forgetMessage(system, message)
    if (message.reply === '') return outcome({ answered: true })
    const execution = this.#reply(message, delivered, transaction.id, context)
    const { status, gas, writes, events } = execution
    if (status < 400) return { ...outcome({ answered: true, reply: status }), gas, writes, events }
    return { ...outcome({ answered: true, reply: status, error: JSON.parse(Buffer.from(execution.output).toString('utf8')) as unknown }), gas }
  }

  #reply(message: OutboxMessage, delivered: Delivered, tx: string, context: TransactionContext): Execution {
    const { id, from, reply, origin } = message
    // The code may have been replaced since, by one that does not know of the answer.
    if (this.#execution.engine.abi(from)?.functions.some(({ name, mode }) => name === reply && mode === 'reply') !== true) {
      return failedExecution(new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: from, function: reply }))
    }
    const { status, gas: used, body } = delivered
    return this.#execution.run({
      address: from, function: reply, input: Buffer.from(JSON.stringify([id, status, body])), caller: SYSTEM_SPACE, origin, tx,
      gasLimit: this.#within(replyGas(message, used)),
    }, context)
  }

  #within(gas: number): number {
    return Math.min(gas, this.#execution.meter.transactionGas)
  }
}

function outcome(value: AnswerOutcome): Execution {
  return jsonExecution(value)
}

function parseDelivered(body: Uint8Array): Delivered {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(body).toString('utf8'))
  } catch {
    value = undefined
  }
  const { status, gas, body: text } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  if (!Number.isInteger(status) || !Number.isSafeInteger(gas) || (gas as number) < 0 || typeof text !== 'string') {
    throw new CMeshError('CMESH_CONTRACT_REVERT', { contract: SYSTEM_SPACE, reason: 'an answer has a status, gas and a body.' })
  }
  return { status: status as number, gas: gas as number, body: text }
}

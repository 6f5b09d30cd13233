/**
 * Messages of contracts on their way in a sandbox: what a node's courier does, done when a test says so. Deliveries and answers are
 * the same transactions as on a mesh.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { contractError } from '../../services/contracts/execution.ts'
import { deliveryGas, pendingMessages, readMessage, transactionIdOf, type Delivered, type OutboxMessage } from '../../services/contracts/messages.ts'
import { SYSTEM_SPACE } from '../../services/state/transaction.ts'
import type { CallFailure, CallSuccess } from './contract.ts'
import { errorOf, type Ledger, type Outcome } from './ledger.ts'
import { failureOf, successOf } from './results.ts'
import { decodeValue } from './values.ts'

/** A message that a contract sent. */
export interface PendingMessage {
  readonly id: string
  /** Address of the contract. */
  readonly from: string
  readonly fqmn: string
  /** The JSON value of its body; the text where it is none. */
  readonly body: unknown
  /** The function that hears of the answer; empty for none. */
  readonly reply: string
  readonly gas: number
}

/** What an addressee answers: a value, or a failure. */
export type Answer = { readonly value: unknown } | { readonly error: CMeshError }

/** What became of a message. */
export interface Delivery {
  readonly message: PendingMessage
  /** HTTP-like status of the addressee's answer. */
  readonly status: number
  /** The value it answered with, or its error as it crosses the wire. */
  readonly value: unknown
  /** What the function that hears of it came to; `undefined` where there is none. */
  readonly reply: CallSuccess | CallFailure | undefined
}

export class Deliveries {
  readonly #ledger: Ledger
  readonly #member: string
  readonly #onGas: (contract: string, name: string, gas: number) => void

  /** `member`: DID of who orders answers. `onGas`: told what each function that succeeded has used. */
  constructor(ledger: Ledger, member: string, onGas: (contract: string, name: string, gas: number) => void) {
    this.#ledger = ledger
    this.#member = member
    this.#onGas = onGas
  }

  get pending(): readonly PendingMessage[] {
    return this.#messages().map(shown)
  }

  deliver(answer: (message: PendingMessage) => Answer | undefined = () => undefined): Delivery[] {
    return this.#messages().map((message) => {
      const said = answer(shown(message))
      const delivered = said === undefined ? this.#ask(message) : answered(said)
      const { status, body } = delivered
      return { message: shown(message), status, value: decodeValue(Buffer.from(body)), reply: this.#answer(message, delivered) }
    })
  }

  #messages(): OutboxMessage[] {
    const system = this.#ledger.space(SYSTEM_SPACE)
    return pendingMessages(system).map((id) => readMessage(system, id) as OutboxMessage)
  }

  #ask(message: OutboxMessage): Delivered {
    const { id, from, fqmn, body } = message
    const { service, write, segments: [address = '', name = ''] } = parseFqmn(fqmn)
    if (service !== 'S' || !this.#ledger.engine.has(address)) {
      throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'answer', reason: `nobody in this sandbox answers ${fqmn}; give \`deliver\` a function that does` })
    }
    if (!write) return this.#look(message, address, name)
    const outcome = this.#ledger.execute(fqmn, from, body, { id: transactionIdOf('send', id), jti: id })
    if (outcome.status < 400) this.#onGas(address, name, Number(outcome.gas))
    return { status: outcome.status, gas: Number(outcome.gas), body: textOf(outcome) }
  }

  #look(message: OutboxMessage, address: string, name: string): Delivered {
    const { args } = parseFqmn(message.fqmn)
    const input = args === undefined ? message.body : Buffer.from(args)
    const result = this.#ledger.view({ address, function: name, input, caller: message.from, gasLimit: Math.max(1, deliveryGas(message)) })
    if (result.ok) return { status: 200, gas: 0, body: Buffer.from(result.output).toString('utf8') }
    return answered({ error: contractError(result) })
  }

  #answer({ id, from, reply }: OutboxMessage, delivered: Delivered): CallSuccess | CallFailure | undefined {
    const body = Buffer.from(JSON.stringify(delivered))
    const outcome = this.#ledger.execute(`0xSW:${SYSTEM_SPACE}:answer:${JSON.stringify([id])}`, this.#member, body, { id: transactionIdOf('answer', id) })
    if (outcome.status >= 400) throw errorOf(outcome)
    if (reply === '') return undefined
    const { error } = JSON.parse(textOf(outcome)) as { readonly error?: unknown }
    if (error !== undefined) return failureOf(CMeshError.fromWire(error), Number(outcome.gas), outcome.seq)
    this.#onGas(from, reply, Number(outcome.gas))
    return { ...successOf(outcome), value: null }
  }
}

function shown({ id, from, fqmn, body, reply, gas }: OutboxMessage): PendingMessage {
  return { id, from, fqmn, body: decodeValue(body), reply, gas }
}

function answered(said: Answer): Delivered {
  if ('error' in said) return { status: said.error.status, gas: 0, body: JSON.stringify(said.error.toWire()) }
  return { status: 200, gas: 0, body: JSON.stringify(said.value) }
}

function textOf({ output }: Outcome): string {
  return Buffer.from(output).toString('utf8')
}

/**
 * One delivery of a contract's message: the way of a request from inside. Names are resolved and endpoints authorise, as for
 * anybody; who asks is the contract, by a context that the guard makes for this one address.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { errorReply, NO_BODY, type Call, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import { contractRefusal } from '../iam/contract-principal.ts'
import type { Guard } from '../iam/guard.ts'
import { RegistrarService } from '../registrar/service.ts'
import type { Deadlines } from '../router/deadlines.ts'
import type { Dispatcher } from '../router/dispatcher.ts'
import { transactionIdOf, type Delivered, type OutboxMessage } from './messages.ts'

export interface DeliveryParts {
  readonly guard: Pick<Guard, 'contractPrincipal'>
  readonly registrar: Pick<RegistrarService, 'resolve'>
  readonly dispatcher: Pick<Dispatcher, 'dispatch'>
  readonly deadlines: Pick<Deadlines, 'race'>
  readonly clock: Clock
}

/** How long an addressee may take, in ms. */
export const DELIVERY_MS = 10_000

/**
 * Asks the addressee. Its failure is an answer, but for one that asking again may mend, which rejects: class `retry`, or
 * `CMESH_ROUTER_UNKNOWN_OUTCOME`.
 */
export async function deliver(message: OutboxMessage, parts: DeliveryParts): Promise<Delivered> {
  const call = callOf(message, parts)
  const reply = call instanceof CMeshError ? errorReply(call) : await ask(call, parts)
  const body = Buffer.from(reply.body).toString('utf8')
  if (reply.status >= 400) {
    const error = CMeshError.fromWire(JSON.parse(body))
    if (error.retry === 'retry' || error.code === 'CMESH_ROUTER_UNKNOWN_OUTCOME') throw error
  }
  // A view's gas is its node's affair; a transaction's is in the log and comes out of the message's own.
  const gas = call instanceof CMeshError || !isTransaction(call) ? 0 : Number(call.layers.at(-1)?.gas ?? 0n)
  return { status: reply.status, gas, body }
}

/** The call, or why there is none. */
function callOf({ id, from, fqmn, body }: OutboxMessage, { guard, registrar, clock }: DeliveryParts): Call | CMeshError {
  try {
    const asked = parseFqmn(fqmn)
    const route = RegistrarService.isByName(asked) ? registrar.resolve(asked) : asked
    const denied = contractRefusal(from, route)
    if (denied !== undefined) return new CMeshError('CMESH_CONTRACT_DENIED', { contract: from, reason: denied })
    return {
      id: Buffer.from(transactionIdOf('send', id), 'hex'), route, body, headers: NO_BODY, deadlineMs: clock.nowMs() + DELIVERY_MS, token: NO_BODY, sid: '',
      replySubject: '', hops: 0, auth: guard.contractPrincipal(from, id, route), layers: [], markUs: clock.nowUs(), salt: undefined, proposed: false,
    }
  } catch (error) {
    return CMeshError.from(error, 'the courier', id)
  }
}

function ask(call: Call, { dispatcher, deadlines }: DeliveryParts): Reply | Promise<Reply> {
  const reply = dispatcher.dispatch(call)
  // What became of a transaction is in the log, and that is where the answer comes from, however long it takes.
  if (!(reply instanceof Promise) || isTransaction(call)) return reply
  return deadlines.race(reply, call.deadlineMs, () => new CMeshError('CMESH_ROUTER_TIMEOUT')).catch((error: unknown) => errorReply(CMeshError.from(error, 'the courier')))
}

function isTransaction({ route }: Call): boolean {
  return route.service === 'S' && route.write
}

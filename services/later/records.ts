/**
 * Delayed calls as the log has them: who asked for what, and when it is due. Deterministic, run by the applier alone.
 *
 *     later/<id>      {did, fqmn, body, atMs}     a call that is not made yet; the id is that of the transaction that asked
 *     laters/<did>    how many of a DID's there are
 *
 *     later           {fqmn, body?, atMs? | inMs?}: asks for one
 *     cancel:["id"]   the caller's or the operator's: takes it back
 *     settled:["id"]  a member's: it is over, by an answer or by its dead letter
 *
 * Invariants: (1) a call that is ordered takes its record out in the same transaction, so that it is executed once, whoever proposes it and
 * however often; (2) it is ordered only when log time has come to when it is due; (3) one that fails leaves its record, until a member says
 * that it is over.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn, type Route } from '../../cmtp/fqmn.ts'
import { needsProof } from '../../cmtp/identity/request-proof.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { jsonBody } from '../call.ts'
import { OWN_IDS } from '../contracts/messages.ts'
import { readOperator } from '../contracts/genesis.ts'
import { isMember } from '../contracts/members.ts'
import type { Transaction } from '../state/batch.ts'
import type { Space } from '../state/provider.ts'
import { jsonExecution, SYSTEM_SPACE, type Execution, type Recorder, type TransactionContext, type TransactionHandler } from '../state/transaction.ts'

/** A call that is not made yet. */
export interface DelayedCall {
  readonly id: string
  readonly did: string
  readonly fqmn: string
  readonly body: Buffer
  /** Due at this log time, ms since 1970. */
  readonly atMs: number
}

type Stored = Omit<DelayedCall, 'id' | 'body'> & { readonly body: string }

const PREFIX = 'later/'
const JTI = 'later:'
const ID = /^[0-9a-f]{32}$/

/** The id of the delayed call that a key of the system space holds; `undefined` for another key. */
export function laterIdOf(key: string): string | undefined {
  return key.startsWith(PREFIX) ? key.slice(PREFIX.length) : undefined
}

export function readLater(system: Pick<Space, 'get'>, id: string): DelayedCall | undefined {
  const bytes = system.get(PREFIX + id)
  if (bytes === undefined) return undefined
  const { body, ...rest } = JSON.parse(Buffer.from(bytes).toString('utf8')) as Stored
  return { ...rest, id, body: Buffer.from(body, 'base64') }
}

/** All there are. */
export function pendingLater(system: Space): DelayedCall[] {
  const found: DelayedCall[] = []
  for (const key of system.keys()) {
    const id = laterIdOf(key)
    const call = id === undefined ? undefined : readLater(system, id)
    if (call !== undefined) found.push(call)
  }
  return found
}

/** The id of the message or transaction that makes the call; each try of a transaction has one of its own, since the log remembers how a try ended. */
export function laterCallId(id: string, attempt: number): string {
  return OWN_IDS + hash('sha256', `cmesh/later\0${id}\0${attempt}`, 'hex').slice(0, 32 - OWN_IDS.length)
}

/** What stands in a transaction that makes a delayed call, where a token's id stands in others. */
export function laterJti(id: string): string {
  return JTI + id
}

/** Transactions of the system contract on delayed calls. */
export function executeLater(name: 'later' | 'cancel' | 'settled', transaction: Transaction, route: Route, context: TransactionContext): Execution {
  if (name === 'later') return ask(transaction, context)
  const id = idOf(route)
  const call = readLater(context.system, id)
  if (name === 'settled') {
    if (!isMember(context.system, transaction.sub)) throw denied(route)
    if (call !== undefined) forget(context.system, call)
    return jsonExecution({ id, settled: call !== undefined })
  }
  const own = call !== undefined && (call.did === transaction.sub || readOperator(context.system) === transaction.sub)
  if (own) forget(context.system, call)
  return jsonExecution({ id, cancelled: own })
}

/** Makes a handler take the record of a delayed call out with the call. */
export class DelayedTransactions implements TransactionHandler {
  readonly #inner: TransactionHandler

  constructor(inner: TransactionHandler) {
    this.#inner = inner
  }

  begin(seq: number): void {
    this.#inner.begin?.(seq)
  }

  execute(transaction: Transaction, route: Route, context: TransactionContext): Execution {
    const { sid, jti, sub } = transaction
    if (sid !== '' || !jti.startsWith(JTI)) return this.#inner.execute(transaction, route, context)
    const id = jti.slice(JTI.length)
    const call = readLater(context.system, id)
    if (call === undefined || call.did !== sub) throw new CMeshError('CMESH_STATE_LATER', { id, reason: 'it was made, cancelled or never asked for' })
    if (context.timeMs < call.atMs) throw new CMeshError('CMESH_STATE_LATER', { id, reason: 'it is not due yet' })
    const execution = this.#inner.execute(transaction, route, context)
    if (execution.status < 400) forget(context.system, call)
    return execution
  }
}

/** Why a call to the address cannot be delayed; `undefined` when it can. */
function refusal(route: Route): string | undefined {
  const { service, segments, write } = route
  if (service === 'A' || service === 'P') return `${route.bare} is not for services of this mesh to call`
  if (needsProof(route)) return `${route.bare} takes a signature of its own, which is good for its moment`
  if (service === 'I' && write) return `${route.bare} is about sessions and rights, which cannot be delayed`
  if (service === 'S' && write && segments[0] === SYSTEM_SPACE) return `${route.bare} belongs to the system contract`
  return undefined
}

function ask({ id, sub: did, body: bytes }: Transaction, { system, timeMs }: TransactionContext): Execution {
  const { fqmn, body, atMs: at, inMs } = jsonBody(bytes, '{"fqmn", "body"?, "atMs" or "inMs"}')
  const refused = (reason: string): CMeshError => new CMeshError('CMESH_STATE_LATER', { id, reason })
  if (typeof fqmn !== 'string') throw refused('it has no address: fqmn')
  const why = refusal(parseFqmn(fqmn))
  if (why !== undefined) throw refused(why)
  const times = [at, inMs].filter(time => time !== undefined)
  if (times.length !== 1 || !Number.isSafeInteger(times[0]) || (times[0] as number) < 0) throw refused('it takes atMs or inMs, a whole number of ms')
  const atMs = inMs === undefined ? at as number : timeMs + (inMs as number)
  if (atMs > timeMs + LIMITS.laterAheadMs) throw refused(`it is due more than ${LIMITS.laterAheadMs} ms ahead`)
  const payload = bodyOf(body)
  if (payload === undefined) throw refused('its body is a text or {"base64"}')
  if (payload.length > LIMITS.laterBytes) throw new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'body of a delayed call', bytes: payload.length, limit: LIMITS.laterBytes })
  const pending = pendingOf(system, did)
  if (pending >= LIMITS.laterCalls) throw refused(`${LIMITS.laterCalls} of this identity's wait already, which is the most`)
  system.setJson(PREFIX + id, { did, fqmn, body: payload.toString('base64'), atMs } satisfies Stored)
  system.setJson(countKey(did), pending + 1)
  return jsonExecution({ id, atMs })
}

function bodyOf(body: unknown): Buffer | undefined {
  if (body === undefined) return Buffer.alloc(0)
  if (typeof body === 'string') return Buffer.from(body, 'utf8')
  const { base64 } = (body ?? {}) as { readonly base64?: unknown }
  return typeof base64 === 'string' ? Buffer.from(base64, 'base64') : undefined
}

function forget(system: Recorder, { id, did }: DelayedCall): void {
  system.delete(PREFIX + id)
  const left = pendingOf(system, did) - 1
  if (left > 0) system.setJson(countKey(did), left)
  else system.delete(countKey(did))
}

function pendingOf(system: Recorder, did: string): number {
  return (system.getJson(countKey(did)) as number | undefined) ?? 0
}

function countKey(did: string): string {
  return `laters/${did}`
}

function idOf(route: Route): string {
  const [id] = route.args === undefined ? [] : JSON.parse(route.args) as unknown[]
  if (typeof id !== 'string' || !ID.test(id)) throw new CMeshError('CMESH_STATE_LATER', { id: String(id).slice(0, 64), reason: 'that is no id of a delayed call' })
  return id
}

function denied(route: Route): CMeshError {
  return new CMeshError('CMESH_IAM_DENIED', { permission: 'write', fqmn: route.bare })
}

/**
 * Writes, from the call to the reply: whether it may be asked for here and now, the transaction it is proposed as, and what its outcome
 * is told as. Also what this node orders in its own name. That somebody may do it at all, the applier asks again where it is ordered.
 *
 * Invariant: nothing is proposed for a caller whose `AuthContext` was not confirmed in the same turn.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { decodeHeaders, headerValue } from '../../cmtp/headers.ts'
import { checkProofOfToken, needsProof, PROOF_HEADER, readRequestProof } from '../../cmtp/identity/request-proof.ts'
import { sha256 } from '../../cmtp/layer.ts'
import { formatMessageId, MessageIds } from '../../cmtp/message-id.ts'
import { wireErrorReply, type Call, type Reply } from '../call.ts'
import { checkCallable, meterArguments, SYSTEM_FUNCTIONS } from '../contracts/arguments.ts'
import { OWN_IDS } from '../contracts/messages.ts'
import { checkKnown } from '../contracts/metering.ts'
import type { HopNotes } from '../endpoint.ts'
import type { AuthContext } from '../iam/guard.ts'
import { GRANTSEQ_KEY, readSeq } from '../iam/records.ts'
import { NO_PROOF, type Transaction } from './batch.ts'
import { OutcomeHeaders, outcomeHeaders } from './outcome-headers.ts'
import type { Outbox } from './outbox.ts'
import type { Proposer } from './proposer.ts'
import type { Space } from './provider.ts'
import type { Durability } from './replication.ts'
import type { StateServiceParts, StateStats } from './service-parts.ts'
import { SYSTEM_SPACE } from './transaction.ts'
import type { Outcome } from './transaction-index.ts'

/** Blocks with events that may wait for the events provider; past it writes are refused until it catches up. */
const OUTBOX_LIMIT = 4_096
/** How long what this node orders in its own name may wait for its place. */
const OWN_DEADLINE_MS = 30_000
const NOTHING = new Uint8Array(0)
const CONDITION_HEADER = 'if-match'
const CONDITION = /^"[0-9a-f]{64}"$/

export interface WritesParts extends Pick<StateServiceParts, 'engine' | 'guard' | 'clock'> {
  readonly outbox: Pick<Outbox, 'pending'>
  readonly member: Pick<StateServiceParts['member'], 'did'>
  readonly proposer: Pick<Proposer, 'submit' | 'answer' | 'knows'>
  readonly system: Pick<Space, 'get'>
  /** What an acknowledged write survives. */
  readonly durability: Durability
  /** Why no write is taken now; `undefined` while one is. */
  readonly refusal: () => CMeshError | undefined
  readonly stats: Pick<StateStats, 'transactions' | 'transactionGas' | 'contractFailures'>
}

export class Writes {
  readonly #parts: WritesParts
  readonly #headers: OutcomeHeaders
  /** The last result and its hash: of a function that says the same to everybody it is one array of bytes (`host/context.ts`). */
  #said: { readonly output: Uint8Array, readonly bodyHash: string } | undefined

  constructor(parts: WritesParts) {
    this.#parts = parts
    this.#headers = new OutcomeHeaders(parts.durability)
  }

  /** Resolves when it is durable; rejects when it was not proposed, or nobody knows what became of it. Never throws. */
  write(call: Call, auth: AuthContext, notes: HopNotes, route: Route): Promise<Reply> {
    try {
      return this.#parts.proposer.answer(this.#transactionOf(call, auth, route), outcome => this.#told(outcome, notes))
    } catch (error) {
      return Promise.reject(CMeshError.from(error, 'state'))
    }
  }

  /** Orders in this member's own name; `body` as JSON. Resolves when it is durable; rejects with its outcome's error, or as `write` does. */
  readonly orderOwn = (fqmn: string, body?: unknown): Promise<void> =>
    this.order(this.#parts.member.did, fqmn, body === undefined ? NOTHING : Buffer.from(JSON.stringify(body)))

  /** The same in the name of `sub`. */
  async order(sub: string, fqmn: string, body: Uint8Array): Promise<void> {
    const { clock, proposer } = this.#parts
    const outcome = await proposer.submit({
      id: formatMessageId(new MessageIds(clock.nowMs).next()),
      sub,
      sid: '',
      jti: '',
      grantSeq: 0,
      fqmn,
      body,
      deadlineMs: clock.nowMs() + OWN_DEADLINE_MS,
      proof: NO_PROOF,
    })
    if (outcome.status >= 400) throw errorOf(outcome)
  }

  #transactionOf(call: Call, auth: AuthContext, route: Route): Transaction {
    const { guard, outbox, refusal, system } = this.#parts
    guard.confirm(auth)
    const refused = refusal()
    if (refused !== undefined) throw refused
    const id = formatMessageId(call.id)
    if (route.service === 'S') this.#checkWritable(route, id)
    if (outbox.pending > OUTBOX_LIMIT) {
      throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'the outbox of events', limit: OUTBOX_LIMIT, retryAfterMs: 1_000 })
    }
    // Whoever had taken the id of a message of a contract, or of a delayed call, would keep it from being made.
    if (id.startsWith(OWN_IDS) && auth.sid !== '') throw new CMeshError('CMESH_ROUTER_DUPLICATE', { id })
    const { deadlineMs } = call
    // The frame's memory is the broker connection's; the transaction outlives it.
    const body = call.body.length === 0 ? call.body : Buffer.from(call.body)
    let proof = NO_PROOF
    if (needsProof(route)) {
      proof = readRequestProof(headerValue(decodeHeaders(call.headers), PROOF_HEADER), route.text)
      checkProofOfToken(proof, guard.tokenOf(auth), { sub: auth.sub, id, fqmn: route.text, body, deadlineMs })
    }
    const condition = conditionOf(call, route)
    call.proposed = true
    const { sub, sid, jti } = auth
    const grantSeq = readSeq(system, GRANTSEQ_KEY)
    // Written out twice: of a spread object each field would be copied once more.
    if (condition === undefined) return { id, sub, sid, jti, grantSeq, fqmn: route.text, body, deadlineMs, proof }
    return { id, sub, sid, jti, grantSeq, fqmn: route.text, body, deadlineMs, proof, condition }
  }

  /** Refuses a write that can only fail, before it costs a place in the log: but one that was asked before has its outcome, whatever would become of it now. */
  #checkWritable(route: Route, id: string): void {
    const { engine, proposer } = this.#parts
    const [contract = '', name] = route.segments
    try {
      if (contract !== SYSTEM_SPACE) return checkCallable(engine, contract, name)
      if (name === undefined || !SYSTEM_FUNCTIONS.includes(name)) throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract, function: name ?? '(none)' })
      // In the log it would halt every node that does not know it, this one first.
      if (name === 'meter') checkKnown(engine, meterArguments(route))
    } catch (error) {
      if (!proposer.knows(id)) throw error
    }
  }

  #told(outcome: Outcome, notes: HopNotes): Reply {
    const { stats } = this.#parts
    stats.transactions++
    stats.transactionGas += Number(outcome.gas)
    notes.gas = outcome.gas
    notes.before = outcome.span?.before
    notes.after = outcome.span?.after
    return this.#replyOf(outcome)
  }

  #replyOf(outcome: Outcome): Reply {
    const { status, output } = outcome
    if (status < 400) return { status, headers: this.#headers.ofResult(outcome), body: output, bodyHash: this.#hashOf(output) }
    const error = errorOf(outcome)
    if (error.code.startsWith('CMESH_CONTRACT_')) this.#parts.stats.contractFailures++
    return wireErrorReply(status, error.toWire(), outcomeHeaders(this.#parts.durability, outcome))
  }

  #hashOf(output: Uint8Array): string {
    if (this.#said?.output !== output) this.#said = { output, bodyHash: sha256(output) }
    return this.#said.bodyHash
  }
}

/** The code that the call was made for, by its header `if-match`. Throws `CMESH_STATE_CONDITION`. */
function conditionOf(call: Call, { service, segments: [contract] }: Route): Uint8Array | undefined {
  const wanted = call.headers.length === 0 ? undefined : headerValue(decodeHeaders(call.headers), CONDITION_HEADER)
  if (wanted === undefined) return undefined
  if (service !== 'S' || contract === SYSTEM_SPACE) throw new CMeshError('CMESH_STATE_CONDITION', { reason: 'it goes with a call of a contract\'s function alone' })
  if (!CONDITION.test(wanted)) throw new CMeshError('CMESH_STATE_CONDITION', { reason: 'it is the SHA-256 of the contract\'s code, 64 lower-case hex digits within double quotes' })
  return Buffer.from(wanted.slice(1, -1), 'hex')
}

function errorOf(outcome: Outcome): CMeshError {
  return CMeshError.fromWire(JSON.parse(Buffer.from(outcome.output).toString('utf8')))
}

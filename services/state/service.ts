/**
 * The State service: reads run here and now, writes are proposed, ordered, executed and committed before they are answered.
 * It owns the store, the applier, the proposer, the courier of contracts' messages and the outbox; views are `views.ts`'s. It knows
 * nothing of NATS.
 *
 * Invariants:
 * 1. `read` and `write` take an `AuthContext`, which only the guard can make, and have it confirmed before they touch state:
 *    there is no other way in. The endpoint wrapper has checked the token of the call and its address.
 * 2. A write is acknowledged when its block is durable at the store's level, and the reply says which level that is.
 * 3. When the applier or the store fails, every waiting and later write is refused, and every later read, and `onHalt` is
 *    told: memory is then ahead of the log.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { decodeHeaders, headerValue } from '../../cmtp/headers.ts'
import { checkProofOfToken, needsProof, PROOF_HEADER, readRequestProof } from '../../cmtp/identity/request-proof.ts'
import { formatMessageId, MessageIds } from '../../cmtp/message-id.ts'
import { jsonReply, jsonTextReply, wireErrorReply, type Call, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import type { ConsensusProvider } from '../consensus/provider.ts'
import { checkCallable, meterArguments, SYSTEM_FUNCTIONS } from '../contracts/arguments.ts'
import { Courier } from '../contracts/courier.ts'
import { installDeployed } from '../contracts/deployments.ts'
import { encodeGenesis, readGenesis, readOperator, type Genesis, type GenesisRecord } from '../contracts/genesis.ts'
import { messageIdOf, OWN_IDS, pendingMessages, readMessage, type Delivered, type OutboxMessage } from '../contracts/messages.ts'
import { checkKnown, Metering } from '../contracts/metering.ts'
import type { ContractEngine } from '../contracts/provider.ts'
import { contractKeys, isContractKey } from '../contracts/records.ts'
import { ContractTransactions } from '../contracts/transactions.ts'
import type { HopNotes } from '../endpoint.ts'
import { DelayedTransactions, laterIdOf, pendingLater, readLater } from '../later/records.ts'
import { LaterRunner, type LaterRunnerParts } from '../later/runner.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import { GRANTSEQ_KEY, readSeq } from '../iam/records.ts'
import type { Log } from '../log.ts'
import { Applier } from './applier.ts'
import type { Authority } from './authority.ts'
import { NO_PROOF } from './batch.ts'
import type { Outbox } from './outbox.ts'
import { Proposer } from './proposer.ts'
import type { Block, OpenReport, Space, StateHead, StateStore } from './provider.ts'
import { SYSTEM_SPACE, type TransactionHandler } from './transaction.ts'
import { TransactionIndex, type Outcome } from './transaction-index.ts'
import type { ViewCacheOptions } from './view-cache.ts'
import { Views, type ViewStats } from './views.ts'

/** Blocks with events that may wait for the events provider; past it writes are refused until it catches up. */
const OUTBOX_LIMIT = 4_096
/** A block ends at this part of what one transaction may use, so that with a last one of that size it holds the thread little longer than that one. */
const BLOCK_SHARE = 4
/** How long what this node orders in its own name may wait for its place. */
const OWN_DEADLINE_MS = 30_000

export interface StateServiceParts {
  readonly store: StateStore
  readonly consensus: ConsensusProvider
  readonly engine: ContractEngine
  readonly guard: Pick<Guard, 'confirm' | 'authorise' | 'tokenOf'>
  readonly outbox: Outbox
  /** Executes the Registrar's transactions. */
  readonly names: TransactionHandler
  /** Executes transactions on rights. Default: nobody does, and they are refused. */
  readonly identities?: TransactionHandler
  /** Who may have what, asked again where a transaction is ordered. Default: whatever was ordered is executed. */
  readonly authority?: Authority
  readonly member: { readonly did: string, sign(bytes: Uint8Array): Uint8Array, verify(did: string, bytes: Uint8Array, signature: Uint8Array): boolean }
  readonly clock: Clock
  readonly log: Log
  readonly viewCache?: ViewCacheOptions
  /** Most gas one view may use. Default 2,000,000. */
  readonly viewGas?: number
  /** Asks whom a contract's message is for; see `CourierParts.deliver`. Default: nobody can be asked, and messages wait. */
  readonly deliver?: (message: OutboxMessage) => Promise<Delivered>
  /** Makes a delayed call, and keeps one that failed for good. Default: they wait. */
  readonly later?: Pick<LaterRunnerParts, 'call' | 'bury'>
  /** How long a stop waits for writes under way before it stops consensus, which settles those that are left, in ms. Default 5,000. */
  readonly drainMs?: number
  /** Told each block as soon as it is applied. */
  readonly onApplied?: (block: Block) => void
  /** Called once when state stops for good. */
  readonly onHalt: (error: CMeshError) => void
}

export interface StateStats extends ViewStats {
  transactions: number
  transactionGas: number
  blocks: number
  /** Contracts deployed, proxies included. */
  contracts: number
}

export class StateService {
  readonly stats: StateStats = { views: 0, viewHits: 0, transactions: 0, blocks: 0, viewGas: 0, transactionGas: 0, contractFailures: 0, contracts: 0 }
  readonly #parts: StateServiceParts
  readonly #index = new TransactionIndex()
  readonly #applier: Applier
  readonly #proposer: Proposer
  readonly #metering: Metering
  /** Keys of the contracts there are. */
  readonly #deployed = new Set<string>()
  readonly #views: Views
  readonly #courier: Courier
  readonly #later: LaterRunner
  #stopping = false
  #started: Promise<OpenReport> | undefined
  #stopped: Promise<void> | undefined
  #genesis: GenesisRecord | undefined

  constructor(parts: StateServiceParts) {
    const { store, engine, consensus, clock, member, log, guard } = parts
    const space = (name: string): Space => store.space(name)
    this.#parts = parts
    this.#metering = new Metering(engine, { get: key => space(SYSTEM_SPACE).get(key) })
    this.#views = new Views({
      store, engine, metering: this.#metering, guard, confirm: auth => { this.#confirm(auth) }, clock, stats: this.stats,
      cache: parts.viewCache, gasLimit: parts.viewGas,
    })
    this.#courier = new Courier({
      read: id => readMessage(this.system, id),
      deliver: message => parts.deliver?.(message) ?? Promise.reject(new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'router' })),
      answer: (id, delivered) => this.#answer(id, delivered),
      clock,
      log,
    })
    const nobody = (): never => { throw new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'router' }) }
    this.#later = new LaterRunner({
      read: id => readLater(this.system, id), call: nobody, bury: nobody, ...parts.later,
      settle: id => this.#order(member.did, `0xSW:${SYSTEM_SPACE}:settled:${JSON.stringify([id])}`, new Uint8Array(0)), clock, log,
    })
    this.#proposer = new Proposer({ consensus, index: this.#index, clock, member })
    this.#applier = new Applier({
      store,
      index: this.#index,
      handlers: {
        S: new DelayedTransactions(new ContractTransactions({ engine, space, metering: this.#metering })), R: new DelayedTransactions(parts.names),
        ...(parts.identities !== undefined && { I: parts.identities }),
      },
      ...(parts.authority !== undefined && { authority: parts.authority }),
      blockGas: seq => this.#metering.begun ? this.#metering.at(seq).transactionGas / BLOCK_SHARE : Infinity,
      verifyMember: (did, bytes, signature) => this.#isMember(did) && member.verify(did, bytes, signature),
      log,
      onApplied: block => {
        this.stats.blocks++
        this.#views.changed(block)
        parts.onApplied?.(block)
      },
      onDurable: (block, outcomes) => {
        this.#proposer.settle(outcomes)
        parts.outbox.add(block)
        this.#takeUp(block)
        // What is in memory alone has to be ordered again when the node starts.
        if (store.durability !== 'memory') consensus.trim?.(block.seq)
      },
      onHalt: error => {
        this.#proposer.fail(error)
        this.#courier.halt()
        this.#later.halt()
        parts.onHalt(error)
      },
    })
  }

  /**
   * Opens the log, takes up the order and, on an empty log, makes the beginning. Memoised; a failed start closes what it
   * opened.
   */
  start(genesis: () => Genesis): Promise<OpenReport> {
    this.#started ??= this.#start(genesis)
    return this.#started
  }

  get head(): StateHead {
    return this.#parts.store.head
  }

  get durability(): StateStore['durability'] {
    return this.#parts.store.durability
  }

  get halted(): CMeshError | undefined {
    return this.#applier.halted
  }

  get pendingWrites(): number {
    return this.#proposer.pending
  }

  /** Carries the messages of contracts. Started once whom they are for can be reached; stopped with State. */
  get courier(): Pick<Courier, 'start' | 'flush' | 'pending' | 'stats'> {
    return this.#courier
  }

  /** Makes delayed calls when they are due. Started once whom they are for can be reached; stopped with State. */
  get later(): Pick<LaterRunner, 'start' | 'list' | 'stats'> {
    return this.#later
  }

  /** What the mesh was born with. Throws before `start` resolved. */
  get genesis(): GenesisRecord {
    if (this.#genesis === undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'state is not open' })
    return this.#genesis
  }

  /** The mesh's own records, for services that read them: never to be changed by them. */
  get system(): Pick<Space, 'get'> {
    return this.#parts.store.space(SYSTEM_SPACE)
  }

  outcome(id: string): Outcome | undefined {
    return this.#index.get(id)
  }

  /** A view, a contract's record, or what the system contract tells: `0xS:<contract>[:<function>[:<args>]]`. */
  read(call: Call, auth: AuthContext, notes: HopNotes): Reply | Promise<Reply> {
    this.#confirm(auth)
    const { segments } = call.route
    if (segments[0] === SYSTEM_SPACE && segments[1] === 'later') return jsonReply(this.#later.list(readOperator(this.system) === auth.sub ? undefined : auth.sub))
    return this.#views.read(call, auth, notes)
  }

  /** A transaction: `0xSW:…`, orders on rights, and the Registrar's writes, which give the route in its final form. Resolves when it is durable. */
  async write(call: Call, auth: AuthContext, notes: HopNotes, route: Route = call.route): Promise<Reply> {
    this.#parts.guard.confirm(auth)
    if (this.#stopping && this.#applier.halted === undefined) throw new CMeshError('CMESH_ROUTER_DRAINING')
    if (route.service === 'S') this.#checkWritable(route)
    if (this.#parts.outbox.pending > OUTBOX_LIMIT) {
      throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'the outbox of events', limit: OUTBOX_LIMIT, retryAfterMs: 1_000 })
    }
    const id = formatMessageId(call.id)
    // Whoever had taken the id of a message of a contract, or of a delayed call, would keep it from being made.
    if (id.startsWith(OWN_IDS) && auth.sid !== '') throw new CMeshError('CMESH_ROUTER_DUPLICATE', { id })
    const asked = {
      id,
      fqmn: route.text,
      // The frame's memory is the broker connection's; the transaction outlives it.
      body: call.body.length === 0 ? call.body : new Uint8Array(call.body),
      deadlineMs: call.deadlineMs,
    }
    const proof = needsProof(route) ? readRequestProof(headerValue(decodeHeaders(call.headers), PROOF_HEADER), route.text) : NO_PROOF
    if (proof !== NO_PROOF) checkProofOfToken(proof, this.#parts.guard.tokenOf(auth), { sub: auth.sub, ...asked })
    call.proposed = true
    const outcome = await this.#proposer.submit({
      ...asked,
      sub: auth.sub,
      sid: auth.sid,
      jti: auth.jti,
      grantSeq: readSeq(this.system, GRANTSEQ_KEY),
      proof,
    })
    this.stats.transactions++
    this.stats.transactionGas += Number(outcome.gas)
    notes.gas = outcome.gas
    notes.before = outcome.span?.before
    notes.after = outcome.span?.after
    return this.#replyOf(outcome)
  }

  /** Orders in this member's own name; `body` as JSON. Resolves when it is durable; rejects with its outcome's error, or as `write` does. */
  orderOwn(fqmn: string, body: unknown): Promise<void> {
    return this.#order(this.#parts.member.did, fqmn, Buffer.from(JSON.stringify(body)))
  }

  /** Refuses new writes, answers those under way, gives their events a while to get out, closes. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #start(genesis: () => Genesis): Promise<OpenReport> {
    const { store, consensus, engine, outbox } = this.#parts
    try {
      let newest: Block | undefined
      const report = await store.open(block => {
        this.#applier.restore(block)
        outbox.add(block)
        newest = block
      })
      const system = store.space(SYSTEM_SPACE)
      // Before anything is compiled: what is compiled counts gas as the log says.
      if (this.#metering.begun) this.#metering.at(store.head.seq + 1)
      else if (readGenesis(system) !== undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log is of a version before gas was counted' })
      installDeployed(engine, system, name => store.space(name))
      for (const key of contractKeys(system)) this.#deployed.add(key)
      this.stats.contracts = this.#deployed.size
      for (const id of pendingMessages(system)) this.#courier.add(id)
      for (const later of pendingLater(system)) this.#later.add(later)
      const { epoch, seq } = store.head
      await consensus.start({ epoch, seq, ...(newest !== undefined && { data: newest.message }) }, this.#applier.apply)
      if (store.head.seq === 0) await this.#begin(genesis())
      this.#genesis ??= readGenesis(system)
      if (this.#genesis === undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log does not start with it' })
      return report
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  async #begin(genesis: Genesis): Promise<void> {
    await this.#order(genesis.operator, `0xSW:${SYSTEM_SPACE}:genesis`, encodeGenesis(genesis))
  }

  async #stop(): Promise<void> {
    const { consensus, outbox, store, engine } = this.#parts
    // From now on nothing new comes in; answers to what contracts sent are the mesh's own and still do.
    this.#stopping = true
    await Promise.all([this.#courier.stop(), this.#later.stop()])
    const drained = this.#applier.halted === undefined ? this.#proposer.drain() : Promise.resolve()
    await within(drained, this.#parts.drainMs ?? 5_000)
    await consensus.stop()
    await drained
    await outbox.stop()
    await store.close()
    engine.close()
  }

  /** Throws when the caller may no longer read, or memory is ahead of the log. */
  #confirm(auth: AuthContext): void {
    this.#parts.guard.confirm(auth)
    if (this.#applier.halted !== undefined) throw new CMeshError('CMESH_STATE_HALTED', { reason: this.#applier.halted.code })
  }

  /** Refuses a write that can only fail, before it costs a place in the log. */
  #checkWritable(route: Route): void {
    const [contract = '', name] = route.segments
    if (contract !== SYSTEM_SPACE) return checkCallable(this.#parts.engine, contract, name)
    if (name === undefined || !SYSTEM_FUNCTIONS.includes(name)) throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract, function: name ?? '(none)' })
    // In the log it would halt every node that does not know it, this one first.
    if (name === 'meter') checkKnown(this.#parts.engine, meterArguments(route))
  }

  #replyOf(outcome: Outcome): Reply {
    const headers = [
      ['x-cmesh-durability', this.#parts.store.durability],
      ['x-cmesh-gas', String(outcome.gas)],
      ['x-cmesh-sequence', String(outcome.seq)],
      ['x-cmesh-transaction', outcome.id],
    ] as const
    if (outcome.status < 400) return jsonTextReply(outcome.output, headers, outcome.status)
    const error = CMeshError.fromWire(JSON.parse(Buffer.from(outcome.output).toString('utf8')))
    if (error.code.startsWith('CMESH_CONTRACT_')) this.stats.contractFailures++
    return wireErrorReply(outcome.status, error.toWire(), headers)
  }

  /** Hands messages of a durable block to the courier, and counts what was deployed. */
  #takeUp(block: Block): void {
    for (const transaction of block.transactions) {
      for (const { space, key, value } of transaction.writes) {
        if (space !== SYSTEM_SPACE) continue
        const id = value === undefined ? undefined : messageIdOf(key)
        if (id !== undefined) this.#courier.add(id)
        if (isContractKey(key)) this.#deployed.add(key)
        this.#followLater(laterIdOf(key), value !== undefined)
      }
    }
    this.#later.advance(block.timeMs)
    this.stats.contracts = this.#deployed.size
  }

  #followLater(id: string | undefined, kept: boolean): void {
    if (id === undefined) return
    const later = kept ? readLater(this.system, id) : undefined
    if (later === undefined) this.#later.over(id)
    else this.#later.add(later)
  }

  /** Orders the answer to a message. Each try is a transaction of its own: that there is one answer is the message's doing, which the first takes out. */
  async #answer(id: string, delivered: Delivered): Promise<void> {
    await this.orderOwn(`0xSW:${SYSTEM_SPACE}:answer:${JSON.stringify([id])}`, delivered)
  }

  async #order(sub: string, fqmn: string, body: Uint8Array): Promise<void> {
    const { clock } = this.#parts
    const outcome = await this.#proposer.submit({
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
    if (outcome.status >= 400) throw CMeshError.fromWire(JSON.parse(Buffer.from(outcome.output).toString('utf8')))
  }

  /** Before genesis is applied, the node that makes the beginning is the only member there is. */
  #isMember(did: string): boolean {
    this.#genesis ??= readGenesis(this.system)
    return this.#genesis === undefined ? did === this.#parts.member.did : this.#genesis.members.includes(did)
  }
}

/** Resolves when `work` does, at the latest after `ms`. */
async function within(work: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>(resolve => { timer = setTimeout(resolve, ms) })
  await Promise.race([work, late])
  clearTimeout(timer)
}

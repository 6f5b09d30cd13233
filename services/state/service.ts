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
import type { Claim } from '../../cmtp/claim.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { decodeHeaders, headerValue } from '../../cmtp/headers.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import { checkProofOfToken, needsProof, PROOF_HEADER, readRequestProof } from '../../cmtp/identity/request-proof.ts'
import { formatMessageId, MessageIds } from '../../cmtp/message-id.ts'
import { jsonReply, wireErrorReply, type Call, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import type { ConsensusProvider, LogHead } from '../consensus/provider.ts'
import { checkCallable, meterArguments, SYSTEM_FUNCTIONS } from '../contracts/arguments.ts'
import { Courier } from '../contracts/courier.ts'
import { installDeployed } from '../contracts/deployments.ts'
import { encodeGenesis, readGenesis, readMesh, readOperator, type Genesis, type GenesisRecord } from '../contracts/genesis.ts'
import { messageIdOf, OWN_IDS, pendingMessages, readMessage, type Delivered, type OutboxMessage } from '../contracts/messages.ts'
import { EPOCH_FQMN } from '../contracts/epochs.ts'
import { GENESIS_FQMN, isMember, JOIN_FQMN, mayOrder, readMembers } from '../contracts/members.ts'
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
import { NO_PROOF, verifyBatch } from './batch.ts'
import { ClaimCheck, type LastClaim } from './claim.ts'
import { Checkpoints } from './checkpoints.ts'
import type { Outbox } from './outbox.ts'
import { OutcomeHeaders, outcomeHeaders } from './outcome-headers.ts'
import { Proposer } from './proposer.ts'
import type { Block, LogAnchor, OpenReport, Recollection, Space, StateHead, StateStore } from './provider.ts'
import { ReadLevels } from './read-levels.ts'
import { levelOf, Replication, type Durability, type ReplicationParts, type ReplicationState } from './replication.ts'
import { Ticks } from './ticks.ts'
import { StateReads } from './state-reads.ts'
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
  /** What this node has said of its log. Default: nothing, and nothing is kept of it. */
  readonly lastClaim?: LastClaim
  /** Executes the Registrar's transactions. */
  readonly names: TransactionHandler
  /** Executes transactions on rights. Default: nobody does, and they are refused. */
  readonly identities?: TransactionHandler
  /** Who may have what, asked again where a transaction is ordered. Default: whatever was ordered is executed. */
  readonly authority?: Authority
  readonly member: {
    readonly did: string
    readonly sign: (bytes: Uint8Array) => Uint8Array
    readonly verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean
  }
  /** What makes this node one of the mesh's, where its key is not the mesh's own. */
  readonly certificate?: Certificate | undefined
  /** Where members hear each other, and whether an acknowledgement waits for a quorum of them. Default: this node is alone. */
  readonly replication?: Pick<ReplicationParts, 'bus' | 'quorum' | 'version' | 'out'>
  /** How old the newest block grows before it is followed by an empty one, ms. Default 10,000. */
  readonly tickMs?: number
  /**
   * Brings the store up to sequence `upTo` at least, with the blocks of other members (`catch-up/catch-up.ts`); rejects as that does.
   * Default: what the order has no more is missing.
   */
  readonly catchUp?: (upTo: number, onBlock: (block: Block) => void) => Promise<unknown>
  /** Notes that the log differs from what the others claim at that place, and from where on; resolves with the error to stop with. Default: nothing is noted. */
  readonly diverged?: (place: LogAnchor) => Promise<CMeshError>
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
  readonly #checkpoints: Checkpoints
  /** Keys of the contracts there are. */
  readonly #deployed = new Set<string>()
  readonly #views: Views
  readonly #courier: Courier
  readonly #levels: ReadLevels
  readonly #replication: Replication
  readonly #ticks: Ticks
  readonly #headers: OutcomeHeaders
  readonly #later: LaterRunner
  #stopping = false
  #wrong: CMeshError | undefined
  #started: Promise<OpenReport> | undefined
  #stopped: Promise<void> | undefined
  #genesis: GenesisRecord | undefined

  constructor(parts: StateServiceParts) {
    const { store, engine, consensus, clock, member, log, guard } = parts
    const space = (name: string): Space => store.space(name)
    this.#parts = parts
    this.#metering = new Metering(engine, { get: key => space(SYSTEM_SPACE).get(key) })
    this.#checkpoints = new Checkpoints({ store })
    const confirm = (auth: AuthContext): void => { this.#confirm(auth) }
    const { certificate } = parts
    const attester = { mesh: certificate?.mesh ?? member.did, node: member.did, sign: member.sign, certificate }
    const reads = new StateReads({ store, checkpoints: this.#checkpoints, attester, guard, confirm, clock })
    this.#views = new Views({
      store, engine, metering: this.#metering, guard, reads, confirm, clock, stats: this.stats,
      cache: parts.viewCache, gasLimit: parts.viewGas,
    })
    this.#courier = new Courier({
      read: id => readMessage(this.system, id),
      deliver: message => parts.deliver?.(message) ?? Promise.reject(new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'router' })),
      answer: (id, delivered) => this.#answer(id, delivered),
      onDuty: () => this.#replication.onDuty(),
      clock,
      log,
    })
    this.#headers = new OutcomeHeaders(this.durability)
    const nobody = (): never => { throw new CMeshError('CMESH_ROUTER_NO_SERVICE', { service: 'router' }) }
    this.#later = new LaterRunner({
      read: id => readLater(this.system, id), call: nobody, bury: nobody, ...parts.later,
      settle: id => this.#order(member.did, `0xSW:${SYSTEM_SPACE}:settled:${JSON.stringify([id])}`, new Uint8Array(0)), clock, log,
      onDuty: () => this.#replication.onDuty(),
    })
    this.#proposer = new Proposer({ consensus, index: this.#index, clock, member })
    this.#levels = new ReadLevels({ applied: () => store.head.seq, barrier: deadlineMs => this.#proposer.barrier(deadlineMs), clock })
    this.#replication = new Replication({
      ...parts.replication ?? { bus: undefined, quorum: false, version: '', out: () => 0 },
      member, members: () => readMembers(this.system), level: store.durability, clock, log,
      onDiverged: others => { this.#differs(others) },
    })
    this.#ticks = new Ticks({
      head: () => store.head, onDuty: this.#replication.onDuty, order: deadlineMs => this.#proposer.barrier(deadlineMs), clock, log, tickMs: parts.tickMs,
    })
    this.#applier = new Applier({
      store,
      index: this.#index,
      handlers: {
        S: new DelayedTransactions(new ContractTransactions({ engine, space, metering: this.#metering })), R: new DelayedTransactions(parts.names),
        ...(parts.identities !== undefined && { I: parts.identities }),
      },
      ...(parts.authority !== undefined && { authority: parts.authority }),
      blockGas: seq => this.#metering.begun ? this.#metering.at(seq).transactionGas / BLOCK_SHARE : Infinity,
      seal: block => this.#checkpoints.seal(block),
      verifyMember: (batch, bytes) => mayOrder(this.system, batch) && verifyBatch(bytes, batch, member.verify),
      own: entry => isMember(this.system, member.did) ? this.#proposer.own(entry) : undefined,
      log,
      onApplied: block => {
        this.stats.blocks++
        this.#views.changed(block)
        this.#levels.applied(block.seq)
        parts.onApplied?.(block)
      },
      onDurable: (block, outcomes, head) => {
        this.#proposer.durable(block.seq)
        parts.outbox.add(block)
        this.#takeUp(block)
        this.#replication.durable(head, () => { this.#proposer.settle(outcomes) })
        // What is in memory alone has to be ordered again when the node starts.
        if (store.durability === 'memory') return
        consensus.trim?.(this.#replication.held(block.seq))
        parts.lastClaim?.write({ epoch: head.epoch, seq: head.seq, chain: Buffer.from(head.chain).toString('hex'), timeMs: block.timeMs })
      },
      onHalt: error => {
        this.#proposer.fail(error)
        this.#levels.fail(error)
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

  /** What an acknowledged write survives. */
  get durability(): Durability {
    return levelOf(this.#parts.store.durability, this.#parts.replication?.quorum === true)
  }

  /** Which of the members publishes for all; for the outbox. */
  get duty(): Pick<Replication, 'onDuty' | 'outElsewhere'> {
    return this.#replication
  }

  /** What the members hold; `undefined` where this node is alone. */
  get replicas(): ReplicationState | undefined {
    return this.#replication.state
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

  /** A view, a contract's record, or what the system contract tells: `0xS:<contract>[:<function>[:<args>]]`; as fresh as the call asks for. */
  read(call: Call, auth: AuthContext, notes: HopNotes): Reply | Promise<Reply> {
    this.#confirm(auth)
    const fresh = this.#levels.wait(call)
    if (fresh === undefined) return this.#read(call, auth, notes)
    return fresh.then(() => {
      // Time went by, in which anything may have changed.
      this.#confirm(auth)
      return this.#read(call, auth, notes)
    })
  }

  #read(call: Call, auth: AuthContext, notes: HopNotes): Reply | Promise<Reply> {
    const { segments } = call.route
    if (segments[0] === SYSTEM_SPACE && segments[1] === 'later') return jsonReply(this.#later.list(readOperator(this.system) === auth.sub ? undefined : auth.sub))
    return this.#views.read(call, auth, notes)
  }

  /** A transaction: `0xSW:…`, orders on rights, and the Registrar's writes, which give the route in its final form. Resolves when it is durable. */
  write(call: Call, auth: AuthContext, notes: HopNotes, route: Route = call.route): Promise<Reply> {
    try {
      return this.#propose(call, auth, route).then(outcome => {
        this.stats.transactions++
        this.stats.transactionGas += Number(outcome.gas)
        notes.gas = outcome.gas
        notes.before = outcome.span?.before
        notes.after = outcome.span?.after
        return this.#replyOf(outcome)
      })
    } catch (error) {
      return Promise.reject(CMeshError.from(error, 'state'))
    }
  }

  #propose(call: Call, auth: AuthContext, route: Route): Promise<Outcome> {
    this.#parts.guard.confirm(auth)
    if (this.#wrong !== undefined) throw this.#wrong
    if (this.#stopping && this.#applier.halted === undefined) throw new CMeshError('CMESH_ROUTER_DRAINING')
    if (route.service === 'S') this.#checkWritable(route)
    if (this.#parts.outbox.pending > OUTBOX_LIMIT) {
      throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'the outbox of events', limit: OUTBOX_LIMIT, retryAfterMs: 1_000 })
    }
    const id = formatMessageId(call.id)
    // Whoever had taken the id of a message of a contract, or of a delayed call, would keep it from being made.
    if (id.startsWith(OWN_IDS) && auth.sid !== '') throw new CMeshError('CMESH_ROUTER_DUPLICATE', { id })
    const { deadlineMs } = call
    // The frame's memory is the broker connection's; the transaction outlives it.
    const body = call.body.length === 0 ? call.body : Buffer.from(call.body)
    let proof = NO_PROOF
    if (needsProof(route)) {
      proof = readRequestProof(headerValue(decodeHeaders(call.headers), PROOF_HEADER), route.text)
      checkProofOfToken(proof, this.#parts.guard.tokenOf(auth), { sub: auth.sub, id, fqmn: route.text, body, deadlineMs })
    }
    call.proposed = true
    return this.#proposer.submit({
      id, sub: auth.sub, sid: auth.sid, jti: auth.jti, grantSeq: readSeq(this.system, GRANTSEQ_KEY), fqmn: route.text, body, deadlineMs, proof,
    })
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
    const { store, consensus, outbox } = this.#parts
    try {
      let newest: Block | undefined
      const claim = new ClaimCheck(store.durability === 'memory' ? undefined : this.#parts.lastClaim?.read())
      const report = await store.open((block, at) => {
        this.#applier.restore(block, at)
        this.#checkpoints.restore(block, at)
        outbox.add(block)
        claim.see(store.head)
        newest = block
        claim.see(store.head)
        newest = block
      }, { since: () => this.#since(), sees: claim.claimed })
      claim.checkChain()
      this.#install()
      const { seq } = store.head
      const epoch = claim.epochBehind(store.head)
      const from = { epoch, seq, chain: store.head.chain, begun: seq > 0 && epoch === store.head.epoch, ...(newest !== undefined && { data: newest.message }) }
      const catchUp = this.#parts.catchUp && ((upTo: number) => this.#catchUp(upTo, claim))
      await consensus.start({ ...from, ...(claim.claimed > seq && { claimed: claim.claimed }) }, entry => {
        this.#applier.apply(entry)
        claim.see(store.head)
      }, catchUp)
      claim.check(store.head.seq)
      this.#checkpoints.start()
      const opening = this.#openEpoch()
      // Nobody takes up this log, to go on in the epoch, before that has its first entry.
      if (opening !== undefined) {
        await Promise.race([opening, this.#levels.reached(store.head.seq + 1, this.#parts.clock.nowMs() + OWN_DEADLINE_MS)])
        await store.flush()
      }
      this.#replication.start(store.head)
      await opening
      if (store.head.seq === 0) await this.#begin(genesis())
      this.#genesis ??= readGenesis(store.space(SYSTEM_SPACE))
      if (this.#genesis === undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log does not start with it' })
      await this.#join()
      this.#ticks.start()
      return report
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** From where blocks have to be seen again: outcomes that are remembered, events that are not out, and the last checkpoint. */
  #since(): Recollection | undefined {
    const { since } = this.#index
    const { oldest } = this.#parts.outbox
    const { needs } = this.#checkpoints
    return since !== undefined && Math.min(oldest ?? Infinity, needs ?? Infinity) >= since.seq ? since : undefined
  }

  /** Takes up what the log amounts to: contracts, how gas is counted, messages under way. */
  #install(): void {
    const { store, engine } = this.#parts
    const system = store.space(SYSTEM_SPACE)
    // Before anything is compiled: what is compiled counts gas as the log says.
    if (this.#metering.begun) this.#metering.at(store.head.seq + 1)
    else if (readGenesis(system) !== undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log is of a version before gas was counted' })
    installDeployed(engine, system, name => store.space(name))
    for (const key of contractKeys(system)) this.#deployed.add(key)
    this.stats.contracts = this.#deployed.size
    for (const id of pendingMessages(system)) this.#courier.add(id)
    for (const later of pendingLater(system)) this.#later.add(later)
  }

  /** Before the order is taken up: blocks of other members come into the log as if they had been read back. */
  async #catchUp(upTo: number, claim: ClaimCheck): Promise<LogHead> {
    const { store, outbox, catchUp } = this.#parts
    let newest: Block | undefined
    let before: StateHead = store.head
    await catchUp?.(upTo, block => {
      this.#applier.restore(block, { before, skip: 0 })
      this.#checkpoints.restore(block, { before })
      claim.see(before = store.head)
      newest = block
    })
    const { epoch, seq, chain } = store.head
    if (newest === undefined) return { epoch, seq, chain, begun: seq > 0 }
    outbox.passed(newest)
    this.#install()
    return { epoch, seq, chain, begun: true, data: newest.message }
  }

  /** Puts the epoch on record where the log has no entry of it yet. */
  #openEpoch(): Promise<void> | undefined {
    const { store: { head }, consensus, member: { did } } = this.#parts
    if (head.seq === 0 || consensus.status().epoch <= head.epoch || !isMember(this.system, did)) return undefined
    return this.orderOwn(EPOCH_FQMN, {})
  }

  async #begin(genesis: Genesis): Promise<void> {
    try {
      await this.#order(genesis.operator, GENESIS_FQMN, encodeGenesis(genesis))
    } catch (error) {
      // Another node began it a moment before.
      if (!(error instanceof CMeshError) || error.code !== 'CMESH_STATE_NOT_MEMBER' || readGenesis(this.system) === undefined) throw error
    }
  }

  /** Makes this node a member where it is none yet. */
  async #join(): Promise<void> {
    const { member: { did }, certificate } = this.#parts
    const [found = '', wanted] = [readMesh(this.system), certificate?.mesh ?? did]
    if (isMember(this.system, did)) return
    if (certificate === undefined) throw new CMeshError('CMESH_STATE_NOT_MEMBER', { reason: 'the log does not list it, and it has no certificate' })
    if (found !== wanted) throw new CMeshError('CMESH_STATE_OTHER_MESH', { found, wanted })
    await this.orderOwn(JOIN_FQMN, certificate)
  }

  /** Its log is not the one that the others have: it answers for nothing any more, and stops once it is noted where they part. */
  #differs(others: readonly Claim[]): void {
    const first = others.reduce((one, claim) => (claim.seq < one.seq ? claim : one))
    this.#wrong = new CMeshError('CMESH_STATE_DIVERGED', { seq: first.seq, members: others.map(({ did }) => did).join(', ') })
    const { epoch, seq, chain } = first
    const noted = this.#parts.diverged?.({ epoch, seq, chain: Buffer.from(chain, 'hex') }) ?? Promise.resolve(this.#wrong)
    noted.then(error => { this.#applier.halt(error) }, (error: unknown) => { this.#applier.halt(CMeshError.from(error, 'the state store')) })
  }

  async #stop(): Promise<void> {
    const { consensus, outbox, store, engine } = this.#parts
    // From now on nothing new comes in; answers to what contracts sent are the mesh's own and still do.
    this.#stopping = true
    this.#ticks.stop()
    await Promise.all([this.#courier.stop(), this.#later.stop()])
    const drained = this.#applier.halted === undefined ? this.#proposer.drain() : Promise.resolve()
    await within(drained, this.#parts.drainMs ?? 5_000)
    await consensus.stop()
    await drained
    this.#checkpoints.stop()
    await outbox.stop()
    await store.flush().catch(() => undefined)
    this.#replication.stop()
    await store.close()
    engine.close()
  }

  /** Throws when the caller may no longer read, or memory is ahead of the log. */
  #confirm(auth: AuthContext): void {
    this.#parts.guard.confirm(auth)
    if (this.#wrong !== undefined) throw this.#wrong
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
    if (outcome.status < 400) return { status: outcome.status, headers: this.#headers.ofResult(outcome), body: outcome.output }
    const error = CMeshError.fromWire(JSON.parse(Buffer.from(outcome.output).toString('utf8')))
    if (error.code.startsWith('CMESH_CONTRACT_')) this.stats.contractFailures++
    return wireErrorReply(outcome.status, error.toWire(), outcomeHeaders(this.#parts.store.durability, outcome))
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
}

/** Resolves when `work` does, at the latest after `ms`. */
async function within(work: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<void>(resolve => { timer = setTimeout(resolve, ms) })
  await Promise.race([work, late])
  clearTimeout(timer)
}

/**
 * The State service: reads run here and now, writes are proposed, ordered, executed and committed before they are answered.
 * It composes State's rooms and is the way into them: how it comes up is `opening.ts`'s, writes are `writes.ts`'s, views `views.ts`'s, and what
 * follows from the log `log-effects.ts`'s. It knows nothing of NATS.
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
import { jsonReply, type Call, type Reply } from '../call.ts'
import type { Courier } from '../contracts/courier.ts'
import { readOperator, type Genesis, type GenesisRecord } from '../contracts/genesis.ts'
import { isMember, mayOrder, readMembers } from '../contracts/members.ts'
import { Metering } from '../contracts/metering.ts'
import { ContractTransactions } from '../contracts/transactions.ts'
import type { HopNotes } from '../endpoint.ts'
import { DelayedTransactions } from '../later/records.ts'
import type { LaterRunner } from '../later/runner.ts'
import type { AuthContext } from '../iam/guard.ts'
import { within } from '../within.ts'
import { Applier } from './applier.ts'
import { verifyBatch, type Transaction } from './batch.ts'
import { Checkpoints } from './checkpoints.ts'
import { ReadChecks } from './checks/read-checks.ts'
import type { RunView } from './checks/run.ts'
import { ClockCheck } from './clock-check.ts'
import type { Duty } from './duty.ts'
import { LogEffects } from './log-effects.ts'
import { Opening } from './opening.ts'
import { Proposer } from './proposer.ts'
import type { Block, OpenReport, Space, StateHead } from './provider.ts'
import { ReadLevels } from './read-levels.ts'
import { levelOf, Replication, type Durability, type ReplicationState } from './replication.ts'
import type { StateServiceParts, StateStats } from './service-parts.ts'
import { Skips } from './skips.ts'
import { StateReads } from './state-reads.ts'
import { Ticks } from './ticks.ts'
import { SYSTEM_SPACE } from './transaction.ts'
import { TransactionIndex, type Outcome } from './transaction-index.ts'
import { Views } from './views.ts'
import { Writes } from './writes.ts'

/** A block ends at this part of what one transaction may use, so that with a last one of that size it holds the thread little longer than that one. */
const BLOCK_SHARE = 4
/** How long the first entry of an epoch may take to be applied, ms. */
const EPOCH_DEADLINE_MS = 30_000
/** How long who starts waits for the others' clocks before it goes on and is told why not, ms, and how often it looks. */
const CLOCKS_MS = 30_000
const LOOK_MS = 20

export class StateService {
  readonly stats: StateStats = { views: 0, viewHits: 0, transactions: 0, blocks: 0, viewGas: 0, transactionGas: 0, contractFailures: 0, contracts: 0 }
  readonly #parts: StateServiceParts
  readonly #index = new TransactionIndex()
  readonly #applier: Applier
  readonly #proposer: Proposer
  readonly #checkpoints: Checkpoints
  readonly #views: Views
  readonly #checks: ReadChecks | undefined
  /** The same where reads are checked here: whoever checks none pays nothing for it. */
  readonly #checking: ReadChecks | undefined
  readonly #writes: Writes
  readonly #effects: LogEffects
  readonly #levels: ReadLevels
  readonly #replication: Replication
  readonly #clock: ClockCheck
  readonly #ticks: Ticks
  readonly #skips: Skips | undefined
  #stopping = false
  #wrong: CMeshError | undefined
  #started: Promise<OpenReport> | undefined
  #stopped: Promise<void> | undefined
  #genesis: GenesisRecord | undefined

  constructor(parts: StateServiceParts) {
    const { store, engine, consensus, clock, member, log, guard, outbox, certificate } = parts
    const space = (name: string): Space => store.space(name)
    const metering = new Metering(engine, { get: key => space(SYSTEM_SPACE).get(key) })
    const confirm = (auth: AuthContext): void => { this.#confirm(auth) }
    const attester = { mesh: certificate?.mesh ?? member.did, node: member.did, sign: member.sign, certificate }
    this.#parts = parts
    this.#checkpoints = new Checkpoints({ store })
    const reads = new StateReads({ store, checkpoints: this.#checkpoints, attester, guard, confirm, clock })
    const later = (auth: AuthContext): Reply => jsonReply(this.#effects.later.list(readOperator(this.system) === auth.sub ? undefined : auth.sub))
    this.#views = new Views({
      store, engine, metering, guard, reads, later, confirm, clock, stats: this.stats, cache: parts.viewCache, gasLimit: parts.viewGas,
    })
    this.#checks = parts.readChecks && new ReadChecks({
      ...parts.readChecks, member, members: () => readMembers(this.system), confirm, run: this.#view, gasLimit: this.#views.gasLimit,
      applied: () => store.head.seq, clock, log,
    })
    this.#checking = parts.readChecks?.mode === 'none' ? undefined : this.#checks
    this.#clock = new ClockCheck({
      clock, offsets: () => this.#replication.offsets(), quorum: () => this.#replication.confirming(),
      shared: () => (parts.replication?.quorum === true && readMembers(this.system).length > 1 ? store.head.timeMs : undefined),
    })
    this.#proposer = new Proposer({
      consensus, index: this.#index, clock, member, reached: () => this.#replication.reached,
      // The first entry of an epoch comes before anybody could say that this clock is wrong: it leaves the log's time where it is.
      proposedMs: () => (this.#replication.hasStarted ? clock.nowMs() : Math.min(clock.nowMs(), store.head.timeMs)),
      check: batch => {
        this.#clock.check()
        if (!mayOrder(this.system, batch)) throw notListed()
      },
    })
    this.#writes = new Writes({
      engine, guard, outbox, member, clock, proposer: this.#proposer, system: this.system, durability: this.durability, stats: this.stats,
      refusal: () => this.#wrong ?? (this.#stopping && this.#applier.halted === undefined ? new CMeshError('CMESH_ROUTER_DRAINING') : undefined),
    })
    this.#levels = new ReadLevels({ applied: () => store.head.seq, barrier: deadlineMs => this.#proposer.barrier(deadlineMs), clock })
    this.#replication = new Replication({
      ...parts.replication ?? { bus: undefined, quorum: false, version: '', out: () => 0 },
      member, members: () => readMembers(this.system), level: store.durability, clock, log,
      onDiverged: others => { this.#differs(others) },
    })
    const { onDuty } = this.#replication
    this.#effects = new LogEffects({
      ...parts, space, system: space(SYSTEM_SPACE), metering, orderOwn: this.#writes.orderOwn, stats: this.stats,
      // What can order nothing could bring no answer back.
      onDuty: () => onDuty() && this.unableToOrder === undefined,
    })
    this.#ticks = new Ticks({ head: () => store.head, onDuty, order: deadlineMs => this.#proposer.barrier(deadlineMs), clock, log, tickMs: parts.tickMs })
    const skips = parts.skips && new Skips({ kept: parts.skips, system: this.system, log })
    this.#skips = skips
    this.#applier = new Applier({
      store,
      index: this.#index,
      handlers: {
        S: new DelayedTransactions(new ContractTransactions({ engine, space, metering })), R: new DelayedTransactions(parts.names),
        ...(parts.identities !== undefined && { I: parts.identities }),
      },
      ...(parts.authority !== undefined && { authority: parts.authority }),
      blockGas: seq => metering.begun ? metering.at(seq).transactionGas / BLOCK_SHARE : Infinity,
      seal: block => this.#checkpoints.seal(block),
      verifyMember: (batch, bytes) => mayOrder(this.system, batch) && verifyBatch(bytes, batch, member.verify),
      own: entry => isMember(this.system, member.did) ? this.#proposer.own(entry) : undefined,
      log,
      ...(skips !== undefined && { passes: skips.passes, stuck: (entry, error) => skips.halted(entry, error) }),
      onApplied: block => {
        this.stats.blocks++
        this.#views.changed(block)
        this.#levels.applied(block.seq)
        this.#checks?.applied(block.seq)
        parts.onApplied?.(block)
      },
      onDurable: (block, outcomes, head, asked) => { this.#durable(block, outcomes, head, asked) },
      onHalt: error => {
        this.#proposer.fail(error)
        this.#levels.fail(error)
        this.#checks?.fail(error)
        this.#effects.halt()
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

  /** Which of the members publishes for all; for the outbox. `undefined` where this node is alone. */
  get duty(): Duty | undefined {
    return this.#replication.duty
  }

  /** What the members hold; `undefined` where this node is alone. */
  get replicas(): ReplicationState | undefined {
    return this.#replication.state
  }

  /** How reads are checked among the members, and what came of it; `undefined` where this node is alone. */
  get readChecks(): Pick<ReadChecks, 'mode' | 'stats'> | undefined {
    return this.#checks
  }

  get halted(): CMeshError | undefined {
    return this.#applier.halted
  }

  /** Why nothing is ordered here now, though the log is whole and goes on; `undefined` where it is. */
  get unableToOrder(): CMeshError | undefined {
    try {
      this.#clock.check()
      return isMember(this.system, this.#parts.member.did) ? undefined : notListed()
    } catch (error) {
      return CMeshError.from(error, 'state')
    }
  }

  /** `CMESH_STATE_CLOCK` while this node's clock is not that of a quorum of other members: what is too late, and for how long a session holds, is not its to say. */
  readonly clockApart = (): CMeshError | undefined => this.#clock.apart()

  get pendingWrites(): number {
    return this.#proposer.pending
  }

  /** Carries the messages of contracts. Started once whom they are for can be reached; stopped with State. */
  get courier(): Pick<Courier, 'start' | 'flush' | 'pending' | 'stats'> {
    return this.#effects.courier
  }

  /** Makes delayed calls when they are due. Started once whom they are for can be reached; stopped with State. */
  get later(): Pick<LaterRunner, 'start' | 'list' | 'stats'> {
    return this.#effects.later
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

  /** Views that wait for a block are refused with `CMESH_ROUTER_DRAINING`, which another node takes up; the others are answered. For the beginning of a drain. */
  drainViews(): void {
    this.#levels.close(new CMeshError('CMESH_ROUTER_DRAINING'))
  }

  /** Resolves when the block is applied; `undefined` when it is. Rejects with `CMESH_ROUTER_TIMEOUT`. */
  applied(seq: number, deadlineMs: number): Promise<void> | undefined {
    return this.#levels.reached(seq, deadlineMs)
  }

  /**
   * Resolves once state is as fresh as a read asks for; `undefined` when it is, or was waited for. Rejects and throws as `ReadLevels.wait` does. Time goes by
   * meanwhile: the caller's context is to be confirmed behind it.
   */
  fresh(call: Call, auth: Pick<AuthContext, 'sub'>): Promise<void> | undefined {
    return call.fresh === true ? undefined : this.#levels.wait(call, auth.sub)?.then(() => { call.fresh = true })
  }

  /** A view, a contract's record, or what the system contract tells: `0xS:<contract>[:<function>[:<args>]]`; as fresh as the call asks for. */
  read(call: Call, auth: AuthContext, notes: HopNotes): Reply | Promise<Reply> {
    this.#confirm(auth)
    const fresh = this.fresh(call, auth)
    if (fresh === undefined) return this.#read(call, auth, notes)
    return fresh.then(() => {
      this.#confirm(auth)
      return this.#read(call, auth, notes)
    })
  }

  #read(call: Call, auth: AuthContext, notes: HopNotes): Reply | Promise<Reply> {
    return this.#checking === undefined ? this.#view(call, auth, notes) : this.#checking.read(call, auth, notes)
  }

  readonly #view: RunView = (call, auth, notes, exact) => this.#views.read(call, auth, notes, exact)

  /** A transaction: `0xSW:…`, orders on rights, and the Registrar's writes, which give the route in its final form. Resolves when it is durable. */
  write(call: Call, auth: AuthContext, notes: HopNotes, route: Route = call.route): Promise<Reply> {
    return this.#writes.write(call, auth, notes, route)
  }

  /**
   * Orders in this member's own name; `body` as JSON. Resolves when it is durable; rejects with its outcome's error, or as `write` does. Where nothing is ordered
   * before the other members were heard, it waits for them.
   */
  async orderOwn(fqmn: string, body: unknown): Promise<void> {
    await this.#hearClocks()
    await this.#writes.orderOwn(fqmn, body)
  }

  /** Refuses new writes, answers those under way, gives their events a while to get out, closes. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #start(genesis: () => Genesis): Promise<OpenReport> {
    try {
      const opening = new Opening({
        ...this.#parts, applier: this.#applier, checkpoints: this.#checkpoints, index: this.#index, skips: this.#skips, effects: this.#effects,
        writes: this.#writes, system: this.system, applied: seq => this.#levels.reached(seq, this.#parts.clock.nowMs() + EPOCH_DEADLINE_MS),
        onCaughtUp: head => {
          this.#replication.start(head)
          this.#parts.onCaughtUp?.()
        },
        clocksHeard: () => this.#hearClocks(),
      })
      const opened = await opening.run(genesis)
      this.#genesis = opened.genesis
      // Nothing is ordered before, and what moves log time on would only find that out.
      void this.#hearClocks().then(() => { if (!this.#stopping) this.#ticks.start() })
      this.#checks?.start()
      return opened.report
    } catch (error) {
      await this.stop()
      throw error
    }
  }

  /** Resolves when the members that have to confirm what is ordered have said what their clocks show, or that takes too long. */
  async #hearClocks(): Promise<void> {
    for (let waitedMs = 0; !this.#clock.hasHeard() && !this.#stopping && waitedMs < CLOCKS_MS; waitedMs += LOOK_MS) {
      await new Promise(resolve => { setTimeout(resolve, LOOK_MS) })
    }
  }

  #durable(block: Block, outcomes: readonly Outcome[], head: StateHead, asked: readonly Transaction[]): void {
    const { store, consensus, outbox, lastClaim } = this.#parts
    this.#proposer.durable(block.seq)
    outbox.add(block)
    this.#effects.takeUp(block)
    this.#replication.durable(head, outcomes.length === 0 ? undefined : () => { this.#proposer.settle(outcomes, asked) })
    // What is in memory alone has to be ordered again when the node starts.
    if (store.durability === 'memory') return
    consensus.trim?.(this.#replication.held(block.seq))
    const { epoch, seq } = head
    lastClaim?.write({ epoch, seq, chain: Buffer.from(head.chain).toString('hex'), timeMs: block.timeMs, ...(consensus.shared === true && { shared: true }) })
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
    await this.#checks?.stop()
    await this.#effects.stop()
    const drained = this.#applier.halted === undefined ? this.#proposer.drain() : Promise.resolve()
    await within(drained, this.#parts.drainMs ?? 5_000)
    await consensus.stop()
    await store.flush().catch(() => undefined)
    // What became durable is told its callers by now, and what waits for other members yet may wait for ever.
    await new Promise(told => { setImmediate(told) })
    this.#proposer.giveUp()
    this.#checkpoints.stop()
    await outbox.stop()
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
}

function notListed(): CMeshError {
  return new CMeshError('CMESH_STATE_NOT_MEMBER', { reason: 'the log does not list it' })
}

/**
 * The State service: reads run here and now, writes are proposed, ordered, executed and committed before they are answered.
 * It owns the store, the applier, the proposer, the view cache and the outbox; it knows nothing of NATS.
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
import { sha256 } from '../../cmtp/layer.ts'
import { formatMessageId, MessageIds } from '../../cmtp/message-id.ts'
import { argumentsOf, JSON_HEADERS, jsonReply, jsonTextReply, wireErrorReply, type Call, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import type { ConsensusProvider } from '../consensus/provider.ts'
import { encodeGenesis, readGenesis, type Genesis, type GenesisRecord } from '../contracts/genesis.ts'
import type { ContractEngine } from '../contracts/provider.ts'
import { contractRecord, deployedModules } from '../contracts/records.ts'
import { contractError, ContractTransactions } from '../contracts/transactions.ts'
import type { HopNotes } from '../endpoint.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Log } from '../log.ts'
import { Applier } from './applier.ts'
import type { Outbox } from './outbox.ts'
import { Proposer } from './proposer.ts'
import type { Block, OpenReport, Space, StateHead, StateStore } from './provider.ts'
import { SYSTEM_SPACE, type TransactionHandler } from './transaction.ts'
import { TransactionIndex, type Outcome } from './transaction-index.ts'
import { ViewCache, type ContractVersion, type ViewCacheOptions } from './view-cache.ts'

/** Blocks with events that may wait for the events provider; past it writes are refused until it catches up. */
const OUTBOX_LIMIT = 4_096

export interface StateServiceParts {
  readonly store: StateStore
  readonly consensus: ConsensusProvider
  readonly engine: ContractEngine
  readonly guard: Pick<Guard, 'confirm'>
  readonly outbox: Outbox
  /** Executes the Registrar's transactions. */
  readonly names: TransactionHandler
  readonly member: { readonly did: string, sign(bytes: Uint8Array): Uint8Array, verify(did: string, bytes: Uint8Array, signature: Uint8Array): boolean }
  readonly clock: Clock
  readonly log: Log
  readonly viewCache?: ViewCacheOptions
  /** Called once when state stops for good. */
  readonly onHalt: (error: CMeshError) => void
}

export interface StateStats {
  views: number
  viewHits: number
  transactions: number
  blocks: number
}

export class StateService {
  readonly stats: StateStats = { views: 0, viewHits: 0, transactions: 0, blocks: 0 }
  readonly #parts: StateServiceParts
  readonly #index = new TransactionIndex()
  readonly #applier: Applier
  readonly #proposer: Proposer
  readonly #cache: ViewCache
  readonly #versions = new Map<string, ContractVersion>()
  #started: Promise<OpenReport> | undefined
  #stopped: Promise<void> | undefined
  #genesis: GenesisRecord | undefined

  constructor(parts: StateServiceParts) {
    const { store, engine, consensus, clock, member, log } = parts
    this.#parts = parts
    this.#cache = new ViewCache(parts.viewCache)
    this.#proposer = new Proposer({ consensus, index: this.#index, clock, member })
    this.#applier = new Applier({
      store,
      index: this.#index,
      handlers: { S: new ContractTransactions({ engine, space: name => store.space(name) }), R: parts.names },
      verifyMember: (did, bytes, signature) => this.#isMember(did) && member.verify(did, bytes, signature),
      log,
      onApplied: block => { this.#changed(block) },
      onDurable: (block, outcomes) => {
        this.#proposer.settle(outcomes)
        parts.outbox.add(block)
      },
      onHalt: error => {
        this.#proposer.fail(error)
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

  /** A view, or a contract's manifest: `0xS:<contract>[:<function>[:<args>]]`. */
  read(call: Call, auth: AuthContext, notes: HopNotes): Reply {
    this.#parts.guard.confirm(auth)
    if (this.#applier.halted !== undefined) throw new CMeshError('CMESH_STATE_HALTED', { reason: this.#applier.halted.code })
    const head = this.#parts.store.head
    notes.before = head
    this.stats.views++
    const cacheable = call.body.length === 0
    if (cacheable) {
      const hit = this.#cache.get(call.route, auth.sub, head.seq)
      if (hit !== undefined) {
        this.stats.viewHits++
        return hit
      }
    }
    return this.#view(call, auth, head, cacheable, notes)
  }

  /** A transaction: `0xSW:…`, and the Registrar's writes, which give the route in its final form. Resolves when it is durable. */
  async write(call: Call, auth: AuthContext, notes: HopNotes, route: Route = call.route): Promise<Reply> {
    this.#parts.guard.confirm(auth)
    if (route.service === 'S') this.#checkWritable(route)
    if (this.#parts.outbox.pending > OUTBOX_LIMIT) {
      throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'the outbox of events', limit: OUTBOX_LIMIT, retryAfterMs: 1_000 })
    }
    const id = formatMessageId(call.id)
    call.proposed = true
    const outcome = await this.#proposer.submit({
      id,
      sub: auth.sub,
      sid: auth.sid,
      jti: auth.jti,
      grantSeq: 0,
      fqmn: route.text,
      // The frame's memory is the broker connection's; the transaction outlives it.
      body: call.body.length === 0 ? call.body : Uint8Array.from(call.body),
      deadlineMs: call.deadlineMs,
    })
    this.stats.transactions++
    notes.gas = outcome.gas
    notes.before = outcome.span?.before
    notes.after = outcome.span?.after
    return this.#replyOf(outcome)
  }

  /** Refuses new writes, answers those under way, gives their events a while to get out, closes. Idempotent. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #start(genesis: () => Genesis): Promise<OpenReport> {
    const { store, consensus, engine, outbox } = this.#parts
    try {
      const report = await store.open(block => {
        this.#applier.restore(block)
        outbox.add(block)
      })
      const system = store.space(SYSTEM_SPACE)
      for (const [address, module] of deployedModules(system)) engine.install(address, module, store.space(address))
      await consensus.start(store.head, this.#applier.apply)
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
    const { clock } = this.#parts
    const outcome = await this.#proposer.submit({
      id: formatMessageId(new MessageIds(clock.nowMs).next()),
      sub: genesis.operator,
      sid: '',
      jti: '',
      grantSeq: 0,
      fqmn: `0xSW:${SYSTEM_SPACE}:genesis`,
      body: encodeGenesis(genesis),
      deadlineMs: clock.nowMs() + 30_000,
    })
    if (outcome.status >= 400) throw CMeshError.fromWire(JSON.parse(Buffer.from(outcome.output).toString('utf8')))
  }

  async #stop(): Promise<void> {
    const { consensus, outbox, store, engine } = this.#parts
    if (this.#applier.halted === undefined) await this.#proposer.drain()
    await consensus.stop()
    await outbox.stop()
    await store.close()
    engine.close()
  }

  #view(call: Call, auth: AuthContext, head: StateHead, cacheable: boolean, notes: HopNotes): Reply {
    const { route } = call
    const [contract = '', name] = route.segments
    if (name === undefined) return this.#manifest(contract)
    const abi = this.#parts.engine.abi(contract)
    if (abi === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract })
    const declared = abi.functions.find(f => f.name === name)
    if (declared === undefined) throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract, function: name })
    if (declared.mode !== 'view') throw new CMeshError('CMESH_STATE_NOT_A_VIEW', { contract, function: name })
    const result = this.#parts.engine.call({
      address: contract,
      function: name,
      input: argumentsOf(call),
      view: true,
      context: { seq: head.seq, timeMs: head.timeMs, caller: auth.sub },
    })
    notes.gas = result.gas
    if (!result.ok) throw contractError(contract, name, result.failure, result.reason)
    const reply: Reply = { status: 200, headers: JSON_HEADERS, body: result.output, bodyHash: sha256(result.output) }
    if (cacheable) this.#cache.set(route, auth.sub, head.seq, result.observed, this.#version(contract), reply)
    return reply
  }

  #manifest(contract: string): Reply {
    if (contract === SYSTEM_SPACE) return jsonReply({ address: SYSTEM_SPACE, functions: ['deploy'], genesis: this.genesis })
    return jsonReply({ ...contractRecord(this.system, contract), abi: this.#parts.engine.abi(contract) })
  }

  /** Refuses a write that can only fail, before it costs a place in the log. */
  #checkWritable(route: Route): void {
    const [contract = '', name] = route.segments
    if (contract === SYSTEM_SPACE) {
      if (name !== 'deploy') throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract, function: name ?? '(none)' })
      return
    }
    const abi = this.#parts.engine.abi(contract)
    if (abi === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract })
    const declared = abi.functions.find(f => f.name === name)
    if (declared === undefined || declared.mode === 'init') throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract, function: name ?? '(none)' })
  }

  #replyOf(outcome: Outcome): Reply {
    const headers = [
      ['x-cmesh-durability', this.#parts.store.durability],
      ['x-cmesh-sequence', String(outcome.seq)],
      ['x-cmesh-transaction', outcome.id],
    ] as const
    if (outcome.status < 400) return jsonTextReply(outcome.output, headers, outcome.status)
    const error = CMeshError.fromWire(JSON.parse(Buffer.from(outcome.output).toString('utf8')))
    return wireErrorReply(outcome.status, error.toWire(), headers)
  }

  #changed(block: Block): void {
    this.stats.blocks++
    for (const transaction of block.transactions) {
      for (const { space } of transaction.writes) this.#version(space).value++
    }
  }

  #version(space: string): ContractVersion {
    let version = this.#versions.get(space)
    if (version === undefined) {
      version = { value: 0 }
      this.#versions.set(space, version)
    }
    return version
  }

  /** Before genesis is applied, the node that makes the beginning is the only member there is. */
  #isMember(did: string): boolean {
    this.#genesis ??= readGenesis(this.system)
    return this.#genesis === undefined ? did === this.#parts.member.did : this.#genesis.members.includes(did)
  }
}

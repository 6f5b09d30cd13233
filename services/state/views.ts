/**
 * Reads of state: views of contracts, and what is told of the contracts themselves. They run on the last applied block, here and now
 * or as soon as it is their caller's turn (`turns.ts`), under a gas limit of this node's own, and are remembered while nothing they
 * were made from has changed.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { sha256 } from '../../cmtp/layer.ts'
import type { Call, Reply } from '../call.ts'
import { DryRun } from '../contracts/dry-run.ts'
import { isMeterKey, type Metering } from '../contracts/metering.ts'
import type { ContractContext, ContractEngine, Observed } from '../contracts/provider.ts'
import { isContractKey } from '../contracts/records.ts'
import { contractReply, systemReply } from '../contracts/system-reads.ts'
import type { Clock } from '../clock.ts'
import type { HopNotes } from '../endpoint.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import { ArgumentBytes } from './argument-bytes.ts'
import type { Block, StateHead, StateStore } from './provider.ts'
import { STATE_READS, type StateReads } from './state-reads.ts'
import { SYSTEM_SPACE } from './transaction.ts'
import { Turns } from './turns.ts'
import { newest, ViewCache, type ContractVersion, type ViewCacheOptions } from './view-cache.ts'
import { callView, failedView, viewSeed, VIEW_GAS } from './view-run.ts'
import { ViewTargets } from './view-targets.ts'

export interface ViewsParts {
  readonly store: Pick<StateStore, 'head' | 'space'>
  readonly engine: ContractEngine
  readonly metering: Metering
  readonly guard: Pick<Guard, 'authorise'>
  readonly reads: Pick<StateReads, 'read'>
  /** The calls that are due later, as the caller may see them. */
  readonly later: (auth: AuthContext) => Reply
  /** Throws when the caller may no longer read, or nobody may. */
  readonly confirm: (auth: AuthContext) => void
  readonly clock: Pick<Clock, 'nowMs'>
  /** Counted here. */
  readonly stats: ViewStats
  readonly cache?: ViewCacheOptions | undefined
  /** Most gas one view may use. Default 2,000,000. */
  readonly gasLimit?: number | undefined
}

export interface ViewStats {
  views: number
  viewHits: number
  /** Gas that views used, those from the cache not counted. */
  viewGas: number
  /** Views and transactions that ended in a contract's failure. */
  contractFailures: number
}

/** Asks for a view with the stretch of the log on which its result is this one; `from` and `to` are set when it ran, or failed. */
export interface ExactView {
  from: number
  to: number
  /** Most gas it may use; at most this node's own limit. */
  readonly gasLimit: number
}

export class Views {
  readonly #parts: ViewsParts
  /** Most gas that one view may use here. */
  readonly gasLimit: number
  readonly #dryRun: DryRun
  readonly #turns = new Turns()
  readonly #cache: ViewCache
  readonly #arguments = new ArgumentBytes()
  readonly #versions = new Map<string, ContractVersion>()
  readonly #targets: ViewTargets
  /** The last block that changed code or costs, or one behind it where that is not known. */
  #codeSeq: number | undefined
  #seed: { readonly chain: Uint8Array, readonly seed: Uint8Array } | undefined
  #context: { readonly head: StateHead, readonly context: ContractContext } | undefined

  constructor(parts: ViewsParts) {
    const { engine, metering, guard, store } = parts
    this.#parts = parts
    this.gasLimit = parts.gasLimit ?? VIEW_GAS
    this.#cache = new ViewCache(parts.cache)
    this.#targets = new ViewTargets(engine, !this.#cache.keeps)
    this.#dryRun = new DryRun({ engine, metering, guard, space: name => store.space(name), head: () => store.head })
  }

  /** Answers at once, but for a dry run and for code that has to wait for its turn. The caller's context was confirmed. */
  read(call: Call, auth: AuthContext, notes: HopNotes, exact?: ExactView): Reply | Promise<Reply> {
    const { route } = call
    // What was asked before says all that is to know in what hangs on its route: nothing else of the address is looked at.
    const asked = route.kept?.owner
    const known = asked === this.#targets || asked === this.#cache
    if (!known && isLater(route)) return this.#parts.later(auth)
    const { stats } = this.#parts
    stats.views++
    const hit = this.#cached(call, auth, notes, exact)
    if (hit !== undefined) return hit
    if (!known && route.segments[0] === SYSTEM_SPACE) return this.#system(call, auth)
    if (!known && route.segments.length === 1) return contractReply(this.#parts.store.space(SYSTEM_SPACE), this.#parts.engine, route.segments[0] as string)
    return this.#run(call, auth, notes, exact)
  }

  /** Here and now, or when it is the caller's turn. */
  #run(call: Call, auth: AuthContext, notes: HopNotes, exact: ExactView | undefined): Reply | Promise<Reply> {
    const { confirm, clock } = this.#parts
    if (this.#turns.free) return this.#view(call, auth, notes, exact)
    return this.#turns.take(auth.sub, () => {
      // Time went by, in which anything may have changed.
      confirm(auth)
      if (call.deadlineMs < clock.nowMs()) throw new CMeshError('CMESH_ROUTER_DEADLINE')
      return this.#cached(call, auth, notes, exact) ?? this.#view(call, auth, notes, exact)
    })
  }

  #system(call: Call, auth: AuthContext): Reply | Promise<Reply> {
    const system = this.#parts.store.space(SYSTEM_SPACE)
    const [contract = '', name] = call.route.segments
    if (name === undefined) return contractReply(system, this.#parts.engine, contract)
    if (STATE_READS.includes(name)) return this.#parts.reads.read(name, call, auth)
    return name === 'dryrun' ? this.#dryRun.read(call, auth) : systemReply(system, name, call.route)
  }

  /** What was made for it before, where that still stands. */
  #cached(call: Call, auth: AuthContext, notes: HopNotes, exact: ExactView | undefined): Reply | undefined {
    const { head } = this.#parts.store
    notes.before = head
    if (exact !== undefined) this.#place(exact, call.route, head.seq)
    if (call.body.length > 0 || (exact !== undefined && exact.gasLimit !== this.gasLimit)) return undefined
    const hit = this.#cache.get(call.route, auth.sub, head.seq, exact)
    if (hit !== undefined && exact !== undefined) exact.from = Math.max(exact.from, this.#codeSeq ?? 0)
    if (hit !== undefined) this.#parts.stats.viewHits++
    return hit
  }

  /** What a read of the mesh's own records, or one that fails before any code runs, is good for. */
  #place(exact: ExactView, { segments }: Route, seq: number): void {
    this.#codeSeq ??= seq
    exact.to = seq
    // A value as it is kept comes with the sequence and the time it was read at.
    exact.from = segments[1] === 'get' && segments[0] === SYSTEM_SPACE ? seq : Math.max(this.#codeSeq, this.#version(SYSTEM_SPACE).seq)
  }

  /** A block is applied: what was made from what it changed is forgotten. */
  changed(block: Block): void {
    let everything = false
    for (const transaction of block.transactions) {
      for (const { space, key } of transaction.writes) {
        const version = this.#version(space)
        version.value++
        version.seq = block.seq
        // Other code, or other costs: what a view gave says nothing any more, its own contract's or another's that runs the same code.
        if (space === SYSTEM_SPACE && (isContractKey(key) || isMeterKey(key))) everything = true
      }
    }
    if (!everything) return
    this.#cache.clear()
    this.#targets.clear()
    this.#codeSeq = block.seq
  }

  #view(call: Call, auth: AuthContext, notes: HopNotes, exact: ExactView | undefined): Reply {
    const { engine, metering, stats, store: { head } } = this.#parts
    const gasLimit = exact?.gasLimit ?? this.gasLimit
    const target = this.#targets.of(call.route)
    const result = callView(engine, metering, {
      address: target.contract, function: target.name, input: this.#arguments.of(call), gasLimit, context: this.#contextOf(head, auth.sub),
    })
    target.ran(result)
    notes.gas = target.gasNote
    stats.viewGas += result.gas
    this.#turns.spend(result.gas)
    if (exact !== undefined) exact.from = result.observed.clock ? head.seq : Math.max(this.#codeSeq ?? 0, newest(this.#versionsOf(result.observed)))
    if (!result.ok) {
      stats.contractFailures++
      return failedView(result)
    }
    const { headers } = target
    if (!this.#cache.keeps || call.body.length > 0 || gasLimit !== this.gasLimit) return new ViewReply(headers, result.output)
    // A copy, which keeps nothing but itself.
    const reply = new ViewReply(headers, result.output.slice())
    this.#cache.set(call.route, auth.sub, head.seq, result.observed, this.#versionsOf(result.observed), reply)
    return reply
  }

  /** The context of every view of a caller on a head. */
  #contextOf(head: StateHead, caller: string): ContractContext {
    if (this.#context?.head !== head || this.#context.context.caller !== caller) {
      this.#context = { head, context: { seq: head.seq, timeMs: head.timeMs, caller, origin: caller, seed: this.#seedOf(head) } }
    }
    return this.#context.context
  }

  /** The seed of every view on this head. */
  #seedOf({ chain }: StateHead): Uint8Array {
    if (this.#seed?.chain !== chain) this.#seed = { chain, seed: viewSeed(chain) }
    return this.#seed.seed
  }

  /** Of the contracts that are there: one that is not yet makes everything forgotten when it comes. */
  #versionsOf({ spaces }: Observed): readonly ContractVersion[] {
    return spaces.filter(space => this.#parts.engine.has(space)).map(space => this.#version(space))
  }

  #version(space: string): ContractVersion {
    let version = this.#versions.get(space)
    if (version === undefined) {
      version = { value: 0, seq: this.#parts.store.head.seq }
      this.#versions.set(space, version)
    }
    return version
  }
}

function isLater({ segments }: Route): boolean {
  return segments[0] === SYSTEM_SPACE && segments[1] === 'later'
}

/** A view's result. Its hash is made when somebody asks for it, and once, however many requests it answers. */
class ViewReply implements Reply {
  readonly status = 200
  readonly headers: Uint8Array
  readonly body: Uint8Array
  #bodyHash: string | undefined

  constructor(headers: Uint8Array, body: Uint8Array) {
    this.headers = headers
    this.body = body
  }

  get bodyHash(): string {
    return this.#bodyHash ??= sha256(this.body)
  }
}

/**
 * How State comes up: the log is read back and held against what this node has said of it, the order is taken up where the log ends (what
 * the order has no more comes from other members), an empty mesh gets its beginning, and a newcomer becomes a member.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { encodeGenesis, readGenesis, readMesh, type Genesis, type GenesisRecord } from '../contracts/genesis.ts'
import { EPOCH_FQMN } from '../contracts/epochs.ts'
import { GENESIS_FQMN, isMember, JOIN_FQMN, readMembers } from '../contracts/members.ts'
import { SKIPPED_FQMN } from '../contracts/skips.ts'
import type { LogBefore, LogEntry, LogHead } from '../consensus/provider.ts'
import type { Applier } from './applier.ts'
import type { Checkpoints } from './checkpoints.ts'
import { ClaimCheck } from './last-claim.ts'
import type { LogEffects } from './log-effects.ts'
import type { Block, OpenReport, Recollection, Space, StateHead } from './provider.ts'
import type { StateServiceParts } from './service-parts.ts'
import type { Skips } from './skips.ts'
import type { TransactionIndex } from './transaction-index.ts'
import type { Writes } from './writes.ts'

export interface OpeningParts extends Pick<StateServiceParts, 'store' | 'consensus' | 'outbox' | 'lastClaim' | 'catchUp' | 'vouch' | 'member' | 'certificate' | 'log'> {
  readonly applier: Pick<Applier, 'restore' | 'apply' | 'stepped' | 'halted'>
  readonly skips: Pick<Skips, 'unrecorded'> | undefined
  readonly checkpoints: Pick<Checkpoints, 'restore' | 'needs' | 'start'>
  readonly index: Pick<TransactionIndex, 'since'>
  readonly effects: Pick<LogEffects, 'install'>
  readonly writes: Pick<Writes, 'order' | 'orderOwn'>
  readonly system: Pick<Space, 'get'>
  /** Resolves when the block of that sequence is applied. */
  readonly applied: (seq: number) => Promise<void> | undefined
  /**
   * Called once the log stands where the order does and is durable up to `head`, before anything of this node's own is ordered but the
   * beginning of an epoch.
   */
  readonly onCaughtUp: (head: StateHead) => void
  /** Resolves when this node's clock can be held against those of the others, or that takes too long. */
  readonly clocksHeard: () => Promise<void>
}

export interface Opened {
  readonly report: OpenReport
  readonly genesis: GenesisRecord
}

export class Opening {
  readonly #parts: OpeningParts
  readonly #claim: ClaimCheck

  constructor(parts: OpeningParts) {
    this.#parts = parts
    this.#claim = new ClaimCheck(parts.store.durability === 'memory' ? undefined : parts.lastClaim?.read())
  }

  /** Once. Rejects with what keeps the mesh from coming up; whoever called then closes what was opened. */
  async run(genesis: () => Genesis): Promise<Opened> {
    const { store, checkpoints, effects, outbox, system, vouch } = this.#parts
    const { report, newest } = await this.#readBack()
    this.#claim.checkChain()
    if (this.#parts.consensus.shared !== true) this.#claim.checkAlone(this.#others())
    effects.install()
    await this.#takeUpStep()
    const vouched = await this.#takeIn(onBlock => vouch?.(onBlock))
    await this.#takeUpOrder(vouched ?? newest)
    const { halted } = this.#parts.applier
    if (halted !== undefined) throw halted
    this.#claim.check(store.head.seq)
    outbox.goesOnBehind(store.head.seq)
    checkpoints.start()
    const opening = this.#openEpoch()
    if (opening !== undefined) {
      // Nobody takes up this log, to go on in the epoch, before that has its first entry.
      await Promise.race([opening, this.#parts.applied(store.head.seq + 1)])
    }
    // What the order had for this node is applied and may be under way to the disk yet, and more of it may come meanwhile.
    const { head } = store
    await store.flush()
    this.#parts.onCaughtUp(head)
    await opening
    if (store.head.seq === 0) await this.#begin(genesis())
    const found = readGenesis(system)
    if (found === undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log does not start with it' })
    await this.#join()
    void this.#recordSkips()
    return { report, genesis: found }
  }

  async #readBack(): Promise<{ readonly report: OpenReport, readonly newest: Block | undefined }> {
    const { store, applier, checkpoints, outbox } = this.#parts
    const claim = this.#claim
    let newest: Block | undefined
    const report = await store.open((block, at) => {
      applier.restore(block, at)
      checkpoints.restore(block, at)
      outbox.add(block)
      claim.see(store.head)
      newest = block
    }, { since: () => this.#since(), sees: claim.claimed })
    return { report, newest }
  }

  /** How far the last block moved the log's time bounds how far the next one may. */
  async #takeUpStep(): Promise<void> {
    const { store, applier } = this.#parts
    const { seq, timeMs } = store.head
    if (seq > 1) await store.readBack?.(seq - 1, seq - 1, before => { applier.stepped(timeMs - before.timeMs) })
  }

  async #takeUpOrder(newest: Block | undefined): Promise<void> {
    const { store, applier, consensus, catchUp } = this.#parts
    const claim = this.#claim
    const { seq, chain } = store.head
    const epoch = claim.epochBehind(store.head)
    const from = {
      epoch, seq, chain, begun: seq > 0 && epoch === store.head.epoch,
      ...(newest !== undefined && { data: newest.message }),
      ...(claim.claimed > seq && { claimed: claim.claimed }),
    }
    await consensus.start(from, entry => {
      applier.apply(entry)
      claim.see(store.head)
    }, catchUp && ((upTo, before) => this.#catchUp(upTo, before)))
  }

  /** Members that the log lists beside this node. */
  #others(): number {
    const { system, member } = this.#parts
    return readMembers(system).filter(did => did !== member.did).length
  }

  /** From where blocks have to be seen again: outcomes that are remembered, events that are not out, and the last checkpoint. */
  #since(): Recollection | undefined {
    const { index: { since }, outbox: { oldest }, checkpoints: { needs } } = this.#parts
    return since !== undefined && Math.min(oldest ?? Infinity, needs ?? Infinity) >= since.seq ? since : undefined
  }

  /**
   * Before the order is taken up: blocks of other members come into the log as if they had been read back, or what the order begins behind is
   * executed as if it had come from there.
   */
  async #catchUp(upTo: number, begins: LogBefore | undefined): Promise<LogHead> {
    const { store, applier, catchUp } = this.#parts
    let executed: LogEntry | undefined
    const begun = begins && {
      before: begins,
      execute: (entry: LogEntry) => {
        applier.apply(executed = entry)
        this.#claim.see(store.head)
        if (applier.halted !== undefined) throw applier.halted
      },
    }
    const newest = await this.#takeIn(onBlock => catchUp?.(upTo, onBlock, begun))
    const { epoch, seq, chain } = store.head
    const data = newest?.message ?? executed?.data
    return { epoch, seq, chain, begun: seq > 0, ...(data !== undefined && { data }) }
  }

  /** Blocks that `take` brings are remembered as those are that were read back. Resolves with the newest one. */
  async #takeIn(take: (onBlock: (block: Block) => void) => Promise<unknown> | undefined): Promise<Block | undefined> {
    const { store, applier, checkpoints, effects, outbox } = this.#parts
    let newest: Block | undefined
    let before: StateHead = store.head
    await take(block => {
      applier.restore(block, { before, skip: 0 })
      checkpoints.restore(block, { before })
      outbox.passed(block)
      this.#claim.see(before = store.head)
      newest = block
    })
    if (newest === undefined) return undefined
    effects.install()
    await this.#takeUpStep()
    return newest
  }

  /** Puts the epoch on record where the log has no entry of it yet. */
  #openEpoch(): Promise<void> | undefined {
    const { store: { head }, consensus, member: { did }, system, writes } = this.#parts
    if (head.seq === 0 || consensus.status().epoch <= head.epoch || !isMember(system, did)) return undefined
    return writes.orderOwn(EPOCH_FQMN, {})
  }

  async #begin(genesis: Genesis): Promise<void> {
    try {
      await this.#parts.writes.order(genesis.operator, GENESIS_FQMN, encodeGenesis(genesis))
    } catch (error) {
      // Another node began it a moment before.
      if (!(error instanceof CMeshError) || error.code !== 'CMESH_STATE_NOT_MEMBER' || readGenesis(this.#parts.system) === undefined) throw error
    }
  }

  /** Nobody waits for it: a quorum of those that passed the same may not be there yet. The next start tries again. */
  async #recordSkips(): Promise<void> {
    const { skips, store, writes, log, clocksHeard } = this.#parts
    try {
      await clocksHeard()
      for (const skip of await skips?.unrecorded(store) ?? []) await writes.orderOwn(SKIPPED_FQMN, skip)
    } catch (error) {
      log.warn({ err: error }, 'an entry that was passed could not be put on record')
    }
  }

  /** Makes this node a member where it is none yet. */
  async #join(): Promise<void> {
    const { member: { did }, certificate, system, writes, clocksHeard } = this.#parts
    const [found = '', wanted] = [readMesh(system), certificate?.mesh ?? did]
    if (isMember(system, did)) return
    await clocksHeard()
    if (certificate === undefined) throw new CMeshError('CMESH_STATE_NOT_MEMBER', { reason: 'the log does not list it, and it has no certificate' })
    if (found !== wanted) throw new CMeshError('CMESH_STATE_OTHER_MESH', { found, wanted })
    await writes.orderOwn(JOIN_FQMN, certificate)
  }
}

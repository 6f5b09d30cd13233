/**
 * State as it was at a place of a log, with the code that was in force there, to run again what was asked then. It follows the state that the
 * blocks of the log amount to; what a run writes lies over that and is taken off again, so that every run finds what was recorded, whatever
 * the one before came to.
 *
 * Invariant: it changes nothing of the state that it follows.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { ContractPackage } from '../../cmtp/package.ts'
import { installDeployed } from '../contracts/deployments.ts'
import { ContractExecution } from '../contracts/execution.ts'
import { Metering } from '../contracts/metering.ts'
import { Overlay } from '../contracts/overlay.ts'
import type { ContractEngine, ContractResult } from '../contracts/provider.ts'
import { addressOf, contractKeys, contractRecord, isContractKey } from '../contracts/records.ts'
import { ContractTransactions } from '../contracts/transactions.ts'
import { IdentityTransactions } from '../iam/transactions.ts'
import { DelayedTransactions } from '../later/records.ts'
import { NameTransactions } from '../registrar/transactions.ts'
import { OrderedAuthority } from '../state/authority.ts'
import { decodeBatch, movesBySteps, type Transaction } from '../state/batch.ts'
import { BLOCK_BYTES, BLOCK_OVERHEAD_BYTES, recordBytes } from '../state/block.ts'
import type { Block, Space, StateHead, TransactionRecord, Write } from '../state/provider.ts'
import { Recorder, SYSTEM_SPACE } from '../state/transaction.ts'
import { TransactionRun } from '../state/transaction-run.ts'
import { runView, viewSeed, type ViewRun } from '../state/view-run.ts'

/** What the blocks taken so far amount to. */
export interface PastState {
  readonly head: StateHead
  space(name: string): Space
}

/** Code to run in the place of what was in force. */
export interface OtherCode {
  readonly pkg: ContractPackage
  /** Addresses whose code it takes the place of, where they are deployed already; none for those of the package's name. */
  readonly contracts: (system: Space) => readonly string[]
}

/** A transaction of a block, run again. */
export interface RunAgain {
  readonly transaction: Transaction
  /** What the log says of it. */
  readonly recorded: TransactionRecord
  readonly replayed: TransactionRecord
}

export class Past {
  readonly #engine: ContractEngine
  readonly #state: PastState
  readonly #code: OtherCode | undefined
  readonly #overlays = new Map<string, Overlay>()
  readonly #metering: Metering
  readonly #execution: ContractExecution
  readonly #run: TransactionRun
  #installed: readonly string[] = []
  /** Where the other code runs, and what it does first. */
  #replaced: readonly { readonly address: string, readonly migrate: string | undefined }[] = []
  /** Whether the engine may have other code than is in force. */
  #stale = true

  /** The engine is this one's alone. */
  constructor(engine: ContractEngine, state: PastState, code?: OtherCode) {
    this.#engine = engine
    this.#state = state
    this.#code = code
    const space = (name: string): Overlay => this.space(name)
    this.#metering = new Metering(engine, { get: key => space(SYSTEM_SPACE).get(key) })
    this.#execution = new ContractExecution(engine, space, this.#metering)
    this.#run = new TransactionRun({
      handlers: {
        S: new DelayedTransactions(new ContractTransactions({ engine, space, metering: this.#metering })), R: new DelayedTransactions(new NameTransactions()),
        I: new IdentityTransactions(),
      },
      authority: new OrderedAuthority(), space,
    })
  }

  get head(): StateHead {
    return this.#state.head
  }

  get engine(): Pick<ContractEngine, 'abi'> {
    return this.#engine
  }

  /** The keys of a contract as they are at the head. */
  readonly space = (name: string): Overlay => {
    let overlay = this.#overlays.get(name)
    if (overlay === undefined) this.#overlays.set(name, overlay = new Overlay(this.#state.space(name)))
    return overlay
  }

  /** Runs views at the head: with the code in force there, or the other in its place. `view` throws what `runView` does. */
  views<T>(work: (view: (run: ViewRun) => ContractResult) => T): T {
    const { head } = this.#state
    try {
      return this.#coded(head.seq + 1, head.timeMs, () => work(run => runView(this.#engine, this.#metering, head, viewSeed(head.chain), run)))
    } finally {
      this.#takeOff()
    }
  }

  /** Of the block that comes next, runs those transactions again that are `wanted`; of the others what is recorded is taken up. */
  block(block: Block, wanted: (id: string) => boolean, each: (run: RunAgain) => void): void {
    const { head } = this.#state
    const { epoch, seq, timeMs, message } = block
    const { transactions, proposedMs } = decodeBatch(message)
    const place = { seq, timeMs, chain: head.chain, ...(epoch > head.epoch && { begins: epoch }), dueMs: movesBySteps(message) ? proposedMs : timeMs }
    let bytes = BLOCK_OVERHEAD_BYTES + message.length
    try {
      for (const [i, recorded] of block.transactions.entries()) {
        // Of two with one id the first was executed.
        const transaction = wanted(recorded.id) ? transactions.find(({ id }) => id === recorded.id) : undefined
        if (transaction !== undefined) {
          const room = BLOCK_BYTES - bytes
          const replayed = this.#coded(seq, timeMs, () => {
            this.#run.begin(place)
            return this.#run.execute(transaction, room)
          })
          each({ transaction, recorded, replayed })
          this.#takeOff()
          for (const before of block.transactions.slice(0, i)) this.#put(before.writes)
        }
        this.#put(recorded.writes)
        bytes += recordBytes(recorded)
      }
    } finally {
      this.#takeOff()
    }
  }

  /** The state has taken in a block. To be told of each from the first on that something was run at. */
  took(block: Block): void {
    for (const { writes } of block.transactions) for (const { space, key } of writes) this.#changed(space, key)
  }

  #coded<T>(seq: number, timeMs: number, work: () => T): T {
    if (this.#metering.begun) this.#metering.at(seq)
    const system = this.space(SYSTEM_SPACE)
    if (this.#stale) this.#install(system)
    if (this.#code !== undefined && this.#replaced.length === 0) {
      throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: `${this.#code.pkg.manifest.name} at block ${seq}` })
    }
    for (const { address, migrate } of this.#replaced) if (migrate !== undefined) this.#migrate(address, migrate, { seq, timeMs }, system)
    return work()
  }

  /** Gives the engine the code that is in force, and the other in its place. */
  #install(system: Space): void {
    for (const address of this.#installed) this.#engine.remove(address)
    installDeployed(this.#engine, system, this.space)
    this.#installed = [...contractKeys(system)].map(addressOf)
    this.#replaced = (this.#code?.contracts(system) ?? []).map(address => {
      const { functions } = this.#engine.install(address, (this.#code as OtherCode).pkg.module, this.space(address))
      return { address, migrate: functions.find(({ mode }) => mode === 'migrate')?.name }
    })
    this.#stale = false
  }

  /** What other code does first in a contract's place, as when it is replaced in earnest; it is taken off again with all else. */
  #migrate(address: string, name: string, { seq, timeMs }: { readonly seq: number, readonly timeMs: number }, system: Space): void {
    const { manifest, deployer } = contractRecord(system, address)
    this.#execution.begin(seq)
    const ended = this.#execution.run({
      address, function: name, input: Buffer.from(JSON.stringify([manifest.version])), caller: deployer, origin: deployer,
      gasLimit: this.#execution.meter.transactionGas, tx: NO_TRANSACTION,
    }, { seq, timeMs, chain: this.#state.head.chain, system: new Recorder(SYSTEM_SPACE, system) })
    if (ended.status >= 400) throw CMeshError.fromWire(JSON.parse(Buffer.from(ended.output).toString('utf8')))
  }

  /** Puts what is recorded over the state. */
  #put(writes: readonly Write[]): void {
    for (const { space, key, value } of writes) {
      if (value === undefined) this.space(space).delete(key)
      else this.space(space).set(key, value)
      this.#changed(space, key)
    }
  }

  #takeOff(): void {
    for (const [name, overlay] of this.#overlays) for (const key of overlay.reset()) this.#changed(name, key)
  }

  #changed(space: string, key: string): void {
    if (space === SYSTEM_SPACE && isContractKey(key)) this.#stale = true
    this.#engine.changed(space, key)
  }
}

const NO_TRANSACTION = '0'.repeat(32)

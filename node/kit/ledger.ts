/**
 * A log of one replica, in memory: what executes a sandbox's transactions. It owns the spaces, the engine and the place in the
 * log; it has no clock, no peers and no broker. Transactions run by the code that runs them on a node, one block each.
 *
 * Invariants:
 * 1. What a transaction comes to follows from the ones before it alone: sequence, time and chain are made here.
 * 2. A failed transaction changes nothing but takes its sequence.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { encodeGenesis } from '../../services/contracts/genesis.ts'
import { changeMeter, meterChanges } from '../../services/contracts/metering.ts'
import type { ContractCall, ContractEngine, ContractResult, MeterVersions } from '../../services/contracts/provider.ts'
import { installDeployed } from '../../services/contracts/deployments.ts'
import { ContractTransactions } from '../../services/contracts/transactions.ts'
import type { Space, Write } from '../../services/state/provider.ts'
import { NO_PROOF } from '../../services/state/batch.ts'
import { failedExecution, Recorder, SYSTEM_SPACE, type Execution, type TransactionContext } from '../../services/state/transaction.ts'
import { loneEngine } from '../lone-engine.ts'

export interface LedgerOptions {
  /** Log time at the beginning, ms since 1970. */
  readonly timeMs: number
  /** DID that operates the mesh. */
  readonly operator: string
  /** Most gas a transaction may use. */
  readonly transactionGas: number
}

export interface ExecuteOptions {
  /** Limit of gas for this transaction alone. */
  readonly gas?: number | undefined
  /** 32 lower-case hex digits. Default: one that follows from the place in the log. */
  readonly id?: string
  /** What a transaction in a contract's name refers to: its message. */
  readonly jti?: string
}

export interface Outcome extends Execution {
  /** Sequence of the block. */
  readonly seq: number
  /** 32 lower-case hex digits. */
  readonly id: string
  /** What was written to the mesh's own records. */
  readonly system: readonly Write[]
}

export type ViewCall = Pick<ContractCall, 'address' | 'function' | 'input' | 'gasLimit'> & { readonly caller: string }

/** State as it was at one place in the log. */
export interface LedgerSnapshot {
  readonly seq: number
  readonly timeMs: number
  readonly chain: Uint8Array
  readonly spaces: ReadonlyMap<string, ReadonlyMap<string, Uint8Array>>
}

export class Ledger {
  timeMs: number
  readonly engine: ContractEngine
  readonly #spaces = new Map<string, Space>()
  readonly #transactions: ContractTransactions
  #seq = 0
  #chain: Uint8Array = Buffer.alloc(32)

  constructor({ timeMs, operator, transactionGas }: LedgerOptions) {
    this.timeMs = timeMs
    this.engine = loneEngine()
    this.#transactions = new ContractTransactions({ engine: this.engine, space: (name) => this.space(name) })
    const meter = { ...this.engine.meter, transactionGas }
    const begun = this.execute(`0xSW:${SYSTEM_SPACE}:genesis`, operator, encodeGenesis({ operator, members: [operator], contracts: [], meter }))
    if (begun.status >= 400) throw errorOf(begun)
  }

  /** Sequence of the last block. */
  get seq(): number {
    return this.#seq
  }

  get meter(): MeterVersions {
    return this.engine.meter
  }

  /** The live keys of a contract, or of the mesh itself; made when missing. */
  space(name: string): Space {
    let space = this.#spaces.get(name)
    if (space === undefined) this.#spaces.set(name, space = new Map<string, Uint8Array>())
    return space
  }

  /** Blocks in which nothing happens. */
  skip(blocks: number): void {
    for (let i = 0; i < blocks; i++) this.#next()
  }

  /** Runs one transaction in a block of its own. Throws only what would halt a replica. */
  execute(fqmn: string, sub: string, body: Uint8Array, { gas, ...more }: ExecuteOptions = {}): Outcome {
    if (gas !== undefined) return this.#limited(gas, () => this.execute(fqmn, sub, body, more))
    const place = this.#next()
    const { id = hash('sha256', Buffer.concat([Buffer.from('cmesh/testing/transaction\0'), this.#chain]), 'hex').slice(0, 32), jti = '' } = more
    const system = new Recorder(SYSTEM_SPACE, this.space(SYSTEM_SPACE))
    const transaction = { id, sub, sid: '', jti, grantSeq: 0, fqmn, body, deadlineMs: Number.MAX_SAFE_INTEGER, proof: NO_PROOF }
    let execution: Execution
    try {
      this.#transactions.begin(place.seq)
      execution = this.#transactions.execute(transaction, parseFqmn(fqmn), { ...place, system })
    } catch (error) {
      system.undo()
      if (!(error instanceof CMeshError) || error.retry === 'bug') throw error
      execution = failedExecution(error)
    }
    if (execution.status >= 400) system.undo()
    return { ...execution, seq: place.seq, id, system: system.writes() }
  }

  /** Reads state as it is. */
  view({ caller, ...call }: ViewCall): ContractResult {
    const context = { seq: this.#seq, timeMs: this.timeMs, caller, origin: caller, seed: hash('sha256', this.#chain, 'buffer') }
    return this.engine.call({ ...call, view: true, context })
  }

  snapshot(): LedgerSnapshot {
    const spaces = new Map([...this.#spaces].map(([name, space]) => [name, new Map(space)]))
    return { seq: this.#seq, timeMs: this.timeMs, chain: this.#chain, spaces }
  }

  /** Puts everything back. The engine takes up the code again, since what it knows of keys and versions is of later. */
  restore({ seq, timeMs, chain, spaces }: LedgerSnapshot): void {
    for (const address of this.#spaces.keys()) this.engine.remove(address)
    for (const [name, space] of this.#spaces) {
      space.clear()
      for (const [key, value] of spaces.get(name) ?? []) space.set(key, value)
    }
    installDeployed(this.engine, this.space(SYSTEM_SPACE), (name) => this.space(name))
    this.timeMs = timeMs
    this.#seq = seq
    this.#chain = chain
  }

  close(): void {
    this.engine.close()
  }

  #next(): Omit<TransactionContext, 'system'> {
    const chain = this.#chain
    this.#seq++
    this.#chain = hash('sha256', Buffer.concat([chain, Buffer.from(String(this.#seq))]), 'buffer')
    return { seq: this.#seq, timeMs: this.timeMs, chain }
  }

  /** The mesh's own limit is an ordered record: it is another one for as long as `run` takes. */
  #limited(transactionGas: number, run: () => Outcome): Outcome {
    const system = this.space(SYSTEM_SPACE)
    const before = system.get('meter')
    const now = meterChanges(system).at(-1)
    if (now === undefined || before === undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log does not say how gas is counted' })
    changeMeter(new Recorder(SYSTEM_SPACE, system), { ...now, from: this.#seq + 1, transactionGas })
    try {
      return run()
    } finally {
      system.set('meter', before)
    }
  }
}

/** The error that a failed transaction came to. */
export function errorOf({ output }: Pick<Outcome, 'output'>): CMeshError {
  return CMeshError.fromWire(JSON.parse(Buffer.from(output).toString('utf8')))
}

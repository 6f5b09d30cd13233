/**
 * One function of one contract, run for a transaction: with its gas limit, its seed, and its messages kept. Everything that runs
 * code on the ordered log does it through here, so that nothing runs unmetered.
 */
import { createHash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Space } from '../state/provider.ts'
import { failedExecution, type Execution, type TransactionContext } from '../state/transaction.ts'
import { Admission, keepMessages } from './messages.ts'
import type { Metering, MeterRecord } from './metering.ts'
import type { ContractContext, ContractEngine, ContractResult } from './provider.ts'

export interface FunctionRun {
  readonly address: string
  readonly function: string
  /** JSON array text; empty for no arguments. */
  readonly input: Uint8Array
  readonly caller: string
  readonly origin: string
  readonly gasLimit: number
  /** Id of the transaction. */
  readonly tx: string
}

const SEED_DOMAIN = 'cmesh/seed'

export class ContractExecution {
  readonly engine: ContractEngine
  readonly space: (name: string) => Space
  readonly #metering: Metering
  #meter: MeterRecord | undefined

  constructor(engine: ContractEngine, space: (name: string) => Space, metering: Metering) {
    this.engine = engine
    this.space = space
    this.#metering = metering
  }

  /** Puts in force what the log says of block `seq`. Throws `CMESH_DEPLOY_METER`. */
  begin(seq: number): void {
    this.#meter = this.#metering.begun ? this.#metering.at(seq) : undefined
  }

  /** How gas is counted in the block under way. Throws `CMESH_STATE_GENESIS` before genesis said so. */
  get meter(): MeterRecord {
    if (this.#meter === undefined) throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log does not say how gas is counted' })
    return this.#meter
  }

  /** The outcome, as far as this call goes: of a failure nothing is left but its error and its gas. */
  run(run: FunctionRun, context: TransactionContext): Execution {
    const { address, function: name, input, gasLimit, origin, tx } = run
    if (gasLimit < 1) {
      return failedExecution(new CMeshError('CMESH_CONTRACT_OUT_OF_GAS', { contract: address, reason: 'none was left to begin with' }))
    }
    const { system } = context
    // Few contracts send anything.
    let admission: Admission | undefined
    const result = this.engine.call({
      address, function: name, input, view: false, gasLimit, context: new RunContext(run, context),
      admit: message => (admission ??= new Admission(system, this.engine)).admit(message),
    })
    if (!result.ok) return failedExecution(contractError(result), BigInt(result.gas))
    if (result.sends.length > 0) keepMessages(system, result.sends, { seq: context.seq, tx, origin })
    return { status: 200, gas: BigInt(result.gas), output: result.output, writes: result.writes, events: result.events }
  }
}

/** The context of a call in a transaction. Few contracts ask for the seed, so it is made when asked for. */
class RunContext implements ContractContext {
  readonly seq: number
  readonly timeMs: number
  readonly caller: string
  readonly origin: string
  readonly #chain: Uint8Array
  readonly #tx: string
  #seed: Uint8Array | undefined

  constructor({ caller, origin, tx }: FunctionRun, { seq, timeMs, chain }: TransactionContext) {
    this.seq = seq
    this.timeMs = timeMs
    this.caller = caller
    this.origin = origin
    this.#chain = chain
    this.#tx = tx
  }

  get seed(): Uint8Array {
    this.#seed ??= createHash('sha256').update(SEED_DOMAIN).update(this.#chain).update(Buffer.from(this.#tx, 'hex')).digest()
    return this.#seed
  }
}

/** The coded error of a contract that did not finish. */
export function contractError({ failure, contract, reason }: Extract<ContractResult, { ok: false }>): CMeshError {
  return new CMeshError(failure, { contract, reason })
}

/** Adds to an outcome what the transaction cost beside the code it ran. */
export function charged(execution: Execution, gas: number): Execution {
  return { ...execution, gas: execution.gas + BigInt(gas) }
}

/** The outcome of `work`, or of its error; both cost `gas` beside what code used. A failure of the host passes through. */
export function charging(gas: number, work: () => Execution): Execution {
  try {
    return charged(work(), gas)
  } catch (error) {
    if (!(error instanceof CMeshError) || error.retry === 'bug') throw error
    return failedExecution(error, BigInt(gas))
  }
}

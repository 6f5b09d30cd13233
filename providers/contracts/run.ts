/**
 * One call from outside, with all the contracts it comes to: what they share, how one of them runs, and what its end comes to.
 *
 * A contract's failure is a `ContractStop`: its own, a WebAssembly trap, gas or stack used up. Everything else is the host's and is
 * thrown: a native stack that overflowed, memory that could not be had. The engine at hand decides about these, not the contract.
 */
import type { RouteCache } from '../../cmtp/fqmn.ts'
import type { ContractCall, ContractContext, Observed, SentMessage } from '../../services/contracts/provider.ts'
import type { EmittedEvent } from '../../services/state/provider.ts'
import { CALL_LIMITS, HOST_SLOTS, START, STACK_SLOTS } from './call-limits.ts'
import type { CodeFunction, ContractCode, StartOutcome } from './code-store.ts'
import type { Imports } from './compilation.ts'
import { Frame, outOfGas, type Contract, type Entering } from './frame.ts'
import type { Stage } from './host/imports.ts'
import type { CallTarget } from './host/messages.ts'
import { ContractInstance } from './instance.ts'
import { Journal } from './journal.ts'
import type { Schedule } from './meter/index.ts'
import type { Outputs } from './outputs.ts'
import type { InstancePool } from './pool.ts'
import { ContractStop } from './stop.ts'
import { stopOf } from './traps.ts'

/** What a run needs of its engine. */
export interface RunParts {
  readonly pool: InstancePool
  readonly imports: Imports
  readonly stage: Stage
  /** Where the outputs of views go. */
  readonly outputs: Outputs
  /** In force at the moment. */
  schedule: Schedule
  readonly routes: RouteCache
  readonly contract: (address: string) => Contract | undefined
}

export interface Ended {
  readonly gas: number
  readonly output: Uint8Array
  readonly failure: ContractStop | undefined
}

const EMPTY = new Uint8Array(0)
const NOTHING: readonly never[] = Object.freeze([])
const STARTING: Entering = { caller: '', input: EMPTY, view: true, depth: 0, gas: START.gas, slots: START.slots }

export class Run {
  readonly context: ContractContext
  /** Whether a message may be sent, beyond what the engine itself checks. */
  readonly admit: ContractCall['admit']
  readonly journal = new Journal()
  /** Made for the first of them: most calls emit and send none. */
  #events: EmittedEvent[] | undefined
  #sends: SentMessage[] | undefined
  handedOver = 0
  seeds = 0
  readCaller = false
  readClock = false
  readonly #parts: RunParts
  #spaces: Set<string> | undefined
  readonly #contract: Contract
  readonly #view: boolean

  constructor(parts: RunParts, contract: Contract, { context, admit, view }: Pick<ContractCall, 'context' | 'admit' | 'view'>) {
    this.#parts = parts
    this.#contract = contract
    this.#view = view
    this.context = context
    this.admit = admit
  }

  get events(): readonly EmittedEvent[] {
    return this.#events ?? NOTHING
  }

  get sends(): readonly SentMessage[] {
    return this.#sends ?? NOTHING
  }

  emitted(event: EmittedEvent): void {
    (this.#events ??= []).push(event)
  }

  sent(message: SentMessage): void {
    (this.#sends ??= []).push(message)
  }

  get costs(): Schedule['host'] {
    return this.#parts.schedule.host
  }

  get routes(): RouteCache {
    return this.#parts.routes
  }

  /** Where outputs go that nobody keeps for long: those of a call that was asked for as a view. */
  get outputs(): Outputs | undefined {
    return this.#view ? this.#parts.outputs : undefined
  }

  get observed(): Observed {
    const spaces = this.#spaces === undefined ? this.#contract.spaces : [...this.#spaces]
    return { caller: this.readCaller, clock: this.readClock, spaces }
  }

  /** Makes the first instance of a code, for whoever calls it first. */
  prepare(code: ContractCode): void {
    this.#parts.pool.give(this.#fresh(this.#contract, code))
  }

  /** Runs the function that was called from outside. */
  outermost(code: ContractCode, entry: CodeFunction, call: Pick<Entering, 'input' | 'view'> & { readonly gasLimit: number }): Ended {
    return this.#enter(this.#contract, code, entry, {
      caller: this.context.caller, input: call.input, view: call.view || entry.mode === 'view', depth: 1, gas: call.gasLimit, slots: STACK_SLOTS,
    })
  }

  /**
   * Runs a function for the contract in `outer`, with at most 63/64 of its gas, and gives its output. Throws a `ContractStop` when it
   * does not succeed, with nothing of it left but the gas it used.
   */
  nested(outer: Frame, target: CallTarget, input: Uint8Array, gas: number): Uint8Array {
    const contract = this.#parts.contract(target.address)
    const code = contract?.program.code
    this.#spaces ??= new Set(this.#contract.spaces)
    for (const space of contract?.spaces ?? [target.address]) this.#spaces.add(space)
    if (contract === undefined || code === undefined) throw new ContractStop('CMESH_CONTRACT_NO_CONTRACT', target.address)
    const entry = code.entries.get(target.function)
    if (entry === undefined || (entry.mode !== 'view' && entry.mode !== 'write')) {
      throw new ContractStop('CMESH_CONTRACT_NO_FUNCTION', `${target.address} has no function ${target.function} to call`)
    }
    if (entry.mode === 'write' && (outer.view || !target.write)) {
      throw new ContractStop('CMESH_CONTRACT_READONLY', `${target.function} of ${target.address} is no view`)
    }
    const slots = outer.instance.slots - HOST_SLOTS
    if (outer.depth >= CALL_LIMITS.depth) throw new ContractStop('CMESH_CONTRACT_CALL_DEPTH', `at most ${CALL_LIMITS.depth} contracts stand one inside the other`)
    if (slots < 0) throw new ContractStop('CMESH_CONTRACT_CALL_DEPTH', 'the stack has no room for another contract')
    const left = outer.instance.gas
    const most = left - Math.floor(left / 64)
    const ended = this.#undoable(() => this.#enter(contract, code, entry, {
      caller: outer.contract.address, input, view: outer.view || entry.mode === 'view', depth: outer.depth + 1,
      gas: gas === 0 ? most : Math.min(gas, most), slots,
    }))
    outer.take(ended.gas)
    if (ended.failure !== undefined) throw ended.failure
    return ended.output
  }

  #undoable(act: () => Ended): Ended {
    const [mark, events, sends] = [this.journal.mark(), this.events.length, this.sends.length]
    const ended = act()
    if (ended.failure === undefined) {
      this.journal.release()
    } else {
      this.journal.rollback(mark)
      if (this.#events !== undefined) this.#events.length = events
      if (this.#sends !== undefined) this.#sends.length = sends
    }
    return ended
  }

  #enter(contract: Contract, code: ContractCode, entry: CodeFunction, entering: Entering): Ended {
    const { pool, stage, schedule } = this.#parts
    const { gas, slots } = entering
    // Before anything is known of the start: it adds to this, whatever it does.
    if (gas < schedule.contract.base + schedule.contract.page * code.metered.memory.initial) return { gas, output: EMPTY, failure: outOfGas(gas) }
    const first = code.start === undefined ? this.#fresh(contract, code) : undefined
    const { start } = code as { readonly start: StartOutcome }
    const remade = start.kept ? 0 : schedule.grow.base
    const armed = gas - schedule.contract.base - schedule.contract.page * start.pages - code.burden - remade - start.gas
    // Before there is an instance: who cannot pay for one does not get one.
    if (armed < 0 || start.failure !== undefined) {
      if (first !== undefined) pool.give(first)
      const failure = armed < 0 ? outOfGas(gas) : start.failure as ContractStop
      return { gas: isRefusal(failure) ? gas - armed : gas, output: EMPTY, failure }
    }
    const instance = first ?? pool.take(code) ?? this.#fresh(contract, code)
    const outer = stage.frame
    const frame = new Frame(this, contract, instance, this.journal.draft(contract), entering)
    instance.arm(armed, slots)
    try {
      stage.frame = frame
      instance.run(entry.index)
      const left = instance.gas
      if (left < 0) throw outOfGas(gas)
      return { gas: gas - left, output: frame.output, failure: undefined }
    } catch (thrown) {
      const failure = stopOf(thrown, instance, gas)
      // Who refuses pays for what it did; who fails, for all it might have done.
      return { gas: isRefusal(failure) ? gas - instance.gas : gas, output: EMPTY, failure }
    } finally {
      stage.frame = outer
      pool.give(instance)
    }
  }

  /** A new instance whose start has run. How that ends is the same every time, and is charged to every call. */
  #fresh(contract: Contract, code: ContractCode): ContractInstance {
    const { stage, imports } = this.#parts
    const instance = new ContractInstance(code, imports)
    const outer = stage.frame
    instance.arm(START.gas, START.slots)
    stage.frame = undefined
    stage.starting = new Frame(this, contract, instance, this.journal.draft(contract), STARTING)
    let failure: ContractStop | undefined
    try {
      for (const name of code.starts) instance.runExport(name)
      if (instance.gas < 0) throw outOfGas(START.gas)
    } catch (thrown) {
      failure = stopOf(thrown, instance, START.gas)
    } finally {
      stage.starting = undefined
      stage.frame = outer
    }
    const left = failure === undefined || isRefusal(failure) ? instance.gas : 0
    instance.save()
    code.start ??= { gas: START.gas - left, failure, pages: instance.memory.bytes.length / PAGE_BYTES, kept: instance.reusable }
    return instance
  }
}

const PAGE_BYTES = 65_536

function isRefusal({ failure }: ContractStop): boolean {
  return failure === 'CMESH_CONTRACT_REVERT'
}

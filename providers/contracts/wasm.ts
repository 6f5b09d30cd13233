/**
 * The contract engine on the WebAssembly of the JavaScript engine at hand: synchronous, on the caller's thread, one
 * pooled instance per contract. Modules whose state cannot be put back from outside (see `reader.ts`) get a fresh instance for
 * every call, which is some twenty times slower and equally correct.
 *
 * Execution is not metered: every result says `gas: 0n`, and nothing here ends a call that does not return. `onEnter` and
 * `onLeave` bracket all code of a contract for a watchdog that does.
 *
 * A contract's failure becomes a result, a host's failure is thrown. The contract's are a `ContractStop`, a WebAssembly trap and
 * an exhausted stack; everything else is the host's.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type {
  ContractAbi, ContractCall, ContractEngine, ContractFailure, ContractResult,
} from '../../services/contracts/provider.ts'
import type { Space } from '../../services/state/provider.ts'
import { ContractStop, Frame } from './frame.ts'
import { hostImports } from './host.ts'
import { ContractInstance } from './instance.ts'
import { MemoryView } from './memory.ts'
import { START_EXPORT, exportOf, inspectModule } from './module.ts'
import type { Inspected } from './module.ts'

export interface WasmEngineOptions {
  /** Called before any code of a contract runs, with its address. Must not throw. */
  readonly onEnter?: (address: string) => void
  /** Called after it returned or failed. */
  readonly onLeave?: () => void
  /**
   * Most idle instances kept, 1 to 10,000; default 1,000. Each reserves gigabytes of address space for its guard pages, of which
   * a process has enough for about 13,000.
   */
  readonly instances?: number
}

interface Installed {
  readonly module: WebAssembly.Module
  readonly space: Space
  readonly inspected: Inspected
  /** From function to export. */
  readonly entries: ReadonlyMap<string, string>
  idle: ContractInstance | undefined
}

const DEFAULT_INSTANCES = 1_000

export class WasmEngine implements ContractEngine {
  readonly #options: WasmEngineOptions
  readonly #most: number
  readonly #contracts = new Map<string, Installed>()
  /** Contracts with an idle instance, oldest first. */
  readonly #pool = new Set<Installed>()
  readonly #imports = hostImports(() => this.#frame)
  #frame: Frame | undefined

  /** Throws `CMESH_CONFIG_INVALID` for a number of instances out of range. */
  constructor(options: WasmEngineOptions = {}) {
    this.#options = { ...options }
    this.#most = options.instances ?? DEFAULT_INSTANCES
    if (!Number.isInteger(this.#most) || this.#most < 1 || this.#most > 10_000) {
      throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'instances', reason: 'it is not a whole number from 1 to 10,000' })
    }
  }

  inspect(wasm: Uint8Array): ContractAbi {
    return inspectModule(wasm).abi
  }

  install(address: string, wasm: Uint8Array, space: Space): ContractAbi {
    const inspected = inspectModule(wasm)
    const module = new WebAssembly.Module(wasm)
    this.remove(address)
    const entries = new Map(inspected.abi.functions.map(({ name }) => [name, exportOf(name)]))
    this.#contracts.set(address, { module, space, inspected, entries, idle: undefined })
    return inspected.abi
  }

  remove(address: string): void {
    const contract = this.#contracts.get(address)
    if (contract !== undefined) this.#pool.delete(contract)
    this.#contracts.delete(address)
  }

  has(address: string): boolean {
    return this.#contracts.has(address)
  }

  abi(address: string): ContractAbi | undefined {
    return this.#contracts.get(address)?.inspected.abi
  }

  call(call: ContractCall): ContractResult {
    const contract = this.#contracts.get(call.address)
    if (contract === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: call.address })
    const entry = contract.entries.get(call.function)
    if (entry === undefined) return failed('no-function', `there is no function ${call.function}`)
    if (this.#frame !== undefined) throw hostFailure(call.address, new Error('a call was made inside a call'))
    const frame = new Frame(call, contract.space)
    this.#options.onEnter?.(call.address)
    this.#frame = frame
    try {
      this.#run(contract, entry, frame)
      const { output, events, readCaller, readClock } = frame
      const writes = frame.journal.commit(call.address)
      return { ok: true, output, gas: 0n, writes, events, observed: { caller: readCaller, clock: readClock } }
    } catch (thrown) {
      return contractFailure(thrown) ?? raise(hostFailure(call.address, thrown))
    } finally {
      this.#frame = undefined
      this.#options.onLeave?.()
    }
  }

  close(): void {
    this.#contracts.clear()
    this.#pool.clear()
  }

  #run(contract: Installed, entry: string, frame: Frame): void {
    const instance = this.#acquire(contract, frame)
    frame.memory = instance.memory
    try {
      instance.procedure(entry)()
    } finally {
      this.#release(contract, instance)
    }
    // The contract may have caught what a host function threw.
    if (frame.stopped !== undefined) throw frame.stopped
  }

  #acquire(contract: Installed, frame: Frame): ContractInstance {
    const idle = contract.idle
    contract.idle = undefined
    if (idle?.reset()) return idle
    const { exports } = new WebAssembly.Instance(contract.module, this.#imports)
    const memory = exports['memory'] as WebAssembly.Memory
    if (contract.inspected.hasStartExport) {
      frame.memory = new MemoryView(memory)
      frame.starting = true
      ;(exports[START_EXPORT] as () => void)()
      frame.starting = false
      if (frame.stopped !== undefined) throw frame.stopped
    }
    return new ContractInstance(exports, memory, contract.inspected.mutableGlobals)
  }

  #release(contract: Installed, instance: ContractInstance): void {
    if (contract.inspected.mutableGlobals === undefined) return
    contract.idle = instance
    this.#pool.add(contract)
    if (this.#pool.size <= this.#most) return
    for (const oldest of this.#pool) {
      oldest.idle = undefined
      this.#pool.delete(oldest)
      return
    }
  }
}

function failed(failure: ContractFailure, reason: string): ContractResult {
  return { ok: false, failure, reason, gas: 0n }
}

/** The result of a failure that is the contract's own; `undefined` for one of the host. */
function contractFailure(thrown: unknown): ContractResult | undefined {
  if (thrown instanceof ContractStop) return failed(thrown.failure, thrown.reason)
  if (thrown instanceof WebAssembly.RuntimeError) return failed('trap', TRAPS.get(thrown.message) ?? 'a WebAssembly trap')
  if (thrown instanceof RangeError && thrown.message === STACK_EXHAUSTED) return failed('trap', 'the call stack is exhausted')
  return undefined
}

/** V8 gives it no other mark. A RangeError of another text is an allocation that failed, which is the host's failure. */
const STACK_EXHAUSTED = 'Maximum call stack size exceeded'

/** V8's texts of traps in words of our own: a reason is recorded, so that it must not change with the engine's wording. */
const TRAPS: ReadonlyMap<string, string> = new Map([
  ['unreachable', 'unreachable code was reached'],
  ['memory access out of bounds', 'memory was accessed out of bounds'],
  ['divide by zero', 'a division by zero'],
  ['remainder by zero', 'a division by zero'],
  ['divide result unrepresentable', 'a division overflowed'],
  ['float unrepresentable in integer range', 'a number does not fit an integer'],
  ['table index is out of bounds', 'a table was accessed out of bounds'],
  ['null function or function signature mismatch', 'an indirect call met the wrong function'],
])

function hostFailure(contract: string, cause: unknown): CMeshError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new CMeshError('CMESH_CONTRACT_HOST', { contract, reason }, { cause })
}

function raise(error: CMeshError): never {
  throw error
}

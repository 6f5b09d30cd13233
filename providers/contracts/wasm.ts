/**
 * The contract engine on the WebAssembly of the JavaScript engine at hand: synchronous, on the caller's thread, metered
 * (`meter/`), on pooled instances. Its rooms: `compilation.ts` and `code-store.ts` (what is installed), `pool.ts` and `instance.ts`
 * (what runs it), `run.ts` and `frame.ts` (one call), `journal.ts` (what it changes), `host/` (what it may ask for).
 *
 * A contract's failure becomes a result, a host's failure is thrown. Gas ends a call that would not return; `onEnter` and `onLeave`
 * bracket all code of contracts for a watchdog behind it.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { RouteCache } from '../../cmtp/fqmn.ts'
import type {
  ContractAbi, ContractCall, ContractContext, ContractEngine, ContractFailure, ContractResult, MeterVersions, ModuleReport,
} from '../../services/contracts/provider.ts'
import type { Space } from '../../services/state/provider.ts'
import { CodeStore } from './code-store.ts'
import type { Compilations, MeterRules } from './compilation.ts'
import type { Contract, Program } from './frame.ts'
import { hostImports, type Stage } from './host/imports.ts'
import type { Meter } from './meter/index.ts'
import { Outputs } from './outputs.ts'
import { InstancePool } from './pool.ts'
import { Run, type Ended, type RunParts } from './run.ts'
import { SortedKeys } from './sorted-keys.ts'

export interface WasmEngineOptions {
  /** Called before any code of a contract runs, with the called address. Calls do not nest. Must not throw. */
  readonly onEnter?: (address: string) => void
  /** Called after it returned or failed. */
  readonly onLeave?: () => void
  /** Most idle instances kept, 1 to 10,000; default 1,000. */
  readonly instances?: number
  /** Most memory of idle instances kept, in bytes; default 134,217,728 (128 MiB). */
  readonly instanceBytes?: number
  /** What the engine can run, the newest last; default all that this build knows. */
  readonly meters?: readonly Meter[]
  /** Rules of the meter to leave out; only for tests that show what each is for. */
  readonly rules?: MeterRules
  /** Compiled modules, to be shared by the engines of one process; default the engine's own. */
  readonly compilations?: Compilations | undefined
}

const DEFAULT_INSTANCES = 1_000
const DEFAULT_INSTANCE_BYTES = 134_217_728
const MOST_GAS = Number.MAX_SAFE_INTEGER

export class WasmEngine implements ContractEngine {
  readonly #options: WasmEngineOptions
  readonly #codes: CodeStore
  readonly #pool: InstancePool
  readonly #contracts = new Map<string, Contract>()
  /** Who was called last. */
  #last: Contract | undefined
  readonly #stage: Stage = { frame: undefined, starting: undefined }
  readonly #imports = hostImports(this.#stage)
  readonly #parts: RunParts

  /** Throws `CMESH_CONFIG_INVALID` for a number of instances out of range. */
  constructor(options: WasmEngineOptions = {}) {
    const { instances = DEFAULT_INSTANCES, instanceBytes: bytes = DEFAULT_INSTANCE_BYTES } = options
    if (!Number.isInteger(instances) || instances < 1 || instances > 10_000) {
      throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'instances', reason: 'it is not a whole number from 1 to 10,000' })
    }
    this.#options = { ...options }
    this.#codes = new CodeStore({ imports: this.#imports, meters: options.meters, rules: options.rules, compilations: options.compilations })
    this.#pool = new InstancePool({ instances, bytes })
    this.#parts = {
      pool: this.#pool, imports: this.#imports, stage: this.#stage, outputs: new Outputs(), schedule: this.#codes.costs,
      // Parsed once, where a contract calls another again and again.
      routes: new RouteCache(1_024),
      contract: (address) => this.#contracts.get(address),
    }
  }

  get meters(): readonly MeterVersions[] {
    return this.#codes.meters
  }

  get meter(): MeterVersions {
    return this.#codes.meter
  }

  /** What the engine holds at the moment: idle instances, and codes compiled. */
  get held(): { readonly instances: number, readonly codes: number } {
    return { instances: this.#pool.size, codes: this.#codes.size }
  }

  useMeter(versions: MeterVersions): void {
    if (!this.#codes.use(versions)) return
    this.#parts.schedule = this.#codes.costs
    this.#pool.clear()
    for (const contract of this.#contracts.values()) this.#prepare(contract)
  }

  inspect(wasm: Uint8Array): ModuleReport {
    return this.#codes.inspect(wasm)
  }

  install(address: string, wasm: Uint8Array, space: Space): ContractAbi {
    const code = this.#codes.take(wasm)
    const standing = this.#contracts.get(address)?.program
    // Whoever runs the code of this address goes on running what stands there.
    const program: Program = standing?.owner === address ? standing : { owner: address, code: undefined }
    this.#release(program)
    program.code = code
    const contract: Contract = { address, space, program, spaces: [address], sorted: undefined }
    this.#put(contract)
    this.#prepare(contract)
    return code.abi
  }

  proxy(address: string, target: string, space: Space): ContractAbi {
    const program = this.#contracts.get(target)?.program
    if (program?.code === undefined || program.owner === address) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: target })
    this.remove(address)
    this.#put({ address, space, program, spaces: [address, program.owner], sorted: undefined })
    return program.code.abi
  }

  remove(address: string): void {
    const program = this.#contracts.get(address)?.program
    if (program?.owner === address) this.#release(program)
    this.#contracts.delete(address)
    this.#last = undefined
  }

  has(address: string): boolean {
    return this.abi(address) !== undefined
  }

  abi(address: string): ContractAbi | undefined {
    return this.#found(address)?.program.code?.abi
  }

  call(call: ContractCall): ContractResult {
    return this.#call(call, true)
  }

  dryRun(call: ContractCall): ContractResult {
    return this.#call(call, false)
  }

  changed(address: string, key: string): void {
    const contract = this.#contracts.get(address)
    if (contract === undefined) return
    if (contract.space.has(key)) contract.sorted?.add(key)
    else contract.sorted?.delete(key)
  }

  close(): void {
    this.#contracts.clear()
    this.#last = undefined
    this.#pool.clear()
    this.#codes.clear()
  }

  #call(call: ContractCall, keep: boolean): ContractResult {
    const { address, gasLimit } = call
    const contract = this.#found(address)
    const code = contract?.program.code
    if (contract === undefined || code === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: address })
    if (!Number.isInteger(gasLimit) || gasLimit < 1 || gasLimit > MOST_GAS) throw hostFailure(address, new Error(`${gasLimit} is no limit of gas`))
    if (this.#stage.frame !== undefined || this.#stage.starting !== undefined) throw hostFailure(address, new Error('a call was made inside a call'))
    const run = new Run(this.#parts, contract, call)
    const entry = code.entries.get(call.function)
    if (entry === undefined) {
      const gas = Math.min(this.#codes.costs.contract.base, gasLimit)
      return failed(run, address, 'CMESH_CONTRACT_NO_FUNCTION', `there is no function ${call.function}`, gas)
    }
    this.#options.onEnter?.(contract.address)
    try {
      return resultOf(run, address, run.outermost(code, entry, call), keep)
    } catch (thrown) {
      throw hostFailure(address, thrown)
    } finally {
      this.#options.onLeave?.()
    }
  }

  /** Runs the start of a code that is new: no call pays for it twice, and none waits for it. */
  #prepare(contract: Contract): void {
    const { code } = contract.program
    if (code === undefined || code.start !== undefined) return
    this.#options.onEnter?.(contract.address)
    try {
      new Run(this.#parts, contract, { context: NOBODY, view: true }).prepare(code)
    } catch (thrown) {
      throw hostFailure(contract.address, thrown)
    } finally {
      this.#options.onLeave?.()
    }
  }

  #put(contract: Contract): void {
    const before = this.#contracts.get(contract.address)
    // Kept up to date by whoever had it before: a replacement need not sort anew.
    const kept = before?.space === contract.space ? before.sorted : undefined
    if (contract.program.code?.scans === true) contract.sorted = kept ?? new SortedKeys(contract.space.keys())
    this.#contracts.set(contract.address, contract)
    this.#last = undefined
  }

  /** Who is called is called again: and who remembers the very text that is kept here need not have it compared. */
  #found(address: string): Contract | undefined {
    if (this.#last?.address === address) return this.#last
    return this.#last = this.#contracts.get(address)
  }

  /** Lets go of the code that stands in a program. */
  #release(program: Program): void {
    if (program.code === undefined) return
    const forgotten = this.#codes.release(program.code)
    if (forgotten !== undefined) this.#pool.drop(forgotten)
    program.code = undefined
  }
}

/** A start sees none of it. */
const NOBODY: ContractContext = { seq: 0, timeMs: 0, caller: '', origin: '', seed: new Uint8Array(32) }

function resultOf(run: Run, address: string, { failure, gas, output }: Ended, keep: boolean): ContractResult {
  if (failure !== undefined) return failed(run, address, failure.failure, failure.reason, gas)
  const writes = keep ? run.journal.commit() : run.journal.writes()
  return { ok: true, output, gas, writes, events: run.events, sends: run.sends, observed: run.observed }
}

function failed(run: Run, contract: string, failure: ContractFailure, reason: string, gas: number): ContractResult {
  return { ok: false, failure, reason, contract, gas, observed: run.observed }
}

function hostFailure(contract: string, cause: unknown): CMeshError {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return new CMeshError('CMESH_CONTRACT_HOST', { contract, reason }, { cause })
}

/** Runs one function of a module, metered or not, and says everything that can be seen of it from outside. */
import { runInNewContext } from 'node:vm'
import { HOST_SIGNATURES } from '../../../providers/contracts/meter/index.ts'
import type { Metered } from '../../../providers/contracts/meter/index.ts'

export interface Outcome {
  /** `done`, `gas`, `stack`, or the engine's word for a trap. */
  readonly end: string
  readonly result: unknown
  /** Gas left; 0 for a module that is not metered. */
  readonly left: bigint
  /** What the function told the host, with the gas left at that time. */
  readonly notes: readonly (readonly [string, number, bigint])[]
  readonly memory: string
  /** Where the last byte of memory ends that is not what it was when the module was instantiated. */
  readonly written: number
  /** The marks of a metered module that ran to its end. */
  readonly reach: number
  readonly globals: readonly string[]
}

export interface RunOptions {
  readonly gas?: bigint
  readonly slots?: number
  readonly argument?: number
  readonly entry?: string
}

const HOST_COST = 100n

type Exports = Readonly<Record<string, unknown>>

/**
 * The same for a run that may never end when the meter is at fault: it is then stopped, which fails the test instead of hanging it. It needs
 * a tiny part of that time.
 */
export function fencedRun(wasm: Uint8Array, metered: Metered, options: RunOptions): Outcome {
  return runInNewContext('run()', { run: () => run(wasm, metered, options) }, { timeout: 10_000 }) as Outcome
}

/** `metered`: of a rewritten module, how to run it. */
export function run(wasm: Uint8Array, metered: Metered | undefined, options: RunOptions = {}): Outcome {
  const notes: (readonly [string, number, bigint])[] = []
  let exports: Exports = {}
  const gas = (): WebAssembly.Global | undefined => metered === undefined ? undefined : exports[metered.gasExport] as WebAssembly.Global
  const host = (name: string, value: number): void => {
    const global = gas()
    if (global !== undefined) global.value = (global.value as bigint) - HOST_COST
    notes.push([name, value, (global?.value ?? 0n) as bigint])
    if (global !== undefined && (global.value as bigint) < 0n) throw new Error('gas')
  }
  const cmesh: Record<string, (...values: number[]) => unknown> = {
    ...Object.fromEntries([...HOST_SIGNATURES.keys()].map((name) => [name, () => 0])),
    ctx: (field = 0) => { host('ctx', field); return 41n },
    reg: (value = 0) => { host('reg', value) },
    fail: (value = 0) => { host('fail', value); throw new Error('revert') },
  }
  let before = new Uint8Array(0)
  let end = 'done'
  let result: unknown
  try {
    exports = new WebAssembly.Instance(new WebAssembly.Module(wasm), { cmesh }).exports
    if (exports['memory'] !== undefined) before = new Uint8Array((exports['memory'] as WebAssembly.Memory).buffer.slice(0))
    const global = gas()
    if (global !== undefined && metered !== undefined) {
      global.value = options.gas ?? 1n << 40n
      ;(exports[metered.depthExport] as WebAssembly.Global).value = options.slots ?? 10_000
      if (metered.startExport !== undefined) (exports[metered.startExport] as () => void)()
    }
    result = (exports[options.entry ?? 'main'] as (argument: number) => unknown)(options.argument ?? 2)
    if (global !== undefined && (global.value as bigint) < 0n) end = 'gas'
  } catch (thrown) {
    end = why(thrown, exports, metered)
  }
  const memory = exports['memory'] as WebAssembly.Memory | undefined
  return {
    end, result, left: (gas()?.value ?? 0n) as bigint, notes,
    memory: memory === undefined ? '' : `${memory.buffer.byteLength}:${digest(new Uint8Array(memory.buffer))}`,
    written: memory === undefined ? 0 : writtenEnd(before, new Uint8Array(memory.buffer)),
    reach: metered === undefined || end !== 'done' ? 0 : (exports[metered.reachExport] as WebAssembly.Global).value as number,
    globals: Object.keys(exports).filter((name) => name.startsWith('keep')).map((name) => bits((exports[name] as WebAssembly.Global).value)),
  }
}

function writtenEnd(before: Uint8Array, after: Uint8Array): number {
  let end = after.length
  while (end > 0 && after[end - 1] === (before[end - 1] ?? 0)) end--
  return end
}

function why(thrown: unknown, exports: Exports, metered: Metered | undefined): string {
  if (!(thrown instanceof WebAssembly.RuntimeError)) return (thrown as Error).message
  if (metered !== undefined) {
    if (((exports[metered.gasExport] as WebAssembly.Global).value as bigint) < 0n) return 'gas'
    if (((exports[metered.depthExport] as WebAssembly.Global).value as number) < 0) return 'stack'
  }
  return thrown.message
}

function bits(value: number | bigint): string {
  return typeof value === 'bigint' ? String(value) : Buffer.from(new Float64Array([value]).buffer).toString('hex')
}

/** FNV-1a over what is not zero. */
function digest(bytes: Uint8Array): number {
  let hash = 0x811c9dc5
  for (const [index, byte] of new Uint32Array(bytes.buffer).entries()) if (byte !== 0) hash = Math.imul(Math.imul(hash ^ byte, 0x01000193) ^ index, 0x01000193)
  return hash >>> 0
}

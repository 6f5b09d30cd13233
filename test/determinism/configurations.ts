/**
 * The ways in which V8 runs WebAssembly that this machine can be made to use: each tier alone, both, when they are compiled, how
 * memory is checked, which instructions of the processor they may use, how large the native stack is. And one run in each.
 */
import { spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Outcome } from './child.ts'
import type { JsEngine } from './engines.ts'

export interface Configuration {
  readonly name: string
  /** Which engine: `node20`. */
  readonly engine: string
  readonly path: string
  readonly flags: readonly string[]
}

/** What the meter leaves out, for the runs that show what it is there for. */
export type Rules = Readonly<Partial<Record<'stack' | 'nan', boolean>>>

/** The smallest native stack, in KB, that the engine's budget of stack slots is made for. V8's own is 984. */
export const SMALLEST_STACK_KB = 600

const STACK = `--stack-size=${SMALLEST_STACK_KB}`

/** On every engine, in both forms. */
const TIERS: readonly (readonly string[])[] = [[], ['--liftoff-only'], ['--no-liftoff'], [STACK]]
/** On the engine that runs the tests in both forms, on the others in the long form. Lazy compilation is none of them: the engine switches it off. */
const MORE: readonly (readonly string[])[] = [
  [STACK, '--liftoff-only'], [STACK, '--no-liftoff'],
  ['--no-wasm-tier-up'], ['--no-wasm-dynamic-tiering'], ['--wasm-tiering-budget=1'], ['--single-threaded'], ['--no-opt'], ['--no-enable-avx'],
]
/**
 * In the long form. `--turboshaft-wasm` is not among them: an experiment in Node.js 20, where it crashes, and 22, where it gives another NaN for
 * `f64.neg` of a constant than the specification does. It is the rule in 24, and right.
 */
const LONG: readonly (readonly string[])[] = [
  ['--wasm-enforce-bounds-checks'], ['--no-wasm-opt'], ['--no-wasm-loop-unrolling', '--no-liftoff'], ['--no-wasm-loop-peeling', '--no-liftoff'],
  ['--no-enable-fma3', '--no-liftoff'], ['--no-enable-sse4-1', '--no-liftoff'],
  ['--no-enable-popcnt', '--no-enable-lzcnt', '--no-enable-bmi1'], ['--predictable'],
  ['--experimental-wasm-inlining', '--no-liftoff'], ['--wasm-inlining', '--no-liftoff'], ['--no-turboshaft-wasm', '--no-liftoff'],
  ['--always-sparkplug'], ['--gc-interval=2000'], ['--stress-wasm-code-gc'], ['--stack-size=900', '--wasm-tiering-budget=100'],
]

const CHILD = fileURLToPath(new URL('./child.ts', import.meta.url))
const HOOKS = new URL('../typescript-hooks.mjs', import.meta.url).href

/** Each tier of one engine alone, with V8's own stack and with the smallest. */
export function tiersOf(all: readonly Configuration[], engine: string): Configuration[] {
  return all.filter(each => each.engine === engine && each.flags.every(flag => flag === STACK || flag === '--liftoff-only' || flag === '--no-liftoff'))
}

/** Those that the engines accept; a flag that a version lacks is no configuration of it. */
export function configurations(engines: readonly JsEngine[], long: boolean): Configuration[] {
  return engines.flatMap(({ name, path }, index) => {
    if (path === undefined) return []
    const flags = [...TIERS, ...(index === 0 || long ? MORE : []), ...(long ? LONG : [])]
    return flags.filter(each => accepts(path, each)).map((each): Configuration => ({ name: [name, ...each].join(' '), engine: name, path, flags: each }))
  })
}

function accepts(path: string, flags: readonly string[]): boolean {
  return flags.length === 0 || spawnSync(path, [...flags, '-e', '0'], { stdio: 'ignore' }).status === 0
}

/** Runs a workload's file. Rejects when the process fails. */
export async function runWith({ name, path, flags }: Configuration, file: string, rules: Rules = {}): Promise<Outcome> {
  const args = [...flags, '--disable-warning=ExperimentalWarning', '--import', HOOKS, CHILD, file, JSON.stringify(rules)]
  return new Promise((resolve, reject) => {
    const child = spawn(path, args, { stdio: ['ignore', 'pipe', 'pipe'], env: environment() })
    let said = ''
    let complaint = ''
    child.stdout.on('data', (chunk: Buffer) => { said += chunk.toString() })
    child.stderr.on('data', (chunk: Buffer) => { complaint += chunk.toString() })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      if (code === 0) resolve(JSON.parse(said) as Outcome)
      else reject(new Error(`${name} ended with ${String(code ?? signal)}: ${complaint.slice(-2_000)}`))
    })
  })
}

/** Options in the environment would change what is compared. */
function environment(): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => name !== 'NODE_OPTIONS'))
}

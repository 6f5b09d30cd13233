/**
 * One engine's run of a workload: `child.ts <file> <rules>`, where the rules are the meter's options as JSON. Prints one line of JSON, an
 * `Outcome`. What a call gives is told by a digest of everything in it, so that two runs can be held against each other call by call.
 */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { CMeshError } from '../../cmtp/errors.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import type { ContractCall, ContractResult } from '../../services/contracts/provider.ts'
import type { Space } from '../../services/state/provider.ts'
import type { Workload } from './workload.ts'

export interface Outcome {
  /** Over every space. */
  readonly root: string
  /** Over every event in its order. */
  readonly events: string
  /** One for each call: its gas, how it ended, and a digest of all that it gave. */
  readonly calls: readonly (readonly [gas: number, code: string, digest: string])[]
}

const [file = '', rules = '{}'] = process.argv.slice(2)
const workload = JSON.parse(readFileSync(file, 'utf8')) as Workload
process.stdout.write(`${JSON.stringify(run(workload))}\n`)

function run({ contracts, proxies, calls }: Workload): Outcome {
  const engine = new WasmEngine({ rules: JSON.parse(rules) as object })
  const spaces = new Map<string, Space>()
  const space = (address: string): Space => {
    const made: Space = new Map()
    spaces.set(address, made)
    return made
  }
  for (const { address, module } of contracts) engine.install(address, Buffer.from(module, 'base64'), space(address))
  for (const { address, target } of proxies) engine.proxy(address, target, space(address))

  const events = createHash('sha256')
  const outcomes = calls.map((each, index): Outcome['calls'][number] => {
    const result = outcomeOf(engine, { ...each, input: Buffer.from(each.input), context: contextOf(index) })
    const text = JSON.stringify(result, (_, value: unknown) => (value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value))
    if (!('ok' in result)) return [0, result.thrown, digest(text)]
    if (result.ok) events.update(JSON.stringify(result.events))
    return [result.gas, result.ok ? 'ok' : result.failure, digest(text)]
  })
  return { root: rootOf(spaces), events: events.digest('hex'), calls: outcomes }
}

/** A failure of the host is no result; it is told as such, since a run without the stack rule has them. */
function outcomeOf(engine: WasmEngine, call: ContractCall): ContractResult | { readonly thrown: string } {
  try {
    return engine.call(call)
  } catch (error) {
    if (error instanceof CMeshError) return { thrown: error.code }
    throw error
  }
}

function contextOf(index: number): ContractCall['context'] {
  const seed = createHash('sha256').update(String(index)).digest()
  return { seq: index + 1, timeMs: 1_700_000_000_000 + index * 7, caller: `did:key:z6Mk${index % 5}`, origin: `did:key:z6Mk${index % 5}`, seed }
}

function rootOf(spaces: ReadonlyMap<string, Space>): string {
  const hash = createHash('sha256')
  for (const [address, space] of spaces) {
    hash.update(`${address} ${space.size}\n`)
    for (const key of [...space.keys()].sort()) {
      const value = space.get(key) as Uint8Array
      hash.update(`${key.length} ${value.length}\n`).update(key, 'latin1').update(value)
    }
  }
  return hash.digest('hex')
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 16)
}

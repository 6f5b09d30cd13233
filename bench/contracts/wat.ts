/** Contracts of the benchmarks in WebAssembly text: what no compiler would write, and nothing around it. */
import { HOST_FUNCTIONS } from '../../providers/contracts/meter/imports.ts'

/** Every host function, by its name. */
const IMPORTS = Object.entries(HOST_FUNCTIONS).map(([name, signature]) => {
  const [params, results] = signature.replaceAll(/[(),]/g, '').split('->').map(types => types.trim()) as [string, string]
  return `(import "cmesh" "${name}" (func $${name}${params && ` (param ${params})`}${results && ` (result ${results})`}))`
}).join('\n')

export interface WatOptions {
  /** Text of the memory. Default: one page, at most 64. */
  readonly memory?: string
  /** Whether host functions are imported. Default true. */
  readonly host?: boolean
  /** Default: every `call_` export, as writes. */
  readonly views?: boolean
}

/** A deployable module; every function exported as `call_<name>` goes into its ABI. */
export async function assemble(body: string, { memory = '(memory (export "memory") 1 64)', host = true, views = false }: WatOptions = {}): Promise<Uint8Array> {
  const { default: binaryen } = await import('assemblyscript/binaryen')
  const functions = [...body.matchAll(/\(export "call_([A-Za-z0-9_]+)"\)/g)].map(([, name]) => ({ name, mode: views ? 'view' : 'write', params: [], returns: 'void' }))
  const module = binaryen.parseText(`(module ${host ? IMPORTS : ''} ${memory} ${body})`)
  try {
    const { BulkMemory, MutableGlobals, NontrappingFPToInt, SignExt } = binaryen.Features
    module.setFeatures(BulkMemory | MutableGlobals | NontrappingFPToInt | SignExt)
    module.addCustomSection('cmesh.abi', new TextEncoder().encode(JSON.stringify({ abi: 1, sdk: 'none', functions, events: [] })))
    return new Uint8Array(module.emitBinary())
  } finally {
    module.dispose()
  }
}

/** The text `count` times, with its index. */
export function repeated(count: number, text: (index: number) => string): string {
  return Array.from({ length: count }, (_, index) => text(index)).join(' ')
}

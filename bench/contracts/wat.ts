/** Contracts of the benchmarks in WebAssembly text: what no compiler would write, and nothing around it. */

/** Every host function, by its name. */
const IMPORTS = `
  (import "cmesh" "input" (func $input (result i32)))
  (import "cmesh" "reg" (func $reg (param i32)))
  (import "cmesh" "reglen" (func $reglen (result i32)))
  (import "cmesh" "output" (func $output (param i32 i32)))
  (import "cmesh" "get" (func $get (param i32 i32) (result i32)))
  (import "cmesh" "set" (func $set (param i32 i32 i32 i32)))
  (import "cmesh" "del" (func $del (param i32 i32) (result i32)))
  (import "cmesh" "scan" (func $scan (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "cmesh" "emit" (func $emit (param i32 i32 i32 i32)))
  (import "cmesh" "call" (func $call (param i32 i32 i32 i32 i64) (result i32)))
  (import "cmesh" "send" (func $send (param i32 i32 i32 i32 i32 i32 i64) (result i32)))
  (import "cmesh" "ctx" (func $ctx (param i32) (result i64)))
  (import "cmesh" "ctxs" (func $ctxs (param i32) (result i32)))
  (import "cmesh" "sha256" (func $sha256 (param i32 i32 i32)))
  (import "cmesh" "verify" (func $verify (param i32 i32 i32 i32) (result i32)))
  (import "cmesh" "seed" (func $seed (param i32)))
  (import "cmesh" "fail" (func $fail (param i32 i32)))`

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

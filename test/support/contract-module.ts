/**
 * Contracts made by hand, in WebAssembly text, for tests that need what no compiler would write. Every host function is imported
 * under its own name; each function exported as `call_<name>` goes into the ABI.
 */
import binaryen from 'assemblyscript/binaryen'

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

const {
  BulkMemory, ExceptionHandling, MutableGlobals, NontrappingFPToInt, ReferenceTypes, SignExt, SIMD128, TailCall,
} = binaryen.Features
/** What the oldest supported engine knows; with more, the encoder uses types that it does not. */
const FEATURES = BulkMemory | ExceptionHandling | MutableGlobals | NontrappingFPToInt | ReferenceTypes | SignExt | SIMD128
  | TailCall

export const MEMORY = '(memory (export "memory") 1 64)'

export interface ModuleOptions {
  /** Default: all host functions. */
  readonly imports?: string
  /** Default: `MEMORY`. */
  readonly memory?: string
  /** The `cmesh.abi` section; `undefined` leaves it out. Default: all `call_` exports, as writes. */
  readonly abi?: string | undefined
}

/** `body`: functions, globals, tables and data of the module. */
export function contractModule(body: string, options: ModuleOptions = {}): Uint8Array {
  const text = `(module ${options.imports ?? IMPORTS} ${options.memory ?? MEMORY} ${body})`
  const names = [...body.matchAll(/\(export "call_([A-Za-z0-9_]+)"\)/g)].map(([, name]) => name)
  const abi = 'abi' in options ? options.abi : abiText(names.map((name) => ({ name })))
  const module = binaryen.parseText(text)
  try {
    module.setFeatures(FEATURES)
    if (abi !== undefined) module.addCustomSection('cmesh.abi', new TextEncoder().encode(abi))
    return new Uint8Array(module.emitBinary())
  } finally {
    module.dispose()
  }
}

/** The JSON of an ABI; each function is a write without parameters unless it says otherwise. */
export function abiText(functions: readonly object[]): string {
  return JSON.stringify({ abi: 1, sdk: 'none',
    functions: functions.map((entry) => ({ mode: 'write', params: [], returns: 'void', ...entry })), events: [] })
}

/** Contracts in WebAssembly text that keep one value and can be replaced by one another; each says which it is. */
import { abiText, contractModule } from './contract-module.ts'

export interface VersionOptions {
  /** What `which` gives, a digit. */
  readonly which: number
  /** Has an `init` that keeps its arguments as the value; `fails` after that. */
  readonly init?: 'keeps' | 'fails'
  /** Has a `migrate` that keeps its argument as the value, emits and then `fails`, where it does. */
  readonly migrate?: 'keeps' | 'fails'
  /** Bytes of a custom section: a module that costs more. */
  readonly padding?: number
}

/** `put` keeps its input, `value` gives what is kept, `which` says which code it is. */
export function versionedContract({ which, init, migrate, padding = 0 }: VersionOptions): Uint8Array {
  const keep = '(local.set $n (call $input)) (call $reg (i32.const 128)) (call $set (i32.const 0) (i32.const 1) (i32.const 128) (local.get $n))'
  const special = (name: string, how: 'keeps' | 'fails' | undefined): string => (how === undefined ? '' : `
    (func (export "call_${name}") (local $n i32) ${keep} (call $emit (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)) ${how === 'fails' ? '(unreachable)' : ''})`)
  const modes = [['value', 'view'], ['which', 'view'], ['put', 'write'], ...(init === undefined ? [] : [['init', 'init']]), ...(migrate === undefined ? [] : [['migrate', 'migrate']])]
  return contractModule(`
    (data (i32.const 0) "v") (data (i32.const 8) "${which}") (data (i32.const 4096) "${'x'.repeat(padding)}")
    (func (export "call_value") (drop (call $get (i32.const 0) (i32.const 1))) (call $reg (i32.const 128)) (call $output (i32.const 128) (call $reglen)))
    (func (export "call_which") (call $output (i32.const 8) (i32.const 1)))
    (func (export "call_put") (local $n i32) ${keep})
    ${special('init', init)} ${special('migrate', migrate)}`, { abi: abiText(modes.map(([name, mode]) => ({ name, mode }))) })
}

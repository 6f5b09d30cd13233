/**
 * The contracts of the determinism workload, in WebAssembly text and in AssemblyScript. Arguments are texts of 16 hex digits,
 * each one i64; results are of the same form. What an instruction gives is kept in state, so that a difference of one bit
 * changes the state root.
 */
import { abiText, contractModule } from '../support/contract-module.ts'
import { NUMBERS, TRAPPING } from './numbers.ts'

/** The contract that does everything, the one that it calls, and a proxy of the first. */
export const MACHINE = '0xaa1'
export const NEIGHBOUR = '0xaa2'
export const PROXY = '0xaa3'
export const LIBRARY = '0xaa4'

/** Input at 1,024, state keys and values at 3,072, the answer at 3,200, an address to call at 3,300, the rest from 8,192 on. */
const COMMON = `
  (global $loaded (mut i32) (i32.const 0))
  (func $load (if (i32.eqz (global.get $loaded)) (then (drop (call $input)) (call $reg (i32.const 1024)) (global.set $loaded (i32.const 1)))))
  (func $arg (param $i i32) (result i64) (local $p i32) (local $end i32) (local $v i64) (local $c i64)
    (call $load)
    (local.set $p (i32.add (i32.const 1026) (i32.mul (local.get $i) (i32.const 19))))
    (local.set $end (i32.add (local.get $p) (i32.const 16)))
    (loop $next
      (local.set $c (i64.load8_u (local.get $p)))
      (local.set $v (i64.or (i64.shl (local.get $v) (i64.const 4))
        (i64.sub (local.get $c) (select (i64.const 87) (i64.const 48) (i64.gt_u (local.get $c) (i64.const 57))))))
      (local.set $p (i32.add (local.get $p) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $p) (local.get $end))))
    (local.get $v))
  (func $arg32 (param $i i32) (result i32) (i32.wrap_i64 (call $arg (local.get $i))))
  (func $hex (param $p i32) (param $v i64) (local $i i32) (local $d i32)
    (loop $next
      (local.set $d (i32.and (i32.wrap_i64 (i64.shr_u (local.get $v) (i64.extend_i32_u (i32.sub (i32.const 60) (i32.mul (local.get $i) (i32.const 4)))))) (i32.const 15)))
      (i32.store8 (i32.add (local.get $p) (local.get $i)) (i32.add (local.get $d) (select (i32.const 87) (i32.const 48) (i32.gt_u (local.get $d) (i32.const 9)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $i) (i32.const 16)))))
  (func $answer (param $v i64)
    (i32.store8 (i32.const 3200) (i32.const 34)) (call $hex (i32.const 3201) (local.get $v)) (i32.store8 (i32.const 3217) (i32.const 34))
    (call $output (i32.const 3200) (i32.const 18)))
  (func $keep (param $slot i32) (param $v i64)
    (i32.store (i32.const 3072) (local.get $slot)) (i64.store (i32.const 3080) (local.get $v))
    (call $set (i32.const 3072) (i32.const 4) (i32.const 3080) (i32.const 8)))
  (func $kept (param $slot i32) (result i64)
    (i32.store (i32.const 3072) (local.get $slot)) (i64.store (i32.const 3080) (i64.const 0))
    (if (i32.eq (call $get (i32.const 3072) (i32.const 4)) (i32.const 8)) (then (call $reg (i32.const 3080))))
    (i64.load (i32.const 3080)))
  (func $fold (param $from i32) (param $to i32) (result i64) (local $v i64)
    (block $done (loop $next
      (br_if $done (i32.ge_u (local.get $from) (local.get $to)))
      (local.set $v (i64.add (i64.mul (i64.rotl (local.get $v) (i64.const 9)) (i64.const 0x9E3779B97F4A7C15)) (i64.load8_u (local.get $from))))
      (local.set $from (i32.add (local.get $from) (i32.const 1)))
      (br $next)))
    (local.get $v))`

const numbered = (count: number, text: (index: number) => string): string => Array.from({ length: count }, (_, index) => text(index)).join(' ')

/** Recursions that differ in what a native frame holds, each taking the levels to go. One that ends writes state at its bottom. */
const RECURSIONS: Readonly<Record<string, string>> = {
  slim: `
    (func $slim (param $n i32) (if (local.get $n) (then (call $slim (i32.sub (local.get $n) (i32.const 1))) (call $count)) (else (call $keep (i32.const 1) (i64.const 7)))))`,
  parameters: `(func $parameters (param $n i32) (param ${numbered(60, () => 'i64')}) (result i64)
    (if (result i64) (local.get $n)
      (then (i64.add (local.get 60) (call $parameters (i32.sub (local.get $n) (i32.const 1)) ${numbered(60, i => `(local.get ${i + 1})`)})))
      (else (local.get 1))))`,
  locals: `(func $locals (param $n i32) (result i64) (local ${numbered(200, () => 'i64')})
    ${numbered(200, i => `(local.set ${i + 1} (i64.add (i64.extend_i32_u (local.get $n)) (i64.const ${i})))`)}
    (if (local.get $n) (then (drop (call $locals (i32.sub (local.get $n) (i32.const 1))))))
    ${numbered(200, i => `(local.get ${i + 1})`)} ${numbered(199, () => '(i64.add)')})`,
  doubles: `(func $doubles (param $n i32) (param $x f64) (result f64)
    ${numbered(100, i => `(f64.mul (local.get $x) (f64.const ${i + 1}))`)}
    (if (result f64) (local.get $n) (then (call $doubles (i32.sub (local.get $n) (i32.const 1)) (local.get $x))) (else (local.get $x)))
    ${numbered(100, () => '(f64.add)')})`,
  indirect: `(func $indirect (param $n i32) (if (local.get $n)
    (then (call_indirect (param i32) (i32.sub (local.get $n) (i32.const 1)) (i32.const 2)) (call $count))))`,
  mutual: `(func $mutual (param $n i32) (result i32) (if (result i32) (local.get $n)
      (then (i32.add (i32.const 1) (call $other (i32.sub (local.get $n) (i32.const 1))))) (else (i32.const 0))))
    (func $other (param $n i32) (result i32) (if (result i32) (local.get $n)
      (then (i32.add (i32.const 1) (call $mutual (i32.sub (local.get $n) (i32.const 1))))) (else (i32.const 0))))`,
}

const RECURSION_CALLS: Readonly<Record<keyof typeof RECURSIONS, string>> = {
  slim: '(call $slim (call $arg32 (i32.const 0))) (call $answer (i64.extend_i32_u (global.get $counted)))',
  parameters: `(call $answer (call $parameters (call $arg32 (i32.const 0)) ${numbered(60, i => `(i64.const ${i})`)}))`,
  locals: '(call $answer (call $locals (call $arg32 (i32.const 0))))',
  doubles: '(call $answer (i64.reinterpret_f64 (call $doubles (call $arg32 (i32.const 0)) (f64.const 1.5))))',
  indirect: '(call $indirect (call $arg32 (i32.const 0))) (call $answer (i64.extend_i32_u (global.get $counted)))',
  mutual: '(call $answer (i64.extend_i32_u (call $mutual (call $arg32 (i32.const 0)))))',
}

export const RECURSION_NAMES: readonly string[] = Object.keys(RECURSIONS)
export const TRAP_NAMES: readonly string[] = Object.keys(TRAPPING)

/** Functions of the ABI with their bodies. */
const MACHINE_FUNCTIONS: Readonly<Record<string, string>> = {
  ...Object.fromEntries(Object.entries(RECURSION_CALLS).map(([name, body]) => [`recurse_${name}`, body])),
  ...Object.fromEntries(Object.entries(TRAPPING).map(([name, value]) => [name, `
    (local $a i64) (local $b i64) (local.set $a (call $arg (i32.const 0))) (local.set $b (call $arg (i32.const 1)))
    (call $keep (i32.const 2) (local.get $a)) (call $answer ${value})`])),
  ...Object.fromEntries(['integers', 'floats', 'constants'].map((name, slot) => [name, `
    (local $end i32) (local.set $end (call $${name} (call $arg (i32.const 0)) (call $arg (i32.const 1))))
    (i32.store (i32.const 3072) (i32.const ${slot + 16}))
    (call $set (i32.const 3072) (i32.const 4) (i32.const 8192) (i32.sub (local.get $end) (i32.const 8192)))
    (call $answer (call $fold (i32.const 8192) (local.get $end)))`])),
  mix: `(local $bits i64) (local.set $bits (call $mix (call $arg (i32.const 0)) (call $arg (i32.const 1)) (call $arg32 (i32.const 2))))
    (call $keep (i32.const 3) (local.get $bits)) (call $answer (local.get $bits))`,
  spin: `(local $n i32) (local $v i64) (local.set $n (call $arg32 (i32.const 0)))
    (call $keep (i32.const 4) (i64.const 1))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $n)))
      (local.set $v (i64.add (i64.mul (local.get $v) (i64.const 31)) (i64.extend_i32_u (local.get $n))))
      (block $three (block $two (block $one (br_table $one $two $three (i32.and (local.get $n) (i32.const 3))))
        (local.set $v (i64.xor (local.get $v) (i64.const 0x55)))) (local.set $v (i64.rotl (local.get $v) (i64.const 3))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next)))
    (call $emit (i32.const 0) (i32.const 5) (i32.const 3080) (i32.const 8))
    (call $answer (local.get $v))`,
  grow: `(local $n i32) (local $v i32) (local.set $n (call $arg32 (i32.const 0)))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $n)))
      (local.set $v (i32.add (i32.mul (local.get $v) (i32.const 3)) (memory.grow (call $arg32 (i32.const 1)))))
      (i32.store (i32.sub (i32.mul (memory.size) (i32.const 65536)) (i32.const 4)) (local.get $n))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next)))
    (call $answer (i64.or (i64.shl (i64.extend_i32_u (local.get $v)) (i64.const 32)) (i64.extend_i32_u (memory.size))))`,
  bulk: `(memory.fill (call $arg32 (i32.const 0)) (i32.const 0xa5) (call $arg32 (i32.const 1)))
    (memory.copy (call $arg32 (i32.const 2)) (call $arg32 (i32.const 0)) (call $arg32 (i32.const 1)))
    (memory.init $segment (i32.const 9000) (i32.const 1) (i32.const 5))
    (call $answer (call $fold (i32.const 8192) (i32.const 12288)))`,
  peek: '(i64.store (call $arg32 (i32.const 0)) (call $arg (i32.const 1))) (call $answer (i64.load offset=16 (call $arg32 (i32.const 0))))',
  indirect: '(call $answer (call_indirect (result i64) (call $arg32 (i32.const 0))))',
  dead: '(call $keep (i32.const 5) (i64.const 5)) (unreachable)',
  refuse: '(call $keep (i32.const 6) (i64.const 6)) (call $emit (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 8)) (call $fail (i32.const 8) (i32.const 12))',
  host: '(call $set (call $arg32 (i32.const 0)) (call $arg32 (i32.const 1)) (call $arg32 (i32.const 2)) (call $arg32 (i32.const 3)))',
  read: '(call $answer (call $kept (call $arg32 (i32.const 0))))',
  write_in_view: '(call $keep (i32.const 7) (i64.const 7))',
  context: `(call $answer (i64.add (i64.mul (call $ctx (i32.const 0)) (i64.const 1000003)) (i64.add (call $ctx (i32.const 1))
      (i64.extend_i32_u (i32.add (call $ctxs (i32.const 0)) (i32.add (call $ctxs (i32.const 1)) (call $ctxs (i32.const 2))))))))
    (call $keep (i32.const 8) (call $ctx (i32.const 2)))`,
  crypto: `(call $seed (i32.const 8192)) (call $sha256 (i32.const 8192) (i32.and (call $arg32 (i32.const 0)) (i32.const 8191)) (i32.const 8224))
    (call $keep (i32.const 9) (i64.add (call $fold (i32.const 8192) (i32.const 8256))
      (i64.extend_i32_u (call $verify (i32.const 8192) (i32.const 8224) (i32.const 0) (i32.const 64)))))
    (call $answer (i64.load (i32.const 8224)))`,
  fill_keys: `(local $n i32) (local $x i64) (local.set $n (call $arg32 (i32.const 0))) (local.set $x (call $arg (i32.const 1)))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $n)))
      (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 6364136223846793005)) (i64.const 1442695040888963407)))
      (i64.store (i32.const 8192) (i64.shr_u (local.get $x) (i64.const 3)))
      (if (i64.eqz (i64.and (local.get $x) (i64.const 0x700)))
        (then (drop (call $del (i32.const 8192) (i32.const 1))))
        (else (call $set (i32.const 8192) (i32.add (i32.const 1) (i32.wrap_i64 (i64.and (i64.shr_u (local.get $x) (i64.const 40)) (i64.const 3))))
          (i32.const 8192) (i32.wrap_i64 (i64.and (i64.shr_u (local.get $x) (i64.const 44)) (i64.const 31))))))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next)))`,
  scan_keys: `(local $count i32) (i64.store (i32.const 8192) (call $arg (i32.const 0))) (i64.store (i32.const 8200) (call $arg (i32.const 1)))
    (local.set $count (call $scan (i32.const 8192) (i32.and (call $arg32 (i32.const 2)) (i32.const 3))
      (i32.const 8200) (i32.and (call $arg32 (i32.const 3)) (i32.const 3)) (call $arg32 (i32.const 4)) (call $arg32 (i32.const 5))))
    (drop (memory.grow (i32.const 2))) (call $reg (i32.const 16384))
    (call $keep (i32.const 10) (i64.add (i64.extend_i32_u (local.get $count)) (call $fold (i32.const 16384) (i32.add (i32.const 16384) (call $reglen)))))
    (call $answer (call $kept (i32.const 10)))`,
  nest: `(local $status i32) (call $keep (i32.add (i32.const 100) (call $arg32 (i32.const 0))) (call $arg (i32.const 1)))
    (i32.store16 (i32.const 3327) (i32.const 0x225b)) (call $hex (i32.const 3329) (i64.add (call $arg (i32.const 0)) (i64.const 1)))
    (i32.store16 (i32.const 3345) (i32.const 0x2c22)) (i32.store8 (i32.const 3347) (i32.const 34))
    (call $hex (i32.const 3348) (i64.rotr (call $arg (i32.const 1)) (i64.const 5))) (i32.store16 (i32.const 3364) (i32.const 0x5d22))
    (local.set $status (call $call (select (i32.const 32) (i32.const 48) (call $arg32 (i32.const 1))) (i32.const 15) (i32.const 3327) (i32.const 39) (i64.const 0)))
    (if (i32.ge_s (call $reglen) (i32.const 0)) (then (call $reg (i32.const 8192))))
    (call $keep (i32.add (i32.const 200) (call $arg32 (i32.const 0))) (call $fold (i32.const 8192) (i32.const 8320)))
    (call $answer (i64.extend_i32_u (i32.add (local.get $status) (i32.mul (i32.const 16) (call $arg32 (i32.const 0))))))`,
  ask: `(local $status i32) (call $keep (i32.const 11) (call $arg (i32.const 0)))
    (local.set $status (call $call (i32.add (i32.const 64) (i32.mul (i32.const 24) (call $arg32 (i32.const 0)))) (i32.const 19) (i32.const 1024) (i32.const 0) (call $arg (i32.const 1))))
    (if (i32.ge_s (call $reglen) (i32.const 0)) (then (call $reg (i32.const 8192))))
    (call $keep (i32.const 12) (i64.add (call $fold (i32.const 8192) (i32.const 8320)) (i64.extend_i32_u (local.get $status))))
    (call $answer (call $ctx (i32.const 2)))`,
  post: '(call $answer (i64.extend_i32_s (call $send (i32.const 64) (i32.const 19) (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 0) (call $arg (i32.const 0)))))',
}

const VIEWS = new Set(['read', 'write_in_view'])

/** 0: a topic; 8: a reason; 32 and 48: this machine and its proxy; from 64 on, 24 apart: functions of the neighbour, then none. */
const MACHINE_DATA = `
  (data (i32.const 0) "topic...no thank you")
  (data (i32.const 32) "0xSW:${MACHINE}:nest") (data (i32.const 48) "0xSW:${PROXY}:nest")
  (data (i32.const 64) "0xSW:${NEIGHBOUR}:a_counts") (data (i32.const 88) "0xSW:${NEIGHBOUR}:b_refuse") (data (i32.const 112) "0xSW:${NEIGHBOUR}:c_traps_")
  (data (i32.const 136) "0xSW:${NEIGHBOUR}:d_spins_") (data (i32.const 160) "0xSW:${NEIGHBOUR}:e_nobody") (data (i32.const 184) "0xSW:0xfff:a_nobody")
  (data $segment "segment!")`

const MACHINE_TABLE = `
  (table 4 funcref) (elem (i32.const 0) $one) (elem (i32.const 2) $indirect)
  (func $one (result i64) (i64.const 1))
  (global $counted (mut i32) (i32.const 0))
  (func $count (global.set $counted (i32.add (global.get $counted) (i32.const 1))))`

function moduleOf(body: string, functions: Readonly<Record<string, string>>): Uint8Array {
  const exported = Object.entries(functions).map(([name, text]) => `(func (export "call_${name}") ${text})`)
  const abi = abiText(Object.keys(functions).map(name => ({ name, mode: VIEWS.has(name) ? 'view' : 'write' })))
  return contractModule([COMMON, body, ...exported].join('\n'), { abi })
}

export const MACHINE_NAMES: readonly string[] = Object.keys(MACHINE_FUNCTIONS)

export function machineModule(): Uint8Array {
  return moduleOf([NUMBERS, MACHINE_DATA, MACHINE_TABLE, ...Object.values(RECURSIONS)].join('\n'), MACHINE_FUNCTIONS)
}

export function neighbourModule(): Uint8Array {
  return moduleOf('(data (i32.const 0) "topic...the neighbour refuses")', {
    a_counts: `(call $keep (i32.const 1) (i64.add (call $kept (i32.const 1)) (i64.const 1)))
      (call $emit (i32.const 0) (i32.const 5) (i32.const 3080) (i32.const 8)) (call $answer (call $kept (i32.const 1)))`,
    b_refuse: '(call $keep (i32.const 2) (i64.const 2)) (call $fail (i32.const 8) (i32.const 21))',
    c_traps_: '(call $keep (i32.const 3) (i64.const 3)) (call $emit (i32.const 0) (i32.const 5) (i32.const 0) (i32.const 0)) (unreachable)',
    d_spins_: '(call $keep (i32.const 4) (i64.const 4)) (loop $next (br $next))',
  })
}

/** What a compiler and a library make: maps, sorting, texts of numbers, transcendental functions. */
export const LIBRARY_SOURCE = `
import { state } from 'cmesh/sdk'

export function collect(n: i32, seed: u64): string {
  const counts = new Map<string, i32>()
  let x = seed
  for (let i = 0; i < n; i++) {
    x = x * 6364136223846793005 + 1442695040888963407
    const key = 'k' + (x >> 58).toString()
    counts.set(key, (counts.has(key) ? counts.get(key) : 0) + 1)
  }
  const keys = counts.keys()
  keys.sort()
  let text = ''
  for (let i = 0; i < keys.length; i++) text += keys[i] + '=' + counts.get(keys[i]).toString() + ' '
  state.setString('collected', text)
  return text
}

export function curve(n: i32, seed: u64): string {
  let x = reinterpret<f64>(seed)
  let sum = 0.0
  for (let i = 0; i < n; i++) {
    x = Math.sin(x) * 3.0 + Math.pow(Math.abs(x), 0.3) + Math.log(f64(i) + 1.0) + Math.exp(-Math.abs(x))
    if (x != x) x = f64(i)
    sum += x / (f64(i) - 5.0)
  }
  state.setString('curve', sum.toString())
  state.setString('bits', reinterpret<u64>(sum).toString() + ' ' + reinterpret<u32>(f32(x)).toString())
  return sum.toString()
}
`

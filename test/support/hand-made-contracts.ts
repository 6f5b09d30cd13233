/**
 * Contracts in WebAssembly text that do one hostile or telling thing each. All use one memory page; `args` is a state key whose
 * value they read as little-endian i32 numbers, so that a test can hand in any bits.
 */
import { contractModule } from './contract-module.ts'

/** The body as often as the parameter `$count` says, with `$i` counting. */
const many = (body: string): string => `
  (local $i i32)
  (block $done (loop $next
    (br_if $done (i32.ge_u (local.get $i) (local.get $count)))
    ${body}
    (local.set $i (i32.add (local.get $i) (i32.const 1)))
    (br $next)))`

/** The number at an index of `args`, once it is loaded. */
const arg = (index: number): string => `(i32.load (i32.const ${16 + 4 * index}))`

/** Parameters and results of each host function. */
export const HOST_FUNCTIONS = {
  input: [0, true], reg: [1, false], reglen: [0, true], output: [2, false], get: [2, true], set: [4, false], del: [2, true],
    emit: [4, false],
  ctx: [1, true], ctxs: [1, true], fail: [2, false],
} as const satisfies Record<string, readonly [number, boolean]>

export type HostFunctionName = keyof typeof HOST_FUNCTIONS

/** Calls each host function with the numbers under `args`; `grown_<name>` grows the memory to 4 pages first. */
export function rawModule(): Uint8Array {
  const one = (name: string, [params, result]: readonly [number, boolean]): string => {
    const call = `(call $${name} ${Array.from({ length: params }, (_, index) => arg(index)).join(' ')})`
    const used = result ? `(drop ${call})` : call
    return `
      (func (export "call_${name}") (call $load) ${used})
      (func (export "call_grown_${name}") (drop (memory.grow (i32.const 3))) (call $load) ${used})`
  }
  return contractModule(`
    (data (i32.const 0) "args")
    (func $load (drop (call $get (i32.const 0) (i32.const 4))) (call $reg (i32.const 16)))
    ${Object.entries(HOST_FUNCTIONS).map(([name, shape]) => one(name, shape)).join('')}
    (func (export "call_empty_register") (call $reg (i32.const 0)))
    (func (export "call_keys") (call $load) (call $keys ${arg(0)}))
    (func $keys (param $count i32) ${many(`
      (i32.store (i32.const 8) (local.get $i))
      (call $set (i32.const 8) (i32.const 4) (i32.const 0) (i32.const 1))`)})
    (func (export "call_events") (call $load) (call $events ${arg(0)}))
    (func $events (param $count i32) ${many('(call $emit (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 1))')})
    (func (export "call_values") (call $load) (call $values ${arg(0)}))
    (func $values (param $count i32) ${many('(call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 65535))')})`)
}

/** Writes, deletes and emits, and only then fails, each function in its own way. `dirty` does not fail. */
export function failingModule(): Uint8Array {
  return contractModule(`
    (data (i32.const 0) "kept" "gone" "new!" "because")
    (func $spoil
      (call $set (i32.const 0) (i32.const 4) (i32.const 8) (i32.const 4))
      (drop (call $del (i32.const 4) (i32.const 4)))
      (call $set (i32.const 8) (i32.const 4) (i32.const 8) (i32.const 4))
      (call $emit (i32.const 8) (i32.const 3) (i32.const 8) (i32.const 4)))
    (func $recurse (call $recurse) (call $spoil))
    (func (export "call_dirty") (call $spoil))
    (func (export "call_trap") (call $spoil) (unreachable))
    (func (export "call_revert") (call $spoil) (call $fail (i32.const 12) (i32.const 7)))
    (func (export "call_stack") (call $spoil) (call $recurse))
    (func (export "call_pointer") (call $spoil) (call $set (i32.const -1) (i32.const 4) (i32.const 0) (i32.const 1)))
    (func (export "call_limit") (call $spoil) (call $set (i32.const 0) (i32.const 257) (i32.const 0) (i32.const 1)))
    (func (export "call_caught") (call $spoil)
      (try (do (call $fail (i32.const 12) (i32.const 7))) (catch_all))
      (call $output (i32.const 12) (i32.const 7)))
    (func (export "call_caught_twice") (call $spoil)
      (try (do (call $fail (i32.const 12) (i32.const 7))) (catch_all))
      (try (do (call $spoil)) (catch_all)))
    (func (export "call_caught_host") (call $spoil)
      (try (do (drop (call $get (i32.const 4) (i32.const 3)))) (catch_all)))`)
}

/**
 * Each tells what it finds in its instance as one digit, then changes it. A second call that finds the change gives another
 * digit, or traps.
 */
export const LEFTOVERS: Readonly<Record<string, () => Uint8Array>> = {
  'memory': () => tell({
    find: '(i32.load (i32.const 60000))',
    change: '(i32.store (i32.const 60000) (i32.const 1))',
  }),
  'an exported global': () => tell({
    find: '(global.get $g)',
    change: '(global.set $g (i32.const 1))',
    more: '(global $g (export "g") (mut i32) (i32.const 0))',
  }),
  'a hidden global': () => tell({
    find: '(global.get $g)',
    change: '(global.set $g (i32.const 1))',
    more: '(global $g (mut i32) (i32.const 0))',
  }),
  'an exported 64-bit global': () => tell({
    find: '(i32.wrap_i64 (global.get $g))',
    change: '(global.set $g (i64.const 1))',
    more: '(global $g (export "g") (mut i64) (i64.const 0))',
  }),
  'a global that is a reference': () => tell({
    find: '(ref.is_null (global.get $g))',
    change: '(global.set $g (ref.func $run))',
    more: '(global $g (export "g") (mut funcref) (ref.null func)) (elem declare func $run)',
  }),
  'a NaN with a payload': () => tell({
    find: '(i64.eq (i64.reinterpret_f64 (global.get $g)) (i64.const 0x7ff4000000000001))',
    change: '(global.set $g (f64.const 1))',
    more: '(global $g (export "g") (mut f64) (f64.const nan:0x4000000000001))',
  }),
  'grown memory': () => tell({
    find: '(memory.size)',
    change: '(drop (memory.grow (i32.const 1)))',
  }),
  'memory grown by nothing': () => tell({
    find: '(i32.load (i32.const 60000))',
    change: '(drop (memory.grow (i32.const 0))) (i32.store (i32.const 60000) (i32.const 1))',
  }),
  'a table': () => tell({
    find: '(ref.is_null (table.get $t (i32.const 0)))',
    change: '(table.set $t (i32.const 0) (ref.func $run))',
    more: '(table $t 1 funcref) (elem declare func $run)',
  }),
  'a grown table': () => tell({
    find: '(table.size $t)',
    change: '(drop (table.grow $t (ref.null func) (i32.const 1)))',
    more: '(table $t 1 9 funcref)',
  }),
  'a dropped segment': () => tell({
    find: '(i32.const 0)',
    change: '(memory.init $d (i32.const 100) (i32.const 0) (i32.const 1)) (data.drop $d)',
    more: '(data $d "x")',
  }),
  'a dropped element': () => tell({
    find: '(i32.const 0)',
    change: '(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1)) (elem.drop $e)',
    more: '(table $t 1 funcref) (elem $e func $run)',
  }),
}

function tell({ find, change, more = '' }: { readonly find: string, readonly change: string,
  readonly more?: string }): Uint8Array {
  return contractModule(`${more}
    (func $run (export "call_run")
      (i32.store8 (i32.const 0) (i32.add (i32.const 48) ${find}))
      (call $output (i32.const 0) (i32.const 1))
      ${change})
    (func (export "call_run_and_trap") (call $run) (unreachable))`)
}

/**
 * Runs a program that comes as input: three letters a step. `skv` sets key k to v, `dk_` deletes, `ekv` emits v on topic k, `gk_`
 * appends the value of k (or `-`) to the output, `x__` traps, `r__` reverts.
 */
export function interpreterModule(): Uint8Array {
  const step = (letter: string, body: string): string => (
    `(if (i32.eq (local.get $op) (i32.const ${letter.charCodeAt(0)})) (then ${body}))`)
  const [k, v] = ['(i32.add (local.get $p) (i32.const 1))', '(i32.add (local.get $p) (i32.const 2))']
  const one = '(i32.const 1)'
  return contractModule(`
    (func (export "call_run") (local $p i32) (local $end i32) (local $op i32) (local $out i32)
      (local.set $end (i32.add (i32.const 1024) (call $input)))
      (call $reg (i32.const 1024))
      (local.set $p (i32.const 1024))
      (block $done (loop $next
        (br_if $done (i32.ge_u (local.get $p) (local.get $end)))
        (local.set $op (i32.load8_u (local.get $p)))
        ${step('s', `(call $set ${k} ${one} ${v} ${one})`)}
        ${step('d', `(drop (call $del ${k} ${one}))`)}
        ${step('e', `(call $emit ${k} ${one} ${v} ${one})`)}
        ${step('g', `
          (if (i32.lt_s (call $get ${k} ${one}) (i32.const 0))
            (then (i32.store8 (local.get $out) (i32.const 45)))
            (else (call $reg (local.get $out))))
          (local.set $out (i32.add (local.get $out) ${one}))`)}
        ${step('x', '(unreachable)')}
        ${step('r', `(call $fail ${k} ${one})`)}
        (local.set $p (i32.add (local.get $p) (i32.const 3)))
        (br $next)))
      (call $output (i32.const 0) (local.get $out)))`)
}

/**
 * Contracts in WebAssembly text that do one hostile or telling thing each. All use one memory page; `args` is a state key whose
 * value they read as little-endian i32 numbers, so that a test can hand in any bits.
 */
import { abiText, contractModule } from './contract-module.ts'

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

/** Parameters of each host function (`i` an i32, `l` an i64), and whether it gives something. */
export const HOST_FUNCTIONS = {
  input: ['', true], reg: ['i', false], reglen: ['', true], output: ['ii', false],
  get: ['ii', true], set: ['iiii', false], del: ['ii', true], scan: ['iiiiii', true],
  emit: ['iiii', false], call: ['iiiil', true], send: ['iiiiiil', true],
  ctx: ['i', true], ctxs: ['i', true], sha256: ['iii', false], verify: ['iiii', true], seed: ['i', false], fail: ['ii', false],
} as const satisfies Record<string, readonly [string, boolean]>

export type HostFunctionName = keyof typeof HOST_FUNCTIONS

/** Where the memory of `rawModule` holds the address it was made with. */
export const RAW_FQMN_AT = 512

/**
 * Calls each host function with the numbers under `args`; `grown_<name>` grows the memory to 4 pages first. The text `fqmn` stands in
 * its memory.
 */
export function rawModule(fqmn = ''): Uint8Array {
  const one = (name: string, [params, result]: readonly [string, boolean]): string => {
    const args = [...params].map((type, index) => type === 'i' ? arg(index) : `(i64.extend_i32_s ${arg(index)})`)
    const call = `(call $${name} ${args.join(' ')})`
    const used = result ? `(drop ${call})` : call
    return `
      (func (export "call_${name}") (call $load) ${used})
      (func (export "call_grown_${name}") (drop (memory.grow (i32.const 3))) (call $load) ${used})`
  }
  return contractModule(`
    (data (i32.const 0) "args")
    (data (i32.const ${RAW_FQMN_AT}) "${fqmn}")
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
    (func $spin (loop $again (br $again)))
    (func (export "call_dirty") (call $spoil))
    (func (export "call_trap") (call $spoil) (unreachable))
    (func (export "call_revert") (call $spoil) (call $fail (i32.const 12) (i32.const 7)))
    (func (export "call_stack") (call $spoil) (call $recurse))
    (func (export "call_gas") (call $spoil) (call $spin))
    (func (export "call_nest") (call $spoil) (drop (call $input)) (call $reg (i32.const 512))
      (drop (call $call (i32.const 512) (call $reglen) (i32.const 0) (i32.const 0) (i64.const 0)))
      (unreachable))
    (func (export "call_text") (call $spoil) (i32.store8 (i32.const 100) (i32.const 0xff)) (call $output (i32.const 100) (i32.const 1)))
    (func (export "call_abi") (call $spoil) (drop (call $ctx (i32.const 9))))
    (func (export "call_value") (call $spoil) (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 65537)))
    (func (export "call_size") (call $spoil) (call $output (i32.const 0) (i32.const 65537)))
    (func (export "call_pointer") (call $spoil) (call $set (i32.const -1) (i32.const 4) (i32.const 0) (i32.const 1)))
    (func (export "call_limit") (call $spoil) (call $set (i32.const 0) (i32.const 257) (i32.const 0) (i32.const 1)))`)
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
  'memory at an address that is computed': () => tell({
    find: '(i32.load (i32.const 60000))',
    change: '(i32.store (i32.add (i32.load (i32.const 4)) (i32.const 60000)) (i32.const 1))',
  }),
  'memory by the offset of a store': () => tell({
    find: '(i32.load (i32.const 60000))',
    change: '(i32.store offset=60000 (i32.load (i32.const 4)) (i32.const 1))',
  }),
  'memory behind a store that nothing follows': () => tell({
    find: '(i32.load8_u (i32.const 65535))',
    change: '(i64.store (i32.add (i32.load (i32.const 4)) (i32.const 65528)) (i64.const -1))',
  }),
  'memory in a function that does nothing else': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(call $poke (i32.const 60000))',
    more: '(func $poke (param i32) (i32.store8 (local.get 0) (i32.const 1)))',
  }),
  'memory in a function of a table': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(call_indirect (param i32) (i32.const 60000) (i32.const 0))',
    more: '(table 1 funcref) (elem (i32.const 0) $poke) (func $poke (param i32) (loop $l (i32.store8 (local.get 0) (i32.const 1))))',
  }),
  'memory through a local that was another': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(call $poke (i32.const 60000))',
    more: `(func $poke (param $to i32) (local $at i32)
      (i32.store8 (local.get $at) (i32.const 48)) (local.set $at (local.get $to)) (i32.store8 (local.get $at) (i32.const 1)))`,
  }),
  'memory through a local that is another on the second turn': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(call $poke (i32.const 60000))',
    more: `(func $poke (param $to i32) (local $at i32)
      (i32.store8 (local.get $at) (i32.const 48))
      (loop $again (i32.store8 (local.get $at) (i32.const 1))
        (if (i32.eqz (local.get $at)) (then (local.set $at (local.get $to)) (br $again)))))`,
  }),
  'memory through a local that changes on one way': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(call $poke (i32.const 60000))',
    more: `(func $poke (param $to i32) (local $at i32)
      (if (local.get $to) (then (local.set $at (local.get $to))) (else (i32.store8 (local.get $at) (i32.const 48))))
      (i32.store8 (local.get $at) (i32.const 1)))`,
  }),
  'memory through a local that is stored at on another way': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(call $poke (i32.const 60000))',
    more: `(func $poke (param $to i32)
      (if (i32.eqz (i32.load8_u (i32.const 0))) (then (i32.store8 (local.get $to) (i32.const 1))) (else (i32.store8 (local.get $to) (i32.const 1)))))`,
  }),
  'memory through a local that changes while the value is made': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(call $poke (i32.const 60000))',
    more: `(func $poke (param $to i32) (local $at i32)
      (i32.store8 (local.get $at) (block (result i32) (local.set $at (local.get $to)) (i32.const 48)))
      (i32.store8 (local.get $at) (i32.const 1)))`,
  }),
  'memory at an address that a block gives': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(i32.store8 (if (result i32) (i32.load8_u (i32.const 0)) (then (i32.const 60000)) (else (i32.const 0))) (i32.const 1))',
  }),
  'memory that is filled': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(memory.fill (i32.const 8) (i32.const 1) (i32.const 60000))',
  }),
  'memory that is copied': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(memory.copy (i32.const 60000) (i32.const 0) (i32.const 1))',
  }),
  'memory from a segment': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(memory.init $some (i32.const 60000) (i32.const 0) (i32.const 1))',
    more: '(data $some "x")',
  }),
  'memory that the host writes to': () => tell({
    find: '(i32.load8_u (i32.const 60000))',
    change: '(call $sha256 (i32.const 0) (i32.const 4) (i32.const 59990))',
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
}

function tell({ find, change, more = '' }: { readonly find: string, readonly change: string,
  readonly more?: string }): Uint8Array {
  return contractModule(`${more}
    (func (export "call_run")
      (i32.store8 (i32.const 0) (i32.add (i32.const 48) ${find}))
      (call $output (i32.const 0) (i32.const 1))
      ${change})
    (func (export "call_run_and_trap") ${change} (unreachable))`)
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

const OUTPUT_AT = 8_192
/** Gives the register behind the digit in `$s`. */
const OUTPUT_REGISTER = `
      (i32.store8 (i32.const ${OUTPUT_AT}) (i32.add (i32.const 48) (local.get $s)))
      (if (i32.gt_s (call $reglen) (i32.const 0)) (then (call $reg (i32.const ${OUTPUT_AT + 1}))))
      (call $output (i32.const ${OUTPUT_AT}) (i32.add (i32.const 1) (call $reglen)))`

/**
 * Calls other contracts. Its input is addresses with blanks between them: the first is called, with the rest as its input. `relay`
 * gives 0 or 1 and what came back; `strict` traps when it was 1; `mark` writes and emits first; `again` calls itself without end;
 * `put`, `put_and_fail`, `put_and_trap`, `put_and_spin` write, emit, send and end so; `look` reads what they wrote; `who` gives caller, self and
 * origin. `begin`, `migrate` and `take` are of the modes that nobody may call.
 */
export function relayModule(): Uint8Array {
  const functions = ['relay', 'strict', 'mark', 'again', 'put', 'put_and_fail', 'put_and_trap', 'put_and_spin', 'peek', 'limited']
  const abi = abiText([
    ...functions.map((name) => ({ name })), { name: 'look', mode: 'view' }, { name: 'who', mode: 'view' }, { name: 'view_relay', mode: 'view' },
    { name: 'begin', mode: 'init' }, { name: 'migrate', mode: 'migrate' }, { name: 'take', mode: 'reply' },
  ])
  return contractModule(`
    (data (i32.const 0) "mine" "putx" "because" ":again" "0xSW:")
    (func $next (param $gas i64) (result i32) (local $n i32) (local $i i32) (local $rest i32)
      (local.set $n (call $input)) (call $reg (i32.const 1024))
      (block $found (loop $more
        (br_if $found (i32.ge_u (local.get $i) (local.get $n)))
        (br_if $found (i32.eq (i32.load8_u (i32.add (i32.const 1024) (local.get $i))) (i32.const 32)))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br $more)))
      (local.set $rest (i32.add (local.get $i) (i32.lt_u (local.get $i) (local.get $n))))
      (call $call (i32.const 1024) (local.get $i)
        (i32.add (i32.const 1024) (local.get $rest)) (i32.sub (local.get $n) (local.get $rest)) (local.get $gas)))
    (func $forward (param $strict i32) (param $gas i64) (local $s i32)
      (local.set $s (call $next (local.get $gas)))
      (if (i32.and (local.get $s) (local.get $strict)) (then (unreachable)))
      ${OUTPUT_REGISTER})
    (func (export "call_relay") (call $forward (i32.const 0) (i64.const 0)))
    (func (export "call_view_relay") (call $forward (i32.const 0) (i64.const 0)))
    (func (export "call_strict") (call $forward (i32.const 1) (i64.const 0)))
    (func (export "call_limited") (call $forward (i32.const 0) (i64.const 300000)))
    (func (export "call_mark")
      (call $set (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 1))
      (call $emit (i32.const 0) (i32.const 4) (i32.const 0) (i32.const 1))
      (call $forward (i32.const 0) (i64.const 0)))
    (func (export "call_again") (local $n i32) (local $s i32)
      (memory.copy (i32.const 1024) (i32.const 21) (i32.const 5))
      (local.set $n (call $ctxs (i32.const 1)))
      (call $reg (i32.const 1029))
      (memory.copy (i32.add (i32.const 1029) (local.get $n)) (i32.const 15) (i32.const 6))
      (local.set $s (call $call (i32.const 1024) (i32.add (local.get $n) (i32.const 11)) (i32.const 0) (i32.const 0) (i64.const 0)))
      ${OUTPUT_REGISTER})
    (func $write
      (call $set (i32.const 0) (i32.const 4) (i32.const 4) (i32.const 3))
      (call $emit (i32.const 4) (i32.const 3) (i32.const 0) (i32.const 4))
      (memory.copy (i32.const 1024) (i32.const 21) (i32.const 5))
      (call $reg_self (i32.const 1029))
      (memory.copy (i32.add (i32.const 1029) (call $reglen)) (i32.const 15) (i32.const 6))
      (drop (call $send (i32.const 1024) (i32.add (call $reglen) (i32.const 11)) (i32.const 0) (i32.const 4)
        (i32.const 0) (i32.const 0) (i64.const 0))))
    (func $reg_self (param $to i32) (drop (call $ctxs (i32.const 1))) (call $reg (local.get $to)))
    (func (export "call_put") (call $write))
    (func (export "call_put_and_fail") (call $write) (call $fail (i32.const 8) (i32.const 7)))
    (func (export "call_put_and_trap") (call $write) (unreachable))
    (func (export "call_put_and_spin") (call $write) (loop $l (br $l)))
    (func $show (local $n i32)
      (local.set $n (call $get (i32.const 0) (i32.const 4)))
      (if (i32.ge_s (local.get $n) (i32.const 0))
        (then (call $reg (i32.const ${OUTPUT_AT})) (call $output (i32.const ${OUTPUT_AT}) (local.get $n)))
        (else (i32.store8 (i32.const ${OUTPUT_AT}) (i32.const 45)) (call $output (i32.const ${OUTPUT_AT}) (i32.const 1)))))
    (func (export "call_look") (call $show))
    (func (export "call_peek") (call $show))
    (func (export "call_who") (local $n i32) (local $at i32) (local $field i32)
      (local.set $at (i32.const ${OUTPUT_AT}))
      (loop $more
        (local.set $n (call $ctxs (local.get $field)))
        (call $reg (local.get $at))
        (local.set $at (i32.add (local.get $at) (local.get $n)))
        (i32.store8 (local.get $at) (i32.const 32))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br_if $more (i32.lt_u (local.tee $field (i32.add (local.get $field) (i32.const 1))) (i32.const 3))))
      (call $output (i32.const ${OUTPUT_AT}) (i32.sub (local.get $at) (i32.const ${OUTPUT_AT + 1}))))
    (func (export "call_begin")) (func (export "call_migrate")) (func (export "call_take"))`, { abi })
}

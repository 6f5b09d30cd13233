/**
 * WebAssembly text for every arithmetic instruction there is, applied to hard operands. The results' bits are what counts:
 * they go into memory and from there into state.
 */

const INTEGER_UNARY = ['clz', 'ctz', 'popcnt', 'eqz']
const INTEGER_BINARY = [
  'add', 'sub', 'mul', 'and', 'or', 'xor', 'shl', 'shr_s', 'shr_u', 'rotl', 'rotr', 'eq', 'ne', 'lt_s', 'lt_u', 'gt_s', 'gt_u', 'le_s', 'le_u', 'ge_s', 'ge_u',
]
const FLOAT_UNARY = ['abs', 'neg', 'ceil', 'floor', 'trunc', 'nearest', 'sqrt']
const FLOAT_BINARY = ['add', 'sub', 'mul', 'div', 'min', 'max', 'copysign']
const FLOAT_COMPARISON = ['eq', 'ne', 'lt', 'gt', 'le', 'ge']

/** Constants that folding at compile time and hardware at run time treat differently, where the rules let them. */
const HARD_64 = ['0', '-0', '1', '-1', 'inf', '-inf', 'nan', '-nan', 'nan:0x4000000000001', '-nan:0xc000000000003', '1e308', '5e-324']
const HARD_32 = ['0', '-0', '1', '-1', 'inf', '-inf', 'nan', '-nan', 'nan:0x200001', '-nan:0x600003', '3e38', '1e-45']

const A = '(local.get $a)'
const B = '(local.get $b)'

/** Stores the i64 in the next of the slots from `$at` on. */
const store = (value: string): string => `(i64.store (local.get $at) ${value}) (local.set $at (i32.add (local.get $at) (i32.const 8)))`
const wide = (value: string): string => store(`(i64.extend_i32_u ${value})`)
const double = (value: string): string => store(`(i64.reinterpret_f64 ${value})`)
const single = (value: string): string => store(`(i64.extend_i32_u (i32.reinterpret_f32 ${value}))`)

const f64 = (bits: string): string => `(f64.reinterpret_i64 ${bits})`
const f32 = (bits: string): string => `(f32.reinterpret_i32 (i32.wrap_i64 ${bits}))`
const i32 = (bits: string): string => `(i32.wrap_i64 ${bits})`

/** Every integer instruction that cannot trap. */
function integers(): string[] {
  const tests = new Set([...INTEGER_BINARY.slice(INTEGER_BINARY.indexOf('eq')), 'eqz'])
  return [
    ...INTEGER_UNARY.flatMap(op => [wide(`(i32.${op} ${i32(A)})`), (tests.has(op) ? wide : store)(`(i64.${op} ${A})`)]),
    ...INTEGER_BINARY.flatMap(op => [wide(`(i32.${op} ${i32(A)} ${i32(B)})`), (tests.has(op) ? wide : store)(`(i64.${op} ${A} ${B})`)]),
    wide(`(i32.extend8_s ${i32(A)})`), wide(`(i32.extend16_s ${i32(A)})`), ...[8, 16, 32].map(bits => store(`(i64.extend${bits}_s ${A})`)),
    store(`(i64.extend_i32_s ${i32(A)})`), store(`(i64.extend_i32_u ${i32(A)})`),
  ]
}

/** Every float instruction that cannot trap, on operands whose bits come from outside, NaNs of every payload among them. */
function floats(): string[] {
  return [
    ...FLOAT_UNARY.flatMap(op => [double(`(f64.${op} ${f64(A)})`), single(`(f32.${op} ${f32(A)})`)]),
    ...FLOAT_BINARY.flatMap(op => [double(`(f64.${op} ${f64(A)} ${f64(B)})`), single(`(f32.${op} ${f32(A)} ${f32(B)})`), double(`(f64.${op} ${f64(B)} ${f64(A)})`)]),
    ...FLOAT_COMPARISON.flatMap(op => [wide(`(f64.${op} ${f64(A)} ${f64(B)})`), wide(`(f32.${op} ${f32(A)} ${f32(B)})`)]),
    single(`(f32.demote_f64 ${f64(A)})`), double(`(f64.promote_f32 ${f32(A)})`),
    ...['i32', 'i64'].flatMap(from => ['s', 'u'].flatMap(sign => [
      double(`(f64.convert_${from}_${sign} ${from === 'i32' ? i32(A) : A})`), single(`(f32.convert_${from}_${sign} ${from === 'i32' ? i32(A) : A})`),
    ])),
    ...['s', 'u'].flatMap(sign => [
      wide(`(i32.trunc_sat_f64_${sign} ${f64(A)})`), wide(`(i32.trunc_sat_f32_${sign} ${f32(A)})`),
      store(`(i64.trunc_sat_f64_${sign} ${f64(A)})`), store(`(i64.trunc_sat_f32_${sign} ${f32(A)})`),
    ]),
  ]
}

/** The same on constants, which a compiler may work out itself. */
function constants(): string[] {
  return [
    ...FLOAT_UNARY.flatMap(op => [...HARD_64.map(x => double(`(f64.${op} (f64.const ${x}))`)), ...HARD_32.map(x => single(`(f32.${op} (f32.const ${x}))`))]),
    ...FLOAT_BINARY.flatMap(op => HARD_64.flatMap((x, i) => [
      double(`(f64.${op} (f64.const ${x}) (f64.const ${HARD_64[(i * 5 + 3) % HARD_64.length] ?? ''}))`),
      single(`(f32.${op} (f32.const ${HARD_32[i] ?? ''}) (f32.const ${HARD_32[(i * 7 + 1) % HARD_32.length] ?? ''}))`),
      double(`(f64.${op} ${f64(A)} (f64.const ${x}))`), double(`(f64.${op} (f64.const ${x}) ${f64(A)})`),
    ])),
    ...HARD_64.map(x => single(`(f32.demote_f64 (f64.const ${x}))`)), ...HARD_32.map(x => double(`(f64.promote_f32 (f32.const ${x}))`)),
  ]
}

/** Each traps for some operands. */
export const TRAPPING: Readonly<Record<string, string>> = Object.fromEntries<string>([
  ...['div_s', 'div_u', 'rem_s', 'rem_u'].flatMap((op): [string, string][] => [[`i32_${op}`, `(i64.extend_i32_u (i32.${op} ${i32(A)} ${i32(B)}))`], [`i64_${op}`, `(i64.${op} ${A} ${B})`]]),
  ...['s', 'u'].flatMap((sign): [string, string][] => [
    [`i32_trunc_f64_${sign}`, `(i64.extend_i32_u (i32.trunc_f64_${sign} ${f64(A)}))`], [`i32_trunc_f32_${sign}`, `(i64.extend_i32_u (i32.trunc_f32_${sign} ${f32(A)}))`],
    [`i64_trunc_f64_${sign}`, `(i64.trunc_f64_${sign} ${f64(A)})`], [`i64_trunc_f32_${sign}`, `(i64.trunc_f32_${sign} ${f32(A)})`],
  ]),
])

/** A function `$<name>` that takes two operands, and leaves the results from 8,192 on; gives where they end. */
const sweep = (name: string, steps: readonly string[]): string => `
  (func $${name} (param $a i64) (param $b i64) (result i32) (local $at i32)
    (local.set $at (i32.const 8192))
    ${steps.join('\n    ')}
    (local.get $at))`

/** Functions `$integers`, `$floats` and `$constants`, and `$mix`, a long loop over floats that grows hot. */
export const NUMBERS = `
  ${sweep('integers', integers())}
  ${sweep('floats', floats())}
  ${sweep('constants', constants())}
  (func $mix (param $a i64) (param $b i64) (param $rounds i32) (result i64)
    (local $x f64) (local $y f64) (local $s f32) (local $bits i64)
    (local.set $x ${f64(A)}) (local.set $y ${f64(B)}) (local.set $s ${f32(A)})
    (loop $next
      (local.set $x (f64.sqrt (f64.add (f64.mul (local.get $x) (f64.const 1.0001)) (local.get $y))))
      (local.set $y (f64.div (f64.sub (local.get $y) (local.get $x)) (f64.add (local.get $x) (f64.const 3))))
      (local.set $s (f32.add (f32.mul (local.get $s) (f32.demote_f64 (local.get $y))) (f32.demote_f64 (local.get $x))))
      (local.set $bits (i64.add (i64.rotl (local.get $bits) (i64.const 7)) (i64.xor
        (i64.reinterpret_f64 (f64.add (local.get $y) (local.get $x)))
        (i64.extend_i32_u (i32.reinterpret_f32 (local.get $s))))))
      (if (f64.ne (local.get $x) (local.get $x)) (then (local.set $x (f64.convert_i64_s (local.get $bits)))))
      (local.set $rounds (i32.sub (local.get $rounds) (i32.const 1)))
      (br_if $next (i32.gt_s (local.get $rounds) (i32.const 0))))
    (local.get $bits))`

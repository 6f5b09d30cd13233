/**
 * One loop for each group of instructions that a schedule has a cost for. A round of a loop holds its instruction many times, each taking
 * the last one's result, so that neither the loop nor the processor's width hides what it takes. What feeds an instruction (a
 * constant, a variable) is in its gas and in its time alike.
 */
import { repeated } from './wat.ts'

/** How often a loop's body holds its instruction. */
const TIMES = 64

interface Group {
  readonly name: string
  /** Instructions that make of the value on the stack, of the group's type, the next one. */
  readonly step: string
  readonly type: 'i32' | 'i64' | 'f32' | 'f64'
}

const GROUPS: readonly Group[] = [
  { name: 'i32 add', type: 'i32', step: '(local.get $k) (i32.add)' },
  { name: 'i64 add and xor', type: 'i64', step: '(i64.const 0x1234567) (i64.add) (i64.const 0x55aa55) (i64.xor)' },
  { name: 'i32 multiply', type: 'i32', step: '(local.get $k) (i32.mul)' },
  { name: 'i64 multiply', type: 'i64', step: '(local.get $l) (i64.mul)' },
  { name: 'i32 divide', type: 'i32', step: '(local.get $k) (i32.div_u) (i32.const -3) (i32.or)' },
  { name: 'i64 divide', type: 'i64', step: '(local.get $l) (i64.div_s) (i64.const 0x7ffffffffffffff3) (i64.xor)' },
  { name: 'i64 remainder', type: 'i64', step: '(i64.const 0x7ffffffffffffff3) (i64.xor) (local.get $l) (i64.rem_u)' },
  { name: 'i64 shift and rotate', type: 'i64', step: '(local.get $l) (i64.rotl) (i64.const 7) (i64.shr_u) (local.get $l) (i64.xor)' },
  { name: 'i64 count', type: 'i64', step: '(i64.popcnt) (local.get $l) (i64.xor) (i64.clz) (local.get $l) (i64.xor)' },
  { name: 'i64 compare and select', type: 'i64', step: '(local.set $x) (local.get $l) (local.get $x) (local.get $x) (local.get $l) (i64.gt_u) (select) (local.get $l) (i64.sub)' },
  { name: 'sign extension', type: 'i64', step: '(i64.extend16_s) (local.get $l) (i64.xor)' },
  { name: 'local set and get', type: 'i64', step: '(local.set $x) (local.get $x)' },
  { name: 'global set and get', type: 'i64', step: '(global.set $g) (global.get $g)' },
  { name: 'load', type: 'i32', step: '(i32.const 0xfff8) (i32.and) (i32.load)' },
  { name: 'load of one byte', type: 'i32', step: '(i32.load8_u)' },
  { name: 'store and load', type: 'i64', step: '(local.set $x) (i32.const 128) (local.get $x) (i64.store) (i32.const 128) (i64.load)' },
  { name: 'store over two cache lines', type: 'i64', step: '(local.set $x) (i32.const 60) (local.get $x) (i64.store) (i32.const 60) (i64.load)' },
  { name: 'f64 add', type: 'f64', step: '(local.get $y) (f64.add)' },
  { name: 'f32 multiply', type: 'f32', step: '(f32.const 1.0001) (f32.mul)' },
  { name: 'f64 multiply of subnormal numbers', type: 'f64', step: '(f64.const 0.9999) (f64.mul)' },
  { name: 'f64 divide', type: 'f64', step: '(local.get $y) (f64.div)' },
  { name: 'f64 root', type: 'f64', step: '(f64.sqrt) (local.get $y) (f64.add)' },
  { name: 'f64 minimum', type: 'f64', step: '(local.get $y) (f64.min)' },
  { name: 'f64 round', type: 'f64', step: '(f64.nearest) (f64.floor)' },
  { name: 'f64 compare', type: 'i32', step: '(drop) (local.get $y) (f64.const 2) (f64.lt)' },
  { name: 'f64 absolute and copysign', type: 'f64', step: '(f64.abs) (local.get $y) (f64.copysign)' },
  { name: 'promote and demote', type: 'f64', step: '(f32.demote_f64) (f64.promote_f32)' },
  { name: 'convert and truncate', type: 'i64', step: '(f64.convert_i64_u) (i64.trunc_sat_f64_u)' },
  { name: 'convert and truncate, trapping', type: 'i32', step: '(i32.const 0xffff) (i32.and) (f32.convert_i32_s) (i32.trunc_f32_u)' },
  { name: 'block and branch', type: 'i32', step: '(local.set $j) (block (br_if 0 (local.get $k)) (local.set $j (i32.const 5))) (local.get $j)' },
  { name: 'if and else', type: 'i32', step: '(local.set $j) (if (result i32) (local.get $j) (then (i32.const 0)) (else (i32.const 1)))' },
  {
    name: 'branch table', type: 'i32',
    step: '(i32.const 5) (i32.mul) (local.tee $j) (block $a (param i32) (block $b (param i32) (br_table $a $b $a $b (i32.and (i32.const 3)))) (nop)) (local.get $j)',
  },
  { name: 'call', type: 'i64', step: '(call $callee)' },
  { name: 'indirect call', type: 'i64', step: '(i32.const 0) (call_indirect (param i64) (result i64))' },
  { name: 'call with 60 parameters', type: 'i64', step: `${repeated(59, () => '(local.get $l)')} (call $parameters)` },
  { name: 'call with 1,000 locals', type: 'i64', step: '(call $locals)' },
  { name: 'memory size', type: 'i32', step: '(drop) (memory.size)' },
  { name: 'memory grow by nothing', type: 'i32', step: '(drop) (i32.const 0) (memory.grow)' },
  { name: 'memory grow past the end', type: 'i32', step: '(drop) (i32.const 65536) (memory.grow)' },
  { name: 'fill of nothing', type: 'i32', step: '(drop) (i32.const 0) (i32.const 0) (i32.const 0) (memory.fill) (i32.const 1)' },
  { name: 'fill of 60 KB', type: 'i32', step: '(drop) (i32.const 0) (i32.const 1) (i32.const 60000) (memory.fill) (i32.const 1)' },
  { name: 'copy of 30 KB', type: 'i32', step: '(drop) (i32.const 1) (i32.const 30001) (i32.const 30000) (memory.copy) (i32.const 1)' },
  { name: 'copy of one byte', type: 'i32', step: '(drop) (i32.const 1) (i32.const 30001) (i32.const 1) (memory.copy) (i32.const 1)' },
  { name: 'initialise from a segment', type: 'i32', step: '(drop) (i32.const 1) (i32.const 0) (i32.const 8) (memory.init $segment) (i32.const 1)' },
]

const START = { i32: '(i32.const 7)', i64: '(i64.const 77)', f32: '(f32.const 1.5)', f64: '(f64.const 3e-308)' } as const

export const GROUP_NAMES: readonly string[] = GROUPS.map(({ name }) => name)

const KEEP = { i32: 'i32.store', i64: 'i64.store', f32: 'f32.store', f64: 'f64.store' } as const

/** One function for each group, exported as `call_group_<index>`; it ends when the gas does. */
export const GROUPS_TEXT = `
  (type $unary (func (param i64) (result i64)))
  (table 1 funcref) (elem (i32.const 0) $callee)
  (global $g (mut i64) (i64.const 0))
  (data $segment "segment!")
  (func $callee (param $x i64) (result i64) (global.get $g) (local.get $x) (i64.add))
  (func $parameters (param ${repeated(60, () => 'i64')}) (result i64) (i64.add (local.get 0) (local.get 59)))
  (func $locals (param $x i64) (result i64) (local ${repeated(1_000, () => 'i64')})
    (local.set 999 (local.get $x)) (if (i64.eqz (local.get $x)) (then (local.set 1 (call $locals (i64.const 1))))) (local.get 999))
  ${GROUPS.map(({ type, step }, index) => `
    (func (export "call_group_${index}") (local $x i64) (local $k i32) (local $l i64) (local $y f64) (local $j i32) (local $v ${type})
      (local.set $k (i32.load (i32.const 4096))) (local.set $l (i64.load (i32.const 4104))) (local.set $y (f64.load (i32.const 4112)))
      (local.set $v ${START[type]})
      (loop $next
        (local.get $v) ${repeated(TIMES, () => step)} (local.set $v)
        (${KEEP[type]} (i32.const 5000) (local.get $v))
        (br $next)))`).join('')}
  (data (i32.const 4096) "\\03\\00\\00\\00\\00\\00\\00\\00\\0b\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\00\\f0\\3f")`

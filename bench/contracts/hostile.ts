/**
 * What a contract can do to hold the thread: each instruction and each host function in a loop until the gas is gone, with the arguments that
 * cost the host most, and what cannot be written as a loop: cold code, many contracts, deep rollbacks. All under the gas of a
 * transaction under the default limits, on the engine a node runs.
 */
import { generateKeyPairSync, randomBytes, sign } from 'node:crypto'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import type { ContractCall, ContractResult } from '../../services/contracts/provider.ts'
import type { Space } from '../../services/state/provider.ts'
import { GROUP_NAMES, GROUPS_TEXT } from './groups.ts'
import { assemble, repeated } from './wat.ts'

/** Default of the setting `contracts.transactionGas`. */
export const TRANSACTION_GAS = 20_000_000

const ATTACKER = '0xbad'
const VICTIM = '0x666'
const SLOW = '0x667'
/** Contracts that take turns, more than the engine keeps instances of. */
const CROWD = 72
const CROWD_OF_LARGE = 48

/** An endless loop around a body. */
const forever = (body: string): string => `(local $i i32) (loop $next (local.set $i (i32.add (local.get $i) (i32.const 1))) ${body} (br $next))`
/** A call of a function of another contract, whose address stands in the data. */
const nested = (at: number, length: number): string => `(drop (call $call (i32.const ${at}) (i32.const ${length}) (i32.const 0) (i32.const 0) (i64.const 0)))`

/** Loops over host functions. Memory: 1 page of texts, then zeros; the key of a loop's own stands at 1,000. */
const HOST_LOOPS: Readonly<Record<string, string>> = {
  'input of 60 KB': forever('(drop (call $input))'),
  'register of 60 KB': forever('(drop (call $input)) (call $reg (i32.const 65536))'),
  'length of the register': forever('(drop (call $reglen))'),
  'output of 64 KB': forever('(call $output (i32.const 65536) (i32.const 65536))'),
  'get of no key': forever('(drop (call $get (i32.const 65536) (i32.const 0)))'),
  'get of a key of 256 bytes': forever('(i32.store (i32.const 65536) (local.get $i)) (drop (call $get (i32.const 65536) (i32.const 256)))'),
  'get of 64 KB into memory': forever('(drop (call $get (i32.const 16) (i32.const 3))) (call $reg (i32.const 65536))'),
  'get among 100,000 keys': forever('(i32.store (i32.const 1000) (i32.mul (local.get $i) (i32.const 7919))) (drop (call $get (i32.const 1000) (i32.const 3)))'),
  'set of one key': forever('(call $set (i32.const 1000) (i32.const 1) (i32.const 1000) (i32.const 1))'),
  'set of 60 KB, then a trap': `${Array.from({ length: 16 }, () => '(call $set (i32.const 1000) (i32.const 1) (i32.const 65536) (i32.const 60000))').join(' ')} (unreachable)`,
  'set of 4,096 keys': `(local $i i32) (loop $next (i32.store (i32.const 1000) (i32.mul (local.get $i) (i32.const 7919)))
    (call $set (i32.const 1000) (i32.const 4) (i32.const 1000) (i32.const 1)) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $next (i32.lt_u (local.get $i) (i32.const 4096))))`,
  'delete of nothing': forever('(drop (call $del (i32.const 1000) (i32.const 0)))'),
  'delete and set': forever('(drop (call $del (i32.const 1000) (i32.const 1))) (call $set (i32.const 1000) (i32.const 1) (i32.const 0) (i32.const 0))'),
  'scan of nothing': forever('(drop (call $scan (i32.const 65536) (i32.const 0) (i32.const 65536) (i32.const 1) (i32.const 0) (i32.const 0)))'),
  'scan of the first key': forever('(drop (call $scan (i32.const 65536) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 2)))'),
  'scan of 256 entries': forever('(drop (call $scan (i32.const 65536) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 0)))'),
  'scan of 256 keys, downwards': forever('(drop (call $scan (i32.const 65536) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 3)))'),
  'scan over 4,000 changed keys': `(local $i i32) (loop $fill (i32.store (i32.const 1000) (i32.mul (local.get $i) (i32.const 7919)))
    (drop (call $del (i32.const 1000) (i32.const 3))) (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $fill (i32.lt_u (local.get $i) (i32.const 4000))))
    (loop $next (drop (call $scan (i32.const 65536) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 1))) (br $next))`,
  'set and scan by turns': forever(`(i32.store (i32.const 1000) (i32.mul (local.get $i) (i32.const 7919)))
    (drop (call $del (i32.const 1000) (i32.const 3))) (drop (call $scan (i32.const 1000) (i32.const 3) (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 0)))`),
  'emit': '(local $i i32) (loop $next (call $emit (i32.const 0) (i32.const 5) (i32.const 65536) (i32.const 3000)) (br $next))',
  'context': forever('(drop (call $ctx (i32.const 0)))'),
  'caller': forever('(drop (call $ctxs (i32.const 0)))'),
  'sha256 of nothing': forever('(call $sha256 (i32.const 0) (i32.const 0) (i32.const 2000))'),
  'sha256 of 64 KB': forever('(call $sha256 (i32.const 65536) (i32.const 65536) (i32.const 2000))'),
  'sha256 of 3 MB': forever('(call $sha256 (i32.const 65536) (i32.const 3000000) (i32.const 2000))'),
  'verify of a signature': forever('(drop (call $verify (i32.const 3000) (i32.const 3032) (i32.const 65536) (i32.const 64)))'),
  'verify of a signature over 64 KB': forever('(drop (call $verify (i32.const 3000) (i32.const 3096) (i32.const 65536) (i32.const 65536)))'),
  'verify by a bad key': forever('(drop (call $verify (i32.const 65536) (i32.const 3032) (i32.const 65536) (i32.const 64)))'),
  'seed': forever('(call $seed (i32.const 2000))'),
  'call of a bad address': forever(nested(20, 9)),
  'call of a bad address of 4 KB': forever('(i32.store (i32.const 8192) (local.get $i)) (drop (call $call (i32.const 4096) (i32.const 4096) (i32.const 0) (i32.const 0) (i64.const 0)))'),
  'call of nobody': forever(nested(40, 15)),
  'call of no function': forever(nested(60, 15)),
  'call of a function that does nothing': forever(nested(80, 15)),
  'call of a function that reverts': forever(nested(100, 15)),
  'call of a function that traps': forever(nested(120, 15)),
  'call of a function that runs out of gas': forever('(drop (call $call (i32.const 80) (i32.const 15) (i32.const 0) (i32.const 0) (i64.const 1)))'),
  'call of a function that grows its memory': forever(nested(140, 15)),
  'call of a contract that is slow to start and never kept': forever(nested(216, 15)),
  'the same without gas for it': forever('(drop (call $call (i32.const 216) (i32.const 15) (i32.const 0) (i32.const 0) (i64.const 1)))'),
  'call of itself, 8 deep': forever(nested(160, 15)),
  'call of a function that changes 200 keys and reverts': forever(nested(180, 15)),
  'call with 60 KB of input': forever('(drop (call $call (i32.const 80) (i32.const 15) (i32.const 65536) (i32.const 60000) (i64.const 0)))'),
  'call of many contracts by turns': `(local $i i32) (loop $next
    (i32.store8 (i32.const 205) (i32.const 48)) (i32.store8 (i32.const 206) (i32.const 120)) ${repeated(3, digit => `
      (i32.store8 (i32.const ${207 + digit}) (i32.load8_u (i32.add (i32.const 240) (i32.and (i32.shr_u (local.get $i) (i32.const ${8 - 4 * digit})) (i32.const 15)))))`)}
    (drop (call $call (i32.const 200) (i32.const 15) (i32.const 0) (i32.const 0) (i64.const 0)))
    (local.set $i (i32.rem_u (i32.add (local.get $i) (i32.const 1)) (i32.const $CROWD))) (br $next))`,
  'memory of 4 MB, filled': '(drop (memory.grow (i32.const 16))) (loop $next (memory.fill (i32.const 65536) (i32.const 7) (i32.const 4000000)) (br $next))',
  'memory of 4 MB, copied': '(drop (memory.grow (i32.const 16))) (loop $next (memory.copy (i32.const 65536) (i32.const 2000000) (i32.const 2000000)) (br $next))',
  'fill of nothing in a page that nobody touched': '(drop (memory.grow (i32.const 1))) (loop $next (memory.fill (i32.const 3145728) (i32.const 0) (i32.const 0)) (br $next))',
  'copy of nothing in a page that nobody touched': '(drop (memory.grow (i32.const 1))) (loop $next (memory.copy (i32.const 3145728) (i32.const 3149824) (i32.const 0)) (br $next))',
  'memory grown and touched': '(local $i i32) (drop (memory.grow (i32.const 16))) (loop $next (i32.store8 (local.get $i) (i32.const 1)) (local.set $i (i32.add (local.get $i) (i32.const 4096))) (br_if $next (i32.lt_u (local.get $i) (i32.const 4000000))))',
  'recursion in large frames': '(call $deep (i64.const 1))',
}

const DATA = `
  (data (i32.const 0) "topic...") (data (i32.const 16) "big") (data (i32.const 20) "no FQMN!!")
  (data (i32.const 40) "0xSW:0x999:calm") (data (i32.const 60) "0xSW:${VICTIM}:none") (data (i32.const 80) "0xSW:${VICTIM}:calm") (data (i32.const 100) "0xSW:${VICTIM}:deny")
  (data (i32.const 120) "0xSW:${VICTIM}:trap") (data (i32.const 140) "0xSW:${VICTIM}:grow") (data (i32.const 160) "0xSW:${VICTIM}:self") (data (i32.const 180) "0xSW:${VICTIM}:undo")
  (data (i32.const 200) "0xSW:0x000:calm") (data (i32.const 216) "0xSW:${SLOW}:calm") (data (i32.const 240) "0123456789abcdef")`

const VICTIM_TEXT = `
  (data (i32.const 0) "0xSW:${VICTIM}:self")
  (func (export "call_calm"))
  (func (export "call_deny") (call $fail (i32.const 0) (i32.const 4)))
  (func (export "call_trap") (unreachable))
  (func (export "call_grow") (drop (memory.grow (i32.const 1))))
  (func (export "call_self") (drop (call $call (i32.const 0) (i32.const 15) (i32.const 0) (i32.const 0) (i64.const 0))))
  (func (export "call_undo") (local $i i32) (loop $next
    (i32.store (i32.const 1000) (local.get $i)) (call $set (i32.const 1000) (i32.const 4) (i32.const 1000) (i32.const 1))
    (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $next (i32.lt_u (local.get $i) (i32.const 200)))) (call $fail (i32.const 0) (i32.const 4)))`

/** Its start takes all that a start may, but for a rest, and leaves a NaN, which no instance can be put back to. */
const SLOW_TEXT = `(global $g (mut f64) (f64.const nan:0x4000000000001))
  (func $start (local $i i32) (loop $next (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 180000)))))
  (start $start) (func (export "call_calm"))`

/** 250 KB of code of which each function runs once. */
const COLD_TEXT = `${repeated(1_700, index => `(func $f${index} (param $x i32) (result i32) ${repeated(12, i => `(local.set $x (i32.add (i32.mul (local.get $x) (i32.const ${index + i})) (i32.const ${i})))`)} (local.get $x))`)}
  (func (export "call_run") (local $x i32) ${repeated(1_700, index => `(local.set $x (call $f${index} (local.get $x)))`)})`

/** One way to hold the thread: `prepare` makes it ready again, uncounted. */
export interface Attack {
  readonly name: string
  readonly prepare: () => void
  readonly run: () => ContractResult
}

export interface Attacks {
  readonly attacks: readonly Attack[]
  readonly close: () => void
}

export async function prepareAttacks(): Promise<Attacks> {
  const engine = new WasmEngine({ instances: 64 })
  const space = crowdedSpace()
  const groups = await assemble(GROUPS_TEXT)
  engine.install(ATTACKER, await assemble(attackerText(), { memory: '(memory (export "memory") 48 64)' }), space)
  engine.install(VICTIM, await assemble(VICTIM_TEXT), new Map())
  engine.install(SLOW, await assemble(SLOW_TEXT, { host: false }), new Map())
  engine.install('0xbed', groups, new Map())
  await installCrowd(engine)
  const large = new WasmEngine()
  await installLarge(large)
  const cold = await assemble(`${NONCE_TEXT} ${COLD_TEXT}`)
  const starts = await assemble(`${NONCE_TEXT} (func $start (local $i i32) (loop $next (local.set $i (i32.add (local.get $i) (i32.const 1))) (br $next))) (start $start) (func (export "call_run"))`)

  const attack = (name: string, of: WasmEngine, address: string, called: string): Attack => {
    const asked = callOf(address, called)
    return { name, prepare: () => undefined, run: () => of.call(asked) }
  }
  const fresh = (name: string, wasm: Uint8Array): Attack => {
    let own = engine
    const asked = callOf('0x001', 'run')
    return { name, prepare: () => { own = new WasmEngine(); own.install('0x001', unique(wasm), new Map()) }, run: () => own.call(asked) }
  }
  return {
    attacks: [
      ...GROUP_NAMES.map((name, index) => attack(name, engine, '0xbed', `group_${index}`)),
      ...Object.keys(HOST_LOOPS).map((name, index) => attack(name, engine, ATTACKER, `host_${index}`)),
      attack('call of many contracts of 4 MB by turns', large, ATTACKER, 'run'),
      attack('the same of 4 MB without gas for it', large, ATTACKER, 'poor'),
      fresh('250 KB of code, each function once, right after deployment', cold),
      fresh('start without end', starts),
    ],
    close: () => {
      engine.close()
      large.close()
    },
  }
}

/** A segment that `unique` changes. */
const NONCE = 'nonce---'
const NONCE_TEXT = `(data (i32.const 48000) "${NONCE}")`

/** Another module of the same code: one that has not been compiled yet, and shares nothing with the others. */
function unique(wasm: Uint8Array): Uint8Array {
  const made = Buffer.from(wasm)
  made.write(randomBytes(NONCE.length / 2).toString('hex'), made.indexOf(NONCE), 'latin1')
  return made
}

function attackerText(): string {
  const { publicKey, privateKey } = generateKeyPairSync('ed25519')
  const key = publicKey.export({ type: 'spki', format: 'der' }).subarray(-32)
  const signatures = [64, 65_536].map(length => sign(null, Buffer.alloc(length), privateKey))
  const escaped = [...Buffer.concat([key, ...signatures])].map(byte => `\\${byte.toString(16).padStart(2, '0')}`).join('')
  const functions = Object.values(HOST_LOOPS).map((body, index) => `(func (export "call_host_${index}") ${body.replace('$CROWD', String(CROWD))})`)
  // An address that is read to its end before it is refused.
  const address = `0xS:0x001:f:[${'1,'.repeat(2_040)}`.padEnd(4_096, '1')
  return `${DATA} (data (i32.const 3000) "${escaped}") (data (i32.const 4096) "${address}")
    (func $deep (param $x i64) (result i64) (local ${repeated(400, () => 'i64')}) (i64.add (call $deep (local.get $x)) (local.get 300)))
    ${functions.join('\n').replaceAll('(call $deep (i64.const 1))', '(drop (call $deep (i64.const 1)))')}`
}

/** 100,000 keys, and a value of 64 KB under one more. */
function crowdedSpace(): Space {
  const space: Space = new Map()
  for (let i = 0; i < 100_000; i++) space.set(Buffer.from(Uint32Array.of(i * 7_919).buffer).subarray(0, 3).toString('latin1'), Buffer.alloc(8, i))
  space.set('big', Buffer.alloc(65_536))
  return space
}

async function installCrowd(engine: WasmEngine): Promise<void> {
  const module = await assemble(`${NONCE_TEXT} (func (export "call_calm"))`)
  for (let i = 0; i < CROWD; i++) engine.install(`0x${i.toString(16).padStart(3, '0')}`, unique(module), new Map())
}

/** Contracts that start with all the memory there may be, every page of it touched. */
async function installLarge(engine: WasmEngine): Promise<void> {
  const pages = repeated(64, page => `(data (i32.const ${page * 65_536 + 9}) "x")`)
  const module = await assemble(`${NONCE_TEXT} ${pages} (func (export "call_calm"))`, { memory: '(memory (export "memory") 64 64)', host: false })
  for (let i = 0; i < CROWD_OF_LARGE; i++) engine.install(`0x${i.toString(16).padStart(3, '0')}`, unique(module), new Map())
  const body = HOST_LOOPS['call of many contracts by turns']?.replace('$CROWD', String(CROWD_OF_LARGE)) ?? ''
  engine.install(ATTACKER, await assemble(`${DATA} (func (export "call_run") ${body}) (func (export "call_poor") ${body.replace('(i64.const 0)))', '(i64.const 1)))')})`), new Map())
}

function callOf(address: string, called: string): ContractCall {
  const did = 'did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK'
  // Text that is a valid array of arguments, as large as the largest value.
  const input = Buffer.from(`["${'x'.repeat(60_000)}"]`)
  const context = { seq: 1, timeMs: 0, caller: did, origin: did, seed: new Uint8Array(32) }
  return { address, function: called, input, view: false, gasLimit: TRANSACTION_GAS, context }
}

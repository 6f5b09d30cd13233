import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { parseAbi } from '../../providers/contracts/abi.ts'
import { readModule } from '../../providers/contracts/reader.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { MEMORY, abiText, contractModule } from '../support/contract-module.ts'
import { LEFTOVERS, rawModule } from '../support/hand-made-contracts.ts'
import { attempt, refusal } from '../support/refusal.ts'

const engine = new WasmEngine()
const RUN = '(func (export "call_run"))'
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text))

const refusedWith = (act: () => unknown) => {
  const { code, message } = refusal(act)
  return { code, message }
}
const refused = (wasm: Uint8Array) => refusedWith(() => engine.inspect(wasm))
const malformed = (reason: string) => ({ code: 'CMESH_DEPLOY_MALFORMED', message: `The package is not valid: ${reason}.` })

/** A section of less than 128 bytes. */
function section(id: number, ...content: number[]): number[] {
  return [id, content.length, ...content]
}

describe('inspect', () => {
  test('gives the ABI of a sound module and keeps nothing', () => {
    const abi = abiText([{ name: 'run', mode: 'view', params: [{ name: 'by', type: 'u64', default: 1, more: 'unknown' }],
      returns: 'string', more: 'unknown' }])
    expect(engine.inspect(contractModule(RUN, { abi }))).toEqual({
      abi: 1, sdk: 'none', functions: [{ name: 'run', mode: 'view', params: [{ name: 'by', type: 'u64', default: 1 }],
        returns: 'string' }], events: [],
    })
    expect(engine.has('run')).toBe(false)
  })

  test('takes a module of 256 KiB and refuses one byte more', () => {
    const plain = contractModule(RUN).length
    const padded = (size: number) => {
      // A custom section named "p": id, five bytes of length, length of the name, the name, the padding.
      const content = size - plain - 6
      const length = [0, 7, 14, 21, 28].map((shift) => ((content >>> shift) & 0x7f) | (shift < 28 ? 0x80 : 0))
      const module = new Uint8Array(size)
      module.set(contractModule(RUN))
      module.set([0, ...length, 1, 0x70], plain)
      return module
    }
    expect(engine.inspect(padded(262_144)).functions).toHaveLength(1)
    expect(refused(padded(262_145))).toEqual({ code: 'CMESH_DEPLOY_SIZE',
      message: 'The module has 262145 bytes; at most 262144 are allowed.' })
  })

  test.each([
    ['nothing', new Uint8Array(0)],
    ['text', bytes('export function')],
    ['a module with a type error',
      Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...section(1, 1, 0x60, 0, 1, 0x7f), ...section(3, 1, 0),
        ...section(10, 1, 2, 0, 0x0b))],
  ])('refuses %s', (_what, wasm) => {
    expect(refused(wasm)).toEqual(malformed('it is not a valid WebAssembly module'))
  })

  test.each([
    ['(import "env" "abort" (func (param i32 i32 i32 i32)))',
      'env.abort', ' Compile it with the contract kit, which turns `abort` into `revert`.'],
    ['(import "env" "Date.now" (func (result f64)))', 'env.Date.now', ' `Date.now` is not available: use `ctx.time()`.'],
    ['(import "env" "seed" (func (result f64)))', 'env.seed', ' `Math.random` is not available: replicas would disagree.'],
    ['(import "cmesh" "call" (func (param i32 i32)))', 'cmesh.call', ''],
    ['(import "env" "get" (func (param i32 i32) (result i32)))', 'env.get', ''],
    ['(import "cmesh" "get" (func (param i64 i32) (result i32)))',
      'cmesh.get (i64, i32) -> (i32)', ' Its signature is (i32, i32) -> (i32).'],
    ['(import "cmesh" "ctx" (func (param i32) (result i32)))', 'cmesh.ctx (i32) -> (i32)', ' Its signature is (i32) -> (i64).'],
    ['(import "cmesh" "get" (global i32))', 'cmesh.get', ' Its signature is (i32, i32) -> (i32).'],
    ['(import "cmesh" "table" (table 1 funcref))', 'cmesh.table', ''],
  ])('refuses the import %s', (imports, name, hint) => {
    expect(refused(contractModule(RUN, { imports }))).toEqual({
      code: 'CMESH_DEPLOY_IMPORT', message: `The module imports ${name}, which is not part of the host interface.${hint}`,
    })
  })

  test('refuses a memory that is imported', () => {
    const imported = contractModule(RUN, { memory: '(import "env" "memory" (memory 1 64)) (export "memory" (memory 0))' })
    expect(refused(imported).message).toBe('The module imports env.memory, which is not part of the host interface.')
  })

  test.each([
    ['no memory', '', RUN, 'memory'],
    ['a memory that is not exported', '(memory 1 64)', RUN, 'memory'],
    ['a function for a memory', '(memory 1 64)', `${RUN} (func (export "memory"))`, 'memory'],
    ['a global for a function', MEMORY, '(global (export "call_run") i32 (i32.const 0))', 'call_run'],
  ])('refuses %s', (_what, memory, body, missing) => {
    expect(refused(contractModule(body, { memory, abi: abiText([{ name: 'run' }]) }))).toEqual({
      code: 'CMESH_DEPLOY_EXPORT', message: `The module lacks the export ${missing}.`,
    })
  })

  test('refuses a function of the ABI that is not exported', () => {
    expect(refused(contractModule(RUN,
      { abi: abiText([{ name: 'run' }, { name: 'walk' }]) })).message).toBe('The module lacks the export call_walk.')
  })

  test.each([
    ['a parameter', '(func (export "call_run") (param i64))', 'its export call_run is (i64) -> () instead of () -> ()'],
    ['a result',
      '(func (export "call_run") (result i32) (i32.const 0))', 'its export call_run is () -> (i32) instead of () -> ()'],
    ['a start export that takes something',
      `${RUN} (func (export "_start") (param f32 f64))`, 'its export _start is (f32, f64) -> () instead of () -> ()'],
  ])('refuses an entry with %s', (_what, body, reason) => {
    expect(refused(contractModule(body))).toEqual(malformed(reason))
  })

  test.each([
    ['no maximum', '(memory (export "memory") 1)', 'its memory has no maximum; 64 pages are allowed (`--maximumMemory 64`)'],
    ['too high a maximum',
      '(memory (export "memory") 1 65)', 'its memory may grow to 65 pages; 64 are allowed (`--maximumMemory 64`)'],
    ['too much at once',
      '(memory (export "memory") 65 65)', 'its memory may grow to 65 pages; 64 are allowed (`--maximumMemory 64`)'],
  ])('refuses a memory with %s', (_what, memory, reason) => {
    expect(refused(contractModule(RUN, { memory }))).toEqual(malformed(reason))
  })

  test('takes a memory of exactly 64 pages', () => {
    expect(engine.inspect(contractModule(RUN, { memory: '(memory (export "memory") 64 64)' })).functions).toHaveLength(1)
  })

  test('refuses a start section, which would run before anybody watches', () => {
    const reason = 'it has a start section; export _start instead (`--exportStart _start`)'
    expect(refused(contractModule(`${RUN} (func $begin) (start $begin)`))).toEqual(malformed(reason))
  })

  test('refuses what is valid here but not core WebAssembly', () => {
    const tagged = refused(contractModule(`${RUN} (tag (param i32))`))
    expect(tagged.message).toMatch(/^The package is not valid: the module cannot be read at byte \d+: its section 13 is not part/)
    const shared = refused(contractModule(RUN, { memory: '(memory (export "memory") 1 64 shared)' }))
    expect(shared.message).toMatch(/a memory or table is shared or has 64-bit addresses\.$/)
  })

  test('refuses a module without the ABI section, or with two', () => {
    expect(refused(contractModule(RUN, { abi: undefined }))).toEqual(malformed('it has no cmesh.abi section'))
    const another = Uint8Array.from([...contractModule(RUN), ...section(0, 9, ...bytes('cmesh.abi'))])
    expect(refused(another)).toEqual(malformed('it has more than one cmesh.abi section'))
  })
})

describe('the ABI section', () => {
  const run = { name: 'run', mode: 'write', params: [], returns: 'void' }
  const whole = { abi: 1, sdk: '0.1', functions: [run], events: [{ name: 'signed', fields: [{ name: 'by', type: 'string' }] }] }

  test('is given back without what is unknown', () => {
    expect(parseAbi(bytes(JSON.stringify({ ...whole, more: 1 })))).toEqual(whole)
  })

  test.each<[string, unknown, string]>([
    ['a number', 1, 'it is not an object'],
    ['a list', [], 'it is not an object'],
    ['another version', { ...whole, abi: 2 }, 'its version is not 1'],
    ['no sdk', { ...whole, sdk: undefined }, 'sdk is not a text of 1 to 64 characters'],
    ['no functions', { ...whole, functions: [] }, 'it lists no function'],
    ['too many functions', { ...whole, functions: Array(257).fill(run) }, 'functions is not a list of at most 256'],
    ['no events', { ...whole, events: undefined }, 'events is not a list of at most 256'],
    ['a function that is null', { ...whole, functions: [null] }, 'a function is not an object'],
    ['a name with a colon',
      { ...whole, functions: [{ ...run, name: 'a:b' }] },
        'a name is not a letter or _ followed by at most 63 letters, digits or _'],
    ['a long name',
      { ...whole, functions: [{ ...run, name: 'a'.repeat(65) }] },
        'a name is not a letter or _ followed by at most 63 letters, digits or _'],
    ['an unknown mode', { ...whole, functions: [{ ...run, mode: 'admin' }] }, 'the mode of run is not view, write or init'],
    ['two init functions',
      { ...whole, functions: [{ ...run, mode: 'init' }, { ...run, name: 'b', mode: 'init' }] },
        'it lists more than one init function'],
    ['a name twice', { ...whole, functions: [run, run] }, 'run stands twice'],
    ['a parameter twice',
      { ...whole, functions: [{ ...run, params: [{ name: 'a', type: 'u32' }, { name: 'a', type: 'u32' }] }] }, 'a stands twice'],
    ['a default that is an object',
      { ...whole, functions: [{ ...run, params: [{ name: 'a', type: 'u32', default: {} }] }] },
        'the default of a is not a scalar'],
    ['no result', { ...whole, functions: [{ ...run, returns: '' }] }, 'the result of run is not a text of 1 to 64 characters'],
  ])('is refused with %s', (_what, value, reason) => {
    expect(refusedWith(() => parseAbi(bytes(JSON.stringify(value))))).toEqual(malformed(`in its cmesh.abi section, ${reason}`))
  })

  test('is refused when it is not JSON in UTF-8', () => {
    for (const content of [new Uint8Array(0), bytes('{'), Uint8Array.of(0x22, 0xff, 0x22)]) {
      expect(refusedWith(() => parseAbi(content))).toEqual(malformed('in its cmesh.abi section, the text is not JSON in UTF-8'))
    }
  })

  test('any JSON gives an ABI or CMESH_DEPLOY_MALFORMED', () => {
    const orAnything = <T>(...values: T[]) => fc.oneof(fc.constantFrom(...values), fc.anything())
    const entry = fc.record({
      name: orAnything('run', '__proto__'), mode: orAnything('view'), params: orAnything([]), returns: orAnything('void'),
    }, { requiredKeys: [] })
    const abi = fc.oneof(fc.anything(), fc.record({
      abi: fc.constant(1), sdk: fc.constant('x'), functions: fc.oneof(fc.array(entry), fc.anything()), events: orAnything([]),
    }))
    fc.assert(fc.property(abi, (value) => {
      let text: string | undefined
      try { text = JSON.stringify(value) } catch { fc.pre(false) }
      orRefused(() => parseAbi(bytes(text ?? '')))
    }), { numRuns: 1_000 })
  })
})

/** Whether it was taken; any other refusal than of a deployment fails the test. */
function orRefused(act: () => unknown): boolean {
  const { refusal: refusedBy } = attempt(act)
  if (refusedBy !== undefined) expect(refusedBy.code).toMatch(/^CMESH_DEPLOY_/)
  return refusedBy === undefined
}

describe('what the code of a module could change', () => {
  /** Whether instances could be put back, for code beside a table and a passive segment. */
  const resettable = (code: string) => readModule(contractModule(`
    (type $none (func)) (table $t 4 funcref) (elem $e func $f) (data $d "x") (func $f)
    ${RUN} (func ${code})`), 'cmesh.abi').mutableGlobals !== undefined

  // Lanes and labels of 10 would be unknown instructions to a reader that takes them for one.
  test.each([
    ['nothing', ''],
    ['control', `(local $x i32)
      (block $b (loop $l (br_if $l (local.get $x)) (br_table $b $l $b (local.get $x))))
      (if (local.get $x) (then (nop)) (else (return))) (unreachable)`],
    ['a far label', `${'(block '.repeat(11)} (br_table 0 1 2 3 4 5 6 7 8 9 10 (i32.const 0)) ${')'.repeat(11)}`],
    ['a block with a result', '(drop (block (result i64) (i64.const -9223372036854775808)))'],
    ['a block with parameters', '(i32.const 1) (block (param i32) (result i32)) (drop)'],
    ['calls', '(call $f) (call_indirect (type $none) (i32.const 38)) (return_call $f)'],
    ['indirect tail calls', '(return_call_indirect (type $none) (i32.const 1))'],
    ['constants that look like instructions', `
      (drop (i32.const 1276)) (drop (i32.const 38)) (drop (i64.const 0x26fc0926fc0d)) (drop (f32.const 1)) (drop (f64.const 2))`],
    ['memory', `
      (i32.store8 offset=1276 (i32.const 1) (i32.load16_u offset=70000 (i32.const 1)))
      (drop (memory.size)) (drop (memory.grow (i32.const 0)))`],
    ['bulk memory', `
      (memory.copy (i32.const 0) (i32.const 1) (i32.const 2))
      (memory.fill (i32.const 0) (i32.const 1) (i32.const 2))
      (memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))`],
    ['conversions', `
      (drop (i32.trunc_sat_f64_u (f64.const 1))) (drop (i64.extend8_s (i64.const 1))) (drop (i32.wrap_i64 (i64.const 1)))`],
    ['references', `
      (drop (ref.is_null (ref.null func))) (drop (ref.func $f))
      (drop (select (result funcref) (ref.null func) (ref.func $f) (i32.const 1)))`],
    ['reading a table', '(drop (table.get $t (i32.const 0))) (drop (table.size $t))'],
    ['vectors', `(local $v v128)
      (local.set $v (v128.const i32x4 0x26002600 0x09fc09fc 0x0dfc0dfc 0xfbfbfbfb))
      (local.set $v (i8x16.shuffle 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 (local.get $v) (local.get $v)))
      (local.set $v (v128.load offset=38 (i32.const 0)))
      (v128.store offset=38 (i32.const 0) (i32x4.add (local.get $v) (i32x4.splat (i32.const 1))))
      (local.set $v (v128.load8_lane offset=38 10 (i32.const 0) (local.get $v)))
      (v128.store64_lane offset=38 1 (i32.const 0) (local.get $v))
      (local.set $v (v128.load32_zero (i32.const 0)))
      (drop (i8x16.extract_lane_s 10 (local.get $v)))
      (local.set $v (f64x2.replace_lane 1 (local.get $v) (f64.const 1)))`],
    ['exceptions', '(try (do (call $f)) (catch_all (rethrow 0)))'],
  ])('%s: nothing that cannot be put back', (_what, code) => {
    expect(resettable(code)).toBe(true)
  })

  test.each([
    ['table.set', '(table.set $t (i32.const 0) (ref.null func))'],
    ['table.init', '(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))'],
    ['elem.drop', '(elem.drop $e)'],
    ['table.copy', '(table.copy $t $t (i32.const 0) (i32.const 1) (i32.const 1))'],
    ['table.grow', '(drop (table.grow $t (ref.null func) (i32.const 1)))'],
    ['table.fill', '(table.fill $t (i32.const 0) (ref.null func) (i32.const 1))'],
    ['data.drop', '(data.drop $d)'],
  ])('%s is found behind any other instruction', (_what, code) => {
    expect(resettable(`(local $v v128) (drop (v128.const i64x2 0 0)) (block (drop (i32.const 1276))) ${code}`)).toBe(false)
  })

  test('an unknown instruction could change anything', () => {
    const body = [0, 0xfb, 0x00, 0x0b]
    const sections = [...section(4, 1, 0x70, 0, 1), ...section(10, 1, body.length, ...body)]
    const wasm = Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...sections])
    expect(readModule(wasm, 'cmesh.abi').mutableGlobals).toBeUndefined()
  })
})

describe('hostile modules', () => {
  const samples = [rawModule(), ...Object.values(LEFTOVERS).map((make) => make())]

  test('any bytes give a shape or CMESH_DEPLOY_MALFORMED', () => {
    const header = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (content, begun) => {
      orRefused(() => readModule(Uint8Array.from(begun ? [...header, ...content] : content), 'cmesh.abi'))
    }), { numRuns: 5_000 })
  })

  test.each([
    ['a section longer than the module', [1, 0xff, 0xff, 0xff, 0xff, 0x0f], 14, 'it ends early'],
    ['a length of more than 32 bits', [1, 0xff, 0xff, 0xff, 0xff, 0x1f], 14, 'a number has more than 32 bits'],
    ['a length that does not end', [1, 0x80, 0x80, 0x80, 0x80, 0x80, 0], 14, 'a number has more than 32 bits'],
    ['more types than bytes', section(1, 0xff, 0x7f, 0x60, 0, 0), 15, 'it ends early'],
    ['a structure type', section(1, 1, 0x5f, 0), 12, 'a type is not part of core WebAssembly'],
    ['a typed reference', section(1, 1, 0x60, 1, 0x63, 0, 0), 14, 'a type is not part of core WebAssembly'],
    ['an import of a tag', section(2, 1, 0, 0, 4, 0, 0), 14, 'an import is of no known kind'],
    ['a memory with 64-bit addresses', section(5, 1, 4, 1), 12, 'a memory or table is shared or has 64-bit addresses'],
    ['a vector in an initialiser', section(6, 1, 0x7b, 0, 0xfd, 0x0c), 14, 'an initialiser is not part of core WebAssembly'],
    ['an export of a tag', section(7, 1, 1, 0x61, 4, 0), 15, 'the export a is of no known kind'],
    ['an unknown section', section(13, 0), 11, 'its section 13 is not part of core WebAssembly'],
  ])('%s: the refusal says where', (_what, content, at, reason) => {
    const wasm = Uint8Array.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...content])
    expect(refusedWith(() => readModule(wasm,
      'cmesh.abi'))).toEqual(malformed(`the module cannot be read at byte ${at}: ${reason}`))
  })

  test('a module with changed or missing bytes is read or refused, and inspect agrees', () => {
    let read = 0
    const changed = fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 4 })
    fc.assert(fc.property(fc.nat(samples.length - 1), changed, fc.option(fc.nat()), (index, changes, cut) => {
      const wasm = Uint8Array.from(samples[index] ?? [])
      for (const [at, value] of changes) wasm[at % wasm.length] = value
      const given = cut === null ? wasm : wasm.slice(0, cut % wasm.length)
      if (orRefused(() => readModule(given, 'cmesh.abi'))) read++
      orRefused(() => engine.inspect(given))
    }), { numRuns: 5_000 })
    expect(read).toBeGreaterThan(100)
  })

  test('whatever inspect takes, install takes and a call survives', () => {
    let taken = 0
    const sample = samples[1] ?? new Uint8Array(0)
    for (let at = 8; at < sample.length; at++) {
      for (const flip of [0x01, 0x40, 0xff]) {
        const wasm = Uint8Array.from(sample)
        wasm[at] = (wasm[at] ?? 0) ^ flip
        if (!orRefused(() => engine.inspect(wasm))) continue
        taken++
        const abi = engine.install('0x1', wasm, new Map())
        for (const { name } of abi.functions) {
          const result = engine.call({ address: '0x1', function: name, input: new Uint8Array(0), view: false,
            context: { seq: 1, timeMs: 0, caller: '' } })
          expect(typeof result.ok).toBe('boolean')
        }
      }
    }
    expect(taken).toBeGreaterThan(50)
  })
})

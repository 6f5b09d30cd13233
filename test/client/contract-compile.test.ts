import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { compileContract } from '../../client/contract/compile.ts'
import type { CompiledContract } from '../../client/contract/compile.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { codeHash } from '../../cmtp/package.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import type { ContractResult } from '../../services/contracts/provider.ts'
import { instancesMade } from '../support/instances.ts'

const SHIPPED = new URL('../../contracts/', import.meta.url).pathname
const CALLER = 'did:key:z6MkCaller'

let directory = ''
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cmesh-compile-'))
})
afterAll(async () => {
  await rm(directory, { recursive: true, force: true })
})

async function source(path: string, text: string): Promise<string> {
  const file = join(directory, path)
  await mkdir(dirname(file), { recursive: true })
  await writeFile(file, text)
  return file
}

/** One contract in an engine of its own. */
function deployed({ wasm }: CompiledContract) {
  const engine = new WasmEngine()
  const space = new Map<string, Uint8Array>()
  engine.install('0x001', wasm, space)
  const call = (name: string, input = '', view = false): ContractResult =>
    engine.call({ address: '0x001', function: name, input: Buffer.from(input), view,
      context: { seq: 7, timeMs: 1_700_000_000_123, caller: CALLER } })
  return {
    space,
    abi: engine.abi('0x001'),
    call,
    /** The JSON text of the result, or what failed. */
    say: (name: string, input = '', view = false): string => {
      const result = call(name, input, view)
      return result.ok ? Buffer.from(result.output).toString() : `${result.failure}: ${result.reason}`
    },
    events: (result: ContractResult): string[] => (result.ok ? result.events.map(({ topic,
      data }) => `${topic} ${Buffer.from(data).toString()}`) : []),
  }
}

async function refused(path: string, text: string): Promise<string> {
  const file = await source(path, text)
  const error: unknown = await compileContract(file).catch((thrown: unknown) => thrown)
  if (!(error instanceof CMeshError)) throw new Error('it compiled')
  expect(error.code).toBe('CMESH_CLIENT_COMPILE')
  expect(error.message.startsWith(`The contract ${file} does not compile: `)).toBe(true)
  return String(error.detail['reason'])
}

describe('the contracts that ship', () => {
  test('hello greets, says and emits as the worked examples demand', async () => {
    const { call, say, events } = deployed(await compileContract(join(SHIPPED, 'hello')))
    expect(events(call('init'))).toEqual(['blah_blah "blah blah"'])
    expect(say('hello_world', '', true)).toBe('"Hello, world"')
    expect(say('hello_world', '[]', true)).toBe('"Hello, world"')
    expect(say('hello_world', '["Dexter"]', true)).toBe('"Hello, Dexter"')
    expect(say('blah_blah', '', true)).toBe('"blah blah"')
    const said = call('say', '["so \\"be\\" it"]')
    expect(events(said)).toEqual(['blah_blah "so \\"be\\" it"'])
    expect(said.ok && Buffer.from(said.output).toString()).toBe('null')
    expect(say('blah_blah', '', true)).toBe('"so \\"be\\" it"')
    expect(say('say', '["x"]', true)).toBe('readonly: a view may not write state or emit events')
  })

  test('counter counts from where init says, by what it is told', async () => {
    const { call, say, events } = deployed(await compileContract(join(SHIPPED, 'counter')))
    expect(say('get')).toBe('0')
    expect(say('init', '[40]')).toBe('null')
    expect(say('increment')).toBe('41')
    expect(events(call('increment', '[2]'))).toEqual(['incremented 43'])
    expect(say('get', '', true)).toBe('43')
    expect(say('increment', '["18446744073709551572"]')).toBe('"18446744073709551615"')
    expect(say('increment')).toBe('revert: the counter ends at 18446744073709551615')
    expect(say('get')).toBe('"18446744073709551615"')
  })

  test('guestbook keeps who signed what, in order', async () => {
    const { call, say, events, space } = deployed(await compileContract(join(SHIPPED, 'guestbook')))
    expect([say('count'), say('last'), say('entry', '[1]')]).toEqual(['0', 'revert: nobody has signed yet',
      'revert: there is no entry 1'])
    expect(events(call('sign',
      '["grüß \\"euch\\""]'))).toEqual([`signed {"entry":1,"by":"${CALLER}","message":"grüß \\"euch\\""}`])
    expect(say('sign', '["two"]')).toBe('2')
    expect([say('count'), say('last'), say('entry', '[1]'), say('signer', '[2]')]).toEqual(['2', '"two"', '"grüß \\"euch\\""',
      `"${CALLER}"`])
    expect(say('sign', '[""]')).toBe('revert: a message has 1 to 280 characters')
    expect(say('sign', JSON.stringify(['x'.repeat(281)]))).toBe('revert: a message has 1 to 280 characters')
    expect(space.size).toBe(5)
  })

  test.each([['hello', 'say', '["x"]'], ['counter', 'increment', '[1]'], ['guestbook', 'sign', '["x"]']])(
    '%s runs every call on one instance', async (name, fn, input) => {
      const { call } = deployed(await compileContract(join(SHIPPED, name)))
      expect(instancesMade(() => {
        for (let i = 0; i < 5; i++) expect(call(fn, input).ok).toBe(true)
      })).toBe(1)
    })
})

describe('a build', () => {
  test('gives the same bytes from any directory, alone or beside others, whatever lies around', async () => {
    const text = `import { state } from 'cmesh/sdk'
      export function set(x: u64): void { assert(x > 0, 'no zero'); state.setU64('x', x) }`
    const [a, b] = [await source('a/counter.ts', text), await source('deep/er/b/counter.ts', text)]
    await source('a/asconfig.json', JSON.stringify({ options: { optimizeLevel: 0, debug: true, transform: ['./missing.js'] } }))
    await source('deep/node_modules/cmesh/sdk/index.ts', 'export const state: i32 = 1')
    const alone = await compileContract(a)
    const [here, there, other] = await Promise.all([compileContract(a), compileContract(b),
      compileContract(join(SHIPPED, 'hello'))])
    for (const { wasm } of [here, there]) expect(Buffer.from(wasm).equals(alone.wasm)).toBe(true)
    expect(other.stats.codeHash).not.toBe(alone.stats.codeHash)
    expect(alone.stats).toMatchObject({ bytes: alone.wasm.length, codeHash: codeHash(alone.wasm) })
    expect([alone.compiler, alone.warnings, alone.text]).toEqual(['assemblyscript 0.28.20', '', undefined])
    expect(deployed(alone).say('set', '[0]')).toBe('revert: no zero')
  })

  test('carries its ABI, and gives it', async () => {
    const built = await compileContract(await source('abi/index.ts', `
      @init export function begin(owner: string): void {}
      @view export function look(
        a: i32, b: bool = true, c: string = 'it\\'s', d: i64 = -9007199254740993, e: u32 = 7,
      ): i64 { return d }
      export function act(): bool { return true }
      function hidden(): void {}`))
    const word = (name: string, type: string,
      fallback?: unknown) => (fallback === undefined ? { name, type } : { name, type, default: fallback })
    const abi = {
      abi: 1, sdk: '0.1', events: [], functions: [
        { name: 'begin', mode: 'init', params: [word('owner', 'string')], returns: 'void' },
        { name: 'look', mode: 'view',
          params: [word('a', 'i32'), word('b', 'bool', true), word('c', 'string', 'it\'s'),
          word('d', 'i64', '-9007199254740993'), word('e', 'u32', 7)], returns: 'i64' },
        { name: 'act', mode: 'write', params: [], returns: 'bool' },
      ],
    }
    expect(built.abi).toEqual(abi)
    const { abi: read, say } = deployed(built)
    expect(read).toEqual(abi)
    expect(say('look', '[1]')).toBe('"-9007199254740993"')
    expect(say('look', '[1,false,"",5]')).toBe('5')
  })

  test('exports the wrappers alone, and gives its text on request', async () => {
    const built = await compileContract(await source('text/index.ts', 'export function act(): void {}'), { text: true })
    const exports = [...(built.text ?? '').matchAll(/\(export "([^"]+)"/g)].map(([, name]) => name)
    expect(exports.filter((name) => !name?.startsWith('global_')).sort()).toEqual(['_start', 'call_act', 'memory'])
  })

  test('takes closures of the library, local files and whatever else core WebAssembly holds', async () => {
    await source('parts/double.ts', 'export function double(x: i32): i32 { return x * 2 }')
    const { say } = deployed(await compileContract(await source('parts/main.ts', `
      import { double } from './double'
      class Shape { area(): f64 { return 0 } }
      class Square extends Shape { constructor(public side: f64) { super() } area(): f64 { return this.side * this.side } }
      let calls = 0
      let factor: f64 = 0.5
      export function sum(a: i32, b: i32): i32 {
        calls++
        const shapes: Shape[] = [new Square(a), new Shape()]
        factor += 1
        const big = [a, b].map<i32>((x) => double(x)).filter((x) => x > 2).reduce((x, y) => x + y, 0)
        return big + <i32>shapes[0].area() + calls + <i32>factor
      }
      export function fail(i: i32): i32 { return [1, 2, 3][i] }
      export function raise(): void { throw new Error('raised') }`)))
    expect(instancesMade(() => {
      expect([say('sum', '[3,4]'), say('sum', '[3,4]')]).toEqual(['25', '25'])
    })).toBe(1)
    expect(say('fail', '[3]')).toBe('revert: Index out of range')
    expect(say('raise')).toBe('revert: raised')
  })
})

describe('arguments and results', () => {
  let contract: ReturnType<typeof deployed>
  beforeAll(async () => {
    const types = ['bool', 'i32', 'u32', 'i64', 'u64', 'string']
    contract = deployed(await compileContract(await source('echo/index.ts', `
      ${types.map((type) => `export function echo_${type}(x: ${type}): ${type} { return x }`).join('\n')}
      export function pair(a: u32, b: string = 'b', c: bool = false): string { return a.toString() + b + c.toString() }
      export function none(): void {}`)))
  })

  test('any text goes in and comes out as JSON', () => {
    fc.assert(fc.property(fc.string({ unit: 'grapheme', maxLength: 40 }), fc.boolean(), (value, escaped) => {
      const literal = JSON.stringify(value)
      const escape = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
      const input = escaped ? literal.replace(/[^ -~]/g, escape) : literal
      expect(JSON.parse(contract.say('echo_string', `[${input}]`))).toBe(value)
    }), { numRuns: 1_000 })
    const controls = Array.from({ length: 0x80 }, (_, code) => String.fromCharCode(code)).join('')
    expect(contract.say('echo_string', JSON.stringify([controls]))).toBe(JSON.stringify(controls))
    expect(contract.say('echo_string', '["\\/\\u00e9\\uD83D\\uDE00\\u0000"]')).toBe(JSON.stringify('/é😀\0'))
  })

  test('a long text of escapes takes memory in proportion', () => {
    expect(contract.say('echo_string', `["${'\\n'.repeat(20_000)}"]`)).toBe(`"${'\\n'.repeat(20_000)}"`)
  })

  test.each([
    ['i32', -(2n ** 31n), 2n ** 31n - 1n, 'a whole number from -2147483648 to 2147483647'],
    ['u32', 0n, 2n ** 32n - 1n, 'a whole number from 0 to 4294967295'],
    ['i64', -(2n ** 63n), 2n ** 63n - 1n, 'a whole number from -9223372036854775808 to 9223372036854775807'],
    ['u64', 0n, 2n ** 64n - 1n, 'a whole number from 0 to 18446744073709551615'],
  ])('every %s goes in, bare or quoted, and comes out; beyond its range it is refused', (type, lowest, highest, expected) => {
    const echo = (text: string) => contract.say(`echo_${type}`, `[${text}]`)
    const value = fc.oneof(fc.bigInt(lowest, highest), fc.constantFrom(lowest, highest, 0n, 2n ** 31n - 1n))
    fc.assert(fc.property(value, fc.boolean(), (number, quoted) => {
      const safe = number >= -(2n ** 53n - 1n) && number <= 2n ** 53n - 1n
      expect(echo(quoted ? `"${number}"` : ` ${number} `)).toBe(safe ? `${number}` : `"${number}"`)
    }), { numRuns: 300 })
    const wrong = [`${lowest - 1n}`, `${highest + 1n}`, `${highest}0`, '9'.repeat(40), '1.5', '1e3', '01', '-', '--1', '+1',
      '0x1', 'true', 'null', '""', '"1', '"a"', '" 1"', '[1]', '{}', '1a']
    for (const text of wrong) expect([text, echo(text)]).toEqual([text, `revert: argument 1 (x): expected ${expected}`])
  })

  test.each([
    ['echo_bool', '[true]', 'true'],
    ['echo_bool', '[ false ]', 'false'],
    ['echo_bool', '[truth]', 'revert: argument 1 (x): expected true or false'],
    ['echo_bool', '[truey]', 'revert: argument 1 (x): expected true or false'],
    ['echo_bool', '[tru', 'revert: argument 1 (x): expected true or false'],
    ['echo_bool', '[fals ]', 'revert: argument 1 (x): expected true or false'],
    ['echo_bool', '["true"]', 'revert: argument 1 (x): expected true or false'],
    ['echo_string', '[1]', 'revert: argument 1 (x): expected a string'],
    ['echo_string', '["a', 'revert: argument 1 (x): expected a closing quote'],
    ['echo_string', '["a\\"]', 'revert: argument 1 (x): expected a closing quote'],
    ['echo_string', '["a\\', 'revert: argument 1 (x): expected a closing quote'],
    ['echo_string', '["\n"]', 'revert: argument 1 (x): expected a string without raw control characters'],
    ['echo_string', '["\\x"]', 'revert: argument 1 (x): expected a known escape after \\'],
    ['echo_string', '["\\u12"]', 'revert: argument 1 (x): expected four hex digits after \\u'],
    ['echo_string', '["\\u12g4"]', 'revert: argument 1 (x): expected four hex digits after \\u'],
    ['echo_string', '["\\ud800"]', 'revert: argument 1 (x): expected whole surrogate pairs'],
    ['echo_string', '["\\ud800\\u0041"]', 'revert: argument 1 (x): expected whole surrogate pairs'],
    ['echo_string', '["\\udc00"]', 'revert: argument 1 (x): expected whole surrogate pairs'],
    ['echo_string', '["a"b]', 'revert: argument 1 (x): expected a string'],
    ['echo_string', '["a"', 'revert: the arguments are not a JSON array'],
    ['echo_string', '["a"]]', 'revert: something follows the arguments'],
    ['echo_string', '"a"', 'revert: the arguments are not a JSON array'],
    ['echo_string', ' ', 'revert: the arguments are not a JSON array'],
    ['echo_string', '', 'revert: argument 1 (x) is missing'],
    ['echo_string', '[]', 'revert: argument 1 (x) is missing'],
    ['echo_string', '["a","b"]', 'revert: expected at most 1 argument'],
    ['none', '[]', 'null'],
    ['none', ' [ ] ', 'null'],
    ['none', '[1]', 'revert: expected no arguments'],
    ['pair', '[1]', '"1bfalse"'],
    ['pair', '[1,"x"]', '"1xfalse"'],
    ['pair', ' [ 1 , "x" , true ] ', '"1xtrue"'],
    ['pair', '[1 "x"]', 'revert: argument 2 (b): expected a comma before it'],
    ['pair', '[1,]', 'revert: argument 2 (b): expected a string'],
    ['pair', '[1,"x",true,2]', 'revert: expected at most 3 arguments'],
    ['pair', '[1,,true]', 'revert: argument 2 (b): expected a string'],
  ])('%s %j gives %j', (name, input, expected) => {
    expect(contract.say(name, input)).toBe(expected)
  })

  test('any bytes give a result or a coded failure', () => {
    const token = fc.constantFrom('[', ']', ',', '"', '\\', '\\u', 'd800', '1', '-', 'true', ' ', 'é', '😀', 'x')
    const names = fc.constantFrom('echo_bool', 'echo_i64', 'echo_string', 'pair', 'none')
    fc.assert(fc.property(names, fc.array(token, { maxLength: 12 }), (name, tokens) => {
      const input = tokens.join('')
      const result = contract.call(name, input)
      if (!result.ok) expect(result.failure).toBe('revert')
      else if (input !== '') expect(Array.isArray(JSON.parse(input))).toBe(true)
    }), { numRuns: 2_000 })
  })
})

describe('what does not compile', () => {
  test.each([
    ['a type error',
      'export function f(): u32 { return missing }', 'ERROR TS2304: Cannot find name \'missing\'.', 'in index.ts(1,35)'],
    ['a syntax error', 'export function f( {', 'ERROR TS1003: Identifier expected.', 'in index.ts(1,20)'],
    ['a missing file',
      'import { x } from \'./gone\'\nexport function f(): void { x() }', 'ERROR TS6054: File \'gone.ts\' not found.',
        'in index.ts(1,'],
    ['an unknown part of the SDK',
      'import { x } from \'cmesh/sdk/gone\'\nexport function f(): void { x() }', 'File \'~lib/cmesh/sdk/gone.ts\' not found.',
        'in index.ts(1,'],
    ['no function', 'const x = 1', 'A contract exports at least one function', 'index.ts'],
    ['a parameter of another type',
      'export function f(x: f64): void {}',
        'The type of a parameter of an exported function is one of bool, i32, u32, i64, u64, string', 'in index.ts(1,19)'],
    ['a result of another type',
      'export function f(): string[] { return [] }',
        'The result of an exported function is void or one of bool, i32, u32, i64, u64, string', 'in index.ts(1,22)'],
    ['no result type', 'export function f() {}', 'ERROR TS1110: Type expected.', 'in index.ts(1,20)'],
    ['an optional parameter', 'export function f(x?: u32): void {}', 'Give the parameter a default', 'in index.ts(1,19)'],
    ['a rest parameter', 'export function f(...x: u32): void {}', 'Give the parameter a default', 'in index.ts(1,19)'],
    ['a computed default',
      'const y = 1\nexport function f(x: u32 = y): void {}', 'A default of type u32 is a literal of that type',
        'in index.ts(2,28)'],
    ['a default of another type',
      'export function f(x: string = 1): void {}', 'A default of type string is a literal of that type', 'in index.ts(1,31)'],
    ['a default out of range',
      'export function f(x: i32 = 2147483648): void {}', 'A default of type i32 is a literal of that type', 'in index.ts(1,28)'],
    ['a parameter without default after one with',
      'export function f(a: u32 = 1, b: u32): void {}',
        'ERROR TS1016: A required parameter cannot follow an optional parameter.', 'in index.ts(1,31)'],
    ['a generic function', 'export function f<T>(): void {}', 'An exported function cannot be generic', 'in index.ts(1,17)'],
    ['a view that is an init', '@view @init export function f(): void {}', 'A function is @view or @init, not both', 'index.ts'],
    ['two inits',
      '@init export function f(): void {}\n@init export function g(): void {}', 'A contract has at most one @init function',
        'index.ts'],
    ['an exported class',
      'export class X {}', 'A contract exports functions, each declared as `export function`, and nothing else',
        'in index.ts(1,'],
    ['an exported constant', 'export const x = 1', 'A contract exports functions', 'in index.ts(1,'],
    ['an export list', 'function f(): void {}\nexport { f }', 'A contract exports functions', 'in index.ts(2,'],
    ['a long name',
      `export function ${'f'.repeat(65)}(): void {}`, 'The name of an exported function has at most 64 letters, digits or _',
        'in index.ts(1,17)'],
  ])('%s: the reason says what and where', async (what, text, message, place) => {
    const reason = await refused(`bad/${what.replaceAll(' ', '-')}/index.ts`, text)
    expect(reason).toContain(message)
    expect(reason).toContain(place)
    expect(reason).not.toContain('FAILURE')
  })

  test('a file that is not there, or no .ts', async () => {
    await source('text.txt', '')
    for (const [file, reason] of [['missing.ts', 'there is no such file.'], ['text.txt', 'it is not a .ts file.']] as const) {
      await expect(compileContract(join(directory, file))).rejects.toMatchObject({ code: 'CMESH_CLIENT_COMPILE',
        detail: { reason } })
    }
  })
})

import { describe, expect, jest, test } from '@jest/globals'
import { join } from 'node:path'
import { compileContract } from '../../client/contract/compile.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { codeHash } from '../../cmtp/package.ts'
import { instancesMade } from '../support/instances.ts'
import { CALLER, deployed, eventsOf, SHIPPED, sourceDirectory } from './support/deployed.ts'

// Compiling takes seconds on a machine that is busy.
jest.setTimeout(180_000)

const { directory, write: source } = sourceDirectory('compile')

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
    const { call, say } = deployed(await compileContract(join(SHIPPED, 'hello')))
    expect(eventsOf(call('init'))).toEqual(['blah_blah "blah blah"'])
    expect(say('hello_world', '', true)).toBe('"Hello, world"')
    expect(say('hello_world', '[]', true)).toBe('"Hello, world"')
    expect(say('hello_world', '["Dexter"]', true)).toBe('"Hello, Dexter"')
    expect(say('blah_blah', '', true)).toBe('"blah blah"')
    const said = call('say', '["so \\"be\\" it"]')
    expect(eventsOf(said)).toEqual(['blah_blah "so \\"be\\" it"'])
    expect(said.ok && Buffer.from(said.output).toString()).toBe('null')
    expect(say('blah_blah', '', true)).toBe('"so \\"be\\" it"')
    expect(say('say', '["x"]', true)).toBe('CMESH_CONTRACT_READONLY: a view may not write state, emit events or send messages')
  })

  test('counter counts from where init says, by what it is told', async () => {
    const { call, say } = deployed(await compileContract(join(SHIPPED, 'counter')))
    expect(say('get')).toBe('0')
    expect(say('init', '[40]')).toBe('null')
    expect(say('increment')).toBe('41')
    expect(eventsOf(call('increment', '[2]'))).toEqual(['incremented 43'])
    expect(say('get', '', true)).toBe('43')
    expect(say('increment', '["18446744073709551572"]')).toBe('"18446744073709551615"')
    expect(say('increment')).toBe('CMESH_CONTRACT_REVERT: the counter ends at 18446744073709551615')
    expect(say('get')).toBe('"18446744073709551615"')
  })

  test('guestbook keeps who signed what, in order', async () => {
    const { call, say, space } = deployed(await compileContract(join(SHIPPED, 'guestbook')))
    expect([say('count'), say('last'), say('entry', '[1]')]).toEqual(['0', 'CMESH_CONTRACT_REVERT: nobody has signed yet',
      'CMESH_CONTRACT_REVERT: there is no entry 1'])
    expect(eventsOf(call('sign',
      '["grüß \\"euch\\""]'))).toEqual([`signed {"entry":1,"by":"${CALLER}","message":"grüß \\"euch\\""}`])
    expect(say('sign', '["two"]')).toBe('2')
    expect([say('count'), say('last'), say('entry', '[1]'), say('signer', '[2]')]).toEqual(['2', '"two"', '"grüß \\"euch\\""',
      `"${CALLER}"`])
    expect(say('sign', '[""]')).toBe('CMESH_CONTRACT_REVERT: a message has 1 to 280 characters')
    expect(say('sign', JSON.stringify(['x'.repeat(281)]))).toBe('CMESH_CONTRACT_REVERT: a message has 1 to 280 characters')
    expect(space.size).toBe(5)
  })

  test.each([['hello', 'say', '["x"]'], ['counter', 'increment', '[1]'], ['guestbook', 'sign', '["x"]']])(
    '%s runs every call on the instance it was installed with', async (name, fn, input) => {
      const { call } = deployed(await compileContract(join(SHIPPED, name)))
      expect(instancesMade(() => {
        for (let i = 0; i < 5; i++) expect(call(fn, input).ok).toBe(true)
      })).toBe(0)
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
    expect(alone.flags).toContain('--runtime stub')
    expect(deployed(alone).say('set', '[0]')).toBe('CMESH_CONTRACT_REVERT: no zero')
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
      abi: 1, sdk: '0.2', events: [], functions: [
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

  test('says in its ABI what it emits, and what its results are made of', async () => {
    await source('shapes/shared.ts', '@record export class Shared { n: u32 = 7 }\nexport function shared(): Shared { return new Shared() }')
    const built = await compileContract(await source('shapes/index.ts', `
      import { Shared, shared } from './shared'
      @event class Moved { constructor(public to: string, public data: Uint8Array, public all: u64[]) {} static most: u32 = 1 }
      @event('kept.as') class Kept { on: bool = true }
      @record class Deal { constructor(public buyer: string, public amount: i64) {} }
      @record class Hidden { x: u32 = 1 }
      @view export function deal(): Deal { return new Deal('b', 1) }
      @view export function deals(): Array<Deal> { return [] }
      @view export function one(): Shared { return shared() }
      export function act(list: Array<u32>, data: Uint8Array, names: string[]): u64[] { new Kept().emit(); return [1] }
      @migrate export function upgrade(from: string): void {}
      @reply export function answer(id: string, status: i32, body: string): void {}`))
    const { abi } = built
    expect(abi).toEqual({
      abi: 1, sdk: '0.2',
      functions: [
        { name: 'deal', mode: 'view', params: [], returns: 'Deal' },
        { name: 'deals', mode: 'view', params: [], returns: 'Deal[]' },
        { name: 'one', mode: 'view', params: [], returns: 'Shared' },
        { name: 'act', mode: 'write', params: [{ name: 'list', type: 'u32[]' }, { name: 'data', type: 'bytes' }, { name: 'names', type: 'string[]' }], returns: 'u64[]' },
        { name: 'upgrade', mode: 'migrate', params: [{ name: 'from', type: 'string' }], returns: 'void' },
        { name: 'answer', mode: 'reply',
          params: [{ name: 'id', type: 'string' }, { name: 'status', type: 'i32' }, { name: 'body', type: 'string' }], returns: 'void' },
      ],
      events: [
        { name: 'Moved', fields: [{ name: 'to', type: 'string' }, { name: 'data', type: 'bytes' }, { name: 'all', type: 'u64[]' }] },
        { name: 'kept.as', fields: [{ name: 'on', type: 'bool' }] },
      ],
      records: expect.arrayContaining([
        { name: 'Deal', fields: [{ name: 'buyer', type: 'string' }, { name: 'amount', type: 'i64' }] },
        { name: 'Shared', fields: [{ name: 'n', type: 'u32' }] },
      ]),
    })
    expect(abi.records).toHaveLength(2)
    expect(deployed(built).abi).toEqual(abi)
  })

  test('has a source hash that follows from every file that went in, wherever they lie', async () => {
    const part = 'export function twice(x: u32): u32 { return x * 2 }'
    const text = 'import { twice } from \'./part\'\nexport function f(): u32 { return twice(2) }'
    const hashOf = async (directory: string, entry: string, other: string): Promise<string> => {
      await source(`${directory}/part.ts`, other)
      await source(`${directory}/unused.ts`, directory)
      return (await compileContract(await source(`${directory}/index.ts`, entry))).sourceHash
    }
    const first = await hashOf('hash/a', text, part)
    expect(first).toMatch(/^[0-9a-f]{64}$/)
    expect(await hashOf('hash/deep/er/b', text, part)).toBe(first)
    expect(await hashOf('hash/c', text, part.replace('* 2', '* 3'))).not.toBe(first)
    expect(await hashOf('hash/d', text.replace('(2)', '(3)'), part)).not.toBe(first)
  })

  test('exports the wrappers alone, and gives its text on request', async () => {
    const built = await compileContract(await source('text/index.ts', 'export function act(): void {}'), { text: true })
    const exports = [...(built.text ?? '').matchAll(/\(export "([^"]+)"/g)].map(([, name]) => name)
    expect(exports.sort()).toEqual(['_start', 'call_act', 'memory'])
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
    })).toBe(0)
    expect(say('fail', '[3]')).toBe('CMESH_CONTRACT_REVERT: Index out of range')
    expect(say('raise')).toBe('CMESH_CONTRACT_REVERT: raised')
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
        'The type of a parameter of an exported function is bool, i32, u32, i64, u64, string, Uint8Array or an array of one of these', 'in index.ts(1,19)'],
    ['a result of another type',
      'export function f(): f64 { return 0 }',
        'The result of an exported function is void, bool, i32, u32, i64, u64, string, Uint8Array or an array of one of these, an @record or an '
        + 'array of one', 'in index.ts(1,22)'],
    ['no result type', 'export function f() {}', 'ERROR types: A type is missing', 'in index.ts(1,20)'],
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
    ['a view that is an init', '@view @init export function f(): void {}', 'A function is @view, @init, @migrate or @reply, only one of them', 'index.ts'],
    ['two inits',
      '@init export function f(): void {}\n@init export function g(): void {}', 'A contract has at most one @init function',
        'index.ts'],
    ['two migrations',
      '@migrate export function f(a: string): void {}\n@migrate export function g(a: string): void {}',
        'A contract has at most one @migrate function', 'index.ts'],
    ['an init with a result', '@init export function f(): u32 { return 1 }', 'An @init function gives nothing: its result is void', 'in index.ts(1,23)'],
    ['a migration of other parameters', '@migrate export function f(a: u32): void {}',
      'An @migrate function is declared as f(from: string): void', 'in index.ts(1,26)'],
    ['a reply of other parameters', '@reply export function f(id: string, status: u32, body: string): void {}',
      'An @reply function is declared as f(id: string, status: i32, body: string): void', 'in index.ts(1,24)'],
    ['a reply with a result', '@reply export function f(id: string, status: i32, body: string): bool { return true }',
      'An @reply function is declared as f(id: string, status: i32, body: string): void', 'in index.ts(1,24)'],
    ['bytes with a default', 'export function f(x: Uint8Array = new Uint8Array(0)): void {}', 'A parameter of type bytes has no default', 'in index.ts(1,'],
    ['an event field of another type', '@event class E { constructor(public x: f64) {} }\nexport function f(): void {}',
      'A field of an @event or @record is of type bool', 'in index.ts(1,'],
    ['an event without fields', '@event class E {}\nexport function f(): void {}', 'An @event or @record has at least one field', 'in index.ts(1,14)'],
    ['an event that extends', 'class A {}\n@event class E extends A { x: u32 = 1 }\nexport function f(): void {}',
      'An @event or @record has all its fields itself and extends nothing', 'in index.ts(2,24)'],
    ['a generic record', '@record class E<T> { x: u32 = 1 }\nexport function f(): void {}', 'An @event or @record cannot be generic', 'in index.ts(1,15)'],
    ['two events of a topic', '@event(\'t\') class E { x: u32 = 1 }\n@event(\'t\') class F { x: u32 = 1 }\nexport function f(): void {}',
      'Another event has the topic t already', 'in index.ts(2,19)'],
    ['a topic that is none', '@event(\'a b\') class E { x: u32 = 1 }\nexport function f(): void {}',
      'The topic of an event is a string of 1 to 64 letters, digits or . _ - ~ ^', 'in index.ts(1,8)'],
    ['a record that is an event', '@event @record class E { x: u32 = 1 }\nexport function f(): void {}',
      'A class is @event or @record, and only once', 'in index.ts(1,22)'],
    ['an array in a cell', 'import { Cell } from \'cmesh/sdk\'\nconst c = new Cell<u32[]>(\'c\')\nexport function f(): void { c.set([1]) }',
      'An array is not kept as one value', '~lib/cmesh/sdk/values.ts'],
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
      await expect(compileContract(join(directory(), file))).rejects.toMatchObject({ code: 'CMESH_CLIENT_COMPILE',
        detail: { reason } })
    }
  })
})

import { describe, expect, jest, test } from '@jest/globals'
import fc from 'fast-check'
import { existsSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import { lintContract } from '../../client/contract/compile.ts'
import type { ContractDiagnostic } from '../../client/contract/diagnostics.ts'
import { formatDiagnostics } from '../../client/contract/diagnostics.ts'
import { habits } from '../../client/contract/habits.ts'
import { closing, tokenize } from '../../client/contract/tokens.ts'
import { warnings } from '../../client/contract/warnings.ts'
import { SHIPPED, sourceDirectory } from './support/deployed.ts'

// Compiling takes seconds on a machine that is busy.
jest.setTimeout(180_000)

const { write: source } = sourceDirectory('lint')

const IMPORT = 'import { Cell, ctx, emit, revert, SortedMap, StateMap } from \'cmesh/sdk\'\n'

interface Linted {
  readonly said: readonly string[]
  readonly compiles: boolean
  readonly all: readonly ContractDiagnostic[]
}

async function lint(name: string, text: string): Promise<Linted> {
  const { diagnostics, contract } = await lintContract(await source(`${name.replace(/\W+/g, '-')}/index.ts`, IMPORT + text))
  return { said: diagnostics.map(({ severity, code, line, column }) => `${severity} ${code} ${line}:${column}`), compiles: contract !== undefined, all: diagnostics }
}

describe('what the language lacks is explained at its place', () => {
  test.each([
    ['a closure', 'export function f(n: i32): i32[] { return [1].map<i32>((x) => x + n) }', 'closures', '2:67', 'A function cannot use a variable of the function around it', 'Hand the value in'],
    ['a nested function', 'export function f(n: i32): i32 { function g(): i32 { return n } return g() }', 'closures', '2:61', 'A function cannot use', 'Hand'],
    ['try', 'export function f(): void { try { revert("x") } catch (e) {} }', 'exceptions', '2:29', 'The language has no exceptions to catch', 'gives a Result'],
    ['async', 'export async function f(): Promise<void> { await g() }', 'async', '2:8', 'async, await and promises do not exist', '@reply'],
    ['await', 'export function f(): void { await f() }', 'async', '2:29', 'async, await and promises do not exist', '@reply'],
    ['a generator', 'function* g(): i32 { yield 1 }\nexport function f(): void {}', 'generators', '2:1', 'Generators do not exist', 'array'],
    ['for of', 'export function f(): void { for (const x of [1]) revert("x") }', 'for-of', '2:42', 'for … of does not exist', 'range().entries(limit)'],
    ['for in', 'export function f(): void { for (const x in [1]) revert("x") }', 'for-in', '2:42', 'for … in does not exist', 'Count'],
    ['destructuring', 'export function f(): void { const [a, b] = [1, 2] }', 'destructuring', '2:29', 'Taking arrays and objects apart', 'Name each'],
    ['spread', 'export function f(): i32[] { const a = [1]; return [...a, 2] }', 'spread', '2:53', 'Spread and rest do not exist', 'concat'],
    ['optional chaining', 'class A { x: i32 = 1 }\nexport function f(a: i32): i32 { const b: A | null = null; return b?.x }', 'optional-chaining', '3:68', 'Optional chaining does not exist', '!== null'],
    ['a nullish default', 'export function f(): string { const a: string | null = null; return a ?? "x" }', 'nullish', '2:71', '?? does not exist', 'getOr'],
    ['any', 'function g(x: any): void {}\nexport function f(): void { g(1) }', 'any', '2:15', 'There is no type any', 'generic'],
    ['undefined', 'export function f(): void { let a = undefined }', 'undefined', '2:37', 'There is no undefined', 'null'],
    ['a bigint', 'export function f(): u64 { return 1n }', 'bigint', '2:35', 'There are no bigint literals', 'instead of 1n'],
    ['a private name', 'class A { #x: i32 = 1 }\nexport function f(): void {}', 'private-names', '2:11', 'Names with # do not exist', 'private'],
    ['a regular expression', 'export function f(): bool { return /a+/.test("aa") }', 'regex', '2:36', 'There are no regular expressions', 'indexOf'],
    ['JSON', 'export function f(): string { return JSON.stringify(1) }', 'json', '2:38', 'There is no JSON object', 'parse<T>(text)'],
    ['the clock', 'export function f(): i64 { return Date.now() }', 'date', '2:35', 'A contract has no clock of its own', 'ctx.time()'],
    ['chance', 'export function f(): i64 { return <i64>(Math.random() * 5) }', 'random', '2:41', 'Math.random would differ from replica to replica', 'crypto.random(below)'],
    ['the browser\'s randomness', 'export function f(): void { crypto.getRandomValues(new Uint8Array(1)) }', 'random', '2:29', 'There is no such source of random numbers', 'crypto.seed()'],
    ['the console', 'export function f(): void { console.log("x") }', 'console', '2:29', 'A contract has nowhere to print to', 'Emit an event'],
    ['trace', 'export function f(): void { trace("x") }', 'console', '2:29', 'A contract has nowhere to print to', 'Emit an event'],
    ['a timer', 'export function f(): void { setTimeout(() => {}, 1) }', 'timers', '2:29', 'There are no timers', 'deadline'],
    ['fetch', 'export function f(): void { fetch("x") }', 'outside', '2:29', 'there is no fetch', 'send('],
    ['the process', 'export function f(): string { return process.env.X }', 'outside', '2:38', 'there is no process', 'argument'],
    ['a module of Node', 'import { readFileSync } from \'fs\'\nexport function f(): void { readFileSync("x") }', 'outside', '2:30', 'modules of Node cannot be imported', 'cmesh/sdk'],
    ['eval', 'export function f(): void { eval("x") }', 'eval', '2:29', 'Code cannot be made while a contract runs', 'Write a function'],
    ['a union', 'function g(x: string | i32): void {}\nexport function f(): void {}', 'unions', '2:24', 'A value has one type', 'enum'],
    ['a union of names', 'type A = \'a\' | \'b\'\nexport function f(): void {}', 'unions', '2:16', 'A value has one type', 'enum'],
    ['an object literal', 'export function f(): void { const a = { x: 1 } }', 'object-literals', '2:39', 'An object literal needs a class', 'Declare a class'],
    ['a tuple', 'function g(): [i32, string] { return [1, "a"] }\nexport function f(): void {}', 'types', '2:15', 'A type is missing', 'Tuples'],
    ['an untyped parameter', 'function g(x) { return x }\nexport function f(): void {}', 'types', '2:14', 'A type is missing', 'u64'],
    ['a listed map', 'const m = new StateMap<string, u64>(\'m\')\nexport function f(): void { const a = m.keys() }', 'listing', '3:41', 'A StateMap cannot be listed', 'SortedMap'],
  ])('%s', async (name, text, code, place, message, hint) => {
    const { said, compiles, all } = await lint(name, text)
    expect(said.filter((line) => line.startsWith('error'))).toEqual([`error ${code} ${place}`])
    expect(compiles).toBe(false)
    const error = all.find(({ severity }) => severity === 'error')
    expect(error?.message).toContain(message)
    expect(error?.hint).toContain(hint)
    expect([error?.file, error?.excerpt]).toEqual(['index.ts', (IMPORT + text).split('\n')[Number(place.split(':')[0]) - 1]])
  })

  test('all of them at once, though the compiler stops at the first', async () => {
    const { said } = await lint('many', 'export async function f(x: any): Promise<void> {\n  try { JSON.parse(x) }\n  catch (e) { console.log(e) }\n}')
    expect(said).toEqual(['error async 2:8', 'error any 2:28', 'error exceptions 3:3', 'error json 3:9', 'error console 4:15'])
  })

  test('in files beside the entry too, under their own names', async () => {
    await source('beside/part.ts', 'export function now(): i64 {\n  return Date.now()\n}')
    const entry = await source('beside/index.ts', 'import { now } from \'./part\'\nexport function f(): i64 { return now() }')
    const { diagnostics } = await lintContract(entry)
    expect(diagnostics.map(({ file, line, code }) => `${file}:${line} ${code}`)).toEqual(['part.ts:2 date'])
  })

  test('what is no cause is not blamed: a source that compiles has no errors, one that does not only those that stop it', async () => {
    const legal = 'class Date2 {}\nfunction tryAgain(of: i32): i32 { return of }\n// await Date.now() /x/ any\nexport function f(): string { return `try { ${tryAgain(1)} } ?? any` + "JSON.parse" }'
      .replaceAll('of: i32', 'n: i32').replace('return of', 'return n')
    expect((await lint('legal', legal)).said).toEqual([])
    expect((await lint('own-names', `function fetch(): i32 { return 1 }\nfunction f2(): i32 { return fetch() }\n${legal}`)).said).toEqual([])
    const wrong = await lint('wrong', `${legal}\nfunction g(): u32 { return 'x' }`.replace('return `', 'g()\n  return `'))
    expect(wrong.said).toEqual(['error TS2322 7:28'])
  })

  test('what a node would refuse is refused here, with its name', async () => {
    const { all, compiles } = await lint('foreign', '@external("env", "clock") declare function clock(): i64\nexport function f(): i64 { return clock() }')
    expect(compiles).toBe(false)
    expect(formatDiagnostics(all)).toBe('ERROR outside: The contract uses env.clock, which no node gives.\n    A contract reaches nothing but what cmesh/sdk exports.')
  })

  test('as text it shows the line and the place', async () => {
    const { all } = await lint('shown', 'export function f(): u32 {\n\treturn missing\n}')
    expect(formatDiagnostics(all)).toBe([
      'ERROR TS2304: Cannot find name \'missing\'.', '  3 │  return missing', '    │         ~~~~~~~', '    └─ in index.ts(3,9)',
    ].join('\n'))
  })

  test('a file that is not there has no report', async () => {
    await expect(lintContract('/nowhere/index.ts')).rejects.toMatchObject({ code: 'CMESH_CLIENT_COMPILE', detail: { reason: 'there is no such file.' } })
  })
})

describe('what compiles and is rarely meant is warned of', () => {
  const found = (text: string): string[] => warnings(text).map(({ code, start, end }) => `${code} ${text.slice(start, end)}`)

  test.each([
    ['a fraction', 'let x: f64 = 1.5', ['floats f64', 'floats 1.5']],
    ['number', 'function f(x: number): void {}', ['floats number']],
    ['a float in a map', 'const x = new StateMap<string, f64>(\'x\')', ['floats f64']],
    ['the SDK\'s number()', 'emit(\'x\', number(1)); if (a < number(2)) b = [1, number(3)]', []],
    ['whole numbers', 'let x: u64 = 10_000; let y = 0x1F; list[1].x', []],
    ['a name with a slash', 'const x = new Cell<u64>(\'a/b\')', ['store-name \'a/b\'']],
    ['a name that is not ASCII', 'const x = new StateMap<Pair<u64, string>, u64>(\'ä\')', ['store-name \'ä\'']],
    ['an empty name', 'const x = new SortedMap<u64, u64>(\'\')', ['store-name \'\'']],
    ['one name twice', 'const x = new Cell<u64>(\'a\')\nconst y = new StateMap<u64, u64>("a")\nconst z = new Cell<u64>(\'b\')', ['store-name "a"']],
    ['a difference that may wrap', 'const x = new Cell<u64>(\'x\')\nx.set(x.get() - amount)', ['wraps -']],
    ['a product in a map', 'const x = new StateMap<u64, u64>(\'x\')\nx.set(k, x.getOr(k, 1) * 2)', ['wraps *']],
    ['a text put together', 'const x = new Cell<string>(\'x\')\nx.set(x.get() + \'!\')', []],
    ['checked arithmetic', 'const x = new Cell<u64>(\'x\')\nx.set(checked.sub(x.get(), amount))', []],
    ['set of something else', 'const x = new Map<u64, u64>()\nx.set(x.get(1) - 1)', []],
    ['a loop as long as the state says', 'const n = new Cell<u64>(\'n\')\nfor (let i: u64 = 0; i < n.get(); i++) {}', ['unbounded for (let i: u64 = 0; i < n.get(); i++)']],
    ['a while loop likewise', 'const n = new Cell<u64>(\'n\')\nwhile (n.get() > 0) {}', ['unbounded while (n.get() > 0)']],
    ['a bounded loop', 'const n = new Cell<u64>(\'n\')\nconst end = min(n.get(), 10)\nfor (let i: u64 = 0; i < end; i++) {}', []],
    ['a page of everything', 'x.range().entries(i32.MAX_VALUE)', ['unbounded entries(i32']],
    ['a huge page', 'x.range().keys(1_000_000)', ['unbounded keys(1_000_000']],
    ['a page', 'x.range().values(1000)', []],
    ['a view that writes', 'const n = new Cell<u64>(\'n\')\n@view export function f(): void { n.set(1); emit(\'x\', \'1\') }\nexport function g(): void { n.set(2) }', ['writing-view set', 'writing-view emit']],
    ['a view that fills a map of its own', '@view export function f(): void { const m = new Map<u64, u64>(); m.set(1, 2) }', []],
    ['what stands in comments and strings', '// 1.5 f64\nconst s = "x: f64 1.5" /* : f64 */', []],
  ])('%s', (_what, text, expected) => {
    expect(found(text)).toEqual(expected)
  })

  test('with a place, and without stopping the build', async () => {
    const { said, compiles, all } = await lint('warned', 'const n = new Cell<u64>(\'n\')\nexport function f(): void {\n  n.set(n.get() + 1)\n}')
    expect([said, compiles]).toEqual([['warning wraps 4:17'], true])
    expect(all[0]?.hint).toBe('checked.add, checked.sub and checked.mul revert instead.')
  })

  test('not in the contracts that ship', async () => {
    const names = readdirSync(SHIPPED).filter((name) => existsSync(join(SHIPPED, name, 'index.ts')) && name !== 'sdk')
    expect(names).toEqual(expect.arrayContaining(['counter', 'guestbook', 'hello']))
    for (const name of names) expect([name, (await lintContract(join(SHIPPED, name))).diagnostics]).toEqual([name, []])
  })
})

describe('the text of a source', () => {
  const texts = (text: string): string[] => tokenize(text).map((token) => token.text)

  test('is words, numbers, strings and signs, without comments', () => {
    expect(texts('const a = b.c[0x1F] + 1.5e3 // d\n/* e */ ?? "f\\"g" + \'h\' ... i => j ?. k ? .5 : 1'))
      .toEqual(['const', 'a', '=', 'b', '.', 'c', '[', '0x1F', ']', '+', '1.5e3', '??', '"f\\"g"', '+', '\'h\'', '...', 'i', '=>', 'j', '?.', 'k', '?', '.5', ':', '1'])
  })

  test('a template is its pieces, and what stands between them', () => {
    expect(texts('`a ${b + `c ${d}` + {}} e` f')).toEqual(['`a ${', 'b', '+', '`c ${', 'd', '}`', '+', '{', '}', '} e`', 'f'])
  })

  test('a slash divides after a value and begins a regular expression elsewhere', () => {
    expect(texts('a / b / c; f(/d[/]\\/e/g) + g() / 2; return /h/')).toEqual(
      ['a', '/', 'b', '/', 'c', ';', 'f', '(', '/d[/]\\/e/g', ')', '+', 'g', '(', ')', '/', '2', ';', 'return', '/h/'])
  })

  test('any text gives tokens that lie in it in order, and rules that end', () => {
    const piece = fc.oneof(fc.string({ maxLength: 6 }), fc.constantFrom('`', '${', '}', '/', '/*', '\'', '"', '\\', '{', '(', '@view', 'new Cell(', '.set(', 'for (', '\n'))
    fc.assert(fc.property(fc.array(piece, { maxLength: 25 }), (pieces) => {
      const text = pieces.join('')
      let at = 0
      const tokens = tokenize(text)
      for (const token of tokens) {
        expect(text.startsWith(token.text, token.at) && token.at >= at && token.text !== '').toBe(true)
        at = token.at + token.text.length
      }
      for (let index = 0; index < tokens.length; index++) expect(closing(tokens, index)).toBeLessThan(tokens.length)
      for (const { start, end } of [...warnings(text), ...habits(text)]) expect(start < end && end <= text.length).toBe(true)
    }), { numRuns: 1_000, seed: 1 })
  })
})

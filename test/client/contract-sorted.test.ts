import { beforeAll, describe, expect, jest, test } from '@jest/globals'
import fc from 'fast-check'
import { compileContract } from '../../client/contract/compile.ts'
import type { CompiledContract } from '../../client/contract/compile.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { deployed, sourceDirectory } from './support/deployed.ts'
import type { Deployed } from './support/deployed.ts'

// Compiling takes seconds on a machine that is busy.
jest.setTimeout(180_000)

const { write: source } = sourceDirectory('sorted')

/** For each type of key a map, what fills it and what lists it. */
const listing = (name: string, type: string): string => `
  const ${name} = new SortedMap<${type}, u32>('${name}')
  export function put_${name}(keys: ${type}[]): void { for (let i = 0; i < keys.length; i++) ${name}.set(keys[i], i) }
  @view export function keys_${name}(backwards: bool): ${type}[] { return backwards ? ${name}.range().reverse().keys(1000) : ${name}.range().keys(1000) }
  @view export function part_${name}(from: ${type}, to: ${type}): ${type}[] { return ${name}.range().from(from).before(to).keys(1000) }
  @view export function rest_${name}(after: ${type}, through: ${type}): ${type}[] {
    return ${name}.range().through(through).after(after).reverse().keys(1000)
  }`

const TYPES = { strings: 'string', bytes: 'Uint8Array', u64s: 'u64', i64s: 'i64', u32s: 'u32', i32s: 'i32', bools: 'bool' }

const PAIRS = `
  const pairs = new SortedMap<Pair<string, i64>, string>('pairs')
  const deep = new SortedMap<Pair<Uint8Array, Pair<bool, string>>, u32>('deep')
  export function put_pairs(firsts: string[], seconds: i64[]): void {
    for (let i = 0; i < firsts.length; i++) pairs.set(pair(firsts[i], seconds[i]), firsts[i] + '!' + seconds[i].toString())
  }
  @view export function values_pairs(): string[] { return pairs.range().values(1000) }
  @view export function within_pairs(first: string): i64[] {
    return pairs.range().within(first).keys(1000).map<i64>((key) => key.second)
  }
  @view export function firsts_pairs(): string[] { return pairs.range().keys(1000).map<string>((key) => key.first) }
  export function put_deep(a: Uint8Array[], b: bool[], c: string[]): void {
    for (let i = 0; i < a.length; i++) deep.set(pair(a[i], pair(b[i], c[i])), i)
  }
  @view export function keys_deep(): string[] {
    return deep.range().keys(1000).map<string>((key) => hex(key.first) + ' ' + key.second.first.toString() + ' ' + key.second.second)
  }
  const numbered = new SortedMap<Pair<u64, string>, u32>('numbered')
  export function put_numbered(id: u64, who: string): void { numbered.set(pair(id, who), 1) }
  @view export function of_last(): string[] { return numbered.range().within(u64.MAX_VALUE).keys().map<string>((key) => key.second) }
  @view export function of_seven(): string[] { return numbered.range().within(7).keys().map<string>((key) => key.second) }`

const MAPS = `
  const words = new SortedMap<string, string>('words')
  export function word(key: string, size: u32): void { words.set(key, 'x'.repeat(size)) }
  export function gone(key: string): bool { return words.delete(key) }
  @view export function beginning(prefix: string): string[] { return words.range().within(prefix).keys() }
  @view export function sizes(limit: i32, backwards: bool): u32[] {
    const range = words.range()
    return (backwards ? range.reverse() : range).values(limit).map<u32>((value) => value.length)
  }
  @view export function entries(limit: i32, backwards: bool): string[] {
    const range = words.range()
    return (backwards ? range.reverse() : range).entries(limit).map<string>((entry) => entry.key + entry.value.length.toString())
  }
  @view export function ends(): string[] {
    const first = words.first()
    const last = words.last()
    return [first ? first.key : '-', last ? last.key : '-']
  }
  export function long(count: u32, size: u32): void { for (let i: u32 = 0; i < count; i++) words.set(i.toString().padStart(size, '0'), '') }
  @view export function many(limit: i32): u32 { return words.range().keys(limit).length }
  @view export function descending(limit: i32): u32 { return words.range().reverse().keys(limit).length }`

let compiled: CompiledContract
const engine = new WasmEngine()
/** The same code on empty state. */
const empty = (): Deployed => deployed(compiled, engine)

beforeAll(async () => {
  compiled = await compileContract(await source('index.ts', `import { hex, Pair, pair, SortedMap } from 'cmesh/sdk'
    ${Object.entries(TYPES).map(([name, type]) => listing(name, type)).join('\n')} ${PAIRS} ${MAPS}`))
})

const integers = (bits: number, signed: boolean): fc.Arbitrary<bigint> => {
  const [lowest, highest] = signed ? [-(2n ** BigInt(bits - 1)), 2n ** BigInt(bits - 1) - 1n] : [0n, 2n ** BigInt(bits) - 1n]
  return fc.oneof(fc.bigInt(lowest, highest), fc.constantFrom(lowest, highest, 0n, 1n, 255n, 256n, ...(signed ? [-1n, -256n] : [])))
}
const text = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 8 }), fc.array(fc.constantFrom('\0', '\u0001', 'a', 'ÿ', '\ue000', '😀'), { maxLength: 4 })
  .map((parts) => parts.join('')))
const digits = fc.uint8Array({ maxLength: 6 }).map((bytes) => Buffer.from(bytes).toString('hex'))

const byNumber = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0)
const byBytes = (a: string, b: string): number => Buffer.from(a).compare(Buffer.from(b))

/** Any number of keys as the contract gives it: in quotes where JSON would round it. */
const shown = (value: bigint): unknown => (value > BigInt(Number.MAX_SAFE_INTEGER) || value < BigInt(Number.MIN_SAFE_INTEGER) ? String(value) : Number(value))

function ordered<T>(name: string, keys: readonly T[], order: (a: T, b: T) => number, as: (key: T) => unknown): void {
  const { call, say } = empty()
  const json = (value: unknown): string => JSON.stringify(value, (_key, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner))
  expect(call(`put_${name}`, json([keys])).ok).toBe(true)
  const sorted = [...new Map(keys.map((key) => [as(key), key])).values()].sort(order)
  const list = (of: readonly T[]): string => JSON.stringify(of.map(as))
  expect(say(`keys_${name}`, '[false]', true)).toBe(list(sorted))
  expect(say(`keys_${name}`, '[true]', true)).toBe(list([...sorted].reverse()))
  const [a, b] = [keys[0], keys.at(-1)]
  if (a === undefined || b === undefined) return
  expect(say(`part_${name}`, json([a, b]), true)).toBe(list(sorted.filter((key) => order(key, a) >= 0 && order(key, b) < 0)))
  expect(say(`rest_${name}`, json([a, b]), true)).toBe(list(sorted.filter((key) => order(key, a) > 0 && order(key, b) <= 0).reverse()))
}

describe('a sorted map lists its keys in their order', () => {
  test.each([['u64s', 64, false], ['i64s', 64, true], ['u32s', 32, false], ['i32s', 32, true]])('%s by value', (name, bits, signed) => {
    fc.assert(fc.property(fc.array(integers(bits, signed), { maxLength: 12 }), (keys) => {
      ordered(name, keys, byNumber, shown)
    }), { numRuns: 60, seed: 1 })
  })

  test('strings by code point', () => {
    fc.assert(fc.property(fc.array(text, { maxLength: 12 }), (keys) => {
      ordered('strings', keys, byBytes, (key) => key)
    }), { numRuns: 150, seed: 2 })
  })

  test('bytes byte by byte', () => {
    fc.assert(fc.property(fc.array(digits, { maxLength: 12 }), (keys) => {
      ordered('bytes', keys, (a, b) => (a < b ? -1 : a > b ? 1 : 0), (key) => key)
    }), { numRuns: 100, seed: 3 })
  })

  test('bool: false before true', () => {
    ordered('bools', [true, false], (a, b) => Number(a) - Number(b), (key) => key)
  })

  test('pairs by their first part, then by their second, whatever the parts hold', () => {
    fc.assert(fc.property(fc.array(fc.tuple(text, integers(64, true)), { maxLength: 12 }), (keys) => {
      const { call, say } = empty()
      expect(call('put_pairs', JSON.stringify([keys.map(([first]) => first), keys.map(([, second]) => String(second))])).ok).toBe(true)
      const sorted = [...new Map(keys.map((key) => [`${key[0]}!${key[1]}`, key])).values()]
        .sort(([a, c], [b, d]) => byBytes(a, b) || byNumber(c, d))
      expect(say('values_pairs', '', true)).toBe(JSON.stringify(sorted.map(([first, second]) => `${first}!${second}`)))
      expect(say('firsts_pairs', '', true)).toBe(JSON.stringify(sorted.map(([first]) => first)))
      for (const [wanted] of keys.slice(0, 2)) {
        const seconds = sorted.filter(([first]) => first === wanted).map(([, second]) => shown(second))
        expect(say('within_pairs', JSON.stringify([wanted]), true)).toBe(JSON.stringify(seconds))
      }
    }), { numRuns: 150, seed: 4 })
  })

  test('pairs of pairs part by part', () => {
    fc.assert(fc.property(fc.array(fc.tuple(digits, fc.boolean(), text), { maxLength: 10 }), (keys) => {
      const { call, say } = empty()
      expect(call('put_deep', JSON.stringify([0, 1, 2].map((part) => keys.map((key) => key[part])))).ok).toBe(true)
      const sorted = [...new Map(keys.map((key) => [key.join(' '), key])).values()]
        .sort(([a, b, c], [d, e, f]) => byBytes(a, d) || Number(b) - Number(e) || byBytes(c, f))
      expect(say('keys_deep', '', true)).toBe(JSON.stringify(sorted.map((key) => key.join(' '))))
    }), { numRuns: 100, seed: 5 })
  })
})

describe('a range', () => {
  test('takes a bare number for the first part of a pair, whatever its type', () => {
    const { say } = empty()
    for (const [id, who] of [[6, 'x'], [7, 'b'], [7, 'a'], [8, 'x']]) say('put_numbered', JSON.stringify([id, who]))
    expect(say('of_seven', '', true)).toBe('["a","b"]')
    say('put_numbered', '["18446744073709551615","z"]')
    expect(say('of_last', '', true)).toBe('["z"]')
  })

  test('of strings that begin alike holds those and no others', () => {
    const { say } = empty()
    for (const key of ['fo', 'foo', 'foobar', 'fop', 'foÿ', 'fo\u0000']) say('word', JSON.stringify([key, 0]))
    expect(say('beginning', '["foo"]', true)).toBe('["foo","foobar"]')
    expect(say('beginning', '["fo"]', true)).toBe(JSON.stringify(['fo', 'fo\u0000', 'foo', 'foobar', 'fop', 'foÿ']))
    expect(say('beginning', '["x"]', true)).toBe('[]')
  })

  test('of an empty map is empty, and its ends are null', () => {
    const { say } = empty()
    expect([say('ends', '', true), say('entries', '[9,false]', true), say('many', '[9]', true)]).toEqual(['["-","-"]', '[]', '0'])
    say('word', '["only",1]')
    expect(say('ends', '', true)).toBe('["only","only"]')
    expect(say('gone', '["only"]')).toBe('true')
    expect([say('gone', '["only"]'), say('ends', '', true)]).toEqual(['false', '["-","-"]'])
  })

  test('gives as many as are asked for, also when one scan of the host cannot hold them', () => {
    const { say } = empty()
    const sizes = [30_000, 30_000, 30_000, 65_536, 10, 65_536]
    for (const [index, size] of sizes.entries()) say('word', JSON.stringify([`k${index}`, size]))
    expect(say('sizes', '[100,false]', true)).toBe(JSON.stringify(sizes))
    expect(say('sizes', '[100,true]', true)).toBe(JSON.stringify([...sizes].reverse()))
    expect(say('sizes', '[3,true]', true)).toBe(JSON.stringify([...sizes].reverse().slice(0, 3)))
    expect(say('entries', '[100,false]', true)).toBe(JSON.stringify(sizes.map((size, index) => `k${index}${size}`)))
    expect(say('entries', '[0,false]', true)).toBe('[]')
    expect(say('entries', '[-1,false]', true)).toBe('[]')
  })

  test.each([[700, 10], [300, 250]])('goes through %d keys of %d bytes in either direction', (count, size) => {
    const { say } = empty()
    expect(say('long', JSON.stringify([count, size]))).toBe('null')
    for (const limit of [count + 50, count, count - 1, 256, 257]) {
      const expected = String(Math.min(limit, count))
      expect([say('many', `[${limit}]`, true), say('descending', `[${limit}]`, true)]).toEqual([expected, expected])
    }
  })

  test('with the longest key ends where it should', () => {
    const { say } = empty()
    const longest = 'z'.repeat(256 - 'strings/'.length)
    say('put_strings', JSON.stringify([[longest, 'a']]))
    expect(say('rest_strings', JSON.stringify(['a', longest]), true)).toBe(JSON.stringify([longest]))
    expect(say('rest_strings', JSON.stringify([longest, longest]), true)).toBe('[]')
    expect(say('put_strings', JSON.stringify([[`${longest}z`]])))
      .toBe('CMESH_CONTRACT_REVERT: a key and the name of its map have at most 256 bytes together')
  })
})

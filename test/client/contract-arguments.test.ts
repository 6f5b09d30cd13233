import { beforeAll, describe, expect, jest, test } from '@jest/globals'
import fc from 'fast-check'
import { compileContract } from '../../client/contract/compile.ts'
import { deployed, sourceDirectory } from './support/deployed.ts'
import type { Deployed } from './support/deployed.ts'

// Compiling takes seconds on a machine that is busy.
jest.setTimeout(180_000)

const { write: source } = sourceDirectory('arguments')

describe('arguments and results', () => {
  let contract: Deployed
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
    }), { numRuns: 1_000, seed: 4 })
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
    }), { numRuns: 300, seed: 5 })
    const wrong = [`${lowest - 1n}`, `${highest + 1n}`, `${highest}0`, '9'.repeat(40), '1.5', '1e3', '01', '-', '--1', '+1',
      '0x1', 'true', 'null', '""', '"1', '"a"', '" 1"', '[1]', '{}', '1a']
    for (const text of wrong) expect([text, echo(text)]).toEqual([text, `CMESH_CONTRACT_REVERT: argument 1 (x): expected ${expected}`])
  })

  test.each([
    ['echo_bool', '[true]', 'true'],
    ['echo_bool', '[ false ]', 'false'],
    ['echo_bool', '[truth]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected true or false'],
    ['echo_bool', '[truey]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected true or false'],
    ['echo_bool', '[tru', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected true or false'],
    ['echo_bool', '[fals ]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected true or false'],
    ['echo_bool', '["true"]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected true or false'],
    ['echo_string', '[1]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected a string'],
    ['echo_string', '["a', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected a closing quote'],
    ['echo_string', '["a\\"]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected a closing quote'],
    ['echo_string', '["a\\', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected a closing quote'],
    ['echo_string', '["\n"]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected a string without raw control characters'],
    ['echo_string', '["\\x"]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected a known escape after \\'],
    ['echo_string', '["\\u12"]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected four hex digits after \\u'],
    ['echo_string', '["\\u12g4"]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected four hex digits after \\u'],
    ['echo_string', '["\\ud800"]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected whole surrogate pairs'],
    ['echo_string', '["\\ud800\\u0041"]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected whole surrogate pairs'],
    ['echo_string', '["\\udc00"]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected whole surrogate pairs'],
    ['echo_string', '["a"b]', 'CMESH_CONTRACT_REVERT: argument 1 (x): expected a string'],
    ['echo_string', '["a"', 'CMESH_CONTRACT_REVERT: the arguments are not a JSON array'],
    ['echo_string', '["a"]]', 'CMESH_CONTRACT_REVERT: something follows the arguments'],
    ['echo_string', '"a"', 'CMESH_CONTRACT_REVERT: the arguments are not a JSON array'],
    ['echo_string', ' ', 'CMESH_CONTRACT_REVERT: the arguments are not a JSON array'],
    ['echo_string', '', 'CMESH_CONTRACT_REVERT: argument 1 (x) is missing'],
    ['echo_string', '[]', 'CMESH_CONTRACT_REVERT: argument 1 (x) is missing'],
    ['echo_string', '["a","b"]', 'CMESH_CONTRACT_REVERT: expected at most 1 argument'],
    ['none', '[]', 'null'],
    ['none', ' [ ] ', 'null'],
    ['none', '[1]', 'CMESH_CONTRACT_REVERT: expected no arguments'],
    ['pair', '[1]', '"1bfalse"'],
    ['pair', '[1,"x"]', '"1xfalse"'],
    ['pair', ' [ 1 , "x" , true ] ', '"1xtrue"'],
    ['pair', '[1 "x"]', 'CMESH_CONTRACT_REVERT: argument 2 (b): expected a comma before it'],
    ['pair', '[1,]', 'CMESH_CONTRACT_REVERT: argument 2 (b): expected a string'],
    ['pair', '[1,"x",true,2]', 'CMESH_CONTRACT_REVERT: expected at most 3 arguments'],
    ['pair', '[1,,true]', 'CMESH_CONTRACT_REVERT: argument 2 (b): expected a string'],
  ])('%s %j gives %j', (name, input, expected) => {
    expect(contract.say(name, input)).toBe(expected)
  })

  test('any bytes give a result or a coded failure', () => {
    const token = fc.constantFrom('[', ']', ',', '"', '\\', '\\u', 'd800', '1', '-', 'true', ' ', 'é', '😀', 'x')
    const names = fc.constantFrom('echo_bool', 'echo_i64', 'echo_string', 'pair', 'none')
    fc.assert(fc.property(names, fc.array(token, { maxLength: 12 }), (name, tokens) => {
      const input = tokens.join('')
      const result = contract.call(name, input)
      if (!result.ok) expect(result.failure).toBe('CMESH_CONTRACT_REVERT')
      else if (input !== '') expect(Array.isArray(JSON.parse(input))).toBe(true)
    }), { numRuns: 2_000, seed: 6 })
  })
})

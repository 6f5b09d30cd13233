import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { argumentsFrom } from '../../../../client/cli/contract/arguments.ts'
import { readCalls } from '../../../../client/cli/contract/calls.ts'
import type { ContractFunction, ContractParameter } from '../../../../client/contract/abi.ts'
import { refusal } from '../../../support/refusal.ts'

const declared = (...params: readonly ContractParameter[]): ContractFunction => ({ name: 'f', mode: 'write', params, returns: 'void' })
const to: ContractParameter = { name: 'to', type: 'string' }
const amount: ContractParameter = { name: 'amount', type: 'u64', default: 1 }
const flag: ContractParameter = { name: 'flag', type: 'bool' }
const many: ContractParameter = { name: 'many', type: 'string[]' }

describe('arguments as words', () => {
  test('are taken by the types of the parameters', () => {
    expect(argumentsFrom(declared(to, amount), ['5', '5'])).toEqual(['5', '5'])
    expect(argumentsFrom(declared(flag), ['true'])).toEqual([true])
    expect(argumentsFrom(declared(many), ['["a","b"]'])).toEqual([['a', 'b']])
    expect(argumentsFrom(declared({ name: 'key', type: 'bytes' }), ['00ff'])).toEqual(['00ff'])
  })

  test('a number keeps every digit', () => {
    expect(argumentsFrom(declared(amount), ['18446744073709551615'])).toEqual(['18446744073709551615'])
    expect(argumentsFrom(declared({ name: 'by', type: 'i64' }), ['-9223372036854775808'])).toEqual(['-9223372036854775808'])
  })

  test('one with a default may be left out', () => {
    expect(argumentsFrom(declared(to, amount), ['a'])).toEqual(['a'])
  })

  test.each<[ContractFunction, readonly string[], string]>([
    [declared(to, amount), [], 'f(to: string, amount: u64 = 1): void takes 1 to 2 arguments, not 0.'],
    [declared(to), ['a', 'b'], 'f(to: string): void takes 1 argument, not 2.'],
    [declared(), ['a'], 'f(): void takes 0 arguments, not 1.'],
    [declared(amount), ['1.5'], 'amount of f(amount: u64 = 1): void is a whole number, not 1.5.'],
    [declared(flag), ['yes'], 'flag of f(flag: bool): void is true or false, not yes.'],
    [declared(many), ['a,b'], 'many of f(many: string[]): void is a JSON array, not a,b.'],
  ])('%j with %j is refused', (f, words, message) => {
    expect(refusal(() => argumentsFrom(f, words))).toMatchObject({ code: 'CMESH_CLIENT_USAGE', message })
  })
})

describe('recorded calls', () => {
  let dir: string
  beforeAll(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-calls-')) })
  afterAll(() => rm(dir, { recursive: true, force: true }))
  const read = async (text: string): Promise<unknown> => {
    const file = join(dir, 'calls')
    await writeFile(file, text)
    return await readCalls(file, '0x002')
  }

  test('are a JSON array', async () => {
    const calls = [{ function: 'increment', args: [1], caller: 'did:key:z6Mk' }, { function: 'get' }]
    expect(await read(` ${JSON.stringify(calls)}\n`)).toEqual(calls)
  })

  test('or the lines of a request log that are about the contract', async () => {
    expect(await read('0123;0xSW:0x002:increment:[1]\n0xS:0x002:get\n0xS:0x001:hello_world\n0xR:a.mcom\n\n0xS:0x002\n')).toEqual([
      { function: 'increment', args: [1] }, { function: 'get' },
    ])
  })

  test.each([
    ['[', 'is not JSON.'],
    ['[1]', 'is no list of calls, such as [{"function": "transfer", "args": ["did:key:z6Mk…", 5]}].'],
    ['[{"args": []}]', 'is no list of calls, such as [{"function": "transfer", "args": ["did:key:z6Mk…", 5]}].'],
  ])('%j is refused', async (text, message) => {
    await expect(read(text)).rejects.toMatchObject({ code: 'CMESH_CLIENT_USAGE', message: `${join(dir, 'calls')} ${message}` })
  })
})

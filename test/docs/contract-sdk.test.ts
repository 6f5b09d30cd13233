/** `docs/contract-sdk.md`: its blocks are contracts that compile without a warning and do what the page says; it names all of the SDK. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, jest, test } from '@jest/globals'
import { compileContract } from '../../client/contract/compile.ts'
import { HABITS } from '../../client/contract/habits.ts'
import { deployed, eventsOf, sourceDirectory } from '../client/support/deployed.ts'
import type { Deployed } from '../client/support/deployed.ts'
import { ROOT } from '../support/sources.ts'

jest.setTimeout(120_000)

const page = await readFile(join(ROOT, 'docs', 'contract-sdk.md'), 'utf8')
const blocks = [...page.matchAll(/```ts\n([\s\S]*?)```/g)].map(([, code = '']) => code)
const { write: source } = sourceDirectory('docs-contract-sdk')

/** The block that holds a text, in an engine. */
async function block(marked: string): Promise<Deployed> {
  const code = blocks.filter((text) => text.includes(marked))
  expect(code).toHaveLength(1)
  const built = await compileContract(await source(`${marked.replace(/\W+/g, '-')}/index.ts`, code[0] ?? ''))
  expect(built.warnings).toBe('')
  return deployed(built)
}

describe('docs/contract-sdk.md', () => {
  test('has no block that is not run below', () => {
    expect(blocks).toHaveLength(8)
  })

  test('a contract', async () => {
    const { say } = await block('class Raised')
    expect([say('init', '[5]'), say('raise', '[2]'), say('now', '', true)]).toEqual(['null', '7', '7'])
    expect(say('raise', '[-1]')).toBe('CMESH_CONTRACT_REVERT: argument 1 (amount): expected a whole number from 0 to 18446744073709551615')
    expect(page).toContain('argument 1 (amount): expected a whole number from 0 to 18446744073709551615')
  })

  test('state', async () => {
    const { say } = await block('new SortedMap<Pair<string, u64>, string>')
    expect(say('allow', '["bob",1]')).toBe('null')
    for (const text of ['a', 'b', 'c']) say('post', `["news","${text}"]`)
    say('post', '["other","d"]')
    expect([say('page', '["news"]', true), say('page', '["news",3]', true), say('page', '["news",3,1]', true)]).toEqual(['["c","b","a"]', '["b","a"]', '["b"]'])
  })

  test('records', async () => {
    const { say } = await block('class Deal')
    expect([say('open', '[1,"b",5]'), say('open', '[2,"c",6]'), say('pay', '[2]')]).toEqual(['null', 'null', 'null'])
    expect(say('deal', '[2]', true)).toBe('{"buyer":"c","amount":6,"paid":true,"note":""}')
    expect(say('list', '[1]', true)).toBe('[{"buyer":"c","amount":6,"paid":true,"note":""}]')
    expect(say('pay', '[3]')).toBe('CMESH_CONTRACT_REVERT: there is nothing in deals')
    expect(say('open', '[1,"b",5]')).toBe('CMESH_CONTRACT_REVERT: there is such a deal')
  })

  test('events', async () => {
    const { call } = await block('class Transfer')
    expect(eventsOf(call('act', '["you"]'))).toEqual(['Transfer {"from":"me","to":"you","amount":5}', 'closed.early {"at":0}'])
    expect(page).toContain('{"from":"me","to":"you","amount":5}')
  })

  test('results', async () => {
    const { say } = await block('export function half')
    expect([say('half', '["12"]', true), say('name', '["{}"]', true), say('plain', '["0A"]', true)]).toEqual(['6', '"nobody"', '"0a"'])
    expect(say('half', '["x"]', true)).toBe('CMESH_CONTRACT_REVERT: expected a whole number from 0 to 18446744073709551615')
  })

  test('other contracts', async () => {
    const { say } = await block('call<bool>(token')
    expect(say('pay', `["0x${'c'.repeat(64)}","bob",1]`)).toMatch(/^CMESH_CONTRACT_REVERT: not paid: CMESH_CONTRACT_NO_CONTRACT: /)
  })

  test('other addresses', async () => {
    const { call, say } = await block('export function greeted')
    const done = call('greet')
    expect(done.ok && done.sends.map(({ fqmn, body, reply, gas }) => [fqmn, Buffer.from(body).toString(), reply, gas]))
      .toEqual([['0xS:0x001:hello_world', '["contract"]', 'greeted', 1_000_000]])
    expect([say('greeted', '["1",200,"hi"]'), say('greeted', '["2",500,"no"]'), say('heard', '', true)]).toEqual(['null', 'null', '"hi"'])
  })

  test('amounts', async () => {
    const { say } = await block('export function fee')
    expect([say('fee', '[1000]', true), say('rest', '[1,2]', true), say('draw', '[6]', true)])
      .toEqual(['25', 'CMESH_CONTRACT_REVERT: the difference is less than 0', 'true'])
  })

  test('names everything that the SDK exports', async () => {
    const index = await readFile(join(ROOT, 'contracts', 'sdk', 'index.ts'), 'utf8')
    const names = [...index.matchAll(/^export \{ (.+) \} from/gm)].flatMap(([, list = '']) => list.split(', '))
    const understood = ['Args', 'Range']
    expect(names.filter((name) => !new RegExp(`\\b${name}\\b`).test(page) && !understood.includes(name))).toEqual([])
    const contexts = [...(await readFile(join(ROOT, 'contracts', 'sdk', 'context.ts'), 'utf8')).matchAll(/export function (\w+)/g)].map(([, name = '']) => name)
    expect(contexts.filter((name) => !page.includes(`\`${name}()\``))).toEqual([])
  })

  test('lists what the language lacks', () => {
    const named: Readonly<Record<string, string>> = {
      exceptions: 'try', async: 'async', 'for-of': 'for … of', destructuring: 'destructuring', spread: 'spread', 'optional-chaining': '?.', nullish: '??', any: 'any',
      undefined: 'undefined', bigint: '1n', regex: 'regular expressions', json: 'JSON.parse', date: 'Date.now', random: 'Math.random', console: 'console.log',
      timers: 'timers', outside: 'fetch',
    }
    const table = page.slice(page.indexOf('## What the language lacks'))
    const rare = ['for-in', 'generators', 'private-names', 'eval']
    expect(HABITS.map(({ code }) => code).filter((code) => !rare.includes(code) && !table.includes(named[code] ?? code))).toEqual([])
  })
})

/** Text on its way through a contract: from the arguments into the state, out of it, and into results and events, whatever it is made of and however long. */
import { beforeAll, describe, expect, jest, test } from '@jest/globals'
import fc from 'fast-check'
import { compileContract } from '../../client/contract/compile.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { deployed, eventsOf, sourceDirectory, type Deployed } from './support/deployed.ts'

// Compiling takes seconds on a machine that is busy.
jest.setTimeout(180_000)

const { write: source } = sourceDirectory('text')

const SOURCE = `
import { Cell, emitText, state, StateMap } from 'cmesh/sdk'
@record class Note { constructor(public head: string, public tail: string) {} }
const cell = new Cell<string>('cell')
const map = new StateMap<string, string>('m')
const note = new Cell<Note>('note')

@view export function echo(text: string): string { return text }
@view export function list(first: string, count: u32, second: string): string[] { return [second, first, second] }
export function keep(key: string, text: string): string[] {
  state.setString(key, text)
  cell.set(text)
  map.set(key, text)
  note.set(new Note(text, key))
  return [state.getString(key), cell.get(), map.get(key), note.get().head, note.get().tail]
}
export function tell(text: string): void { emitText('told', text) }
@view export function has(key: string): bool { return state.has(key) }
@view export function half(before: i32, after: i32): string { return 'a'.repeat(before) + String.fromCharCode(0xd800) + 'b'.repeat(after) }
export function keepHalf(before: i32, after: i32): void { state.setString('half', half(before, after)) }
`

/** Long runs of one character, so that whatever takes several at once meets each odd one at each place, and both ends. */
const anyText = fc.array(fc.tuple(fc.nat(20), fc.constantFrom('', '"', '\\', '\n', '\u0000', '\u001f', '\u007f', '\u0080', 'ÿ', '߿', '\u2028', '\uffff', '😀')), { minLength: 1, maxLength: 6 })
  .map(parts => parts.map(([run, odd]) => 'k'.repeat(run) + odd).join(''))
/** About as long as there is room for without an allocation. */
const longText = fc.tuple(fc.integer({ min: 490, max: 530 }), anyText).map(([run, text]) => 'l'.repeat(run) + text)
const text = fc.oneof({ weight: 4, arbitrary: anyText }, { weight: 1, arbitrary: longText })

describe('a text', () => {
  let contract: Deployed
  beforeAll(async () => {
    contract = deployed(await compileContract(await source('text.ts', SOURCE)), new WasmEngine())
  })
  const json = JSON.stringify

  test('is given back as it was taken, in the shortest JSON', () => {
    fc.assert(fc.property(text, given => {
      expect(contract.say('echo', json([given]))).toBe(json(given))
      expect(eventsOf(contract.call('tell', json([given])))).toEqual([`told ${json(given)}`])
    }), { numRuns: 400 })
  })

  test('is the same when each of its characters is escaped, or space stands around it', () => {
    fc.assert(fc.property(text, given => {
      const escaped = [...given].flatMap(character => character.split('')).map(unit => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')
      expect(contract.say('echo', ` [\n"${escaped}"\t] `)).toBe(json(given))
    }), { numRuns: 100 })
  })

  test('stays what it was while others are read behind it', () => {
    fc.assert(fc.property(text, text, (first, second) => {
      expect(contract.say('list', json([first, 7, second]))).toBe(json([second, first, second]))
    }), { numRuns: 200 })
  })

  test('is kept as UTF-8 under a key that is UTF-8, and found there', () => {
    const key = anyText.filter(each => each.length > 0 && Buffer.byteLength(each) <= 200)
    fc.assert(fc.property(key, text, (name, given) => {
      const done = contract.call('keep', json([name, given]))
      if (!done.ok) throw new Error(done.reason)
      expect(Buffer.from(done.output).toString()).toBe(json([given, given, given, given, name]))
      const written = done.writes.find(write => write.key === Buffer.from(name).toString('latin1'))
      expect(Buffer.from(written?.value ?? []).toString()).toBe(given)
      expect(contract.say('has', json([name]))).toBe('true')
    }), { numRuns: 200 })
  })

  test('that is no key is refused for its length in bytes', () => {
    expect(contract.say('has', json(['k'.repeat(256)]))).toBe('false')
    expect(contract.say('has', json(['k'.repeat(257)]))).toMatch(/^CMESH_CONTRACT_KEY_SIZE: a key has 257 bytes/)
    expect(contract.say('has', json([`${'k'.repeat(254)}ÿÿ`]))).toMatch(/^CMESH_CONTRACT_KEY_SIZE: a key has 258 bytes/)
  })

  test('with half a surrogate pair is escaped in a result and refused by the state', () => {
    for (let before = 0; before < 20; before++) {
      for (const after of [0, 1, 7, 8, 9]) {
        expect(contract.say('half', json([before, after]))).toBe(`"${'a'.repeat(before)}\\ud800${'b'.repeat(after)}"`)
        expect(contract.say('keepHalf', json([before, after]))).toBe('CMESH_CONTRACT_REVERT: Unpaired surrogate')
      }
    }
  })

  test.each([
    ['["a', 'a closing quote'], ['["aaaaaaaaaaaa', 'a closing quote'], ['["aaaaaaa"', undefined], ['["aaaaaaa\\"]', 'a closing quote'], ['["aaaaaaaaaa\u0001aaaa"]', 'a string without raw control characters'],
    ['["aaaaaaaa"a]', 'a string'], ['[aaaaaaaa]', 'a string'], ['["aaaaaaaa" ]', ''], ['["aaaaaaaa","b"]', undefined], ['[]', undefined],
  ])('%j is %j', (input, expected) => {
    const said = contract.say('echo', input)
    if (expected === '') expect(said).toBe('"aaaaaaaa"')
    else if (expected === undefined) expect(said).toMatch(/^CMESH_CONTRACT_REVERT: (the arguments are not a JSON array|expected at most 1 argument|argument 1 \(text\) is missing)$/)
    else expect(said).toBe(`CMESH_CONTRACT_REVERT: argument 1 (text): expected ${expected}`)
  })
})

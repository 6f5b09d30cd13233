import { beforeAll, describe, expect, jest, test } from '@jest/globals'
import fc from 'fast-check'
import { createHash } from 'node:crypto'
import { compileContract } from '../../client/contract/compile.ts'
import type { CompiledContract } from '../../client/contract/compile.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { ADDRESS, CALLER, deployed, eventsOf, ORIGIN, SEED, sourceDirectory } from './support/deployed.ts'
import type { Deployed } from './support/deployed.ts'

// Compiling takes seconds on a machine that is busy.
jest.setTimeout(180_000)

const { write: source } = sourceDirectory('sdk')

const STORING = `
import { Cell, Pair, pair, StateMap } from 'cmesh/sdk'
@record class Deal {
  constructor(public buyer: string, public amount: u64, public open: bool, public key: Uint8Array, public change: i32) {}
}
const total = new Cell<u64>('total')
const low = new Cell<i32>('low')
const flag = new Cell<bool>('flag')
const name = new Cell<string>('name')
const bytes = new Cell<Uint8Array>('bytes')
const buffer = new Cell<ArrayBuffer>('buffer')
const share = new Cell<f64>('share')
const deal = new Cell<Deal>('deal')
const balances = new StateMap<string, u64>('balances')
const allowances = new StateMap<Pair<string, string>, u64>('allowances')
const deals = new StateMap<u64, Deal>('deals')
const bad = new Cell<u32>('bäd')

export function fill(): void {
  total.set(u64.MAX_VALUE)
  low.set(-2)
  flag.set(true)
  name.set('grüß 😀')
  bytes.set(Uint8Array.wrap(String.UTF8.encode('ab')))
  buffer.set(String.UTF8.encode('cd'))
  share.set(0.5)
  deal.set(new Deal('b', 7, true, new Uint8Array(2), -1))
  balances.set('x', 5)
  allowances.set(pair('x', 'y'), 6)
}
@view export function totals(): u64[] { return [total.get(), <u64>low.get(), <u64>flag.get(), <u64>(share.get() * 2)] }
@view export function texts(): string[] { return [name.get(), String.UTF8.decode(bytes.get().buffer), String.UTF8.decode(buffer.get())] }
@view export function theDeal(): Deal { return deal.get() }
@view export function dealOf(id: u64): Deal { return deals.get(id) }
@view export function dealOr(id: u64): Deal { return deals.getOr(id, new Deal('', 0, false, new Uint8Array(0), 0)) }
@view export function balance(owner: string): u64 { return balances.get(owner) }
@view export function allowance(owner: string, by: string): u64 { return allowances.get(pair(owner, by)) }
@view export function fallbacks(): u64[] { return [total.getOr(3), balances.getOr('nobody', 4)] }
@view export function present(): bool[] { return [total.has(), balances.has('x'), balances.has('nobody')] }
export function clear(): bool[] { return [total.delete(), total.delete(), balances.delete('x'), balances.delete('x')] }
export function open(id: u64, buyer: string): Deal[] {
  deals.set(id, new Deal(buyer, id, true, new Uint8Array(0), 0))
  return [deals.get(id), deals.get(id)]
}
export function named(): void { bad.set(1) }
`

const SAYING = `
import { args, call, crypto, ctx, hex, member, Nothing, number, parse, read, require, revert, send, unhex } from 'cmesh/sdk'
import { checked, Result } from 'cmesh/sdk'
@event class Transfer { constructor(public from: string, public to: string, public amount: u64) {} }
@event('moved.twice') class Moved { amount: i64 = -1; on: bool = true; data: Uint8Array = new Uint8Array(2); list: string[] = ['a', '"'] }

export function transfer(to: string, amount: u64): u64 {
  require(amount > 0, 'nothing to transfer')
  new Transfer(ctx.caller(), to, amount).emit()
  return amount
}
export function moved(): void { new Moved().emit() }
@view export function who(): string[] { return [ctx.caller(), ctx.self(), ctx.origin()] }
@view export function when(): u64[] { return [ctx.sequence(), ctx.time()] }
@view export function gas(): bool { const before = ctx.gasLeft(); return before > 1000000 && ctx.gasLeft() < before }
export function nothing(): void {}
@view export function list(): i64[] { return [1, -2] }
export function spend(): void { revert('spent: all') }

export function through(address: string, to: string, amount: u64): string {
  const done = call<u64>(address, 'transfer', args().add(to).add(amount))
  return done.ok ? number(done.value) : done.code + ' | ' + done.error
}
export function voided(address: string): bool { return call<Nothing>(address, 'nothing').ok }
export function insist(address: string): u64 { return call<u64>(address, 'spend').value }
@view export function listed(address: string): i64[] { return read<i64[]>(address, 'list').value }
@view export function whoThere(address: string): string[] { return read<string[]>(address, 'who').value }
@view export function mistaken(address: string): string { const r = read<u64>(address, 'list'); return r.error + ' ' + number(r.or(9)) }
@view export function writes(address: string): string { return call<u64>(address, 'transfer', args().add('x').add(1)).code }
export function limited(address: string, gas: u64): string { return call<u64>(address, 'transfer', args().add('x').add<u64>(1), gas).code }

export function sends(to: string): i32[] {
  return [send(to, '["a"]', 'answered', 5000), send(to, args().add(1).add(true).add([<u64>2]).add('\\n')), send(to, new Uint8Array(2)), send(to, new ArrayBuffer(1))]
}
export function woven(to: string, text: string): void {
  const first = args()
  const second = args()
  second.add(text)
  first.add(text).add(text)
  second.add(text)
  send(to, first)
  send(to, second)
}
@reply export function answered(id: string, status: i32, body: string): void {}

@view export function sha(text: string): Uint8Array { return crypto.sha256(text) }
@view export function shaBytes(data: Uint8Array): Uint8Array { return crypto.sha256(data) }
@view export function verify(key: Uint8Array, signature: Uint8Array, message: Uint8Array): bool { return crypto.verify(key, signature, message) }
@view export function seeds(): Uint8Array[] { return [crypto.seed(), crypto.seed()] }
@view export function dice(below: u64, times: i32): u64[] { const all = new Array<u64>(); for (let i = 0; i < times; i++) all.push(crypto.random(below)); return all }

@view export function add(a: u64, b: u64): u64 { return checked.add(a, b) }
@view export function sub(a: u64, b: u64): u64 { return checked.sub(a, b) }
@view export function mul(a: u64, b: u64): u64 { return checked.mul(a, b) }
@view export function mulDiv(a: u64, b: u64, c: u64): u64 { return checked.mulDiv(a, b, c) }

function told<T>(result: Result<T>): string { return result.ok ? 'ok' : result.error }
@view export function parseU64(text: string): string { const r = parse<u64>(text); return r.ok ? number(r.value) : r.error }
@view export function parseList(text: string): string { return told(parse<i32[]>(text)) }
@view export function parseBool(text: string): string { return told(parse<bool>(text)) }
@view export function field(text: string, name: string): string { const r = member<string>(text, name); return r.ok ? r.value : r.error }
@view export function unhexed(text: string): string { const r = unhex(text); return r.ok ? hex(r.value) : r.error }
@view export function failed(): string { const r = parse<string>('1'); return r.value }
`

let storing: CompiledContract
let saying: CompiledContract
beforeAll(async () => {
  storing = await compileContract(await source('storing/index.ts', STORING))
  saying = await compileContract(await source('saying/index.ts', SAYING))
})

describe('cells and maps', () => {
  let contract: Deployed
  beforeAll(() => {
    contract = deployed(storing)
  })

  test('hold the zero of their type until something is set; a record reverts', () => {
    const { say } = contract
    expect([say('totals'), say('texts'), say('balance', '["x"]'), say('present')]).toEqual(['[0,0,0,0]', '["","",""]', '0', '[false,false,false]'])
    expect(say('fallbacks')).toBe('[3,4]')
    expect(say('theDeal')).toBe('CMESH_CONTRACT_REVERT: there is nothing in deal')
    expect(say('dealOf', '[1]')).toBe('CMESH_CONTRACT_REVERT: there is nothing in deals')
    expect(say('dealOr', '[1]')).toBe('{"buyer":"","amount":0,"open":false,"key":"","change":0}')
  })

  test('keep every type, in bytes that stay what they are', () => {
    const { say, space } = contract
    expect(say('fill')).toBe('null')
    expect(say('totals')).toBe('["18446744073709551615","18446744073709551614",1,1]')
    expect(say('texts')).toBe('["grüß 😀","ab","cd"]')
    expect(say('theDeal')).toBe('{"buyer":"b","amount":7,"open":true,"key":"0000","change":-1}')
    expect([say('balance', '["x"]'), say('allowance', '["x","y"]'), say('allowance', '["y","x"]')]).toEqual(['5', '6', '0'])
    expect(say('open', '[9,"q"]')).toBe(`[${Array(2).fill('{"buyer":"q","amount":9,"open":true,"key":"","change":0}').join()}]`)
    expect(Object.fromEntries([...space].map(([key, value]) => [Buffer.from(key, 'latin1').toString('hex'), Buffer.from(value).toString('hex')])))
      .toEqual(Object.fromEntries([
        ['total', 'ffffffffffffffff'], ['low', 'feffffff'], ['flag', '01'], ['name', Buffer.from('grüß 😀').toString('hex')], ['bytes', '6162'],
        ['buffer', '6364'], ['share', '000000000000e03f'], ['deal', '0100000062070000000000000001020000000000ffffffff'],
        ['balances/x', '0500000000000000'], ['allowances/x\0\u0001y', '0600000000000000'],
        ['deals/\0\0\0\0\0\0\0\u0009', '01000000710900000000000000010000000000000000'],
      ].map(([key = '', value]) => [Buffer.from(key, 'latin1').toString('hex'), value])))
  })

  test('give what they have lost', () => {
    expect(contract.say('present')).toBe('[true,true,false]')
    expect(contract.say('clear')).toBe('[true,false,true,false]')
    expect(contract.say('present')).toBe('[false,false,false]')
  })

  test('refuse bytes of another type', () => {
    const { say, space } = contract
    space.set('total', new Uint8Array(7))
    space.set('deal', new Uint8Array(3))
    expect(say('totals')).toBe('CMESH_CONTRACT_REVERT: the state of total is of another type')
    expect(say('theDeal')).toBe('CMESH_CONTRACT_REVERT: the state of deal is of another type')
    space.set('deal', Buffer.from('ffffffff', 'hex'))
    expect(say('theDeal')).toBe('CMESH_CONTRACT_REVERT: the state of deal is of another type')
  })

  test('have names of ASCII', () => {
    expect(contract.say('named')).toBe('CMESH_CONTRACT_REVERT: the name of a cell or a map has at most 128 characters of ASCII')
  })
})

describe('what a contract says and hears', () => {
  const OTHER = `0x${'b'.repeat(64)}`
  let engine: WasmEngine
  let contract: Deployed
  beforeAll(() => {
    engine = new WasmEngine()
    contract = deployed(saying, engine)
    deployed(saying, engine, OTHER)
  })
  const to = JSON.stringify(OTHER)

  test('an event is an object of its fields, under its name or its topic', () => {
    const done = contract.call('transfer', '["bo\\"b",3]')
    expect(eventsOf(done)).toEqual([`Transfer {"from":"${CALLER}","to":"bo\\"b","amount":3}`])
    expect(eventsOf(contract.call('moved'))).toEqual(['moved.twice {"amount":-1,"on":true,"data":"0000","list":["a","\\""]}'])
    expect(contract.say('transfer', '["x",0]')).toBe('CMESH_CONTRACT_REVERT: nothing to transfer')
  })

  test('any text is valid JSON in an event, and the shortest', () => {
    const written = fc.oneof(fc.string({ unit: 'grapheme', maxLength: 30 }), fc.array(fc.constantFrom('"', '\\', '\n', '\u0001', '\u007f', 'ÿ', '\u2028', '😀'))
      .map((parts) => parts.join('')))
    fc.assert(fc.property(written, (text) => {
      const [event] = eventsOf(contract.call('transfer', JSON.stringify([text, 1])))
      expect(event).toBe(`Transfer {"from":"${CALLER}","to":${JSON.stringify(text)},"amount":1}`)
    }), { numRuns: 400, seed: 1 })
  })

  test('the context says who, where and when', () => {
    expect(contract.say('who')).toBe(JSON.stringify([CALLER, ADDRESS, ORIGIN]))
    expect(contract.say('when')).toBe('[7,1700000000123]')
    expect(contract.say('gas')).toBe('true')
  })

  test('a nested call gives a typed result, and the other side sees this contract', () => {
    const done = contract.call('through', `[${to},"bob",4]`)
    expect(eventsOf(done)).toEqual([`Transfer {"from":"${ADDRESS}","to":"bob","amount":4}`])
    expect(done.ok && Buffer.from(done.output).toString()).toBe('"4"')
    expect([contract.say('voided', `[${to}]`), contract.say('listed', `[${to}]`)]).toEqual(['true', '[1,-2]'])
    expect(contract.say('whoThere', `[${to}]`)).toBe(JSON.stringify([ADDRESS, OTHER, ORIGIN]))
  })

  test('a nested call that fails is a result to look at', () => {
    const { say } = contract
    expect(say('through', `[${to},"bob",0]`)).toBe('"CMESH_CONTRACT_REVERT | CMESH_CONTRACT_REVERT: nothing to transfer"')
    expect(say('insist', `[${to}]`)).toBe('CMESH_CONTRACT_REVERT: CMESH_CONTRACT_REVERT: spent: all')
    expect(say('mistaken', `[${to}]`)).toBe('"expected a whole number from 0 to 18446744073709551615 9"')
    expect(say('through', `["0x${'c'.repeat(64)}","bob",1]`)).toMatch(/^"CMESH_CONTRACT_NO_CONTRACT \| /)
    expect(say('writes', `[${to}]`, true)).toBe('"CMESH_CONTRACT_READONLY"')
    expect(say('limited', `[${to},100]`)).toBe('"CMESH_CONTRACT_OUT_OF_GAS"')
    expect(say('limited', `[${to},0]`)).toBe('""')
  })

  test('messages go out with their bodies, and gas for the answer', () => {
    const done = contract.call('sends', '["0xSW:0x001:say"]')
    expect(done.ok && Buffer.from(done.output).toString()).toBe('[0,1,2,3]')
    expect(done.ok && done.sends.map(({ body, ...sent }) => ({ ...sent, body: Buffer.from(body).toString() }))).toEqual([
      { from: ADDRESS, fqmn: '0xSW:0x001:say', reply: 'answered', gas: 5_000, body: '["a"]' },
      { from: ADDRESS, fqmn: '0xSW:0x001:say', reply: '', gas: 0, body: '[1,true,[2],"\\n"]' },
      { from: ADDRESS, fqmn: '0xSW:0x001:say', reply: '', gas: 0, body: '\0\0' },
      { from: ADDRESS, fqmn: '0xSW:0x001:say', reply: '', gas: 0, body: '\0' },
    ])
  })

  test('arguments that are collected side by side do not reach into one another', () => {
    for (const text of ['é'.repeat(300), '"'.repeat(300), '\u0001'.repeat(200), '😀'.repeat(100), 'a'.repeat(500)]) {
      const done = contract.call('woven', JSON.stringify(['0xSW:0x001:say', text]))
      expect(done.ok && done.sends.map(({ body }) => Buffer.from(body).toString())).toEqual(Array(2).fill(JSON.stringify([text, text])))
    }
  })

  test('hashes and signatures are those of everybody else', () => {
    const sha256 = (data: string | Uint8Array): string => createHash('sha256').update(data).digest('hex')
    expect(contract.say('sha', '["grüß"]')).toBe(`"${sha256('grüß')}"`)
    expect(contract.say('shaBytes', '["00ff"]')).toBe(`"${sha256(Buffer.from('00ff', 'hex'))}"`)
    const key = KeyPair.generate()
    const message = Buffer.from('pay bob')
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
    const given = [hex(key.publicKey.toBytes()), hex(key.sign(message)), hex(message)]
    expect(contract.say('verify', JSON.stringify(given))).toBe('true')
    expect(contract.say('verify', JSON.stringify([given[0], given[1], '00']))).toBe('false')
    expect(contract.say('verify', JSON.stringify([given[0], '00', given[2]]))).toBe('false')
    expect(contract.say('verify', JSON.stringify(['00', given[1], given[2]]))).toBe('false')
    expect(contract.say('verify', JSON.stringify([`${given[0] ?? ''}00`, given[1], given[2]]))).toBe('false')
    expect(contract.say('verify', JSON.stringify([given[0], `${given[1] ?? ''}00`, given[2]]))).toBe('false')
  })

  test('random numbers come from the call\'s seed, each as likely', () => {
    const drawn = (count: number): string => createHash('sha256').update(SEED).update(Buffer.of(count, 0, 0, 0)).digest('hex')
    expect(contract.say('seeds')).toBe(JSON.stringify([drawn(0), drawn(1)]))
    expect(JSON.parse(contract.say('dice', '[6,3]'))).toEqual([0, 1, 2].map((count) => Number(Buffer.from(drawn(count), 'hex').readBigUInt64LE() % 6n)))
    expect(contract.say('dice', '[0,1]')).toBe('CMESH_CONTRACT_REVERT: there is no number below 0')
  })

  test('checked arithmetic is exact or reverts', () => {
    const most = 2n ** 64n - 1n
    const amount = fc.oneof(fc.bigInt(0n, most), fc.bigInt(0n, 1_000n), fc.constantFrom(0n, 1n, most, 2n ** 32n, 2n ** 63n))
    const cases: readonly (readonly [string, (a: bigint, b: bigint, c: bigint) => bigint | undefined, string])[] = [
      ['add', (a, b) => a + b, 'the sum is more than 18446744073709551615'],
      ['sub', (a, b) => a - b, 'the difference is less than 0'],
      ['mul', (a, b) => a * b, 'the product is more than 18446744073709551615'],
      ['mulDiv', (a, b, c) => (c === 0n ? undefined : a * b / c), 'the quotient is more than 18446744073709551615'],
    ]
    fc.assert(fc.property(amount, amount, amount, fc.constantFrom(...cases), (a, b, c, [name, compute, refusal]) => {
      const value = compute(a, b, c)
      const said = contract.say(name, `[${[a, b, ...(name === 'mulDiv' ? [c] : [])].map((number) => `"${number}"`).join()}]`)
      if (value === undefined) expect(said).toBe('CMESH_CONTRACT_REVERT: a division by 0')
      else if (value < 0n || value > most) expect(said).toBe(`CMESH_CONTRACT_REVERT: ${refusal}`)
      else expect(BigInt(JSON.parse(said) as string)).toBe(value)
    }), { numRuns: 600, seed: 2 })
  })

  test.each([
    ['parseU64', ['12'], '12'],
    ['parseU64', [' "12" '], '12'],
    ['parseU64', ['12 13'], 'expected one value'],
    ['parseU64', ['-1'], 'expected a whole number from 0 to 18446744073709551615'],
    ['parseU64', [''], 'expected a whole number from 0 to 18446744073709551615'],
    ['parseList', ['[1, -2]'], 'ok'],
    ['parseList', ['[1,]'], 'expected a whole number from -2147483648 to 2147483647'],
    ['parseList', ['[1'], 'expected an array'],
    ['parseList', ['1'], 'expected an array'],
    ['parseBool', ['true'], 'ok'],
    ['parseBool', ['trueish'], 'expected true or false'],
    ['field', ['{"a":[1,{"b":"}"}],"n":"v"}', 'n'], 'v'],
    ['field', [' { "n" : "v" } ', 'n'], 'v'],
    ['field', ['{"a":-1.5e3,"b":null,"n":"v"}', 'n'], 'v'],
    ['field', ['{"a":{"n":"inner"}}', 'n'], 'there is no field n'],
    ['field', ['{}', 'n'], 'there is no field n'],
    ['field', ['{"n":1}', 'n'], 'expected a string'],
    ['field', ['[]', 'n'], 'expected an object'],
    ['field', ['{"a" 1}', 'n'], 'expected a colon after the name of a field'],
    ['field', ['{"a":', 'n'], 'expected a value'],
    ['field', ['{n:1}', 'n'], 'expected a string'],
    ['unhexed', ['0aFF'], '0aff'],
    ['unhexed', [''], ''],
    ['unhexed', ['0'], 'expected an even number of hex digits'],
    ['unhexed', ['0g'], 'expected an even number of hex digits'],
    ['unhexed', ['0\u0131'], 'expected an even number of hex digits'],
  ])('%s %j gives %j', (name, given, expected) => {
    expect(JSON.parse(contract.say(name, JSON.stringify(given)))).toBe(expected)
  })

  test('a field is found in any object, and any text gives a result', () => {
    fc.assert(fc.property(fc.dictionary(fc.string({ maxLength: 3 }), fc.json({ maxDepth: 3 }).map((json) => JSON.parse(json) as unknown), { maxKeys: 5 }),
      fc.integer({ min: 0, max: 200 }), (object, cut) => {
        const text = JSON.stringify({ ...object, wanted: 'here' })
        expect(JSON.parse(contract.say('field', JSON.stringify([text, 'wanted'])))).toBe('here')
        expect(contract.call('field', JSON.stringify([text.slice(0, cut), 'wanted'])).ok).toBe(true)
      }), { numRuns: 300, seed: 3 })
  })

  test('the value of what failed reverts with why', () => {
    expect(contract.say('failed')).toBe('CMESH_CONTRACT_REVERT: expected a string')
  })
})

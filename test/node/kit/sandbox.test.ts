/** The sandbox that `cmesh/testing` gives to authors: what a test can do in it, and that what it finds is what a mesh would do. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { compileContract } from '../../../client/contract/compile.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { encodePackage, packageManifest } from '../../../cmtp/package.ts'
import { Sandbox, type SandboxContract } from '../../../node/kit/index.ts'
import { refusal } from '../../support/refusal.ts'

const LEDGER = `
import { Cell, StateMap, ctx, require, revert } from 'cmesh/sdk'
const owner = new Cell<string>('owner')
const notes = new StateMap<string, string>('notes')
const count = new Cell<u64>('count')
@event class Noted { constructor(public by: string, public text: string) {} }
@init export function init(name: string = 'nobody'): void { require(name != 'bad', 'a bad name'); owner.set(name) }
export function note(text: string): u64 {
  if (text == '') revert('write something')
  notes.set(ctx.caller(), text)
  count.set(count.get() + 1)
  new Noted(ctx.caller(), text).emit()
  return count.get()
}
export function spin(): void { for (;;) count.set(count.get() + 1) }
export function forget(by: string): bool { return notes.delete(by) }
@view export function read(by: string): string { return notes.get(by) }
@view export function ownerOf(): string { return owner.get() }
@view export function clock(): string { return ctx.sequence().toString() + ' ' + ctx.time().toString() }
@view export function huge(): u64 { return u64.MAX_VALUE }
export function who(): string { return ctx.caller() + ' ' + ctx.origin() }
`
const NEXT = `${LEDGER}
@migrate export function migrate(from: string): void { require(from != '9.9.9', 'no way from there'); owner.set('from ' + from) }
`
const SENDER = `
import { args, call, ctx, send, Cell } from 'cmesh/sdk'
const heard = new Cell<string>('heard')
export function pass(to: string, text: string): string {
  const result = call<u64>(to, 'note', args().add<string>(text))
  return result.ok ? result.value.toString() : result.error
}
export function ask(fqmn: string, body: string): i32 { return send<string>(fqmn, body, 'hear', 5000000) }
export function tell(fqmn: string, body: string): i32 { return send<string>(fqmn, body, '', 1000000) }
@reply export function hear(id: string, status: i32, body: string): void {
  if (body == '"refuse"') throw new Error('not that')
  heard.set(status.toString() + ' ' + body)
}
@view export function answer(): string { return heard.get() }
`

let dir: string
const code: Record<'ledger' | 'next' | 'sender', Uint8Array> = { ledger: Buffer.alloc(0), next: Buffer.alloc(0), sender: Buffer.alloc(0) }
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cmesh-sandbox-'))
  for (const [name, source] of [['ledger', LEDGER], ['next', NEXT], ['sender', SENDER]] as const) {
    await mkdir(join(dir, name))
    await writeFile(join(dir, name, 'index.ts'), source)
    code[name] = (await compileContract(join(dir, name))).wasm
  }
})
afterAll(() => rm(dir, { recursive: true, force: true }))

let sandbox: Sandbox
let ledger: SandboxContract
beforeEach(() => {
  sandbox = new Sandbox()
  ledger = sandbox.deploy(code.ledger)
})

describe('identities', () => {
  test('of one name are the same in every sandbox, of two names two', () => {
    expect(sandbox.identity('alice').did).toMatch(/^did:key:z6Mk/)
    expect(new Sandbox().identity('alice').did).toBe(sandbox.identity('alice').did)
    expect(sandbox.identity('bob').did).not.toBe(sandbox.identity('alice').did)
  })

  test('are who calls, and arguments', () => {
    const alice = sandbox.identity('alice')
    ledger.call('note', ['hello'], { as: alice })
    expect(ledger.view('read', [alice])).toBe('hello')
    expect(ledger.view('read', [sandbox.identity('bob')])).toBe('')
    expect(ledger.call('who', [], { as: alice }).value).toBe(`${alice.did} ${alice.did}`)
    expect(ledger.call('who').value).toContain(sandbox.identity('anyone').did)
  })

  test('sign by the key that their DID names', () => {
    const alice = sandbox.identity('alice')
    expect(alice.publicKey()).toHaveLength(32)
    expect(alice.sign(Buffer.from('x'))).toEqual(new Sandbox().identity('alice').sign(Buffer.from('x')))
  })
})

describe('a call', () => {
  test('that succeeds says what it gave, cost, wrote and emitted', () => {
    const alice = sandbox.identity('alice')
    const result = ledger.call('note', ['hello'], { as: alice })
    expect(result).toEqual({
      ok: true, value: 1, gas: expect.any(Number), seq: sandbox.sequence, sends: [],
      events: [{ contract: ledger.address, topic: 'Noted', data: { by: alice.did, text: 'hello' } }],
      writes: [
        { contract: ledger.address, key: `notes/${alice.did}`, value: expect.any(Uint8Array) },
        { contract: ledger.address, key: 'count', value: expect.any(Uint8Array) },
      ],
    })
    expect(ledger.call('forget', [alice]).writes).toEqual([{ contract: ledger.address, key: `notes/${alice.did}`, value: undefined }])
  })

  test('that fails throws its coded error, or is a result', () => {
    const error = refusal(() => ledger.call('note', ['']))
    expect(error).toMatchObject({ code: 'CMESH_CONTRACT_REVERT', message: `The contract ${ledger.address} refused: write something` })
    expect(ledger.attempt('note', [''])).toEqual({
      ok: false, code: 'CMESH_CONTRACT_REVERT', reason: 'write something', error: expect.any(CMeshError), gas: expect.any(Number), seq: sandbox.sequence,
    })
    expect(ledger.call('note', ['x']).value).toBe(1)
  })

  test('costs the same whenever it is the same', () => {
    const costs = [0, 1].map(() => new Sandbox().deploy(code.ledger).call('note', ['hello']).gas)
    expect(costs[0]).toBe(costs[1])
  })

  test('under exactly its gas succeeds, and under one less fails', () => {
    const start = sandbox.snapshot()
    const { gas } = ledger.call('note', ['hello'])
    sandbox.restore(start)
    expect(ledger.attempt('note', ['hello'], { gas: gas - 1 })).toMatchObject({ ok: false, code: 'CMESH_CONTRACT_OUT_OF_GAS', gas: gas - 1 })
    sandbox.restore(start)
    expect(ledger.attempt('note', ['hello'], { gas })).toMatchObject({ ok: true, gas })
    expect(ledger.call('note', ['after']).ok).toBe(true)
  })

  test('that never ends ends with its gas', () => {
    expect(ledger.expectFailure('CMESH_CONTRACT_OUT_OF_GAS', 'spin', [], { gas: 100_000 }).gas).toBe(100_000)
  })

  test('of a function that is not there, or is the mesh\'s own to call, is refused', () => {
    for (const name of ['nope', 'init']) expect(ledger.attempt(name)).toMatchObject({ ok: false, code: 'CMESH_STATE_NO_FUNCTION' })
  })

  test('takes numbers of any size, and gives those beyond 2^53 as text', () => {
    expect(ledger.view('huge')).toBe('18446744073709551615')
    expect(ledger.attempt('forget', [5n])).toMatchObject({ ok: true })
  })
})

describe('expectations', () => {
  test('of a revert give its failure', () => {
    expect(ledger.expectRevert('something', 'note', ['']).reason).toBe('write something')
    expect(ledger.expectRevert(/^write/, 'note', ['']).code).toBe('CMESH_CONTRACT_REVERT')
  })

  test.each<[string, (contract: SandboxContract) => unknown, string]>([
    ['a call that succeeds', (contract) => contract.expectRevert('x', 'note', ['hello']), 'note succeeds'],
    ['another reason', (contract) => contract.expectRevert('else', 'note', ['']), 'note reverts for another reason'],
    ['another code', (contract) => contract.expectRevert('', 'spin', [], { gas: 50_000 }), 'note fails otherwise'.replace('note', 'spin')],
  ])('that are not met by %s fail the test and say so', (_, act, message) => {
    expect(() => act(ledger)).toThrow(expect.objectContaining({ code: 'ERR_ASSERTION', message: expect.stringContaining(message) }))
  })
})

describe('time', () => {
  test('stands still, and each transaction is a block', () => {
    const [before, timeMs] = [sandbox.sequence, sandbox.timeMs]
    ledger.call('note', ['a'])
    ledger.attempt('note', [''])
    expect([sandbox.sequence, sandbox.timeMs]).toEqual([before + 2, timeMs])
  })

  test('goes on when it is told to', () => {
    const [before, timeMs] = [sandbox.sequence, sandbox.timeMs]
    sandbox.advance({ ms: 60_000, blocks: 5 })
    expect(ledger.view('clock')).toBe(`${before + 5} ${timeMs + 60_000}`)
  })

  test('begins where it is asked to, and never goes back', () => {
    const early = new Sandbox({ timeMs: 1_000 })
    expect(early.deploy(code.ledger).view('clock')).toMatch(/ 1000$/)
    expect(refusal(() => early.advance({ ms: -1 }))).toMatchObject({ code: 'CMESH_CONFIG_INVALID', message: 'The setting ms is not valid: log time goes forward, in whole milliseconds.' })
  })
})

describe('a snapshot', () => {
  test('puts back state, sequence, time and contracts, as often as wanted', () => {
    ledger.call('note', ['kept'], { as: sandbox.identity('alice') })
    const [sequence, timeMs] = [sandbox.sequence, sandbox.timeMs]
    const kept = sandbox.snapshot()
    for (let round = 0; round < 2; round++) {
      ledger.call('note', ['lost'], { as: sandbox.identity('alice') })
      const later = sandbox.deploy(code.ledger)
      ledger.replace(code.next)
      sandbox.advance({ ms: 5 })
      sandbox.restore(kept)
      expect([sandbox.sequence, sandbox.timeMs]).toEqual([sequence, timeMs])
      expect(ledger.view('read', [sandbox.identity('alice')])).toBe('kept')
      expect(ledger.view('ownerOf')).toBe('nobody')
      expect(refusal(() => later.abi).code).toBe('CMESH_STATE_NO_CONTRACT')
    }
  })

  test('of another sandbox is refused', () => {
    expect(refusal(() => sandbox.restore(new Sandbox().snapshot()))).toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: 'The setting snapshot is not valid: it is of another sandbox.',
    })
  })
})

describe('deploying', () => {
  test('runs init with its arguments, and a refusal leaves nothing', () => {
    expect(sandbox.deploy(code.ledger, { init: ['alice'] }).view('ownerOf')).toBe('alice')
    expect(refusal(() => sandbox.deploy(code.ledger, { init: ['bad'] }))).toMatchObject({ code: 'CMESH_CONTRACT_REVERT', detail: { reason: 'a bad name' } })
  })

  test('takes a file, a URL or a package, with the arguments of the package', async () => {
    const module = join(dir, 'ledger.wasm')
    await writeFile(module, code.ledger)
    expect(sandbox.deploy(module).view('ownerOf')).toBe('nobody')
    expect(sandbox.deploy(new URL(`file://${module}`)).view('ownerOf')).toBe('nobody')
    const pkg = encodePackage({
      salt: Buffer.alloc(16), strategy: 'immutable', manifest: packageManifest({ name: 'packed', version: '1.0.0' }), init: Buffer.from('["packer"]'), module: code.ledger,
    })
    expect(sandbox.deploy(pkg).view('ownerOf')).toBe('packer')
    expect(Object.keys(sandbox.gasReport().contracts)).toEqual(['contract', 'ledger', 'packed'])
  })

  test('what is not there is refused with how it is made', () => {
    expect(refusal(() => sandbox.deploy('/nowhere/x.wasm')).message).toMatch(/^The package is not valid: \/nowhere\/x\.wasm cannot be read \(ENOENT.*\); `cmesh contract build` makes it\.$/)
    expect(refusal(() => sandbox.deploy(Buffer.from('no module'))).code).toBe('CMESH_DEPLOY_MAGIC')
  })

  test('replaces code by its deployer, keeps state, and runs migrate', () => {
    ledger.call('note', ['kept'], { as: sandbox.identity('alice') })
    expect(refusal(() => ledger.replace(code.next, { as: sandbox.identity('mallory') })).code).toBe('CMESH_DEPLOY_OWNER')
    ledger.replace(code.next)
    expect(ledger.view('ownerOf')).toBe('from 0.1.0')
    expect(ledger.view('read', [sandbox.identity('alice')])).toBe('kept')
  })

  test('as immutable is for good', () => {
    const fixed = sandbox.deploy(code.ledger, { strategy: 'immutable', as: sandbox.identity('alice') })
    expect(refusal(() => fixed.replace(code.next)).code).toBe('CMESH_DEPLOY_IMMUTABLE')
  })

  test('a proxy has the code of its target and a state of its own', () => {
    const copy = sandbox.proxy(ledger, { init: ['copy'] })
    copy.call('note', ['here'], { as: sandbox.identity('alice') })
    expect([copy.view('ownerOf'), ledger.view('ownerOf')]).toEqual(['copy', 'nobody'])
    expect(ledger.view('read', [sandbox.identity('alice')])).toBe('')
    ledger.replace(code.next)
    expect(copy.abi.functions.some(({ name }) => name === 'migrate')).toBe(true)
  })
})

describe('contracts among themselves', () => {
  let sender: SandboxContract
  beforeEach(() => { sender = sandbox.deploy(code.sender) })

  test('call one another under their own address', () => {
    const { value, events } = sender.call('pass', [ledger, 'hello'], { as: sandbox.identity('alice') })
    expect([value, events]).toEqual(['1', [{ contract: ledger.address, topic: 'Noted', data: { by: sender.address, text: 'hello' } }]])
    expect(ledger.view('read', [sender])).toBe('hello')
    expect(sender.call('pass', [ledger, '']).value).toContain('write something')
  })

  test('a message waits until it is delivered, and its answer comes back', () => {
    const fqmn = `0xSW:${ledger.address}:note`
    const { sends } = sender.call('ask', [fqmn, '["posted"]'])
    expect(sends).toMatchObject([{ from: sender.address, fqmn, reply: 'hear' }])
    expect(sandbox.pending).toEqual([{ id: expect.any(String), from: sender.address, fqmn, body: ['posted'], reply: 'hear', gas: 5_000_000 }])
    expect(ledger.view('read', [sender])).toBe('')
    const [delivery] = sandbox.deliver()
    expect(delivery).toMatchObject({ status: 200, value: 1, reply: { ok: true } })
    expect([ledger.view('read', [sender]), sender.view('answer'), sandbox.pending]).toEqual(['posted', '200 1', []])
    expect(sandbox.deliver()).toEqual([])
  })

  test('a message that is refused is answered with the error', () => {
    sender.call('ask', [`0xSW:${ledger.address}:note`, '[""]'])
    expect(sandbox.deliver()).toMatchObject([{ status: 422, value: { code: 'CMESH_CONTRACT_REVERT' }, reply: { ok: true } }])
    expect(sender.view('answer')).toMatch(/^422 .*write something/)
  })

  test('a message may read', () => {
    sender.call('ask', [`0xS:${ledger.address}:ownerOf`, ''])
    const before = sandbox.sequence
    sandbox.deliver()
    // One block for the answer, and none for what reads.
    expect([sender.view('answer'), sandbox.sequence]).toEqual(['200 "nobody"', before + 1])
  })

  test('the test answers for everybody else, and a reply that fails says so', () => {
    const channel = `0xEW:contracts.${sender.address}.news`
    sender.call('ask', [channel, '{"a":1}'])
    expect(refusal(() => sandbox.deliver())).toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: `The setting answer is not valid: nobody in this sandbox answers ${channel}; give \`deliver\` a function that does.`,
    })
    const seen: unknown[] = []
    const [delivery] = sandbox.deliver(({ body }) => {
      seen.push(body)
      return { value: 'refuse' }
    })
    expect(seen).toEqual([{ a: 1 }])
    expect(delivery).toMatchObject({ status: 200, reply: { ok: false, reason: 'not that' } })
    sender.call('tell', [channel, 'plain'])
    expect(sandbox.deliver(() => ({ error: new CMeshError('CMESH_EVENTS_CHANNEL', { reason: 'no' }) }))).toMatchObject([{ status: 400, reply: undefined }])
    expect(sandbox.pending).toEqual([])
  })
})

describe('a gas report', () => {
  test('sums up by contract and function, failures left out', () => {
    const costs = ['a', 'bb', 'ccc'].map((text) => ledger.call('note', [text], { as: sandbox.identity(text) }).gas)
    ledger.attempt('note', [''])
    ledger.view('ownerOf')
    const { meter, schedule, contracts } = sandbox.gasReport()
    expect([meter, schedule]).toEqual([expect.any(Number), expect.any(Number)])
    const functions = contracts['contract']?.functions
    expect(Object.keys(functions ?? {})).toEqual(['(deployment)', 'note', 'ownerOf'])
    const sorted = costs.toSorted((a, b) => a - b)
    expect(functions?.['note']).toEqual({ calls: 3, min: sorted[0], median: sorted[1], max: sorted[2] })
    expect(contracts['contract']?.bytes).toBe(code.ledger.length)
  })
})

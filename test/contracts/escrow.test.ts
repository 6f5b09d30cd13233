import { beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { Sandbox, type Identity, type SandboxContract } from '../../node/kit/index.ts'
import { compiled, shipped } from './support/compiled.ts'

const START_MS = Date.UTC(2026, 0, 1)
const DAY_MS = 86_400_000
const SUPPLY = 1_000

/**
 * A token whose author wants more than its due: while it is asked to pay it calls back whoever asks, and counts how often it was asked.
 * It is also the payer and the arbiter of its deposit, so that the escrow has no reason to refuse the caller.
 */
const THIEF = `
import { args, call, Cell, ctx } from 'cmesh/sdk'
const asked = new Cell<u64>('asked')
const attack = new Cell<string>('attack')
const id = new Cell<u64>('id')
@init export function init(how: string): void { attack.set(how) }
export function begin(escrow: string, payee: string, deadline: u64): void {
  id.set(call<u64>(escrow, 'deposit', args().add(ctx.self()).add(<u64>100).add(payee).add(deadline).add(ctx.self())).value)
}
export function strike(escrow: string, how: string): bool {
  return how == 'sweep' ? call<u32>(escrow, how).or(0) > 0 : call<bool>(escrow, how, args().add(id.get())).or(false)
}
export function transferFrom(from: string, to: string, amount: u64): bool { return true }
export function transfer(to: string, amount: u64): bool {
  asked.set(asked.get() + 1)
  if (asked.get() == 1) strike(ctx.caller(), attack.get())
  return true
}
@view export function times(): u64 { return asked.get() }
`

/** A token that takes deposits and pays nothing: it says no, stops, or spins, as it is told. */
const MISER = `
import { Cell, revert } from 'cmesh/sdk'
const mood = new Cell<string>('mood')
@init export function init(first: string): void { mood.set(first) }
export function transferFrom(from: string, to: string, amount: u64): bool { return mood.get() != 'poor' }
export function transfer(to: string, amount: u64): bool {
  if (mood.get() == 'revert') revert('not today')
  while (mood.get() == 'spin') {}
  return mood.get() == 'generous'
}
export function cheer(): void { mood.set('generous') }
`

let code: Readonly<Record<'token' | 'escrow' | 'thief' | 'miser', Uint8Array>>
let sandbox: Sandbox
let token: SandboxContract
let escrow: SandboxContract
let alice: Identity
let bob: Identity
let judge: Identity
let stranger: Identity

beforeAll(async () => {
  const [tokenCode, escrowCode, thief, miser] = [await shipped('token'), await shipped('escrow'), await compiled(THIEF), await compiled(MISER)]
  code = { token: tokenCode, escrow: escrowCode, thief, miser }
})
beforeEach(() => {
  sandbox = new Sandbox({ timeMs: START_MS })
  alice = sandbox.identity('alice')
  bob = sandbox.identity('bob')
  judge = sandbox.identity('judge')
  stranger = sandbox.identity('stranger')
  token = sandbox.deploy(code.token, { init: ['Mesh Token', 'MTK', 0, SUPPLY], as: alice })
  escrow = sandbox.deploy(code.escrow)
})

const balance = (who: Identity | SandboxContract): unknown => token.view('balanceOf', [who])

function deposit({ amount = 100, deadline = START_MS + DAY_MS, arbiter = judge.did, of = token, as = alice }: {
  amount?: number, deadline?: number, arbiter?: string, of?: SandboxContract, as?: Identity
} = {}): number {
  if (of === token) token.call('approve', [escrow, amount], { as })
  return escrow.call<number>('deposit', [of, amount, bob, deadline, arbiter], { as }).value
}

describe('a deposit', () => {
  test('takes the amount, is kept and announced', () => {
    token.call('approve', [escrow, 100], { as: alice })
    const { value, events } = escrow.call('deposit', [token, 100, bob, START_MS + DAY_MS, judge], { as: alice })
    const kept = { token: token.address, amount: 100, payer: alice.did, payee: bob.did, arbiter: judge.did, deadline: START_MS + DAY_MS }
    expect(value).toBe(1)
    expect(events[0]).toEqual({ contract: escrow.address, topic: 'Deposited', data: { id: 1, ...kept } })
    expect(escrow.view('get', [1])).toEqual(kept)
    expect([balance(alice), balance(escrow)]).toEqual([SUPPLY - 100, 100])
  })

  test('that the token does not pay is none', () => {
    escrow.expectRevert('the token did not pay: CMESH_CONTRACT_REVERT: the amount is more than the allowance', 'deposit', [token, 100, bob, START_MS + 1], { as: alice })
    const poor = sandbox.deploy(code.miser, { init: ['poor'] })
    escrow.expectRevert('the token did not pay: it says no', 'deposit', [poor, 100, bob, START_MS + 1], { as: alice })
    escrow.expectRevert('there is no deposit 1', 'get', [1])
    expect(deposit()).toBe(1)
  })

  test.each<[string, (fits: unknown[]) => unknown[]]>([
    ['deposit something', ([of, , payee, deadline]) => [of, 0, payee, deadline]],
    ['the deadline has passed', ([of, amount, payee]) => [of, amount, payee, START_MS]],
    ['the payee is a DID or the address of a contract', ([of, amount, , deadline]) => [of, amount, 'bob.mcom', deadline]],
    ['the token did not pay: CMESH_CONTRACT_', ([, amount, payee, deadline]) => ['token.mcom', amount, payee, deadline]],
  ])('is refused: %s', (reason, without) => {
    token.call('approve', [escrow, 100], { as: alice })
    escrow.expectRevert(reason, 'deposit', without([token.address, 100, bob.did, START_MS + 1]) as string[], { as: alice })
  })
})

describe('what is deposited goes', () => {
  test.each(['alice', 'judge'])('to the payee when %s releases it', (name) => {
    const by = sandbox.identity(name)
    const { events } = escrow.call('release', [deposit()], { as: by })
    expect(events.find(({ topic }) => topic === 'Released')?.data).toEqual({ id: 1, to: bob.did, by: by.did })
    expect([balance(alice), balance(bob), balance(escrow)]).toEqual([SUPPLY - 100, 100, 0])
  })

  test.each(['bob', 'judge'])('back to the payer when %s refunds it', (name) => {
    const by = sandbox.identity(name)
    const { events } = escrow.call('refund', [deposit()], { as: by })
    expect(events.find(({ topic }) => topic === 'Refunded')?.data).toEqual({ id: 1, to: alice.did, by: by.did })
    expect([balance(alice), balance(bob), balance(escrow)]).toEqual([SUPPLY, 0, 0])
  })

  test('nowhere when anybody else says so, or nobody is the arbiter', () => {
    const id = deposit({ arbiter: '' })
    for (const by of [bob, judge, stranger]) escrow.expectRevert('only the payer or the arbiter releases', 'release', [id], { as: by })
    for (const by of [alice, judge, stranger]) escrow.expectRevert('before the deadline only the payee or the arbiter', 'refund', [id], { as: by })
    expect(balance(escrow)).toBe(100)
  })

  test('back on anybody\'s word from the deadline on, and not a millisecond before', () => {
    const id = deposit()
    sandbox.advance({ ms: DAY_MS - 1 })
    escrow.expectRevert('before the deadline', 'refund', [id], { as: stranger })
    sandbox.advance({ ms: 1 })
    escrow.call('refund', [id], { as: stranger })
    expect(balance(alice)).toBe(SUPPLY)
  })

  test('once', () => {
    const id = deposit()
    deposit()
    escrow.call('release', [id], { as: alice })
    escrow.expectRevert('there is no deposit 1', 'release', [id], { as: alice })
    escrow.expectRevert('there is no deposit 1', 'refund', [id], { as: bob })
    expect([balance(bob), balance(escrow)]).toEqual([100, 100])
  })

  test('to the payee even after the deadline, while nobody has asked for it back', () => {
    const id = deposit()
    sandbox.advance({ ms: DAY_MS })
    escrow.call('release', [id], { as: alice })
    expect(balance(bob)).toBe(100)
  })

  test('nowhere while the token fails, and can be had once it does not', () => {
    const miser = sandbox.deploy(code.miser, { init: ['revert'] })
    const id = deposit({ of: miser })
    escrow.expectRevert('the token did not pay: CMESH_CONTRACT_REVERT: not today', 'release', [id], { as: alice })
    escrow.expectRevert('the token did not pay: CMESH_CONTRACT_REVERT: not today', 'refund', [id], { as: bob })
    miser.call('cheer')
    expect(escrow.call('release', [id], { as: alice }).value).toBe(true)
  })
})

describe('a sweep', () => {
  test('refunds what is overdue, the oldest first and no more than asked for', () => {
    const late = deposit({ amount: 1, deadline: START_MS + 30 })
    const first = deposit({ amount: 2, deadline: START_MS + 10 })
    const second = deposit({ amount: 4, deadline: START_MS + 20 })
    expect(escrow.view('due')).toEqual([])
    sandbox.advance({ ms: 20 })
    expect([escrow.view('due'), escrow.view('due', [1])]).toEqual([[first, second], [first]])
    expect([escrow.call('sweep', [1]).value, escrow.view('due')]).toEqual([1, [second]])
    expect([escrow.call('sweep').value, escrow.call('sweep').value]).toEqual([1, 0])
    expect([balance(escrow), escrow.view<{ amount: number }>('get', [late]).amount]).toEqual([1, 1])
  })

  test.each([
    ['revert', 'CMESH_CONTRACT_REVERT: not today'],
    ['spin', 'CMESH_CONTRACT_OUT_OF_GAS: '],
    ['deny', 'it says no'],
  ])('goes on past a token that fails (%s), and keeps its deposit for later', (mood, reason) => {
    const miser = sandbox.deploy(code.miser, { init: [mood] })
    // Two: what the first may use up leaves a 64th, which is too little for a second.
    const bad = [1, 1].map((ms) => deposit({ of: miser, deadline: START_MS + ms }))
    deposit({ deadline: START_MS + 2 })
    sandbox.advance({ ms: 10 })
    const { value, events } = escrow.call('sweep')
    expect(value).toBe(1)
    expect(events.filter(({ contract }) => contract === escrow.address).map(({ topic, data }) => [topic, data])).toEqual([
      ...bad.map((id) => ['Stuck', { id, reason: expect.stringContaining(reason) }]),
      ['Refunded', { id: 3, to: alice.did, by: sandbox.identity('anyone').did }],
    ])
    expect([balance(alice), escrow.view('due')]).toEqual([SUPPLY, []])
    miser.call('cheer')
    for (const id of bad) expect(escrow.call('refund', [id]).value).toBe(true)
  })
})

describe('a token that calls back while it pays', () => {
  test.each([
    ['release', 'release'], ['release', 'refund'], ['refund', 'release'], ['refund', 'refund'], ['sweep', 'release'], ['sweep', 'refund'], ['refund', 'sweep'],
  ])('by a %s, and asks for a %s, is asked to pay once and takes nobody else\'s', (how, again) => {
    const thief = sandbox.deploy(code.thief, { init: [again] })
    thief.call('begin', [escrow, bob, START_MS + 1])
    deposit({ amount: 500 })
    sandbox.advance({ ms: 10 })
    expect(thief.call('strike', [escrow, how]).value).toBe(true)
    expect([thief.view('times'), balance(escrow)]).toEqual([1, 500])
    escrow.expectRevert('there is no deposit 1', 'get', [1])
  })
})

interface Step {
  readonly action: 'deposit' | 'release' | 'refund' | 'sweep' | 'wait'
  readonly by: Identity
  readonly id: number
  readonly amount: number
  readonly ms: number
}

describe('whatever happens', () => {
  test('the escrow holds exactly what is deposited, and no token is made or lost', () => {
    const people = [alice, bob, judge]
    for (const person of [bob, judge]) token.call('transfer', [person, 300], { as: alice })
    for (const person of people) token.call('approve', [escrow, SUPPLY], { as: person })
    const start = sandbox.snapshot()
    const step: fc.Arbitrary<Step> = fc.record({
      action: fc.constantFrom('deposit', 'deposit', 'release', 'refund', 'sweep', 'wait'), by: fc.constantFrom(...people), id: fc.integer({ min: 1, max: 4 }),
      amount: fc.integer({ min: 0, max: 250 }), ms: fc.integer({ min: 0, max: 30 }),
    })
    const done = new Map<string, number>()
    fc.assert(fc.property(fc.array(step, { minLength: 8, maxLength: 30 }), (steps) => {
      sandbox.restore(start)
      let deposits = 0
      for (const { action, by, id, amount, ms } of steps) {
        const { ok } = run(action, by, { id, amount, ms }, people)
        if (ok) done.set(action, (done.get(action) ?? 0) + 1)
        if (ok && action === 'deposit') deposits++
        const open = Array.from({ length: deposits }, (_, i) => escrow.attempt<{ amount: number }>('get', [i + 1]))
        expect(balance(escrow)).toBe(open.reduce((sum, kept) => sum + (kept.ok ? kept.value.amount : 0), 0))
      }
      expect([...people, escrow].reduce((sum, who) => sum + Number(balance(who)), 0)).toBe(SUPPLY)
    }), { numRuns: 40, seed: 1 })
    for (const action of ['deposit', 'release', 'refund', 'sweep']) expect(done.get(action)).toBeGreaterThan(10)
  })

  function run(action: Step['action'], by: Identity, { id, amount, ms }: Pick<Step, 'id' | 'amount' | 'ms'>, people: readonly Identity[]): { readonly ok: boolean } {
    switch (action) {
      case 'deposit':
        return escrow.attempt('deposit', [token, amount, people[(people.indexOf(by) + 1) % 3] as Identity, sandbox.timeMs + ms + 1, judge], { as: by })
      case 'sweep':
        return escrow.attempt('sweep', [2], { as: by })
      case 'wait':
        sandbox.advance({ ms })
        return { ok: true }
      default:
        return escrow.attempt(action, [id], { as: by })
    }
  }
})

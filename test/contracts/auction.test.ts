import { beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { CMeshError } from '../../cmtp/errors.ts'
import { Sandbox, type Identity, type SandboxContract } from '../../node/kit/index.ts'
import { refusal } from '../support/refusal.ts'
import { shipped } from './support/compiled.ts'

const START_MS = Date.UTC(2026, 0, 1)
const HOUR_MS = 3_600_000
const HANDOVER_MS = 72 * HOUR_MS
const NAME = 'blue.mcom'

let code: Readonly<Record<'token' | 'auction', Uint8Array>>
let sandbox: Sandbox
let token: SandboxContract
let auction: SandboxContract
let seller: Identity
let alice: Identity
let bob: Identity
let judge: Identity
/** The registrar, as far as a contract sees it. */
let names: Map<string, { owner: Identity, sequence: number }>

beforeAll(async () => {
  code = { token: await shipped('token'), auction: await shipped('auction') }
})
beforeEach(() => {
  sandbox = new Sandbox({ timeMs: START_MS })
  seller = sandbox.identity('seller')
  alice = sandbox.identity('alice')
  bob = sandbox.identity('bob')
  judge = sandbox.identity('judge')
  token = sandbox.deploy(code.token, { init: ['Mesh Token', 'MTK'] })
  auction = sandbox.deploy(code.auction, { init: [token, judge] })
  for (const bidder of [alice, bob]) {
    token.call('mint', [bidder, 1_000], { as: sandbox.identity('deployer') })
    token.call('approve', [auction, 1_000], { as: bidder })
  }
  names = new Map([[NAME, { owner: seller, sequence: 1 }]])
})

/** Brings what the auction asked to the registrar, and the answers back. */
function answers(): void {
  for (const { reply } of sandbox.deliver(({ fqmn }) => {
    const name = fqmn.replace(/^0xR:resolve:/, '')
    const record = names.get(name)
    return record === undefined ? { error: new CMeshError('CMESH_REGISTRAR_NOT_FOUND', { name }) }
      : { value: { name, target: '0xS:0x001', owner: record.owner.did, sequence: record.sequence, registeredAtMs: 0, expiresAtMs: 1, signature: 's' } }
  })) expect(reply).toMatchObject({ ok: true })
}

function handOver(to: Identity, name = NAME): void {
  names.set(name, { owner: to, sequence: (names.get(name)?.sequence ?? 0) + 1 })
}

/** Number of a lot that is put on sale; 0 where it was not. */
function opened({ reserve = 10, ms = HOUR_MS, name = NAME } = {}): number {
  auction.call('offer', [name, reserve, ms], { as: seller })
  answers()
  return auction.view<{ id: number, name: string }[]>('endingNext', [100]).find((each) => each.name === name)?.id ?? 0
}

const balance = (who: Identity | SandboxContract): number => token.view<number>('balanceOf', [who])
const credit = (who: Identity): number => auction.view<number>('creditOf', [who])
const lot = (id: number): Readonly<Record<string, unknown>> => auction.view('lot', [id])

describe('an auction', () => {
  test('is of nothing without the address of a token', () => {
    expect(refusal(() => sandbox.deploy(code.auction, { init: ['mtk.mcom'] }))).toMatchObject({ code: 'CMESH_CONTRACT_REVERT' })
  })

  test('goes from the offer to the seller\'s money', () => {
    const { sends } = auction.call('offer', [NAME, 10, HOUR_MS], { as: seller })
    expect(sends).toEqual([expect.objectContaining({ from: auction.address, fqmn: `0xR:resolve:${NAME}`, reply: 'owned' })])
    answers()
    expect(auction.view('endingNext')).toEqual([{
      id: 1, name: NAME, seller: seller.did, reserve: 10, endsAt: START_MS + HOUR_MS, state: 'open', leader: '', price: 0, sequence: 1,
    }])
    auction.call('bid', [1, 10], { as: alice })
    auction.call('bid', [1, 30], { as: bob })
    auction.call('bid', [1, 55], { as: alice })
    expect(auction.view('bidsOf', [1, 2])).toEqual([{ bidder: alice.did, amount: 55 }, { bidder: bob.did, amount: 30 }])
    expect([balance(auction), credit(alice), credit(bob)]).toEqual([95, 10, 30])

    sandbox.advance({ ms: HOUR_MS })
    handOver(alice)
    auction.call('settle', [1])
    answers()
    expect(lot(1)).toMatchObject({ state: 'sold', leader: alice.did, price: 55 })
    for (const who of [seller, alice, bob]) auction.call('withdraw', [], { as: who })
    expect([balance(seller), balance(alice), balance(bob), balance(auction)]).toEqual([55, 945, 1_000, 0])
  })

  test('says what it comes to', () => {
    auction.call('offer', [NAME, 10, HOUR_MS], { as: seller })
    const [delivery] = sandbox.deliver(() => ({ value: { name: NAME, owner: seller.did, sequence: 1 } }))
    expect(delivery?.reply).toMatchObject({ ok: true, events: [{
      contract: auction.address, topic: 'Opened', data: { lot: 1, name: NAME, seller: seller.did, reserve: 10, endsAt: START_MS + HOUR_MS },
    }] })
    expect(auction.call('bid', [1, 10], { as: alice }).events[0]).toEqual({
      contract: auction.address, topic: 'Outbid', data: { lot: 1, leader: alice.did, price: 10, endsAt: START_MS + HOUR_MS },
    })
    sandbox.advance({ ms: HOUR_MS })
    expect(auction.call('decide', [1, true], { as: judge }).events).toEqual([{
      contract: auction.address, topic: 'Closed', data: { lot: 1, name: NAME, state: 'sold', winner: alice.did, price: 10 },
    }])
  })
})

describe('an offer', () => {
  test('of somebody else\'s name comes to nothing, and is not in the owner\'s way', () => {
    auction.call('offer', [NAME, 1, HOUR_MS], { as: bob })
    answers()
    expect(auction.view('endingNext')).toEqual([])
    auction.call('offer', [NAME, 500, HOUR_MS], { as: seller })
    auction.call('offer', [NAME, 1, HOUR_MS], { as: bob })
    answers()
    expect(auction.view('endingNext')).toEqual([expect.objectContaining({ seller: seller.did, reserve: 500 })])
  })

  test('of a name that nobody owns comes to nothing', () => {
    expect(opened({ name: 'nobody.mcom' })).toBe(0)
  })

  test('of a name on sale is refused, and of one that was sold is not', () => {
    const id = opened()
    auction.expectRevert('blue.mcom is being auctioned already', 'offer', [NAME, 1, HOUR_MS], { as: seller })
    sandbox.advance({ ms: HOUR_MS })
    auction.call('settle', [id])
    expect(opened()).toBe(2)
  })

  test('has a length', () => {
    for (const ms of [0, 30 * 24 * HOUR_MS + 1]) auction.expectRevert('at most 30 days', 'offer', [NAME, 1, ms], { as: seller })
  })
})

describe('a bid', () => {
  test('is at least the reserve, and more than the one before', () => {
    const id = opened()
    auction.expectRevert('the bid is too low', 'bid', [id, 9], { as: alice })
    auction.call('bid', [id, 10], { as: alice })
    auction.expectRevert('the bid is too low', 'bid', [id, 10], { as: bob })
    auction.expectRevert('the seller does not bid', 'bid', [id, 11], { as: seller })
    auction.expectRevert('there is no lot 9', 'bid', [9, 11], { as: bob })
  })

  test('that is not paid changes nothing: the leader leads, without a credit', () => {
    const id = opened()
    auction.call('bid', [id, 10], { as: alice })
    auction.expectRevert('the bid is not paid: CMESH_CONTRACT_REVERT: the amount is more than the allowance', 'bid', [id, 1_001], { as: bob })
    expect([lot(id)['leader'], credit(alice), balance(auction)]).toEqual([alice.did, 0, 10])
  })

  test('comes before the end, and in the last minutes moves it', () => {
    const id = opened()
    sandbox.advance({ ms: HOUR_MS - 1 })
    auction.call('bid', [id, 10], { as: alice })
    expect(lot(id)['endsAt']).toBe(START_MS + HOUR_MS - 1 + 300_000)
    sandbox.advance({ ms: 299_999 })
    auction.call('bid', [id, 20], { as: bob })
    sandbox.advance({ ms: 300_000 })
    auction.expectRevert('the auction is over', 'bid', [id, 30], { as: alice })
    expect(auction.view('endingNext')).toEqual([])
  })
})

describe('lots', () => {
  test('are listed by when they end', () => {
    for (const [index, ms] of [3, 1, 2].entries()) {
      names.set(`n${index}.mcom`, { owner: seller, sequence: 1 })
      opened({ name: `n${index}.mcom`, ms: ms * HOUR_MS })
    }
    const listed = (limit: number): unknown[] => auction.view<{ name: string }[]>('endingNext', [limit]).map(({ name }) => name)
    expect([listed(9), listed(2)]).toEqual([['n1.mcom', 'n2.mcom', 'n0.mcom'], ['n1.mcom', 'n2.mcom']])
    sandbox.advance({ ms: HOUR_MS })
    expect(listed(9)).toEqual(['n2.mcom', 'n0.mcom'])
  })
})

describe('the end of an auction', () => {
  test('without bids is unsold', () => {
    const id = opened()
    auction.expectRevert('the auction goes on', 'settle', [id])
    sandbox.advance({ ms: HOUR_MS + HANDOVER_MS })
    auction.expectRevert('nobody has bid', 'reclaim', [id])
    expect(auction.call('settle', [id]).sends).toEqual([])
    expect(lot(id)['state']).toBe('unsold')
    auction.expectRevert('the lot is closed: unsold', 'settle', [id])
  })

  test('pays nobody before the name is the winner\'s', () => {
    const id = opened()
    auction.call('bid', [id, 10], { as: alice })
    sandbox.advance({ ms: HOUR_MS })
    for (const owner of [seller, bob]) {
      handOver(owner)
      auction.call('settle', [id])
      answers()
      expect([lot(id)['state'], credit(seller)]).toEqual(['open', 0])
    }
    names.delete(NAME)
    auction.call('settle', [id])
    answers()
    expect([lot(id)['state'], credit(seller)]).toEqual(['open', 0])
  })

  test('is paid once, however often it is asked for', () => {
    const id = opened()
    auction.call('bid', [id, 10], { as: alice })
    sandbox.advance({ ms: HOUR_MS })
    handOver(alice)
    for (let i = 0; i < 3; i++) auction.call('settle', [id])
    answers()
    auction.expectRevert('the lot is closed: sold', 'settle', [id])
    auction.expectRevert('the lot is closed: sold', 'reclaim', [id])
    auction.expectRevert('the lot is closed: sold', 'decide', [id, false], { as: judge })
    expect(credit(seller)).toBe(10)
  })

  test('does not take an answer from before the sale for the handover', () => {
    names.set(NAME, { owner: seller, sequence: 2 })
    const id = opened()
    auction.call('bid', [id, 10], { as: alice })
    sandbox.advance({ ms: HOUR_MS })
    auction.call('settle', [id])
    // What a question from when the name was the winner's own may bring, if its answer is long under way.
    sandbox.deliver(() => ({ value: { name: NAME, owner: alice.did, sequence: 1 } }))
    expect([lot(id)['state'], credit(seller)]).toEqual(['open', 0])
  })

  test('does not come early, even when the leader has the name already', () => {
    for (const as of [bob, seller]) auction.call('offer', [NAME, 10, HOUR_MS], { as })
    let answered = 0
    sandbox.deliver(() => {
      // Between the two answers somebody bids, and is given the name.
      if (answered++ === 1) auction.call('bid', [1, 10], { as: alice })
      return { value: { name: NAME, owner: (answered === 1 ? seller : alice).did, sequence: answered } }
    })
    expect([answered, lot(1)['state'], lot(1)['leader']]).toEqual([2, 'open', alice.did])
    auction.call('bid', [1, 20], { as: bob })
  })

  test('gives the winner the money back when the seller has kept the name for 3 days', () => {
    const id = opened()
    auction.call('bid', [id, 10], { as: alice })
    sandbox.advance({ ms: HOUR_MS + HANDOVER_MS - 1 })
    auction.expectRevert('the seller has 3 days to hand over the name', 'reclaim', [id], { as: alice })
    sandbox.advance({ ms: 1 })
    auction.call('reclaim', [id])
    expect([lot(id)['state'], credit(alice), credit(seller)]).toEqual(['refunded', 10, 0])
    expect(opened()).toBe(2)
  })

  test.each([[true, 'sold', 10, 0], [false, 'refunded', 0, 10]])('is the arbiter\'s to decide: sold is %p', (sold, state, sellers, winners) => {
    const id = opened()
    auction.call('bid', [id, 10], { as: alice })
    auction.expectRevert('the auction goes on', 'decide', [id, sold], { as: judge })
    sandbox.advance({ ms: HOUR_MS })
    for (const as of [alice, seller]) auction.expectRevert('only the arbiter decides', 'decide', [id, sold], { as })
    auction.call('decide', [id, sold], { as: judge })
    expect([lot(id)['state'], credit(seller), credit(alice)]).toEqual([state, sellers, winners])
  })
})

test('nobody calls the registrar\'s answer but the mesh', () => {
  auction.call('offer', [NAME, 1, HOUR_MS], { as: bob })
  auction.expectFailure('CMESH_STATE_NO_FUNCTION', 'owned', ['1', 200, JSON.stringify({ name: NAME, owner: bob.did, sequence: 9 })], { as: bob })
})

test('a credit is paid once', () => {
  const id = opened()
  auction.call('bid', [id, 10], { as: alice })
  auction.call('bid', [id, 20], { as: bob })
  expect(auction.call('withdraw', [], { as: alice }).value).toBe(10)
  auction.expectRevert('there is nothing to withdraw', 'withdraw', [], { as: alice })
  expect([balance(alice), balance(auction)]).toEqual([1_000, 20])
})

describe('whatever happens', () => {
  test('the auction holds exactly what it owes', () => {
    const people = [seller, alice, bob]
    token.call('approve', [auction, 1_000], { as: seller })
    const start = sandbox.snapshot()
    const step = fc.record({
      action: fc.constantFrom('offer', 'bid', 'bid', 'bid', 'settle', 'reclaim', 'decide', 'withdraw', 'wait', 'hand over', 'answer'), by: fc.constantFrom(...people),
      id: fc.integer({ min: 1, max: 2 }), amount: fc.integer({ min: 1, max: 200 }), hours: fc.constantFrom(0, 1, 40),
    })
    const states = new Map<unknown, number>()
    fc.assert(fc.property(fc.array(step, { minLength: 15, maxLength: 40 }), (steps) => {
      sandbox.restore(start)
      names = new Map([[NAME, { owner: seller, sequence: 1 }]])
      opened()
      for (const { action, by, id, amount, hours } of steps) {
        if (action === 'offer') auction.attempt('offer', [NAME, amount, HOUR_MS], { as: by })
        else if (action === 'bid') auction.attempt('bid', [id, amount], { as: by })
        else if (action === 'decide') auction.attempt('decide', [id, amount % 2 === 0], { as: judge })
        else if (action === 'withdraw') auction.attempt('withdraw', [], { as: by })
        else if (action === 'wait') sandbox.advance({ ms: hours * HOUR_MS })
        else if (action === 'hand over') handOver(by)
        else if (action === 'answer') answers()
        else auction.attempt(action, [id])
        const held = [1, 2, 3].flatMap((each) => {
          const result = auction.attempt<{ state: string, price: number }>('lot', [each])
          return result.ok ? [result.value] : []
        })
        const owed = held.reduce((sum, { state, price }) => sum + (state === 'open' ? price : 0), 0) + people.reduce((sum, who) => sum + credit(who), 0)
        expect(balance(auction)).toBe(owed)
        if (action !== 'answer') continue
        for (const { state } of held) states.set(state, (states.get(state) ?? 0) + 1)
      }
      expect([...people, auction].reduce((sum, who) => sum + balance(who), 0)).toBe(2_000)
    }), { numRuns: 40, seed: 1 })
    expect([...states.keys()].sort()).toEqual(['open', 'refunded', 'sold', 'unsold'])
  })
})

/**
 * Keeps tokens between two who do not trust each other: the payer deposits, then lets them go to the payee, or has them back when the
 * deadline has passed. An arbiter, if they agree on one, decides either way.
 *
 * Two rules keep the money safe, whatever a token does while it is being called:
 * 1. State first, calls last. A deposit is gone before it is paid out, so a token that calls back finds nothing to be paid again.
 * 2. A call that fails is undone and known: either this call fails with it, or the deposit is put back.
 */
import { args, call, Cell, ctx, number, Pair, pair, require, Result, revert, SortedMap, StateMap } from 'cmesh/sdk'

/** Most gas that a token may use to pay one deposit of several: none may use up what is for the others. */
const PAYMENT_GAS: u64 = 500_000

@record
class Deposit {
  constructor(
    public token: string, public amount: u64, public payer: string, public payee: string, public arbiter: string, public deadline: u64,
  ) {}
}

@event
class Deposited {
  constructor(
    public id: u64, public token: string, public amount: u64, public payer: string, public payee: string, public arbiter: string,
    public deadline: u64,
  ) {}
}

/** The payee has it. */
@event
class Released {
  constructor(public id: u64, public to: string, public by: string) {}
}

/** The payer has it back. */
@event
class Refunded {
  constructor(public id: u64, public to: string, public by: string) {}
}

/** The token did not pay when it was the deposit's turn: it stays, and waits for a `refund` of its own. */
@event
class Stuck {
  constructor(public id: u64, public reason: string) {}
}

const newest = new Cell<u64>('newest')
const deposits = new StateMap<u64, Deposit>('deposit')
/** Deposits by their deadline, for `sweep`; what is worth knowing is in the key. */
const deadlines = new SortedMap<Pair<u64, u64>, bool>('deadline')

/**
 * Takes the amount from the caller, who has approved it for this contract, and gives the number of the deposit. `deadline`: log time
 * in ms since 1970.
 */
export function deposit(token: string, amount: u64, payee: string, deadline: u64, arbiter: string = ''): u64 {
  const payer = ctx.caller()
  require(amount > 0, 'deposit something')
  require(deadline > ctx.time(), 'the deadline has passed')
  require(payee.startsWith('did:') || payee.startsWith('0x'), 'the payee is a DID or the address of a contract')
  const id = newest.get() + 1
  newest.set(id)
  keep(id, new Deposit(token, amount, payer, payee, arbiter, deadline))
  new Deposited(id, token, amount, payer, payee, arbiter, deadline).emit()
  const taken = call<bool>(token, 'transferFrom', args().add(payer).add(ctx.self()).add(amount))
  if (!succeeded(taken)) revert('the token did not pay: ' + reasonOf(taken))
  return id
}

/** Pays the payee: for the payer, or the arbiter. */
export function release(id: u64): bool {
  const kept = find(id)
  const by = ctx.caller()
  require(by == kept.payer || isArbiter(by, kept), 'only the payer or the arbiter releases a deposit')
  drop(id, kept)
  new Released(id, kept.payee, by).emit()
  const paid = pay(kept.token, kept.payee, kept.amount)
  // A failure reverts this call too, and so the deposit is there as before.
  if (!succeeded(paid)) revert('the token did not pay: ' + reasonOf(paid))
  return true
}

/** Pays the payer back: for the payee or the arbiter at any time, for anybody once the deadline has passed. */
export function refund(id: u64): bool {
  const kept = find(id)
  const by = ctx.caller()
  const due = ctx.time() >= kept.deadline
  require(due || by == kept.payee || isArbiter(by, kept), 'before the deadline only the payee or the arbiter refunds a deposit')
  drop(id, kept)
  new Refunded(id, kept.payer, by).emit()
  const paid = pay(kept.token, kept.payer, kept.amount)
  if (!succeeded(paid)) revert('the token did not pay: ' + reasonOf(paid))
  return true
}

/**
 * Refunds up to `limit` deposits whose deadline has passed, the oldest first, and gives how many it settled. A token that fails does not
 * stop the others: its deposit is put back, but not into the order of deadlines, where it would be first again.
 */
export function sweep(limit: u32 = 10): u32 {
  const due = overdue(limit)
  let refunded: u32 = 0
  for (let i = 0; i < due.length; i++) {
    const id = due[i].second
    const kept = find(id)
    drop(id, kept)
    const paid = pay(kept.token, kept.payer, kept.amount, PAYMENT_GAS)
    if (succeeded(paid)) {
      new Refunded(id, kept.payer, ctx.caller()).emit()
      refunded++
    } else {
      deposits.set(id, kept)
      new Stuck(id, reasonOf(paid)).emit()
    }
  }
  return refunded
}

/** What is deposited under a number. */
@view
export function get(id: u64): Deposit {
  return find(id)
}

/** Numbers of deposits whose deadline has passed, the oldest first. */
@view
export function due(limit: u32 = 10): u64[] {
  return overdue(limit).map<u64>((key) => key.second)
}

function find(id: u64): Deposit {
  require(deposits.has(id), 'there is no deposit ' + number(id))
  return deposits.get(id)
}

function keep(id: u64, kept: Deposit): void {
  deposits.set(id, kept)
  deadlines.set(pair(kept.deadline, id), true)
}

function drop(id: u64, kept: Deposit): void {
  deposits.delete(id)
  deadlines.delete(pair(kept.deadline, id))
}

function overdue(limit: u32): Pair<u64, u64>[] {
  return deadlines.range().through(pair(ctx.time(), u64.MAX_VALUE)).keys(min(limit, 100))
}

function pay(token: string, to: string, amount: u64, gas: u64 = 0): Result<bool> {
  return call<bool>(token, 'transfer', args().add(to).add(amount), gas)
}

/** A token may fail, and it may say no. */
function succeeded(result: Result<bool>): bool {
  return result.ok && result.value
}

function reasonOf(result: Result<bool>): string {
  return result.ok ? 'it says no' : result.error
}

function isArbiter(who: string, kept: Deposit): bool {
  return kept.arbiter != '' && who == kept.arbiter
}

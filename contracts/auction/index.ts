/**
 * Auctions of mesh names, paid in a token. Who owns a name is known to the registrar and not to contracts, so this one asks: `send` leaves
 * the question behind, and the answer comes to `owned` in a later block.
 *
 *     offer ──asks──▶ owned: it is the seller's ──▶ bids until the end ──▶ the seller transfers the name
 *     settle ─asks──▶ owned: it is the winner's ──▶ the price is the seller's
 *     reclaim, when the seller has not handed it over in time ──▶ the price is the winner's again
 *
 * Nothing is paid out on the way: whoever is outbid, paid or refunded has a credit and withdraws it, so nobody who cannot be
 * paid stands in the way of others.
 */
import { args, call, Cell, checked, ctx, member, number, Pair, pair, require, revert, send, SortedMap, StateMap } from 'cmesh/sdk'

const LONGEST_MS: u64 = 30 * 24 * 60 * 60 * 1000
/** How long after the end the seller may take to hand over the name. */
const HANDOVER_MS: u64 = 3 * 24 * 60 * 60 * 1000
/** A bid in the last minutes moves the end, so that others can answer it. */
const ANSWER_MS: u64 = 5 * 60 * 1000
/** For the way of a question, 50,000, and for `owned`. */
const QUESTION_GAS: u64 = 400_000

/** What somebody says to be selling; worth nothing before the registrar agrees. */
@record
class Offer {
  constructor(public reserve: u64, public durationMs: u64) {}
}

@record
class Lot {
  constructor(
    public id: u64, public name: string, public seller: string, public reserve: u64, public endsAt: u64,
    /** `open`, `sold`, `unsold` or `refunded`. */
    public state: string,
    /** Who leads, and for how much; '' and 0 while nobody bids. */
    public leader: string, public price: u64,
    /** Of the name's record when the auction began: a transfer makes it greater. */
    public sequence: u64,
  ) {}
}

@record
class Bid {
  constructor(public bidder: string, public amount: u64) {}
}

@event
class Opened {
  constructor(public lot: u64, public name: string, public seller: string, public reserve: u64, public endsAt: u64) {}
}

@event
class Outbid {
  constructor(public lot: u64, public leader: string, public price: u64, public endsAt: u64) {}
}

/** The auction is over for good. `state` is `sold`, `unsold` or `refunded`. */
@event
class Closed {
  constructor(public lot: u64, public name: string, public state: string, public winner: string, public price: u64) {}
}

const token = new Cell<string>('token')
const arbiter = new Cell<string>('arbiter')
const newest = new Cell<u64>('newest')
const offers = new StateMap<Pair<string, string>, Offer>('offer')
const lots = new StateMap<u64, Lot>('lot')
/** The lot of a name that is being auctioned. */
const running = new StateMap<string, u64>('running')
/** Lots by their end; all there is to know is in the key. */
const endings = new SortedMap<Pair<u64, u64>, bool>('ending')
/** Bidders, by lot and amount: the highest bid of a lot is the last of its range. */
const bids = new SortedMap<Pair<u64, u64>, string>('bid')
const credits = new StateMap<string, u64>('credit')

/** `payment`: the token that bids are made in. `judge`: who may decide where the registrar's answer does not. */
@init
export function init(payment: string, judge: string = ''): void {
  require(payment.startsWith('0x'), 'bids are made in a token: give the address of its contract')
  token.set(payment)
  arbiter.set(judge)
}

/** Offers a name of the caller's. It is on sale once the registrar has said that it is the caller's. */
export function offer(name: string, reserve: u64, durationMs: u64): void {
  require(!running.has(name), name + ' is being auctioned already')
  require(durationMs > 0 && durationMs <= LONGEST_MS, 'an auction takes at most 30 days')
  offers.set(pair(name, ctx.caller()), new Offer(reserve, durationMs))
  ask(name)
}

/** Bids for the caller, who has approved the amount for this contract. */
export function bid(id: u64, amount: u64): void {
  const lot = find(id)
  const bidder = ctx.caller()
  require(isOpen(lot), 'the auction is over')
  require(bidder != lot.seller, 'the seller does not bid')
  require(amount >= lot.reserve && amount > lot.price, 'the bid is too low')
  // The former leader's money is free from here on; then the new leader's comes, or nothing of this has happened.
  credit(lot.leader, lot.price)
  endings.delete(pair(lot.endsAt, id))
  lot.leader = bidder
  lot.price = amount
  lot.endsAt = max(lot.endsAt, ctx.time() + ANSWER_MS)
  lots.set(id, lot)
  endings.set(pair(lot.endsAt, id), true)
  bids.set(pair(id, amount), bidder)
  new Outbid(id, bidder, amount, lot.endsAt).emit()
  const paid = call<bool>(token.get(), 'transferFrom', args().add(bidder).add(ctx.self()).add(amount))
  if (!paid.or(false)) revert('the bid is not paid: ' + paid.error)
}

/** Closes an auction without bids; of any other it asks whether the winner has the name. For anybody, after the end. */
export function settle(id: u64): void {
  const lot = findOver(id)
  if (lot.leader == '') close(lot, 'unsold')
  else ask(lot.name)
}

/** The winner's money back, when the name was not seen to be the winner's in time. For anybody. */
export function reclaim(id: u64): void {
  const lot = findOver(id)
  require(lot.leader != '', 'nobody has bid')
  require(ctx.time() >= lot.endsAt + HANDOVER_MS, 'the seller has 3 days to hand over the name')
  close(lot, 'refunded')
}

/** The arbiter's word, where a winner passes the name on before anybody could see it. */
export function decide(id: u64, sold: bool): void {
  require(ctx.caller() == arbiter.get(), 'only the arbiter decides')
  const lot = findOver(id)
  require(lot.leader != '', 'nobody has bid')
  close(lot, sold ? 'sold' : 'refunded')
}

/** Pays the caller's credit, and gives how much that was. */
export function withdraw(): u64 {
  const who = ctx.caller()
  const amount = credits.get(who)
  require(amount > 0, 'there is nothing to withdraw')
  credits.delete(who)
  const paid = call<bool>(token.get(), 'transfer', args().add(who).add(amount))
  if (!paid.or(false)) revert('the token did not pay: ' + paid.error)
  return amount
}

/**
 * The registrar's answer. It may be late, or the answer to somebody else's question; so what it says is held against what is known now,
 * and not against what was asked. That a name is unknown says nothing: who cannot hand it over will not be paid.
 */
@reply
export function owned(id: string, status: i32, body: string): void {
  if (status != 200) return
  const name = member<string>(body, 'name').value
  const owner = member<string>(body, 'owner').value
  const sequence = member<u64>(body, 'sequence').value
  if (running.has(name)) {
    const lot = lots.get(running.get(name))
    if (!isOpen(lot) && owner == lot.leader && sequence > lot.sequence) close(lot, 'sold')
  } else if (offers.has(pair(name, owner))) {
    open(name, owner, sequence)
  }
}

@view
export function lot(id: u64): Lot {
  return find(id)
}

/** Bids of a lot, the highest first. */
@view
export function bidsOf(id: u64, limit: u32 = 20): Bid[] {
  return bids.range().within(id).reverse().entries(min(limit, 100)).map<Bid>((entry) => new Bid(entry.value, entry.key.second))
}

/** What can be bid for, those that end first before the others. */
@view
export function endingNext(limit: u32 = 20): Lot[] {
  return endings.range().after(pair(ctx.time(), u64.MAX_VALUE)).keys(min(limit, 100)).map<Lot>((key) => lots.get(key.second))
}

/** What somebody may withdraw. */
@view
export function creditOf(who: string): u64 {
  return credits.get(who)
}

function ask(name: string): void {
  send('0xR:resolve:' + name, '', 'owned', QUESTION_GAS)
}

function open(name: string, seller: string, sequence: u64): void {
  const offered = offers.get(pair(name, seller))
  offers.delete(pair(name, seller))
  const id = newest.get() + 1
  const endsAt = ctx.time() + offered.durationMs
  newest.set(id)
  lots.set(id, new Lot(id, name, seller, offered.reserve, endsAt, 'open', '', 0, sequence))
  running.set(name, id)
  endings.set(pair(endsAt, id), true)
  new Opened(id, name, seller, offered.reserve, endsAt).emit()
}

function close(lot: Lot, state: string): void {
  lot.state = state
  lots.set(lot.id, lot)
  running.delete(lot.name)
  endings.delete(pair(lot.endsAt, lot.id))
  if (state == 'sold') credit(lot.seller, lot.price)
  if (state == 'refunded') credit(lot.leader, lot.price)
  new Closed(lot.id, lot.name, state, lot.leader, lot.price).emit()
}

function credit(who: string, amount: u64): void {
  if (amount) credits.set(who, checked.add(credits.get(who), amount))
}

function find(id: u64): Lot {
  require(lots.has(id), 'there is no lot ' + number(id))
  return lots.get(id)
}

/** A lot whose bids are in and whose outcome is not. */
function findOver(id: u64): Lot {
  const lot = find(id)
  require(lot.state == 'open', 'the lot is closed: ' + lot.state)
  require(!isOpen(lot), 'the auction goes on')
  return lot
}

function isOpen(lot: Lot): bool {
  return lot.state == 'open' && ctx.time() < lot.endsAt
}

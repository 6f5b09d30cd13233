/**
 * A fungible token: balances that move, and allowances by which one lets another move them. Amounts are whole numbers of the smallest
 * unit; where the comma stands is for whoever shows them (`decimals`).
 *
 * At every moment the balances add up to the total supply: every function takes somewhere what it gives elsewhere, and
 * `mint` and `burn` move the supply with it. Holders are DIDs and contracts alike.
 */
import { Cell, checked, ctx, Pair, pair, require, StateMap } from 'cmesh/sdk'

@record
class Info {
  constructor(public name: string, public symbol: string, public decimals: u32) {}
}

/** Tokens moved. They are made where `from` is empty, and gone where `to` is. */
@event
class Transfer {
  constructor(public from: string, public to: string, public amount: u64) {}
}

/** `spender` may now take this much from `owner`, whatever it was before. */
@event
class Approval {
  constructor(public owner: string, public spender: string, public amount: u64) {}
}

const about = new Cell<Info>('about')
const minter = new Cell<string>('minter')
const supply = new Cell<u64>('supply')
const balances = new StateMap<string, u64>('balance')
const allowances = new StateMap<Pair<string, string>, u64>('allowance')

/** The supply is the deployer's, who may make more of it until giving that right away. */
@init
export function init(name: string, symbol: string, decimals: u32 = 0, initial: u64 = 0): void {
  require(name.length > 0 && symbol.length > 0, 'a token has a name and a symbol')
  require(decimals <= 19, 'a token has at most 19 decimals, as many as a u64 has')
  about.set(new Info(name, symbol, decimals))
  minter.set(ctx.caller())
  if (initial) create(ctx.caller(), initial)
}

/** Gives from the caller's own. */
export function transfer(to: string, amount: u64): bool {
  move(ctx.caller(), to, amount)
  return true
}

/** Lets `spender` take up to this much from the caller's own; 0 takes that back. */
export function approve(spender: string, amount: u64): bool {
  requireHolder(spender)
  allow(ctx.caller(), spender, amount)
  return true
}

/** Gives from somebody else's, who allowed it; what is left of the allowance stays. */
export function transferFrom(from: string, to: string, amount: u64): bool {
  const spender = ctx.caller()
  const allowed = allowances.get(pair(from, spender))
  require(allowed >= amount, 'the amount is more than the allowance')
  allow(from, spender, allowed - amount)
  move(from, to, amount)
  return true
}

/** Makes new tokens. */
export function mint(to: string, amount: u64): bool {
  requireMinter()
  create(to, amount)
  return true
}

/** Destroys tokens of the caller's own. */
export function burn(amount: u64): bool {
  const from = ctx.caller()
  take(from, amount)
  supply.set(checked.sub(supply.get(), amount))
  new Transfer(from, '', amount).emit()
  return true
}

/** Hands on the right to mint; to nobody, which is for ever, with ''. */
export function setMinter(to: string): bool {
  requireMinter()
  if (to != '') requireHolder(to)
  minter.set(to)
  return true
}

@view
export function balanceOf(holder: string): u64 {
  return balances.get(holder)
}

@view
export function allowance(owner: string, spender: string): u64 {
  return allowances.get(pair(owner, spender))
}

@view
export function totalSupply(): u64 {
  return supply.get()
}

/** Name, symbol and decimals. */
@view
export function info(): Info {
  return about.get()
}

/** Who may mint; '' for nobody. */
@view
export function minterOf(): string {
  return minter.get()
}

function create(to: string, amount: u64): void {
  requireHolder(to)
  supply.set(checked.add(supply.get(), amount))
  give(to, amount)
  new Transfer('', to, amount).emit()
}

function move(from: string, to: string, amount: u64): void {
  requireHolder(to)
  // Taken before the other balance is read, so that giving to oneself changes nothing.
  take(from, amount)
  give(to, amount)
  new Transfer(from, to, amount).emit()
}

function give(to: string, amount: u64): void {
  balances.set(to, checked.add(balances.get(to), amount))
}

function take(from: string, amount: u64): void {
  const balance = balances.get(from)
  require(balance >= amount, 'the amount is more than the balance')
  balances.set(from, balance - amount)
}

function allow(owner: string, spender: string, amount: u64): void {
  allowances.set(pair(owner, spender), amount)
  new Approval(owner, spender, amount).emit()
}

function requireMinter(): void {
  require(ctx.caller() == minter.get(), 'only the minter may do this')
}

/** A name such as bob.mcom cannot call, so tokens that it held would be lost. */
function requireHolder(who: string): void {
  require(who.startsWith('did:') || who.startsWith('0x'), 'a holder is a DID or the address of a contract')
}

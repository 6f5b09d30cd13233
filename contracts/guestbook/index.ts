/**
 * A guestbook that anybody may sign and nobody may edit. Entries are numbered from 1; each keeps its message and who
 * signed it, which is whoever made the call and cannot be claimed.
 */
import { Cell, ctx, number, require, revert, StateMap } from 'cmesh/sdk'

const MAX_LENGTH = 280

/** An entry was added. */
@event('signed')
class Signed {
  constructor(public entry: u64, public by: string, public message: string) {}
}

const newest = new Cell<u64>('count')
const messages = new StateMap<u64, string>('message')
const signers = new StateMap<u64, string>('signer')

/** Adds an entry, emits `signed` and gives the number of the entry. A message has 1 to 280 characters. */
export function sign(message: string): u64 {
  require(message.length > 0 && message.length <= MAX_LENGTH, 'a message has 1 to 280 characters')
  const entry = newest.get() + 1
  const caller = ctx.caller()
  newest.set(entry)
  messages.set(entry, message)
  signers.set(entry, caller)
  new Signed(entry, caller, message).emit()
  return entry
}

/** The message of an entry. */
@view
export function entry(n: u64): string {
  return kept(messages, n)
}

/** Who signed an entry. */
@view
export function signer(n: u64): string {
  return kept(signers, n)
}

/** The newest message. */
@view
export function last(): string {
  const entry = newest.get()
  if (!entry) revert('nobody has signed yet')
  return messages.get(entry)
}

/** How many entries there are. */
@view
export function count(): u64 {
  return newest.get()
}

/** No entry is empty: what is, was never written. */
function kept(part: StateMap<u64, string>, n: u64): string {
  const text = part.get(n)
  if (!text.length) revert('there is no entry ' + number(n))
  return text
}

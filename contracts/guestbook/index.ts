/**
 * A guestbook that anybody may sign and nobody may edit. Entries are numbered from 1; each keeps its message and who
 * signed it, which is whoever made the call and cannot be claimed.
 */
import { ctx, emit, number, quote, revert, state } from 'cmesh/sdk'

const COUNT = 'count'
const MAX_LENGTH = 280

/** Adds an entry, emits `signed` and gives the number of the entry. A message has 1 to 280 characters. */
export function sign(message: string): u64 {
  if (message.length == 0 || message.length > MAX_LENGTH) revert('a message has 1 to 280 characters')
  const entry = state.getU64(COUNT) + 1
  const caller = ctx.caller()
  state.setU64(COUNT, entry)
  state.setString(messageKey(entry), message)
  state.setString(signerKey(entry), caller)
  emit('signed', '{"entry":' + number(entry) + ',"by":' + quote(caller) + ',"message":' + quote(message) + '}')
  return entry
}

/** The message of an entry. */
@view
export function entry(n: u64): string {
  return kept(messageKey(n), n)
}

/** Who signed an entry. */
@view
export function signer(n: u64): string {
  return kept(signerKey(n), n)
}

/** The newest message. */
@view
export function last(): string {
  const newest = state.getU64(COUNT)
  if (!newest) revert('nobody has signed yet')
  return state.getString(messageKey(newest))
}

/** How many entries there are. */
@view
export function count(): u64 {
  return state.getU64(COUNT)
}

function kept(key: string, n: u64): string {
  if (!state.has(key)) revert('there is no entry ' + number(n))
  return state.getString(key)
}

function messageKey(n: u64): string {
  return 'message/' + number(n)
}

function signerKey(n: u64): string {
  return 'signer/' + number(n)
}

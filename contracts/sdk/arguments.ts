/**
 * The input of a call, a JSON array as UTF-8 text, for the generated wrappers: `begin`, one `argument` per parameter in order,
 * `end`. Whatever does not fit reverts with the number and the name of the argument and what was expected. The host has made
 * sure that the input is UTF-8.
 */
import { revert } from './errors'
import { glance, input } from './host'
import { number } from './json'
import { ahead, closes, finished, next, open, peek, problem, read, skipSpace, step } from './reader'

/** There was an input at all. */
let given: bool = false
/** Arguments read so far. */
let count: u32 = 0

export function begin(): void {
  const length = input()
  given = length > 0
  if (!given) {
    open(0, 0)
    return
  }
  // What is read of it is a copy: nobody needs it once all is read.
  open(glance(length), length)
  if (next() != 0x5b) revert('the arguments are not a JSON array')
  step()
}

/** Whether another argument follows: those with defaults ask before they read. */
export function more(): bool {
  skipSpace()
  return !finished() && peek() != 0x5d
}

export function argument<T>(name: string): T {
  if (count || !startsValue(ahead())) toNext(name)
  else count = 1
  const value = read<T>()
  if (problem().length) refuse(name, problem())
  return value
}

/** `most`: how many parameters there are. */
export function end(most: u32): void {
  if (given && !closes()) wellEnded(most)
}

function wellEnded(most: u32): void {
  skipSpace()
  if (peek() == 0x2c || (!most && more())) {
    revert(most ? 'expected at most ' + number(most) + (most == 1 ? ' argument' : ' arguments') : 'expected no arguments')
  }
  if (peek() != 0x5d) revert('the arguments are not a JSON array')
  step()
  skipSpace()
  if (!finished()) revert('something follows the arguments')
}

function refuse(name: string, expected: string): void {
  revert('argument ' + number(count) + ' (' + name + '): expected ' + expected)
}

/** Neither space, nor what ends the arguments or stands between them. */
// @ts-ignore: a decorator of the compiler's.
@inline
function startsValue(byte: u32): bool {
  return byte == 0x22 || byte - 0x30 < 10
}

/** Moves to the first byte of the next argument. */
function toNext(name: string): void {
  skipSpace()
  if (!peek() || peek() == 0x5d) revert('argument ' + number(count + 1) + ' (' + name + ') is missing')
  if (count++) {
    if (peek() != 0x2c) refuse(name, 'a comma before it')
    step()
    skipSpace()
  }
}

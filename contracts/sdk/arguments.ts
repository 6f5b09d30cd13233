/**
 * The input of a call, a JSON array as UTF-8 text, for the generated wrappers: `begin`, one `argument` per parameter in order,
 * `end`. Whatever does not fit reverts with the number and the name of the argument and what was expected. The host has made
 * sure that the input is UTF-8.
 */
import { revert } from './errors'
import { input, take } from './host'
import { number } from './json'
import { finished, open, peek, problem, read, skipSpace, step } from './reader'

/** There was an input at all. */
let given: bool = false
/** Arguments read so far. */
let count: u32 = 0

export function begin(): void {
  const length = input()
  given = length > 0
  open(given ? changetype<usize>(take(length)) : 0, length)
  if (!given) return
  skipSpace()
  if (peek() != 0x5b) revert('the arguments are not a JSON array')
  step()
}

/** Whether another argument follows: those with defaults ask before they read. */
export function more(): bool {
  skipSpace()
  return !finished() && peek() != 0x5d
}

export function argument<T>(name: string): T {
  next(name)
  const value = read<T>()
  if (problem().length) refuse(name, problem())
  return value
}

/** `most`: how many parameters there are. */
export function end(most: u32): void {
  if (!given) return
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

/** Moves to the first byte of the next argument. */
function next(name: string): void {
  skipSpace()
  if (!peek() || peek() == 0x5d) revert('argument ' + number(count + 1) + ' (' + name + ') is missing')
  if (count++) {
    if (peek() != 0x2c) refuse(name, 'a comma before it')
    step()
    skipSpace()
  }
}

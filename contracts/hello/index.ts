/**
 * The genesis contract, 0x001: the first thing a new mesh can say. `0xS:0x001:hello_world` gives "Hello, world".
 */
import { Cell, emitText } from 'cmesh/sdk'

const FIRST_BLAH = 'blah blah'
const said = new Cell<string>('blah')

/** Emits the first `blah_blah` event, so that its channel exists from the first block on. */
@init
export function init(): void {
  emitText('blah_blah', FIRST_BLAH)
}

/** Greets whoever is named. */
@view
export function hello_world(name: string = 'world'): string {
  return 'Hello, ' + name
}

/** What was said last. */
@view
export function blah_blah(): string {
  return said.getOr(FIRST_BLAH)
}

/** Keeps the text as the last blah and emits it as `blah_blah`. */
export function say(text: string): void {
  said.set(text)
  emitText('blah_blah', text)
}

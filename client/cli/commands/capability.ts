/** `cmesh capability`: rights handed on to others by file. */
import type { Command } from 'commander'
import type { Terminal } from '../terminal.ts'

export function capability(_program: Command, _terminal: Terminal): void {
  // Its commands are still to come.
}

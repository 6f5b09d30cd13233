/** `cmesh identity`: the identities of the person at this machine, made, shown, derived, moved and rotated. */
import type { Command } from 'commander'
import type { Terminal } from '../terminal.ts'

export function identity(_program: Command, _terminal: Terminal): void {
  // Its commands are still to come.
}

/** `cmesh attribute`: credentials, issued, held and presented. */
import type { Command } from 'commander'
import type { Terminal } from '../terminal.ts'

export function attribute(_program: Command, _terminal: Terminal): void {
  // Its commands are still to come.
}

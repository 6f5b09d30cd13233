/** `cmesh operator`: the accounts of a broker that several nodes share. */
import type { Command } from 'commander'
import type { Terminal } from '../terminal.ts'

export function operator(_program: Command, _terminal: Terminal): void {
  // Its commands are still to come.
}

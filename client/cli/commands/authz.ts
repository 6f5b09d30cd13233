/** `cmesh authz`: who may do what in the mesh, and why. */
import type { Command } from 'commander'
import type { Terminal } from '../terminal.ts'

export function authz(_program: Command, _terminal: Terminal): void {
  // Its commands are still to come.
}

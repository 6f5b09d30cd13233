/** `cmesh whoami`: who the mesh takes you for. */
import type { Command } from 'commander'
import { examples, fields, printResult, withClient, withMesh, type MeshOptions } from '../command.ts'
import type { Terminal } from '../terminal.ts'

export function whoami(program: Command, terminal: Terminal): void {
  withMesh(program.command('whoami').description('show who the mesh takes you for'))
    .addHelpText('after', examples(['cmesh whoami', 'your DID, session and the mesh'], ['cmesh whoami --json', 'the same for a script']))
    .action((options: MeshOptions) => withClient(terminal, options, async (client) => {
      const me = await client.whoami({ signal: terminal.interrupted })
      printResult(terminal, options, me, () => fields(terminal, Object.entries(me).map(([key, value]) => [key, show(value)])))
    }))
}

function show(value: unknown): string {
  return typeof value === 'string' ? value : JSON.stringify(value)
}

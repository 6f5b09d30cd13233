/** `cmesh resolve`: shows what a name maps to, and whose it is. */
import type { Command } from 'commander'
import { examples, printResult, withClient, withMesh, type MeshOptions } from '../command.ts'
import { recordLines } from '../name-record.ts'
import type { Terminal } from '../terminal.ts'

export function resolve(program: Command, terminal: Terminal): void {
  withMesh(program.command('resolve').description('show the record of a name'))
    .argument('<name>', 'the name, ending in .mcom')
    .addHelpText('after', examples(
      ['cmesh resolve helloWorld.mcom', 'target, owner, expiry'],
      ['cmesh resolve helloWorld.mcom --json', 'with the owner\'s signature'],
    ))
    .action((name: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const record = await client.resolve(name, { signal: terminal.interrupted })
      printResult(terminal, options, record, () => recordLines(terminal, record))
    }))
}

/** `cmesh register`: claims a name for an address. */
import type { Command } from 'commander'
import { examples, printResult, withClient, withMesh, type MeshOptions } from '../command.ts'
import { recordLines } from '../name-record.ts'
import type { Terminal } from '../terminal.ts'

export function register(program: Command, terminal: Terminal): void {
  withMesh(program.command('register').description('claim a free name for an address'))
    .argument('<name>', 'the name, ending in .mcom')
    .argument('<fqmn>', 'what it maps to: a 0xS, 0xR or 0xE address without arguments')
    .addHelpText('after', examples(
      ['cmesh register helloWorld.mcom 0xS:0x001', 'a name for a contract'],
      ['cmesh register greet.mcom 0xS:0x001:hello_world', 'a name for one function'],
      ['cmesh register hi.mcom 0xR:greet.mcom', 'a name for a name'],
    ))
    .action((name: string, fqmn: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const record = await client.register(name, fqmn, { signal: terminal.interrupted })
      printResult(terminal, options, record, () => recordLines(terminal, record))
    }))
}

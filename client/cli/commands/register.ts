/** `cmesh register`: claims a name for an address. */
import type { Command } from 'commander'
import { examples, printResult, withClient, withMesh, type MeshOptions } from '../command.ts'
import { recordLines } from '../name-record.ts'
import type { Terminal } from '../terminal.ts'

/** What a name maps to, as help says it. */
export const TARGET = 'what it maps to: a 0xS, 0xR or 0xE address without arguments, or 0xSW, 0xRW or 0xEW for what writes, which is called by 0xRW:<name>'

export function register(program: Command, terminal: Terminal): void {
  withMesh(program.command('register').description('claim a free name for an address'))
    .argument('<name>', 'the name, ending in .mcom')
    .argument('<fqmn>', TARGET)
    .addHelpText('after', examples(
      ['cmesh register helloWorld.mcom 0xS:0x001', 'a name for a contract'],
      ['cmesh register greet.mcom 0xS:0x001:hello_world', 'a name for one function'],
      ['cmesh register say.mcom 0xSW:0x001:say', 'a name for one that writes: `cmesh call 0xRW:say.mcom`'],
      ['cmesh register hi.mcom 0xR:greet.mcom', 'a name for a name'],
    ))
    .action((name: string, fqmn: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const record = await client.register(name, fqmn, { signal: terminal.interrupted })
      printResult(terminal, options, record, () => recordLines(terminal, record))
    }))
}

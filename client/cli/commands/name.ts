/** `cmesh name`: what the owner of a name may do with it. Claiming one is `cmesh register`, looking at one `cmesh resolve`. */
import type { Command } from 'commander'
import type { MeshClient } from '../../mesh-client.ts'
import type { NameRecord } from '../../names.ts'
import type { VerbOptions } from '../../verbs.ts'
import { didFrom, examples, printResult, withClient, withMesh, type MeshOptions } from '../command.ts'
import { recordLines } from '../name-record.ts'
import type { Terminal } from '../terminal.ts'
import { TARGET } from './register.ts'

export function name(program: Command, terminal: Terminal): void {
  const group = program.command('name').description('change, hand over, prolong and give up names of yours')
    .addHelpText('after', examples(
      ['cmesh name update hello.mcom 0xS:0x002', 'it maps to that from now on'],
      ['cmesh name transfer hello.mcom did:key:z6Mk…', 'it is somebody else\'s from now on'],
    ))

  verb(group, 'update', 'let a name of yours map to another address')
    .argument('<fqmn>', TARGET)
    .addHelpText('after', examples(['cmesh name update hello.mcom 0xS:0x002', 'whoever calls by it gets that contract']))
    .action((named: string, fqmn: string, options: MeshOptions) => change(terminal, options, (client, patience) => client.update(named, fqmn, patience)))

  verb(group, 'transfer', 'give a name of yours to another identity')
    .argument('<did>', 'whose it is then', didFrom)
    .addHelpText('after', examples(['cmesh name transfer hello.mcom did:key:z6Mk…', 'who has it then can change it, and you cannot']))
    .action((named: string, did: string, options: MeshOptions) => change(terminal, options, (client, patience) => client.transfer(named, did, patience)))

  verb(group, 'renew', 'prolong a name of yours: it is yours for 365 days from now')
    .addHelpText('after', examples(['cmesh name renew hello.mcom', 'up to 30 days after it expired, too']))
    .action((named: string, options: MeshOptions) => change(terminal, options, (client, patience) => client.renew(named, patience)))

  verb(group, 'release', 'give a name of yours up: anybody may claim it then')
    .addHelpText('after', examples(['cmesh name release hello.mcom', 'it maps to nothing from now on']))
    .action((named: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      await client.release(named, { signal: terminal.interrupted })
      printResult(terminal, options, { name: named, released: true }, () => [`${named} released`])
    }))
}

function verb(group: Command, action: string, description: string): Command {
  return withMesh(group.command(action).description(description)).argument('<name>', 'the name, ending in .mcom')
}

function change(terminal: Terminal, options: MeshOptions, act: (client: MeshClient, patience: VerbOptions) => Promise<NameRecord>): Promise<void> {
  return withClient(terminal, options, async (client) => {
    const record = await act(client, { signal: terminal.interrupted })
    printResult(terminal, options, record, () => recordLines(terminal, record))
  })
}

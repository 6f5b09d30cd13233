/** `cmesh contract proxy`: a new contract that runs another's code on a state of its own. */
import type { Command } from 'commander'
import { examples, fields, printResult, withClient, withMesh, type MeshOptions } from '../../command.ts'
import { jsonArguments } from '../../contract/code.ts'
import { findContract, patience } from '../../contract/deployed.ts'
import { saltOf } from '../../contract/salt.ts'
import { withProgress } from '../../progress.ts'
import type { Terminal } from '../../terminal.ts'

interface ProxyOptions extends MeshOptions {
  readonly init?: string
  readonly salt?: string
}

export function proxy(group: Command, terminal: Terminal): void {
  withMesh(group.command('proxy').description('make a contract that runs another\'s code on a state of its own'))
    .argument('<contract>', 'whose code: its address, or a name it has')
    .option('--init <json>', 'arguments of its init function, a JSON array')
    .option('--salt <hex>', 'so many hex digits: the same salt and contract give the same address (default: random)')
    .addHelpText('after', examples(
      ['cmesh contract proxy token.mcom --init \'["MINE", 1000]\'', 'a token of your own, and no code to deploy'],
      ['cmesh contract proxy 0x002 --json', 'as one JSON document'],
    ))
    .addHelpText('after', '\nIt follows the contract: when that is replaced, it runs the new code too.')
    .action(async (given: string, options: ProxyOptions) => {
      const init = jsonArguments('--init', options.init)
      const salt = saltOf(options.salt)
      const made = await withClient(terminal, options, async (client) => {
        const ask = patience(terminal, options)
        const { address } = await findContract(client, given, ask)
        return await withProgress(terminal, `making a proxy of ${address}`, () => client.proxy(address, { init, salt, ...ask }))
      })
      printResult(terminal, options, made, () => fields(terminal, [
        ['contract', terminal.style('bold', terminal.foreign(made.name))],
        ['address', made.address],
        ['code of', made.target],
        ['code hash', made.codeHash],
      ]))
    })
}

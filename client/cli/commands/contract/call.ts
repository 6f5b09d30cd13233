/** `cmesh contract call`: calls a function by its name, arguments by the types of its parameters; reads or writes as it is declared. */
import type { Command } from 'commander'
import { examples, withClient, withMesh, type MeshOptions } from '../../command.ts'
import { argumentsFrom } from '../../contract/arguments.ts'
import { jsonArguments } from '../../contract/code.ts'
import { findContract, functionOf, patience } from '../../contract/deployed.ts'
import { withProgress } from '../../progress.ts'
import type { Terminal } from '../../terminal.ts'
import { grouped } from '../../../grouped.ts'
import { usage } from '../../../options.ts'

interface CallOptions extends MeshOptions {
  readonly args?: string
}

export function call(group: Command, terminal: Terminal): void {
  withMesh(group.command('call').description('call a function of a contract'))
    .argument('<contract>', 'its address, or a name it has')
    .argument('<function>')
    .argument('[arguments...]', 'as its parameters are typed')
    .option('--args <json>', 'arguments as a JSON array instead')
    .addHelpText('after', examples(
      ['cmesh contract call 0x002 increment 5', 'a write, since increment is one'],
      ['cmesh contract call token.mcom balance did:key:z6Mk…', 'by a name'],
    ))
    .action(async (given: string, name: string, words: readonly string[], options: CallOptions) => {
      const json = jsonArguments('--args', options.args)
      if (json !== undefined && words.length > 0) throw usage('Give arguments as words or as --args, not both.')
      const done = await withClient(terminal, options, async (client) => {
        const contract = await findContract(client, given, patience(terminal, options))
        const declared = functionOf(contract, name)
        const args = json ?? argumentsFrom(declared, words)
        const fqmn = `0xS${declared.mode === 'view' ? '' : 'W'}:${contract.address}:${name}`
        const reply = await withProgress(terminal, `waiting for ${fqmn}`, () => client.call(fqmn, { args, ...patience(terminal, options) }))
        const gas = Number(reply.header('x-cmesh-gas') ?? 0)
        return { address: contract.address, function: name, mode: declared.mode, value: reply.json(), gas, transaction: reply.transaction ?? null }
      })
      if (options.json === true) return terminal.printJson(done)
      terminal.print(terminal.foreign(JSON.stringify(done.value)))
      if (terminal.messagesAreSeen) terminal.note(terminal.styleNote('dim', [`${grouped(done.gas)} gas`, ...(done.transaction === null ? [] : [`transaction ${done.transaction}`])].join(' · ')))
    })
}

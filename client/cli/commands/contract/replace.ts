/** `cmesh contract replace`: puts other code in the place of a contract's, which keeps its address and its state. */
import type { Command } from 'commander'
import { examples, printResult, withClient, withMesh, type MeshOptions } from '../../command.ts'
import { codeOf, named, VERSION_OPTION } from '../../contract/code.ts'
import { findContract, patience } from '../../contract/deployed.ts'
import { packageFacts, placedLines } from '../../contract/deployment.ts'
import { withProgress } from '../../progress.ts'
import type { Terminal } from '../../terminal.ts'

interface ReplaceOptions extends MeshOptions {
  readonly name?: string
  readonly version?: string
  readonly final?: boolean
}

export function replace(group: Command, terminal: Terminal): void {
  withMesh(group.command('replace').description('put other code in the place of a contract\'s, which keeps its state'))
    .argument('<contract>', 'its address, or a name it has')
    .argument('[path]', 'the new code: a project\'s directory, an AssemblyScript file, a .wasm module or a .cmpk package', '.')
    .option('--name <name>', 'what the contract is called (default: its package.json, file or directory)')
    .option(...VERSION_OPTION)
    .option('--final', 'nobody may replace it again')
    .addHelpText('after', examples(
      ['cmesh contract replace counter.mcom', 'by the contract in this directory'],
      ['cmesh contract replace 0x002 build/counter.cmpk --final', 'by a package, for the last time'],
    ))
    .addHelpText('after', '\nThe migrate function of the new code runs in the same transaction; when it fails nothing has changed. dry-run shows what would come of it.')
    .action(async (given: string, path: string, options: ReplaceOptions) => {
      const code = named(await codeOf(terminal, path), options)
      const replaced = await withClient(terminal, options, async (client) => {
        const ask = patience(terminal, options)
        const { address } = await findContract(client, given, ask)
        const strategy = options.final === true ? 'immutable' : 'replaceable'
        return await withProgress(terminal, `replacing ${address}`, () => client.replace(address, { ...packageFacts(code), strategy, ...ask }))
      })
      const functions = code.abi?.functions ?? []
      printResult(terminal, options, { ...replaced, bytes: code.module.length, ...(code.abi !== undefined && { functions }) },
        () => placedLines(terminal, replaced, code, functions))
    })
}

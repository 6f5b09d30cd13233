/** `cmesh contract deploy`, and `cmesh deploy`, which is the same: puts a contract on the mesh; compiles it when it is source. */
import type { Command } from 'commander'
import type { DryDeployment } from '../../../deployment.ts'
import { grouped } from '../../../grouped.ts'
import { examples, fields, printResult, withClient, withMesh, type MeshOptions } from '../../command.ts'
import { codeOf, jsonArguments, named, VERSION_OPTION } from '../../contract/code.ts'
import { patience } from '../../contract/deployed.ts'
import { packageFacts, placedLines } from '../../contract/deployment.ts'
import { outcomeText } from '../../contract/dry-run-lines.ts'
import { saltOf } from '../../contract/salt.ts'
import { withProgress } from '../../progress.ts'
import type { Terminal } from '../../terminal.ts'

interface DeployOptions extends MeshOptions {
  readonly name?: string
  readonly version?: string
  readonly init?: string
  readonly replaceable?: boolean
  readonly salt?: string
  readonly dryRun?: boolean
}

export function deploy(parent: Command, terminal: Terminal): void {
  const says = parent.name() === 'contract' ? 'cmesh contract deploy' : 'cmesh deploy'
  withMesh(parent.command('deploy').description('put a contract on the mesh'))
    .argument('[path]', 'a project\'s directory, an AssemblyScript file, a .wasm module or a .cmpk package', '.')
    .option('--name <name>', 'what the contract is called (default: its package.json, file or directory)')
    .option(...VERSION_OPTION)
    .option('--init <json>', 'arguments of its init function, a JSON array')
    .option('--replaceable', 'you may put other code in its place later; without it nobody may, ever')
    .option('--salt <hex>', 'so many hex digits: the same salt, code and arguments give the same address (default: random)')
    .option('--dry-run', 'say what it would do, and do nothing')
    .addHelpText('after', examples(
      [`${says} contracts/guestbook/index.ts`, 'compiles and deploys "guestbook"'],
      [`${says} token.wasm --name token --init '["MTK", 1000]'`, 'a module, with init arguments'],
      [`${says} . --replaceable`, 'the contract in this directory, to be replaced later'],
    ))
    .action(async (path: string, options: DeployOptions) => {
      const init = jsonArguments('--init', options.init)
      const salt = saltOf(options.salt)
      const code = named(await codeOf(terminal, path), options)
      const { name } = code.manifest
      const deployment = {
        ...packageFacts(code), salt, strategy: options.replaceable === true || code.replaceable === true ? 'replaceable' as const : 'immutable' as const,
        init: init ?? jsonArguments('the package', code.init), ...patience(terminal, options),
      }
      if (options.dryRun === true) {
        const dry = await withClient(terminal, options, (client) => withProgress(terminal, `trying ${name}`, () => client.dryDeploy(deployment)))
        return printResult(terminal, options, dry, () => dryLines(terminal, name, dry))
      }
      const deployed = await withClient(terminal, options, (client) => withProgress(terminal, `deploying ${name}`, () => client.deploy(deployment)))
      const functions = code.abi?.functions ?? []
      printResult(terminal, options, { ...deployed, bytes: code.module.length, ...(code.abi !== undefined && { functions }) },
        () => placedLines(terminal, deployed, code, functions))
    })
}

function dryLines(terminal: Terminal, name: string, { address, codeHash, deployGas, init }: DryDeployment): string[] {
  return [
    `${terminal.style('green', 'would deploy')} ${terminal.style('bold', name)}`,
    ...fields(terminal, [
      ['address', address],
      ['code hash', codeHash],
      ['gas', `${grouped(deployGas)} for its bytes`],
      ['init', init === null ? 'there is none' : outcomeText(terminal, init)],
    ]),
  ]
}

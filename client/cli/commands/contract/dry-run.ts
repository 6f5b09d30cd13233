/** `cmesh contract dry-run`: what a replacement would do, and where recorded calls would end otherwise than they do now. */
import type { Command } from 'commander'
import { examples, withClient, withMesh, type MeshOptions } from '../../command.ts'
import { readCalls } from '../../contract/calls.ts'
import { codeOf, named } from '../../contract/code.ts'
import { findContract, patience } from '../../contract/deployed.ts'
import { packageFacts } from '../../contract/deployment.ts'
import { dryRunLines } from '../../contract/dry-run-lines.ts'
import { EXIT, Reported } from '../../exit-codes.ts'
import { withProgress } from '../../progress.ts'
import type { Terminal } from '../../terminal.ts'

interface DryRunOptions extends MeshOptions {
  readonly calls?: string
  readonly version?: string
}

export function dryRun(group: Command, terminal: Terminal): void {
  withMesh(group.command('dry-run').description('try code in the place of a contract\'s, and change nothing'))
    .argument('<contract>', 'its address, or a name it has')
    .argument('[path]', 'the new code: a project\'s directory, an AssemblyScript file, a .wasm module or a .cmpk package', '.')
    .option('--calls <file>', 'calls to compare: a JSON array of {"function", "args", "caller"}, or a request log; - for standard input')
    .option('--version <version>', 'version of the contract (default: its package.json, else 0.1.0)')
    .addHelpText('after', examples(
      ['cmesh contract dry-run counter.mcom', 'whether it may be replaced by the contract in this directory, and what migrate does'],
      ['cmesh contract dry-run 0x002 build/counter.cmpk --calls calls.json', 'exit code 1 when a call ends otherwise'],
    ))
    .action(async (given: string, path: string, options: DryRunOptions) => {
      const code = named(await codeOf(terminal, path), options)
      const done = await withClient(terminal, options, async (client) => {
        const ask = patience(terminal, options)
        const { address } = await findContract(client, given, ask)
        const calls = options.calls === undefined ? [] : await readCalls(options.calls, address)
        return await withProgress(terminal, `trying ${code.manifest.name}`, () => client.dryReplace(address, { ...packageFacts(code), calls, ...ask }))
      })
      if (options.json === true) terminal.printJson(done)
      else for (const line of dryRunLines(terminal, done)) terminal.print(line)
      if (done.firstDifference !== null || (done.migrate !== null && done.migrate.status >= 400)) throw new Reported(EXIT.refused)
    })
}

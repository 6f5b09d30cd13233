/** `cmesh contract dry-run`: what a replacement would do, and where recorded calls would end otherwise than they do now. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { isContractAddress } from '../../../../cmtp/fqmn.ts'
import { defaultDataDir } from '../../../descriptor.ts'
import { usage } from '../../../options.ts'
import { askArchive } from '../../archive-process.ts'
import { examples, integerFrom, printResult, refuseIdle, withClient, withMesh, type MeshOptions } from '../../command.ts'
import { readCalls } from '../../contract/calls.ts'
import { codeOf, named, VERSION_OPTION } from '../../contract/code.ts'
import { findContract, patience } from '../../contract/deployed.ts'
import { packageFacts } from '../../contract/deployment.ts'
import { dryRunLines } from '../../contract/dry-run-lines.ts'
import { withPackageFile } from '../../contract/package-file.ts'
import { EXIT, Reported } from '../../exit-codes.ts'
import { withProgress } from '../../progress.ts'
import { countsOf, dryReplayLines } from '../../replay-report.ts'
import type { Terminal } from '../../terminal.ts'

interface DryRunOptions extends MeshOptions {
  readonly calls?: string
  readonly version?: string
  readonly receipts?: string
  readonly viewGas?: number
}

export function dryRun(group: Command, terminal: Terminal): void {
  withMesh(group.command('dry-run').description('try code in the place of a contract\'s, and change nothing'))
    .argument('<contract>', 'its address, or a name it has; with --receipts it may be left out, and code takes the place of contracts of its name')
    .argument('[path]', 'the new code: a project\'s directory, an AssemblyScript file, a .wasm module or a .cmpk package (default: .)')
    .option('--calls <file>', 'calls to compare: a JSON array of {"function", "args", "caller"}, or a request log; - for standard input')
    .option('--receipts <dir>', 'run the new code over recorded receipts, each on the state of its moment, on the log of --data instead of asking the mesh')
    .option('--view-gas <n>', 'with --receipts: most gas a view might use on the node that answered (default: 2000000)', integerFrom(1, 1_000_000_000))
    .option(...VERSION_OPTION)
    .addHelpText('after', examples(
      ['cmesh contract dry-run counter.mcom', 'whether it may be replaced by the contract in this directory, and what migrate does'],
      ['cmesh contract dry-run 0x002 build/counter.cmpk --calls calls.json', 'exit code 1 when a call ends otherwise'],
      ['cmesh contract dry-run build/counter.cmpk --receipts ./receipts', 'the same over what was asked in earnest'],
    ))
    .action(async (given: string, found: string | undefined, options: DryRunOptions, command: Command) => {
      const path = found ?? '.'
      if (options.receipts !== undefined) {
        refuseIdle(command, ['url', 'identity', 'timeout'], 'receipts are run on the log of --data, and no mesh is asked.')
        return overReceipts(terminal, given, found, options.receipts, options)
      }
      refuseIdle(command, ['viewGas'], 'it goes with --receipts.')
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

async function overReceipts(terminal: Terminal, given: string, found: string | undefined, receipts: string, options: DryRunOptions): Promise<void> {
  if (options.calls !== undefined) throw usage('Give --receipts or --calls, not both: receipts are calls that were made.')
  const isContract = isContractAddress(given) || given.toLowerCase().endsWith('.mcom')
  if (!isContract && found !== undefined) throw usage(`${given} is neither the address of a contract nor a name.`)
  const code = named(await codeOf(terminal, found ?? (isContract ? '.' : given)), options)
  const answer = await withPackageFile(code, (file) => askArchive(terminal, 'replay', {
    dir: resolve(options.data ?? defaultDataDir(terminal.env)), files: [resolve(receipts)], code: { file, ...(isContract && { contract: given }) },
    ...(options.viewGas !== undefined && { viewGas: options.viewGas }),
  }, `trying ${code.manifest.name}`))
  const counts = countsOf(answer)
  printResult(terminal, options, { ...counts, ...answer }, () => dryReplayLines(terminal, answer))
  if (counts.differ > counts.gasOnly) throw new Reported(EXIT.refused)
  if (counts.none === answer.receipts.length) throw new Reported(EXIT.usage)
}

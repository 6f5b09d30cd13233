/** `cmesh receipt replay`: runs again what receipts say was run, on the log of a data directory. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { defaultDataDir } from '../../descriptor.ts'
import { usage } from '../../options.ts'
import { askArchive } from '../archive-process.ts'
import { examples, integerFrom, printResult, withJson, type JsonOption } from '../command.ts'
import { codeOf } from '../contract/code.ts'
import { withPackageFile } from '../contract/package-file.ts'
import { Reported } from '../exit-codes.ts'
import { countsOf, replayExit, replayLines } from '../replay-report.ts'
import type { Terminal } from '../terminal.ts'

interface ReplayOptions extends JsonOption {
  readonly data?: string
  readonly witness?: string
  readonly code?: string
  readonly contract?: string
  readonly viewGas?: number
}

const MOST_FILES = 250

export function replay(command: Command, terminal: Terminal): void {
  withJson(command.command('replay').description('run again what receipts say was run, on the state of that moment, and name the first layer that differs'))
    .argument('<file...>', 'receipts, or directories of them: *.receipt, each with its witness *.receipt.witness beside it')
    .option('--data <dir>', 'data directory of a node of the mesh, while it runs or not (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .option('--witness <file>', 'the witness of the one receipt (default: <file>.witness)')
    .option('--code <path>', 'with this code in the contract\'s place: a project, an AssemblyScript file, a .wasm module or a .cmpk package')
    .option('--contract <address>', 'whose place --code takes, an address or a name (default: every contract with the name of the code)')
    .option('--view-gas <n>', 'most gas a view might use on the node that answered (default: 2000000)', integerFrom(1, 1_000_000_000))
    .addHelpText('after', examples(
      ['cmesh receipt replay hello.receipt', 'exit code 0: identical; 1: it differs; 2: it cannot be replayed'],
      ['cmesh receipt replay ./receipts --data ./mesh', 'all of them, in one pass over the log'],
      ['cmesh receipt replay hello.receipt --code ./fixed', 'what other code would have come to'],
    ))
    .action(async (given: readonly string[], options: ReplayOptions) => {
      const { witness, contract, viewGas } = options
      if (witness !== undefined && given.length > 1) throw usage('--witness is that of one receipt; of several each has its own beside it, <file>.witness.')
      // They go to another process by name, on its command line.
      if (given.length > MOST_FILES) throw usage(`At most ${MOST_FILES} files are named at once: give their directory.`)
      if (contract !== undefined && options.code === undefined) throw usage('--contract says whose place --code takes: give both.')
      const ask = {
        dir: resolve(options.data ?? defaultDataDir(terminal.env)), files: given.map((file) => resolve(file)),
        ...(witness !== undefined && { witness: resolve(witness) }), ...(viewGas !== undefined && { viewGas }),
      }
      const doing = 'reading the log'
      const answer = options.code === undefined ? await askArchive(terminal, 'replay', ask, doing)
        : await withPackageFile(await codeOf(terminal, options.code), (file) =>
          askArchive(terminal, 'replay', { ...ask, code: { file, ...(contract !== undefined && { contract }) } }, doing))
      const counts = countsOf(answer)
      printResult(terminal, options, { ...counts, ...answer }, () => replayLines(terminal, answer))
      const exit = replayExit(counts)
      if (exit !== 0) throw new Reported(exit)
    })
}

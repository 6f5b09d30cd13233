/** `cmesh receipt export`: the receipts of a stretch of time, for whoever operates the node. */
import { resolve } from 'node:path'
import { Option, type Command } from 'commander'
import { usage } from '../../options.ts'
import { defaultDataDir } from '../../descriptor.ts'
import { askArchive } from '../archive-process.ts'
import { certificateText } from '../certificate-text.ts'
import { examples, fields, printResult, time, withJson, type JsonOption } from '../command.ts'
import { pastMoment } from '../moment.ts'
import type { Terminal } from '../terminal.ts'

interface ExportOptions extends JsonOption {
  readonly from: number
  readonly to?: number
  readonly out: string
  readonly data?: string
  readonly certificate?: string
}

export function exported(command: Command, terminal: Terminal): void {
  withJson(command.command('export').description('write the receipts of all that a node answered in a stretch of time, one file each, from its data directory, while it runs or not'))
    .addOption(new Option('--from <time>', 'the first that counts, by when it was recorded: an ISO 8601 time, ms since 1970, or how long ago: 90s, 15m, 2h, 7d').argParser(pastMoment).makeOptionMandatory())
    .addOption(new Option('--to <time>', 'the first that counts no more (default: now)').argParser(pastMoment))
    .requiredOption('--out <dir>', 'where to: <id>.receipt for each; files that are there are left as they are')
    .option('--data <dir>', 'data directory of the node (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .option('--certificate <file>', 'the certificate of the node, where its key is not the mesh\'s (default: `certificate` in its data directory, if it is there)')
    .addHelpText('after', examples(
      ['cmesh receipt export --from 2h --out ./receipts', 'of the last two hours'],
      ['cmesh receipt export --from 2030-01-31 --to 2030-02-01 --out ./receipts', 'of one day, by UTC'],
    ))
    .action(async (options: ExportOptions) => {
      const { from: fromMs, to: toMs = Date.now() } = options
      if (toMs <= fromMs) throw usage('--to must be later than --from.')
      const dir = resolve(options.data ?? defaultDataDir(terminal.env))
      const out = resolve(options.out)
      const certificate = await certificateText(dir, options.certificate)
      const found = await askArchive(terminal, 'receipts', { dir, out, fromMs, toMs, ...(certificate !== undefined && { certificate }) }, 'exporting receipts')
      const { requests, written, there, pruned, firstMs, lastMs } = found
      if (requests === 0) {
        terminal.note(`notice: nothing was recorded from ${time(fromMs)} to ${time(toMs)}; ${lastMs === 0 ? 'the log is empty' : `the log goes from ${time(firstMs)} to ${time(lastMs)}`}`)
      }
      printResult(terminal, options, { data: dir, out, fromMs, toMs, ...found }, () => fields(terminal, [
        ['receipts', `${written} written to ${out}${there === 0 ? '' : `, ${there} were there already`}`],
        ...(pruned === 0 ? [] : [['pruned', `${pruned} of ${requests} are pruned: only their leaves remain`] as const]),
        ['node', found.node], ['mesh', found.mesh], ['log key', found.log],
      ]))
    })
}

/** `cmesh consensus accept-loss`: an operator's word that a node goes on from where its log ends. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { usage } from '../../options.ts'
import { defaultDataDir } from '../../descriptor.ts'
import { askArchive } from '../archive-process.ts'
import { examples, fields, printResult, withJson, type JsonOption } from '../command.ts'
import type { Terminal } from '../terminal.ts'

interface AcceptOptions extends JsonOption {
  readonly data?: string
  readonly yes?: boolean
}

export function consensus(program: Command, terminal: Terminal): void {
  const group = program.command('consensus').description('decide how a node goes on that has lost part of its log')

  withJson(group.command('accept-loss').description('let a stopped node go on from where its log ends, in a new epoch'))
    .option('--data <dir>', 'data directory of the node (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .option('--yes', 'give up what the node had acknowledged beyond its log')
    .addHelpText('after', examples(
      ['cmesh consensus accept-loss --data ./mesh --yes', 'only where no backup reaches further'],
    ))
    .action(async (options: AcceptOptions) => {
      const dir = resolve(options.data ?? defaultDataDir(terminal.env))
      const question = `What the node in ${dir} has acknowledged beyond its log is given up for good. Go on?`
      if (options.yes !== true && !(terminal.answers && await terminal.confirm(question))) {
        throw usage('Nothing was changed. It gives up what the node had acknowledged beyond its log; --yes says that this is meant.')
      }
      const done = await askArchive(terminal, 'accept-loss', { dir }, 'verifying the log')
      printResult(terminal, options, { directory: dir, ...done }, () => fields(terminal, [
        ['goes on', `behind block ${done.seq}, in epoch ${done.newEpoch}`],
        ['claimed', done.claimed === null ? 'nothing' : `block ${done.claimed.seq} of epoch ${done.claimed.epoch}, chain ${done.claimed.chain}`],
        ['given up', `${done.lost} blocks`],
        ['recorded', `${dir}/losses.jsonl`],
      ]))
      if (options.json !== true) terminal.note(`Next: cmesh up --data ${dir}. Under consensus.provider jetstream, delete the stream first: nats stream rm CMESH_ORDER`)
    })
}

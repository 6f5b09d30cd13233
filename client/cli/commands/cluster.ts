/** `cmesh cluster`: the processes of a cluster that `cmesh up --nodes` runs on this machine. */
import type { Command } from 'commander'
import { askSupervisor, type ClusterPart } from '../../cluster-control.ts'
import { defaultDataDir } from '../../descriptor.ts'
import { examples, printResult, withJson, type JsonOption } from '../command.ts'
import { withProgress } from '../progress.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

interface ClusterOptions extends JsonOption {
  readonly data?: string
}

export function cluster(program: Command, terminal: Terminal): void {
  const group = program.command('cluster').description('look after a cluster that `cmesh up --nodes` runs on this machine')
  const withData = (command: Command): Command => withJson(command)
    .option('--data <dir>', 'its data directory (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
  const dirOf = ({ data }: ClusterOptions): string => data ?? defaultDataDir(terminal.env)

  withData(group.command('show').description('list its brokers and nodes'))
    .addHelpText('after', examples(['cmesh cluster show', 'which process is which']))
    .action(async (options: ClusterOptions) => {
      print(terminal, options, await askSupervisor(dirOf(options), 'show', () => undefined, terminal.interrupted))
    })

  withData(group.command('restart').description('restart each node, then each broker, one at a time, while the mesh goes on'))
    .addHelpText('after', examples(['cmesh cluster restart', 'each is waited for; a broker hands over what it leads first']))
    .addHelpText('after', '\nInterrupted, it leaves the restart to the cluster, which ends it by itself.')
    .action(async (options: ClusterOptions) => {
      const parts = await withProgress(terminal, 'restarting', progress => askSupervisor(dirOf(options), 'restart', (step) => {
        progress.update(step)
        if (options.json !== true) terminal.note(step)
      }, terminal.interrupted))
      print(terminal, options, parts)
    })
}

function print(terminal: Terminal, options: JsonOption, parts: readonly ClusterPart[]): void {
  printResult(terminal, options, { parts }, () => table(
    parts.map(({ name, pid, http, did }) => [name, pid === undefined ? 'away' : String(pid), http === undefined ? '' : `${http}/healthz`, did ?? '']),
    { boxes: terminal.resultsAreSeen, head: ['part', 'process', 'health', 'node'] },
  ))
}

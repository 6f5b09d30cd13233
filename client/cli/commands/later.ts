/** `cmesh later`: the delayed calls that `cmesh call --at` and `--in` asked for. */
import type { Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import { examples, printResult, time, withClient, withMesh, type MeshOptions } from '../command.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

export function later(program: Command, terminal: Terminal): void {
  const group = program.command('later').description('list and cancel delayed calls')
    .addHelpText('after', examples(
      ['cmesh call 0xSW:0x002:increment --in 60000', 'ask for one'],
      ['cmesh later ls', 'what is not made yet'],
    ))
  withMesh(group.command('ls').description('list your delayed calls that are not made yet'))
    .addHelpText('after', examples(['cmesh later ls', 'by when they are due']))
    .action((options: MeshOptions) => withClient(terminal, options, async (client) => {
      const list = await client.later.list({ signal: terminal.interrupted })
      printResult(terminal, options, list, () => (list.length === 0 ? [] : table(
        list.map(({ id, atMs, fqmn }) => [id, time(atMs), terminal.foreign(fqmn)]), { boxes: terminal.resultsAreSeen, head: ['id', 'due', 'address'] },
      )))
    }))
  withMesh(group.command('cancel').description('take a delayed call back'))
    .argument('<id>')
    .addHelpText('after', examples(['cmesh later cancel 0190…', 'as long as it is not made']))
    .action((id: string, options: MeshOptions) => withClient(terminal, options, async (client) => {
      const cancelled = await client.later.cancel(id, { signal: terminal.interrupted })
      if (!cancelled) throw new CMeshError('CMESH_STATE_LATER', { id, reason: 'none of yours waits by this id; it was made or cancelled before, or is somebody else\'s' })
      printResult(terminal, options, { id, cancelled }, () => [`${id} cancelled`])
    }))
}

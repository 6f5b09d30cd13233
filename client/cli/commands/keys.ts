/** `cmesh keys`: the keys that the mesh signs session tokens with. Anybody may look; changing them is the operator's. */
import type { Command } from 'commander'
import { checkKeySet, type KeySet } from '../../../cmtp/identity/key-set.ts'
import type { MeshClient } from '../../mesh-client.ts'
import { examples, fields, printResult, time, withClient, withMesh, type MeshOptions } from '../command.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

export function keys(program: Command, terminal: Terminal): void {
  const group = program.command('keys').description('see, rotate and drop the keys that the mesh signs sessions with')

  withMesh(group.command('show').description('the keys that count, under the mesh\'s signature'))
    .addHelpText('after', examples(['cmesh keys show', 'which keys count']))
    .action((options: MeshOptions) => ask(terminal, options, '0xI:keys', []))

  withMesh(group.command('rotate').description('let another key sign from now on; the last one counts until its tokens have expired'))
    .addHelpText('after', examples(['cmesh keys rotate', 'another key signs from now on; nobody notices']))
    .action((options: MeshOptions) => ask(terminal, options, '0xIW:keys', ['rotate']))

  withMesh(group.command('drop').description('let no token by a key count any more: its sessions start anew'))
    .argument('<kid>', 'id of the key, as `cmesh keys show` names it')
    .addHelpText('after', examples(['cmesh keys drop u8PpBm3ub6sYl0WPyTDMKuCBE9QUScLZI3XJ4Nmwz3w', 'a key that got out: its sessions end at once']))
    .action((kid: string, options: MeshOptions) => ask(terminal, options, '0xIW:keys', ['drop', kid]))
}

function ask(terminal: Terminal, options: MeshOptions, fqmn: string, args: readonly string[]): Promise<void> {
  return withClient(terminal, options, async (client) => {
    const set = await keySet(client, fqmn, args, terminal.interrupted)
    printResult(terminal, options, set, () => [
      ...fields(terminal, [['mesh', set.mesh], ['epoch', String(set.epoch)], ['issued', time(set.issued)]]),
      ...table(set.keys.map(({ kid, notAfter }) => [kid, notAfter === 0 ? 'signs now' : time(notAfter)]), { boxes: terminal.resultsAreSeen, head: ['key', 'counts until'] }),
    ])
  })
}

/** The set that the mesh answers with. Rejects with `CMESH_IAM_FORGED` for one that the mesh's own key did not sign. */
async function keySet(client: MeshClient, fqmn: string, args: readonly string[], signal: AbortSignal): Promise<KeySet> {
  const reply = await client.call(fqmn, { signal, ...(args.length > 0 && { args }) })
  const set = reply.json<KeySet>()
  checkKeySet(set, client.mesh ?? '')
  return set
}

/** `cmesh status`: whether the mesh answers, and where its state stands. */
import type { Command } from 'commander'
import type { MeshDescriptor } from '../../descriptor.ts'
import { examples, fields, meshOf, printResult, withClient, withMesh, type MeshOptions } from '../command.ts'
import type { Terminal } from '../terminal.ts'

interface ConsensusStatus {
  readonly provider: string
  readonly leader: string
  readonly term: number
  readonly quorum: number
  readonly members: readonly unknown[]
  readonly durability: string
  readonly head: { readonly epoch: number, readonly seq: number, readonly timeMs: number, readonly chain: string }
}

export function status(program: Command, terminal: Terminal): void {
  withMesh(program.command('status').description('show whether the mesh answers, and where its state stands'))
    .addHelpText('after', examples(
      ['cmesh status', 'exit code 0 when it answers, 3 when it does not'],
      ['cmesh status --json', 'the same for a script'],
    ))
    .action(async (options: MeshOptions) => {
      const { descriptor } = await meshOf(terminal, options)
      await withClient(terminal, options, async (client) => {
        const beganMs = performance.now()
        const consensus = await client.status({ signal: terminal.interrupted }) as unknown as ConsensusStatus
        const roundTripMs = Math.round((performance.now() - beganMs) * 1_000) / 1_000
        const result = {
          mesh: client.mesh, url: client.url, you: client.did, roundTripMs,
          node: descriptor === undefined ? null : nodeOf(descriptor),
          consensus,
        }
        printResult(terminal, options, result, () => fields(terminal, [
          ['mesh', `${client.mesh ?? ''} ${terminal.style('green', 'answers')} in ${roundTripMs.toFixed(1)} ms`],
          ['url', client.url],
          ...(descriptor === undefined ? [] : [
            ['node', `CMesh ${descriptor.version}, process ${descriptor.pid}`],
            ['health', `${descriptor.http}/healthz`],
          ] as const),
          ['you', client.did],
          ['consensus', `${consensus.provider}, ${consensus.members.length} members, quorum ${consensus.quorum}, term ${consensus.term}`],
          ['state', `block ${consensus.head.seq} of epoch ${consensus.head.epoch}, chain ${consensus.head.chain.slice(0, 16)}…, durability ${consensus.durability}`],
        ]))
      })
    })
}

function nodeOf({ node, version, pid, http }: MeshDescriptor): object {
  return { did: node, version, pid, http }
}

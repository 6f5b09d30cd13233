/** `cmesh status`: whether the mesh answers, where its state stands, and how far each member is. */
import type { Command } from 'commander'
import type { MeshDescriptor } from '../../descriptor.ts'
import { examples, fields, meshOf, printResult, withClient, withMesh, type MeshOptions } from '../command.ts'
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'

interface ConsensusStatus {
  readonly provider: string
  readonly leader: string
  readonly term: number
  readonly quorum: number
  readonly members: readonly unknown[]
  readonly durability: string
  readonly head: { readonly epoch: number, readonly seq: number, readonly timeMs: number, readonly chain: string }
  /** Which reads other members check; absent where the node does not say. */
  readonly reads?: { readonly mode: string, readonly oneIn?: number }
  /** Absent where the node does not say. */
  readonly mesh?: MembersStatus
}

interface MembersStatus {
  readonly members: readonly Member[]
  /** The block that a quorum has. */
  readonly confirmed?: number
  readonly quorum: number
}

interface Member {
  readonly did: string
  /** Its newest block, and how many it is behind the node that answered. */
  readonly head: number
  readonly lag: number
  /** What its copy survives. */
  readonly level: string
  /** How long ago it was heard, in ms; below 0: never since that node started. */
  readonly heardMs: number
  readonly version: string
  /** The node that answered. */
  readonly self: boolean
  /** Its log is another one. */
  readonly differs: boolean
}

export function status(program: Command, terminal: Terminal): void {
  withMesh(program.command('status').description('show whether the mesh answers, where its state stands, and its members'))
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
        const { mesh, reads } = consensus
        const result = {
          mesh: client.mesh, url: client.url, you: client.did, roundTripMs,
          node: descriptor === undefined ? null : nodeOf(descriptor),
          consensus,
        }
        printResult(terminal, options, result, () => [
          ...fields(terminal, [
            ['mesh', `${client.mesh ?? ''} ${terminal.style('green', 'answers')} in ${roundTripMs.toFixed(1)} ms`],
            ['url', client.url],
            ...(descriptor === undefined ? [] : [
              ['node', `CMesh ${descriptor.version}, process ${descriptor.pid}`],
              ['health', `${descriptor.http}/healthz`],
            ] as const),
            ['you', client.did],
            ['consensus', orderedBy(terminal, consensus)],
            ['state', `block ${consensus.head.seq} of epoch ${consensus.head.epoch}, chain ${consensus.head.chain.slice(0, 16)}…, durability ${consensus.durability}`],
            ...(mesh === undefined ? [] : [
              ['members', `${mesh.members.length}, quorum ${mesh.quorum}${mesh.confirmed === undefined ? '' : `, block ${mesh.confirmed} confirmed by it`}`],
            ] as const),
            ...(reads === undefined ? [] : [['reads', checked(terminal, reads)] as const]),
          ]),
          ...(mesh === undefined ? [] : membersOf(terminal, mesh.members)),
        ])
      })
    })
}

function membersOf(terminal: Terminal, members: readonly Member[]): readonly string[] {
  const rows = members.map(({ did, head, lag, level, heardMs, version, self, differs }) => {
    if (heardMs < 0) return [did, '–', '–', '–', 'never', '–']
    const heard = self ? 'answered' : `${Math.round(heardMs / 1_000)} s ago`
    return [did, String(head), String(lag), terminal.foreign(level), differs ? `${heard}, its log differs` : heard, terminal.foreign(version)]
  })
  return table(rows, { boxes: terminal.resultsAreSeen, head: ['member', 'head', 'lag', 'durability', 'heard', 'version'], right: [1, 2] })
}

/** The members of the `mock` provider's group are no machines, and the loss of this one is the loss of all. */
function orderedBy(terminal: Terminal, { provider, members, quorum, term, leader }: ConsensusStatus): string {
  if (provider === 'mock') return `mock: a Raft group of ${members.length} that the node simulates in its one process, term ${term}`
  return `${terminal.foreign(provider)}, ${members.length} members, quorum ${quorum}, term ${term}, led by ${terminal.foreign(leader)}`
}

function checked(terminal: Terminal, { mode, oneIn }: NonNullable<ConsensusStatus['reads']>): string {
  if (mode === 'none') return 'checked by no other member'
  return oneIn === undefined ? `checked by other members: ${terminal.foreign(mode)}` : `one in ${oneIn} is checked by other members`
}

function nodeOf({ node, version, pid, http }: MeshDescriptor): object {
  return { did: node, version, pid, http }
}

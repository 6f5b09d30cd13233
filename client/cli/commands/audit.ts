/** `cmesh audit`: what a node keeps of all it answered. */
import { appendFile, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import { defaultDataDir } from '../../descriptor.ts'
import { askArchive, type AuditSeen } from '../archive-process.ts'
import { keptRecords, writeRoots } from '../audit-channel.ts'
import { certificateText } from '../certificate-text.ts'
import { didFrom, examples, fields, MESH_OPTIONS, printResult, refuseIdle, time, withClient, withJson, withLocation, type MeshOptions } from '../command.ts'
import { readInput } from '../input.ts'
import { withProgress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'

interface VerifyOptions extends MeshOptions {
  readonly mesh?: string
  readonly certificate?: string
  readonly offline?: boolean
  readonly against?: readonly string[]
}

const CHANNEL = 'the audit channel'
const KEPT = 'the files of --against'

export function audit(program: Command, terminal: Terminal): void {
  const command = program.command('audit').description('look at the log of what a node answered')
  withLocation(withJson(command.command('verify').description('check every request, root and signature of a node\'s audit log, while it runs or not; and that copies of it, and the roots that the mesh has seen, are of the same log')))
    .argument('[dir...]', 'data directory of the node, and of copies (default: that of --data, else CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .option('--mesh <did>', 'the mesh that has to stand behind it', didFrom)
    .option('--certificate <file>', 'the certificate of the node, where its key is not the mesh\'s (default: `certificate` in its data directory, if it is there)')
    .option('--identity <name>', 'which of your identities reads the audit channel', 'default')
    .option('--offline', 'do not compare with the audit channel')
    .option('--against <file>', 'roots that somebody kept: a receipt, or events of the audit channel; can be given again', (file: string, before: readonly string[] | undefined) => [...(before ?? []), file])
    .addHelpText('after', examples(
      ['cmesh audit verify', 'exit code 0: all of it is whole, and what the mesh has seen'],
      ['cmesh audit verify ./mesh ./copy --offline', 'names the first batch that differs'],
      ['cmesh audit verify ./mesh --url nats://other:4222', 'held to what another broker of the mesh has'],
      ['cmesh audit verify --against hello.receipt', 'whether the log still has what it gave a receipt of'],
    ))
    .action(async (given: readonly string[], options: VerifyOptions, self: Command) => {
      if (options.offline === true) {
        refuseIdle(self, given.length > 0 ? MESH_OPTIONS : ['url', 'identity', 'timeout'], 'with --offline no mesh is asked.')
      }
      const { data, ...others } = options
      const dirs = (given.length > 0 ? given : [data ?? defaultDataDir(terminal.env)]).map((dir) => resolve(dir))
      const [dir = ''] = dirs
      const certificate = await certificateText(dir, options.certificate)
      // A mesh that is named beside the directory has to answer; that of the directory need not run.
      const found = await withRoots(terminal, given.length > 0 ? options : others, dir, (seen) => askArchive(terminal, 'audit', {
        dirs, ...(options.mesh !== undefined && { mesh: options.mesh }), ...(certificate !== undefined && { certificate }),
        ...(seen !== undefined && { seen }),
      }, 'verifying the audit log'))
      printResult(terminal, options, { directories: dirs, ...found }, () => fields(terminal, [
        ['log', `${dir} ${terminal.style('green', 'is whole')}`],
        ['mesh', found.certified ? found.mesh : `${found.mesh}, as it says itself: give the node's certificate by --certificate`],
        ['node', found.node], ['log key', found.log], ['batches', String(found.batches)], ['requests', String(found.requests)],
        ['last root', found.batches === 0 ? 'none' : `${time(found.timeUs / 1_000)} ${found.head}`],
        ...found.copies.map((batches, i): readonly [string, string] => ['copy', `${dirs[i + 1] ?? ''} is the same log, ${batches} batches`]),
        ...seenLines(found.seen),
      ]))
    })
}

interface Seen {
  readonly file: string
  readonly from: string
}

/** Gives `use` a file of the roots that others hold, and who they are; none where nobody could be asked. */
async function withRoots<T>(terminal: Terminal, options: VerifyOptions, dir: string, use: (seen: Seen | undefined) => Promise<T>): Promise<T> {
  const { against = [] } = options
  const temporary = await mkdtemp(join(tmpdir(), 'cmesh-roots-'))
  try {
    const file = join(temporary, 'roots')
    for (const kept of against) await appendFile(file, keptRecords(await readInput(kept), kept), { mode: 0o600 })
    const sources = [...(await addChannel(terminal, options, dir, file) ? [CHANNEL] : []), ...(against.length > 0 ? [KEPT] : [])]
    return await use(sources.length === 0 ? undefined : { file, from: sources.join(' or ') })
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

/** Whether what is on the channel is in the file. A mesh that cannot be asked is a warning, unless it was named. */
async function addChannel(terminal: Terminal, options: VerifyOptions, dir: string, file: string): Promise<boolean> {
  if (options.offline === true) return false
  const isNamed = options.url !== undefined || options.data !== undefined
  // The mesh of this log, and no other that runs here.
  const where = isNamed || terminal.env['CMESH_URL'] !== undefined ? options : { ...options, data: dir }
  try {
    await withClient(terminal, where, (client) => withProgress(terminal, `reading ${CHANNEL}`, (progress) =>
      writeRoots(client, file, terminal.interrupted, (done, of) => progress.update(`reading ${CHANNEL}: ${done} of ${of} events`))))
    return true
  } catch (error) {
    if (isNamed || !(error instanceof CMeshError) || terminal.interrupted.aborted) throw error
    terminal.note(`warning ${error.code}: Not compared with ${CHANNEL}: ${error.message}`)
    return false
  }
}

function seenLines(seen: AuditSeen | null): (readonly [string, string])[] {
  if (seen === null) return [['seen', 'not compared with roots that others hold']]
  const { roots, from, to, unsigned, otherLogs } = seen
  return [
    ['seen', roots === 0 ? 'nobody who was asked holds a root of this log' : `${roots} roots that others hold are of this log, batch ${from} to ${to}`],
    ...(unsigned === 0 ? [] : [['unsigned', `${unsigned} roots that others hold are not signed by the node, and say nothing`] as const]),
    ...otherLogs.map(({ log, batch }) => ['another log', `${log} of this node, at least up to batch ${batch}: look for it where it was moved aside`] as const),
  ]
}

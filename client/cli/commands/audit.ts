/** `cmesh audit`: what a node keeps of all it answered. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import type { Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import { defaultDataDir } from '../../descriptor.ts'
import { askArchive, type AuditSeen } from '../archive-process.ts'
import { writeRoots } from '../audit-channel.ts'
import { certificateText } from '../certificate-text.ts'
import { didFrom, examples, fields, printResult, time, withClient, withJson, withLocation, type MeshOptions } from '../command.ts'
import { withProgress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'

interface VerifyOptions extends MeshOptions {
  readonly mesh?: string
  readonly certificate?: string
  readonly offline?: boolean
}

const CHANNEL = 'the audit channel'

export function audit(program: Command, terminal: Terminal): void {
  const command = program.command('audit').description('look at the log of what a node answered')
  withLocation(withJson(command.command('verify').description('check every request, root and signature of a node\'s audit log, while it runs or not; and that copies of it, and the roots that the mesh has seen, are of the same log')))
    .argument('[dir...]', 'data directory of the node, and of copies (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .option('--mesh <did>', 'the mesh that has to stand behind it', didFrom)
    .option('--certificate <file>', 'the certificate of the node, where its key is not the mesh\'s (default: `certificate` in its data directory, if it is there)')
    .option('--identity <name>', 'which of your identities reads the audit channel', 'default')
    .option('--offline', 'do not compare with the audit channel')
    .addHelpText('after', examples(
      ['cmesh audit verify', 'exit code 0: all of it is whole, and what the mesh has seen'],
      ['cmesh audit verify ./mesh ./copy --offline', 'names the first batch that differs'],
      ['cmesh audit verify ./mesh --url nats://other:4222', 'held to what another broker of the mesh has'],
    ))
    .action(async (given: readonly string[], options: VerifyOptions) => {
      const dirs = (given.length > 0 ? given : [defaultDataDir(terminal.env)]).map((dir) => resolve(dir))
      const [dir = ''] = dirs
      const certificate = await certificateText(dir, options.certificate)
      const found = await withRoots(terminal, options, dir, (file) => askArchive(terminal, 'audit', {
        dirs, ...(options.mesh !== undefined && { mesh: options.mesh }), ...(certificate !== undefined && { certificate }),
        ...(file !== undefined && { seen: { file, from: CHANNEL } }),
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

/**
 * Gives `use` a file of the roots on the audit channel. Without one where the mesh cannot be asked, and says so; a mesh that was named has to
 * answer.
 */
async function withRoots<T>(terminal: Terminal, options: VerifyOptions, dir: string, use: (file: string | undefined) => Promise<T>): Promise<T> {
  if (options.offline === true) return use(undefined)
  const isNamed = options.url !== undefined || options.data !== undefined
  // The mesh of this log, and no other that runs here.
  const where = isNamed || terminal.env['CMESH_URL'] !== undefined ? options : { ...options, data: dir }
  const temporary = await mkdtemp(join(tmpdir(), 'cmesh-roots-'))
  try {
    const file = join(temporary, 'roots')
    try {
      await withClient(terminal, where, (client) => withProgress(terminal, 'reading the audit channel', (progress) =>
        writeRoots(client, file, terminal.interrupted, (done, of) => progress.update(`reading the audit channel: ${done} of ${of} events`))))
    } catch (error) {
      if (isNamed || !(error instanceof CMeshError) || terminal.interrupted.aborted) throw error
      terminal.note(`warning ${error.code}: Not compared with ${CHANNEL}: ${error.message}`)
      return await use(undefined)
    }
    return await use(file)
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
}

function seenLines(seen: AuditSeen | null): (readonly [string, string])[] {
  if (seen === null) return [['channel', 'not compared with the roots that the mesh has seen']]
  const { roots, from, to, unsigned, otherLogs } = seen
  return [
    ['channel', roots === 0 ? 'has no root of this log' : `${roots} roots that the mesh has seen are of this log, batch ${from} to ${to}`],
    ...(unsigned === 0 ? [] : [['unsigned', `${unsigned} roots there are not signed by the node, and say nothing`] as const]),
    ...otherLogs.map(({ log, batch }) => ['another log', `${log} of this node, at least up to batch ${batch}: look for it where it was moved aside`] as const),
  ]
}

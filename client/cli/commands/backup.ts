/** `cmesh backup`, `cmesh restore` and `cmesh verify`: what keeps a data directory safe, and says whether it is whole. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import { defaultDataDir } from '../../descriptor.ts'
import { askArchive, type LogFacts } from '../archive-process.ts'
import { examples, fields, printResult, time, withJson, type JsonOption } from '../command.ts'
import { EXIT, Reported } from '../exit-codes.ts'
import { printFailure } from '../failure.ts'
import type { Terminal } from '../terminal.ts'

interface DataOptions extends JsonOption {
  readonly data?: string
}

/** What says that a log was looked at and is damaged, or is not what its node has claimed. */
const UNSOUND: ReadonlySet<string> = new Set(['CMESH_STATE_CORRUPT', 'CMESH_STATE_CLAIM', 'CMESH_STATE_BEHIND', 'CMESH_STATE_FORKED'])
const DATA = '--data <dir>'
const DATA_SAYS = 'data directory of the node (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)'

export function backup(program: Command, terminal: Terminal): void {
  withJson(program.command('backup').description('write a backup of a node to a file, while it runs or not'))
    .argument('<file>', 'the backup; must not exist')
    .option(DATA, DATA_SAYS)
    .option('--with-keys', 'put the secret keys of the node in as well: whoever has the file can be the mesh')
    .option('--with-audit', 'put the audit log in as well, with what its receipts need')
    .addHelpText('after', examples(
      ['cmesh backup mesh.backup', 'writes go on meanwhile'],
      ['cmesh backup mesh.backup --with-keys', 'what restores the node itself; keep it like a key'],
    ))
    .action(async (file: string, options: DataOptions & { readonly withKeys?: boolean, readonly withAudit?: boolean }) => {
      const dir = dataOf(terminal, options)
      const ask = { dir, file: resolve(file), keys: options.withKeys === true, audit: options.withAudit === true }
      const made = await askArchive(terminal, 'backup', ask, 'making a backup')
      printResult(terminal, options, { file: resolve(file), ...made }, () => fields(terminal, [
        ['backup', file], ...factsOf(made), ['keys', made.keys ? 'all of the node\'s: keep this file like a key' : 'none; keep node.key yourself, or use --with-keys'],
        ['audit logs', made.audits === undefined ? 'none; use --with-audit' : String(made.audits)],
      ]))
    })
}

export function restore(program: Command, terminal: Terminal): void {
  withJson(program.command('restore').description('make a data directory of a backup'))
    .argument('<file>', 'what `cmesh backup` wrote')
    .option(DATA, 'where to; must be empty or not exist (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .option('--verify', 'read the new log back from the disk, all of it, before anybody may use it')
    .addHelpText('after', examples(
      ['cmesh restore mesh.backup --data ./mesh --verify', 'chain and root hash are checked in any case'],
    ))
    .action(async (file: string, options: DataOptions & { readonly verify?: boolean }) => {
      const dir = dataOf(terminal, options)
      const made = await askArchive(terminal, 'restore', { file: resolve(file), dir, verify: options.verify === true }, 'restoring')
      printResult(terminal, options, { directory: dir, ...made }, () => fields(terminal, [
        ['restored', dir], ...factsOf(made), ['keys', made.keys ? 'the node\'s: it goes on as itself' : 'none. With another node.key than before it is another node: the mesh\'s key has to certify it, and what the old one signed stays the old one\'s'],
        ...(made.audits === 0 ? [] : [['audit logs', `${made.audits}, put aside in ${dir}/former`] as const]), ['verified', made.verified ? 'read back from the disk' : 'while it was written'],
      ]))
      if (options.json !== true) {
        terminal.note(made.keys ? `Next: cmesh up --data ${dir}` : `Next: put the node.key of the node that it was made of into ${dir}, mode 0600; the backup has no keys. Then: cmesh up --data ${dir}`)
      }
    })
}

export function verify(program: Command, terminal: Terminal): void {
  withJson(program.command('verify').description('check every block, hash and signature of a node\'s log, while it runs or not'))
    .option(DATA, DATA_SAYS)
    .addHelpText('after', examples(
      ['cmesh verify', 'exit code 0: all of it is whole'],
      ['cmesh verify --data ./mesh --json', 'for a script'],
    ))
    .action(async (options: DataOptions) => {
      const dir = dataOf(terminal, options)
      const found = await askArchive(terminal, 'verify', { dir }, 'verifying the log').catch((thrown: unknown) => {
        // A script learns by 3 that the log is not as it should be, so nothing else may end with that.
        if (!(thrown instanceof CMeshError) || thrown.status < 500 || UNSOUND.has(thrown.code)) throw thrown
        printFailure(terminal, thrown, options.json === true)
        throw new Reported(EXIT.refused)
      })
      printResult(terminal, options, { directory: dir, ...found }, () => fields(terminal, [
        ['log', `${dir} ${terminal.style('green', 'is whole')}`], ...factsOf(found), ['transactions', String(found.transactions)], ['log key', found.logKey],
      ]))
    })
}

function dataOf(terminal: Terminal, { data }: DataOptions): string {
  return resolve(data ?? defaultDataDir(terminal.env))
}

function factsOf({ mesh, blocks, epoch, seq, timeMs, chain, root }: LogFacts): (readonly [string, string])[] {
  return [
    ['mesh', mesh], ['head', `block ${seq} of epoch ${epoch}, ${blocks} blocks`], ['time', time(timeMs)], ['chain', chain], ['root', root],
  ]
}

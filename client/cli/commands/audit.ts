/** `cmesh audit`: what a node keeps of all it answered. */
import { readFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { defaultDataDir } from '../../descriptor.ts'
import { askArchive } from '../archive-process.ts'
import { didFrom, examples, fields, printResult, time, withJson, type JsonOption } from '../command.ts'
import type { Terminal } from '../terminal.ts'

interface VerifyOptions extends JsonOption {
  readonly mesh?: string
  readonly certificate?: string
}

export function audit(program: Command, terminal: Terminal): void {
  const command = program.command('audit').description('look at the log of what a node answered')
  withJson(command.command('verify').description('check every request, root and signature of a node\'s audit log, while it runs or not; and that copies of it are the same log'))
    .argument('[dir...]', 'data directory of the node, and of copies (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .option('--mesh <did>', 'the mesh that has to stand behind it', didFrom)
    .option('--certificate <file>', 'the certificate of the node, where its key is not the mesh\'s')
    .addHelpText('after', examples(
      ['cmesh audit verify', 'exit code 0: all of it is whole'],
      ['cmesh audit verify ./mesh ./copy', 'names the first batch that differs'],
    ))
    .action(async (given: readonly string[], options: VerifyOptions) => {
      const dirs = (given.length > 0 ? given : [defaultDataDir(terminal.env)]).map((dir) => resolve(dir))
      const certificate = options.certificate === undefined ? undefined : await readFile(resolve(options.certificate), 'utf8')
      const found = await askArchive(terminal, 'audit', {
        dirs, ...(options.mesh !== undefined && { mesh: options.mesh }), ...(certificate !== undefined && { certificate }),
      }, 'verifying the audit log')
      printResult(terminal, options, { directories: dirs, ...found }, () => fields(terminal, [
        ['log', `${dirs[0] ?? ''} ${terminal.style('green', 'is whole')}`],
        ['mesh', found.certified ? found.mesh : `${found.mesh}, as it says itself: give the node's certificate by --certificate`],
        ['node', found.node], ['log key', found.log], ['batches', String(found.batches)], ['requests', String(found.requests)],
        ['last root', found.batches === 0 ? 'none' : `${time(found.timeUs / 1_000)} ${found.head}`],
        ...found.copies.map((batches, i): readonly [string, string] => ['copy', `${dirs[i + 1] ?? ''} is the same log, ${batches} batches`]),
      ]))
    })
}

/** `cmesh up`: runs a node on this machine until Ctrl-C, with the user's identity as its operator. */
import { InvalidArgumentError, type Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import { defaultDataDir } from '../../descriptor.ts'
import { examples, fields, identities, integerFrom, printResult, withJson, type JsonOption } from '../command.ts'
import { NodeProcess } from '../node-process.ts'
import { withProgress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'

interface UpOptions extends JsonOption {
  readonly data?: string
  readonly port?: number
  readonly httpPort?: number
  readonly natsUrl?: string
  readonly operator?: string
  readonly identity: string
  readonly set: readonly string[]
  readonly logLevel: string
}

const PORT = integerFrom(1, 65_535)

export function up(program: Command, terminal: Terminal): void {
  withJson(program.command('up').description('run a node on this machine until Ctrl-C'))
    .option('--data <dir>', 'where it keeps its identity, log and broker (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .option('--port <n>', 'loopback port of its nats-server (default: the one used last, else a free one)', PORT)
    .option('--http-port <n>', 'loopback port of /healthz and /metrics (default: a free one)', PORT)
    .option('--nats-url <url>', 'an existing NATS server or cluster instead of its own')
    .option('--operator <did>', 'who holds every right (default: you)')
    .option('--identity <name>', 'which of your identities you are', 'default')
    .option('--set <key=value>', 'any setting of docs/configuration.md; may be repeated', keyValue, [])
    .option('--log-level <level>', 'silent, error, warn, info or debug', 'warn')
    .addHelpText('after', examples(
      ['cmesh up', 'a mesh of one node, you as its operator'],
      ['cmesh up --data ./mesh --http-port 8080', 'in a directory of its own'],
      ['cmesh up --set state.durability=disk', 'with a setting'],
    ))
    .action(async (options: UpOptions) => {
      const operator = options.operator ?? (await identities(terminal).loadOrCreateIdentity(options.identity)).did
      const args = [
        '--data', options.data ?? defaultDataDir(terminal.env), '--operator', operator, '--log-level', options.logLevel,
        ...(options.port === undefined ? [] : ['--port', String(options.port)]),
        ...(options.httpPort === undefined ? [] : ['--http-port', String(options.httpPort)]),
        ...(options.natsUrl === undefined ? [] : ['--nats-url', options.natsUrl]),
        ...options.set.flatMap((pair) => ['--set', pair]),
      ]
      const { node, descriptor } = await withProgress(terminal, 'starting a node', (progress) => NodeProcess.start({
        args, env: terminal.env, interrupted: terminal.interrupted,
        onStep: (step) => progress.update(`starting a node: ${step}`), onLog: (line) => terminal.note(line),
      }))
      printResult(terminal, options, { ...descriptor, operator }, () => [
        `${terminal.style('green', 'ready')} ${terminal.style('bold', descriptor.url)}`,
        ...fields(terminal, [
          ['mesh', descriptor.did],
          ['operator', operator],
          ['health', `${descriptor.http}/healthz`],
        ]),
        `Try it in another terminal: ${terminal.style('cyan', `cmesh call 0xS:0x001:hello_world${options.data === undefined ? '' : ` --data ${options.data}`}`)}`,
        'Ctrl-C drains and stops it.',
      ])
      const interrupted = new Promise<void>((resolve) => {
        terminal.interrupted.addEventListener('abort', () => resolve(), { once: true })
        if (terminal.interrupted.aborted) resolve()
      })
      await Promise.race([interrupted, node.exited])
      const { code, signal } = await withProgress(terminal, 'draining', () => node.stop())
      if (code === 0) return
      throw node.failure ?? new CMeshError('CMESH_BOOT_FAILED', { step: 'run', reason: `the node ended with ${signal ?? `code ${String(code)}`}` })
    })
}

function keyValue(pair: string, before: readonly string[]): readonly string[] {
  if (!/^[^=]+=/.test(pair)) throw new InvalidArgumentError('It must be KEY=VALUE.')
  return [...before, pair]
}

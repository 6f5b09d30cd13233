/** `cmesh up`: runs a node, or a cluster of them, on this machine until Ctrl-C, with the user's identity as the mesh's operator. */
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { InvalidArgumentError, type Command } from 'commander'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { ClusterPart } from '../../cluster-control.ts'
import { defaultDataDir, type MeshDescriptor } from '../../descriptor.ts'
import { usage } from '../../options.ts'
import { didFrom, examples, fields, identities, integerFrom, printResult, refuseIdle, withJson, type JsonOption } from '../command.ts'
import { NodeProcess } from '../node-process.ts'
import { withProgress } from '../progress.ts'
import type { Terminal } from '../terminal.ts'

interface UpOptions extends JsonOption {
  readonly nodes: number
  readonly data?: string
  readonly port?: number
  readonly httpPort?: number
  readonly natsUrl?: string
  readonly operator?: string
  readonly identity: string
  readonly set: readonly string[]
  readonly logLevel?: string
}

const PORT = integerFrom(1, 65_535)

export function up(program: Command, terminal: Terminal): void {
  withJson(program.command('up').description('run a node, or a cluster of nodes, on this machine until Ctrl-C'))
    .option('--nodes <n>', 'how many nodes: 1, or 3 or 5 with three brokers of their own', integerFrom(1, 99), 1)
    .option('--data <dir>', 'where it keeps its identity, log and broker (default: CMESH_DATA_DIR, else ~/.local/share/cmesh)')
    .option('--port <n>', 'loopback port of its nats-server (default: the one used last, else a free one)', PORT)
    .option('--http-port <n>', 'loopback port of /healthz and /metrics (default: a free one)', PORT)
    .option('--nats-url <url>', 'an existing NATS server or cluster instead of its own')
    .option('--operator <did>', 'who holds every right, recorded when the mesh begins (default: as CMESH_OPERATOR or the file CMESH_CONFIG says, else you)', didFrom)
    .option('--identity <name>', 'which of your identities you are', 'default')
    .option('--set <key=value>', 'any setting of docs/configuration.md; may be repeated', keyValue, [])
    .option('--log-level <level>', 'silent, error, warn, info or debug (default: as CMESH_LOG_LEVEL or the file CMESH_CONFIG says, else warn)')
    .addHelpText('after', examples(
      ['cmesh up', 'a mesh of one node, you as its operator'],
      ['cmesh up --data ./mesh --http-port 8080', 'in a directory of its own'],
      ['cmesh up --nodes 3', 'a mesh of three nodes on three brokers'],
      ['cmesh up --set state.durability=disk', 'with a setting'],
    ))
    .action(async (options: UpOptions, command: Command) => {
      if (options.operator !== undefined) refuseIdle(command, ['identity'], '--operator says who holds every right, and up does nothing else as you.')
      if (options.natsUrl !== undefined) refuseIdle(command, ['port'], 'with --nats-url no nats-server is started.')
      const many = options.nodes > 1
      // The nodes of a cluster have files of their own.
      const said = await saidElsewhere(terminal.env, many ? undefined : terminal.env['CMESH_CONFIG'])
      const given = setting('operator', options.operator, options.set, said)
      const operator = given ?? (await identities(terminal).loadOrCreateIdentity(options.identity)).did
      const dir = options.data ?? defaultDataDir(terminal.env)
      if (many && options.natsUrl !== undefined) throw usage('--nodes starts brokers of its own; on a cluster by --nats-url each node is started by itself (docs/cluster.md).')
      if (!many && existsSync(path.join(dir, 'cluster', 'cluster.json'))) {
        throw new CMeshError('CMESH_CLUSTER_DATA', { path: dir, reason: 'it holds a mesh of several nodes: start it with --nodes, as it was made' })
      }
      const args = [
        '--data', dir, '--operator', operator, '--log-level', setting('log.level', options.logLevel, options.set, said) ?? 'warn',
        ...(many ? ['--nodes', String(options.nodes)] : []),
        ...(options.port === undefined ? [] : ['--port', String(options.port)]),
        ...(options.httpPort === undefined ? [] : ['--http-port', String(options.httpPort)]),
        ...(options.natsUrl === undefined ? [] : ['--nats-url', options.natsUrl]),
        ...options.set.flatMap((pair) => ['--set', pair]),
      ]
      const what = many ? 'starting a cluster' : 'starting a node'
      const { node, descriptor } = await withProgress(terminal, what, (progress) => NodeProcess.start({
        ...(many && { entry: 'node/cluster/main' as const }),
        args, env: terminal.env, interrupted: terminal.interrupted,
        onStep: (step) => progress.update(`${what}: ${step}`),
        // What it says of the operator is said below, once.
        onLog: (line) => { if (!line.includes('"CMESH_BOOT_OPERATOR"')) terminal.note(line) },
      }))
      const recorded = descriptor.operator ?? operator
      if (recorded !== operator) {
        const { code, message } = new CMeshError('CMESH_BOOT_OPERATOR', { recorded, given: given ?? `${operator}, your identity ${options.identity}` })
        terminal.note(`warning ${code}: ${message}`)
      }
      printResult(terminal, options, { ...descriptor, operator: recorded }, () => [
        `${terminal.style('green', 'ready')} ${terminal.style('bold', descriptor.url)}`,
        ...fields(terminal, [['mesh', descriptor.did], ['operator', recorded], ...placesOf(descriptor)]),
        `Try it in another terminal: ${terminal.style('cyan', `cmesh call 0xS:0x001:hello_world${options.data === undefined ? '' : ` --data ${options.data}`}`)}`,
        `Ctrl-C drains and stops ${many ? 'all of it' : 'it'}.`,
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

/** What was asked for. `--set` counts over the flag, as for the node, and both over what is said elsewhere; `undefined` where nothing was said. */
function setting(key: string, flag: string | undefined, set: readonly string[], elsewhere: Readonly<Record<string, unknown>>): string | undefined {
  const pair = set.findLast((each) => each.startsWith(`${key}=`))
  const said = elsewhere[key]
  return (pair?.slice(key.length + 1) ?? flag) || (typeof said === 'string' ? said : '') || undefined
}

/** What a node would find of these settings without the flags that it gets from here: in its environment, else in its file. */
async function saidElsewhere(env: NodeJS.ProcessEnv, file: string | undefined): Promise<Readonly<Record<string, unknown>>> {
  let inFile: Record<string, unknown> = {}
  try {
    if (file !== undefined && file !== '') inFile = Object(JSON.parse(await readFile(file, 'utf8'))) as Record<string, unknown>
  } catch {
    // The node says what is wrong with it.
  }
  return { 'operator': env['CMESH_OPERATOR'] || inFile['operator'], 'log.level': env['CMESH_LOG_LEVEL'] || inFile['log.level'] }
}

/** What a supervisor says beside what a node does. */
interface ClusterDescriptor extends MeshDescriptor {
  readonly parts?: readonly ClusterPart[]
  readonly logs?: string
}

function placesOf({ http, parts, logs }: ClusterDescriptor): readonly (readonly [string, string])[] {
  if (parts === undefined || logs === undefined) return [['health', `${http}/healthz`]]
  const nodes = parts.filter((part) => part.did !== undefined)
  return [...nodes.map((part) => [part.name, `${part.did ?? ''}, ${part.http ?? ''}/healthz`] as const), ['brokers', String(parts.length - nodes.length)], ['logs', logs]]
}

function keyValue(pair: string, before: readonly string[]): readonly string[] {
  if (!/^[^=]+=/.test(pair)) throw new InvalidArgumentError('It must be KEY=VALUE.')
  return [...before, pair]
}

#!/usr/bin/env node
/**
 * The process of a node: settings from flags, environment and file; a log on stderr; one line on stdout when ready; a drain
 * on SIGTERM and SIGINT, and at once on a second one. Started by `cmesh up`, by a container or by hand.
 *
 * Exit codes: 0 stopped as asked, 1 the boot failed or a part failed for good, 2 a setting is wrong.
 */
import { parseArgs } from 'node:util'
import { pino } from 'pino'
import { CMeshError } from '../cmtp/errors.ts'
import { resolveConfig, settingsOfPairs } from './config.ts'
import { packageVersion } from './descriptor.ts'
import { MeshNode } from './node.ts'
import type { Config, SETTINGS } from './settings.ts'

const FLAGS = {
  'data': 'data.dir', 'port': 'bus.port', 'http-port': 'http.port', 'nats-url': 'bus.url', 'operator': 'operator', 'log-level': 'log.level',
} as const satisfies Record<string, keyof typeof SETTINGS>

const USAGE = `Usage: node main.js [flags]

Starts a CMesh node and stays until SIGTERM or SIGINT.

  --data DIR         where the node keeps its identity, log and broker
  --port N           loopback port of the node's own nats-server
  --nats-url URL     an existing NATS server or cluster instead
  --http-port N      loopback port of /healthz and /metrics (default: a free one)
  --operator DID     who holds every right, recorded when the log begins
  --log-level LEVEL  silent, error, warn, info (default) or debug
  --set KEY=VALUE    any setting of docs/configuration.md; may be repeated
  --config FILE      a JSON file of settings
  --version, --help
`

const EXIT_FAILED = 1
const EXIT_USAGE = 2

interface Arguments {
  readonly given: Readonly<Record<string, string>>
  readonly file: string | undefined
}

await main()

async function main(): Promise<void> {
  let config: Config
  try {
    const parsed = readArguments()
    if (parsed === undefined) return
    config = resolveConfig({ arguments: parsed.given, env: process.env, file: parsed.file ?? process.env['CMESH_CONFIG'] })
  } catch (error) {
    complain(error)
    process.exitCode = EXIT_USAGE
    return
  }
  const log = pino({ level: config['log.level'] }, pino.destination({ dest: 2, sync: true }))
  const node = new MeshNode({
    config,
    log,
    onHalt: error => {
      complain(error)
      process.exitCode = EXIT_FAILED
      void node.stop().catch(() => undefined).finally(() => process.exit(EXIT_FAILED))
    },
    onStep: step => { tell({ type: 'step', step }) },
  })

  let stopping = false
  const stop = (reason: string): void => {
    if (stopping) process.exit(EXIT_FAILED)
    stopping = true
    log.info({ reason }, 'draining')
    node.stop().then(() => { process.exit() }, (error: unknown) => {
      complain(error)
      process.exit(EXIT_FAILED)
    })
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => { stop(signal) })
  // Whoever started this process over a channel is gone, perhaps by kill −9: nobody would stop it any more.
  const orphaned = (): void => { if (!stopping) stop('the parent process is gone') }
  if (process.connected) process.once('disconnect', orphaned)
  // It went while this process was loaded: there is a channel, and nobody at its other end.
  else if (process.send !== undefined) return orphaned()

  try {
    const descriptor = await node.start()
    process.stdout.write(`cmesh: ready as ${descriptor.did}, clients at ${descriptor.url}, health at ${descriptor.http}/healthz\n`)
    tell({ type: 'ready', descriptor })
  } catch (error) {
    if (stopping) return
    complain(error)
    process.exit(EXIT_FAILED)
  }
}

/** `undefined` when the question was answered already. Throws `CMESH_CONFIG_INVALID`. */
function readArguments(): Arguments | undefined {
  const values = parsed()
  if (values['help'] === true) {
    process.stdout.write(USAGE)
    return undefined
  }
  if (values['version'] === true) {
    process.stdout.write(`${packageVersion()}\n`)
    return undefined
  }
  const given: Record<string, string> = {}
  for (const [flag, key] of Object.entries(FLAGS)) {
    const value = values[flag]
    if (typeof value === 'string') given[key] = value
  }
  Object.assign(given, settingsOfPairs((values['set'] ?? []) as string[]))
  const file = values['config']
  return { given, file: typeof file === 'string' ? file : undefined }
}

function parsed(): Record<string, string | boolean | (string | boolean)[] | undefined> {
  const text = { type: 'string' } as const
  try {
    return parseArgs({
      options: {
        ...Object.fromEntries(Object.keys(FLAGS).map(flag => [flag, text])),
        set: { type: 'string', multiple: true }, config: text, help: { type: 'boolean' }, version: { type: 'boolean' },
      },
    }).values
  } catch (cause) {
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'the command line', reason: cause instanceof Error ? cause.message : String(cause) }, { cause })
  }
}

function complain(error: unknown): void {
  const { code, message, detail } = CMeshError.from(error, 'the node')
  process.stderr.write(`error ${code}: ${message}\n`)
  if (code === 'CMESH_INTERNAL' && error instanceof Error) process.stderr.write(`${error.stack ?? error.message}\n`)
  tell({ type: 'failed', code, message, detail })
}

/** Whoever started this process over a channel hears how it goes. */
function tell(message: object): void {
  if (process.connected) process.send?.(message)
}

#!/usr/bin/env node
/**
 * The process of a cluster on one machine: the supervisor of three brokers and of its nodes. Started by `cmesh up --nodes 3`, by a container or
 * by hand. With `--hosts` it writes the files of a cluster whose parts are started elsewhere, and ends.
 *
 * Exit codes: 0 stopped as asked, 1 a part did not start, 2 the command line or a setting is wrong.
 */
import path from 'node:path'
import { parseArgs } from 'node:util'
import { CMeshError } from '../../cmtp/errors.ts'
import { resolveConfig, settingsOfPairs } from '../config.ts'
import { Control } from './control.ts'
import { writeForHosts } from './hosts.ts'
import { Supervisor } from './supervisor.ts'

const USAGE = `Usage: node cluster/main.js --data DIR --nodes N [flags]

Starts three NATS servers and N nodes (1, 3 or 5), and stays until SIGTERM or SIGINT.

  --data DIR         where all of them keep their keys, logs and streams, in cluster/
  --nodes N          how many nodes
  --port N           first of three loopback ports for clients
  --http-port N      port of the first node's /healthz and /metrics; the next has the next
  --operator DID     who holds every right, recorded when the log begins
  --log-level LEVEL  of the nodes: silent, error, warn, info (default) or debug
  --set KEY=VALUE    any setting of docs/configuration.md, for every node; may be repeated
  --hosts A,B,C      start nothing: write the files for three servers at these hosts, and for nodes that reach them
  --help
`

const EXIT_FAILED = 1
const EXIT_USAGE = 2
const USAGE_CODES: ReadonlySet<string> = new Set(['CMESH_CONFIG_INVALID', 'CMESH_CONFIG_UNKNOWN', 'CMESH_CONFIG_PROVIDER'])

interface Arguments {
  readonly data?: string
  readonly nodes?: string
  readonly port?: string
  readonly 'http-port'?: string
  readonly operator?: string
  readonly 'log-level'?: string
  readonly set?: readonly string[]
  readonly hosts?: string
  readonly help?: boolean
}

await main()

async function main(): Promise<void> {
  try {
    const given = parsed()
    if (given.help === true) process.stdout.write(USAGE)
    else await run(given)
  } catch (error) {
    fail(error)
  }
}

async function run(given: Arguments): Promise<void> {
  const { operator, set = [], hosts, 'log-level': level } = given
  const dir = path.resolve(given.data ?? resolveConfig({ env: process.env })['data.dir'])
  const nodeArgs = [
    ...(operator === undefined ? [] : ['--operator', operator]), ...(level === undefined ? [] : ['--log-level', level]), ...set.flatMap(pair => ['--set', pair]),
  ]
  const nodes = whole('--nodes', given.nodes ?? '', 1)
  // What every node would refuse is refused before there is a server.
  resolveConfig({ arguments: { ...(operator !== undefined && { operator }), ...(level !== undefined && { 'log.level': level }), ...settingsOfPairs(set) } })
  if (hosts !== undefined) {
    const mesh = await writeForHosts({ dir, nodes, hosts: hosts.split(',') })
    process.stdout.write(`cmesh: wrote the files of ${nodes} nodes of ${mesh} and of their servers to ${dir}\n`)
    return
  }
  const [port, httpPort] = [given.port, given['http-port']].map((text, i) => (text === undefined ? undefined : whole(i === 0 ? '--port' : '--http-port', text, 1)))
  const supervisor = new Supervisor({
    dir, nodes, nodeArgs, env: process.env,
    ...(port !== undefined && { port }), ...(httpPort !== undefined && { httpPort }),
    onStep: step => { tell({ type: 'step', step }) },
    onNote: line => { process.stderr.write(`${line}\n`) },
  })
  const control = new Control(dir, supervisor)
  let stopping = false
  const stop = (): void => {
    if (stopping) {
      supervisor.kill()
      process.exit(EXIT_FAILED)
    }
    stopping = true
    void control.stop().then(() => supervisor.stop()).then(() => { process.exit() }, fail)
  }
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, stop)
  // Whoever started this process over a channel is gone: nobody would stop it any more, and a second Ctrl-C ends who asked for a drain.
  if (process.connected) process.once('disconnect', stop)
  // It went while this process was loaded.
  else if (process.send !== undefined) return stop()
  try {
    const descriptor = await supervisor.start()
    await control.start()
    process.stdout.write(`cmesh: ready as ${descriptor.did}, clients at ${descriptor.url}\n`)
    tell({ type: 'ready', descriptor })
  } catch (error) {
    if (!stopping) fail(error)
  }
}

/** Throws `CMESH_CONFIG_INVALID`. */
function parsed(): Arguments {
  const text = { type: 'string' } as const
  try {
    return parseArgs({
      options: {
        'data': text, 'nodes': text, 'port': text, 'http-port': text, 'operator': text, 'log-level': text, 'hosts': text,
        'set': { type: 'string', multiple: true }, 'help': { type: 'boolean' },
      },
    }).values
  } catch (cause) {
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'the command line', reason: cause instanceof Error ? cause.message : String(cause) }, { cause })
  }
}

function whole(key: string, text: string, least: number): number {
  const value = Number(text)
  if (!/^\d+$/.test(text) || value < least || value > 65_535) throw new CMeshError('CMESH_CONFIG_INVALID', { key, reason: `it is a whole number from ${least} to 65535` })
  return value
}

function fail(error: unknown): never {
  const { code, message, detail } = CMeshError.from(error, 'the cluster')
  process.stderr.write(`error ${code}: ${message}\n`)
  if (code === 'CMESH_INTERNAL' && error instanceof Error) process.stderr.write(`${error.stack ?? error.message}\n`)
  tell({ type: 'failed', code, message, detail })
  process.exit(USAGE_CODES.has(code) ? EXIT_USAGE : EXIT_FAILED)
}

/** Whoever started this process over a channel hears how it goes. */
function tell(message: object): void {
  if (process.connected) process.send?.(message)
}

/**
 * The profile `cluster` of `docker-compose.yml`, run without a Docker engine: the command that makes its files, the servers on the
 * configuration that it wrote, and a node on its settings, with the containers' names and ports put in those of this machine.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { parse } from 'yaml'
import { locateNatsServer } from '../../node/broker/locate.ts'
import { planCluster, type ClusterPlan } from '../../node/cluster/plan.ts'
import { until } from '../client/support/until.ts'
import { secretsIn, secretsOf } from '../support/secrets.ts'
import { ROOT } from '../support/sources.ts'

interface Service {
  readonly command: readonly string[]
  readonly healthcheck: { readonly test: readonly string[] }
}

const BROKERS = ['broker-1', 'broker-2', 'broker-3']
const { services } = parse(await readFile(path.join(ROOT, 'docker-compose.yml'), 'utf8'), { merge: true }) as { services: Record<string, Service> }
const children: ChildProcess[] = []
const said: string[] = []
let dir: string
let ports: ClusterPlan

beforeAll(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-compose-cluster-'))
  // Free ports: of clients, of routes, and for monitoring.
  ports = await planCluster({ dir: path.join(dir, 'ports'), nodes: 5 })
})
afterAll(async () => {
  for (const child of children.reverse()) {
    if (child.exitCode !== null || child.signalCode !== null) continue
    child.kill('SIGTERM')
    await once(child, 'exit')
  }
  const leaks = secretsIn(said.join('\n'), secretsOf(inside('node-1')))
  await rm(dir, { recursive: true, force: true })
  expect(leaks).toEqual([])
})

const inside = (...names: readonly string[]): string => path.join(dir, 'data', 'cluster', ...names)
/** The container's places as they are here. */
const here = (text: string): string => text.replace(/^dist\//, `${ROOT}/dist/`).replace(/^\/data(?=\/|$)/, path.join(dir, 'data'))
const commandOf = (name: string): string[] => (services[name]?.command ?? []).map(here)

function start(command: string, args: readonly string[]): ChildProcess {
  const child = spawn(command, args, { env: { PATH: process.env['PATH'], CMESH_HTTP_HOST: '127.0.0.1', CMESH_HTTP_PORT: String(ports.http[3]) }, stdio: ['ignore', 'pipe', 'pipe'] })
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => { said.push(chunk.toString()) })
  children.push(child)
  return child
}

/** Resolves once `holds`; rejects when one of the processes ends before, with what was said. */
async function comesTrue(what: string, holds: () => Promise<boolean>): Promise<void> {
  await until(what, () => {
    if (children.some(({ exitCode, signalCode }) => exitCode !== null || signalCode !== null)) throw new Error(`${what}: never, one ended: ${said.join('')}`)
    return holds().catch(() => false)
  }, 55_000)
}

test('the files are written by the command of their service, and again without a change of keys', async () => {
  const [command = '', ...args] = commandOf('cluster-files')
  const { stdout } = await promisify(execFile)(command, args)
  expect(stdout).toContain('wrote the files of 3 nodes of did:key:')
  expect((await promisify(execFile)(command, args)).stdout).toBe(stdout)
})

test('each server is known to the others by the name that they dial', async () => {
  for (const name of BROKERS) {
    const conf = await readFile(inside(name, 'nats.conf'), 'utf8')
    expect(/^ {2}advertise: "(.*)"$/m.exec(conf)?.[1]).toBe(`${name}:6222`)
    expect(conf.match(/@[^"]+/g)).toEqual(BROKERS.map(other => `@${other}:6222`))
  }
})

test('the servers take them, find each other, and become healthy', async () => {
  const binary = await locateNatsServer({ obtain: false })
  for (const [i, name] of BROKERS.entries()) {
    const [flag = '', file = ''] = commandOf(name)
    const { client = 0 } = ports.brokers[i] ?? {}
    const text = BROKERS.reduce((conf, other, j) => conf.replaceAll(`${other}:6222`, `127.0.0.1:${ports.brokers[j]?.route ?? 0}`), await readFile(file, 'utf8'))
      .replace('0.0.0.0:6222', `127.0.0.1:${ports.brokers[i]?.route ?? 0}`).replace('"0.0.0.0"', '"127.0.0.1"')
      .replace(/^port: 4222$/m, `port: ${client}`).replace('127.0.0.1:8222', `127.0.0.1:${ports.http[i] ?? 0}`)
    expect(text).not.toMatch(/0\.0\.0\.0|\b[468]222\b/)
    await writeFile(file, text, { mode: 0o600 })
    start(binary.path, [flag, file])
  }
  for (const [i, name] of BROKERS.entries()) {
    const url = services[name]?.healthcheck.test.at(-1)?.replace('8222', String(ports.http[i]))
    expect(url).toMatch(/^http:/)
    await comesTrue(`${name} is healthy`, async () => (await fetch(url ?? '')).ok)
  }
})

test('a node takes its settings, boots on the servers, and its health check passes then', async () => {
  const [command = '', ...args] = commandOf('node-1')
  const file = inside('node-1', 'settings.json')
  const settings = BROKERS.reduce((text, name, i) => text.replace(`${name}:4222`, `127.0.0.1:${ports.brokers[i]?.client ?? 0}`), await readFile(file, 'utf8'))
  await writeFile(file, settings, { mode: 0o600 })
  start(command, args)
  const [, check = '', ...code] = services['node-1']?.healthcheck.test ?? []
  await comesTrue('the node is healthy', async () => {
    const run = spawn(check, code.map(each => each.replace('8080', String(ports.http[3]))), { stdio: 'ignore' })
    return (await once(run, 'exit'))[0] === 0
  })
})

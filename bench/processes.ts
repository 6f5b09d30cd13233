/**
 * The processes of a benchmark and how they hang together. Subject and baseline have the same layout: a client process, a
 * broker configured like the mesh's, a process that answers. All on loopback, each ended with the scope it was started in.
 */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { NODE_FLAGS } from '../client/cli/node-process.ts'
import { KeyPair, type MeshClient } from '../client/index.ts'
import { inboxPrefix } from '../cmtp/subject.ts'
import { BROKER_FILES } from '../node/broker/config.ts'
import { ManagedBroker } from '../node/broker/managed.ts'
import type { MeshDescriptor } from '../node/descriptor.ts'
import { Child } from './child.ts'
import type { DriverRun, OpenDriver, RunDriver } from './driver.ts'
import type { DriverName, DriverOptions } from './drivers/index.ts'
import { meshClient, type MeshAccess } from './drivers/mesh.ts'
import type { Scope } from './harness.ts'
import { MIX_NAME, MIX_TARGET } from './mix.ts'
import type { MoleculerLogin } from './moleculer/broker.ts'
import type { RawLogin } from './raw/requester.ts'
import { ECHO_SESSION } from './raw/subject.ts'

/** A directory that goes with the scope. */
export async function scratch(scope: Scope): Promise<string> {
  const dir = await mkdtemp(path.join(tmpdir(), 'cmesh-bench-'))
  scope.defer(() => rm(dir, { recursive: true, force: true, maxRetries: 3 }))
  return dir
}

/** A node in a process of its own, on a fresh directory, with an operator's key for the benchmark. */
export interface MeshProcess {
  readonly pid: number
  readonly brokerPid: number
  /** Its data directory. */
  readonly dir: string
  /** How its operator reaches it. */
  readonly access: MeshAccess
  stop(): Promise<void>
}

export async function startMesh(scope: Scope, settings: Readonly<Record<string, string | number>> = {}): Promise<MeshProcess> {
  const dir = await scratch(scope)
  const operator = KeyPair.generate()
  const given = Object.entries(settings).flatMap(([key, value]) => ['--set', `${key}=${value}`])
  const child = await Child.start<{ readonly descriptor: MeshDescriptor }>(scope, {
    entry: new URL('../node/main.js', import.meta.url),
    args: ['--data', dir, '--operator', operator.did, '--log-level', 'error', ...given],
    flags: NODE_FLAGS,
    isReady: message => 'descriptor' in message,
  })
  const { url, did } = child.ready.descriptor
  return {
    pid: child.pid,
    dir,
    brokerPid: Number(await readFile(path.join(dir, 'broker', BROKER_FILES.pid), 'utf8')),
    access: { url, mesh: did, seed: operator.exportSeed() },
    stop: () => child.stop(),
  }
}

/** Prepares a mesh as its operator, in this process; what is measured is asked by a driver. */
export async function prepare<T>(mesh: Pick<MeshProcess, 'access'>, work: (client: MeshClient) => Promise<T>): Promise<T> {
  const client = await meshClient(mesh.access)
  try {
    return await work(client)
  } finally {
    await client.close()
  }
}

/** Registers the name that the mix asks for. */
export async function registerMixName(mesh: Pick<MeshProcess, 'access'>): Promise<void> {
  await prepare(mesh, client => client.register(MIX_NAME, MIX_TARGET))
}

/** A broker like the mesh's own, for a baseline. */
export async function startBroker(scope: Scope): Promise<ManagedBroker> {
  const broker = new ManagedBroker({ dir: await scratch(scope) })
  scope.defer(() => broker.stop())
  await broker.start()
  return broker
}

/** A client process that does one thing, as often as it is asked to. */
export interface DriverProcess {
  readonly pid: number
  run(asked: RunDriver): Promise<DriverRun>
}

export async function startDriver<N extends DriverName>(scope: Scope, driver: N, options: DriverOptions<N>): Promise<DriverProcess> {
  const child = await Child.start(scope, {
    entry: new URL('./driver.js', import.meta.url), args: [driver], open: { driver, options } satisfies OpenDriver<N>, isReady: message => 'ready' in message,
  })
  return { pid: child.pid, run: asked => child.ask<DriverRun>(asked) }
}

/** A subject or baseline of request and reply: who asks, and every process that works for it. */
export interface Asking {
  readonly driver: DriverProcess
  /** Process ids by what they are. */
  readonly processes: Readonly<Record<string, number>>
}

/** The hand-made baseline: requester, broker, echo. */
export async function startRaw(scope: Scope): Promise<Asking> {
  const broker = await startBroker(scope)
  const echo = await Child.start(scope, {
    entry: new URL('./raw/echo.js', import.meta.url), open: { url: broker.url, ...broker.mesh } satisfies RawLogin, isReady: message => 'ready' in message,
  })
  const driver = await startDriver(scope, 'raw', { url: broker.url, ...broker.sessionLogin(ECHO_SESSION), inbox: inboxPrefix(ECHO_SESSION) })
  return { driver, processes: { client: driver.pid, broker: broker.pid ?? 0, echo: echo.pid } }
}

/** Moleculer in the same layout: caller, broker, service. */
export async function startMoleculer(scope: Scope): Promise<Asking> {
  const broker = await startBroker(scope)
  // The services' account, since Moleculer's subjects are not those that the broker's rules let a client use.
  const login: MoleculerLogin = { url: broker.url, ...broker.core }
  const service = await Child.start(scope, { entry: new URL('./moleculer/service.js', import.meta.url), open: login, isReady: message => 'ready' in message })
  const driver = await startDriver(scope, 'moleculer', login)
  return { driver, processes: { client: driver.pid, broker: broker.pid ?? 0, service: service.pid } }
}

/**
 * The node's connections, one in each account: the services'; the sessions', where requests come in and replies leave; the newcomers',
 * where they shake hands; the system's, where sessions are kept out. Over a broker of its own, or over an existing cluster by URL, with
 * the accounts that were given for it or, where it has none, with one login for all: then newcomers come in where sessions do.
 *
 * Nothing waits for the one among newcomers, who can fill the places there: sessions are served without it (`broker/door.ts`).
 */
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import type { BrokerAccounts } from '../cmtp/identity/nats-accounts.ts'
import { connectNats, type NatsBus } from '../providers/bus/nats.ts'
import { withoutCredentials, type NatsLogin } from '../providers/bus/nats-login.ts'
import type { Bus } from '../services/bus/provider.ts'
import type { Log } from '../services/log.ts'
import { givenAccounts, loginsOf, type BrokerLogins } from './broker/accounts.ts'
import { Door } from './broker/door.ts'
import { ManagedBroker } from './broker/managed.ts'
import { BrokerAccountSessions } from './broker/sessions.ts'
import type { Config } from './settings.ts'

export interface Buses {
  readonly core: NatsBus
  readonly mesh: NatsBus
  /** In the account of newcomers, where handshakes come in. The same as `mesh` where the broker has no accounts. */
  readonly door: Bus
  /** Logins of sessions. Undefined where the broker has no accounts: it enforces nothing then. */
  readonly sessions: BrokerAccountSessions | undefined
  /** In the system account. Undefined where the broker has no accounts. */
  readonly sys: NatsBus | undefined
  /** Where clients connect. */
  readonly url: string
  /** The broker's process, where it is this node's own. */
  readonly broker: ManagedBroker | undefined
}

interface Access {
  readonly logins: BrokerLogins
  readonly accounts: BrokerAccounts
}

/** Major and minor version of the oldest nats-server that will do. */
const OLDEST = [2, 9] as const

/**
 * Connects, after starting a broker where the settings name none. Rejects with `CMESH_BROKER_*` or `CMESH_BUS_*`; undone then, as it is
 * when `signal` fires while the broker starts.
 */
export async function openBuses(config: Config, log: Log, signal?: AbortSignal): Promise<Buses> {
  const url = config['bus.url']
  const given = await accessOf(config)
  const broker = url === undefined ? managed(config, log) : undefined
  const opening: Promise<NatsBus>[] = []
  let door: Door | undefined
  const interrupt = (): void => { void broker?.stop() }
  try {
    signal?.addEventListener('abort', interrupt)
    if (signal?.aborted === true) interrupt()
    await broker?.start()
    const access = broker === undefined ? given : { logins: broker, accounts: broker.accounts }
    const servers = broker?.url ?? (url ?? '').split(',')
    const open = (name: keyof BrokerLogins, login: NatsLogin): Promise<NatsBus> => {
      const bus = connect(name, servers, login, log)
      opening.push(bus)
      return bus
    }
    const seed = config['bus.nkeySeed']
    const plain = seed === undefined ? {} : { nkeySeed: seed }
    const { logins } = access ?? {}
    if (logins !== undefined) door = new Door(() => connect('door', servers, logins.door, log), log)
    const [core, mesh, sys] = await Promise.all([
      open('core', logins?.core ?? plain), open('mesh', logins?.mesh ?? plain), logins && open('sys', logins.sys), door?.tried,
    ])
    refuseOld(core)
    if (given !== undefined) refuseWithoutAccounts(core)
    const sessions = access === undefined || sys === undefined ? undefined : new BrokerAccountSessions({
      accounts: access.accounts, sys, connectionTtlMs: config['iam.connectionTtlMs'], log,
    })
    // The descriptor is for every client to read; the node's login is not.
    const address = broker?.url ?? (url ?? '').split(',').map(withoutCredentials).join(',')
    return { core, mesh, door: door ?? mesh, sys, sessions, url: address, broker }
  } catch (error) {
    await Promise.all([door?.close(), ...opening.map(bus => bus.then(one => one.close(), () => undefined))])
    await broker?.stop()
    throw error
  } finally {
    signal?.removeEventListener('abort', interrupt)
  }
}

/** Idempotent. */
export async function closeBuses({ core, mesh, door, sys, sessions, broker }: Buses): Promise<void> {
  sessions?.close()
  await Promise.all([mesh.close(), core.close(), door.close(), sys?.close()])
  await broker?.stop()
}

/** What the settings give of a broker that is not this node's own. */
async function accessOf(config: Config): Promise<Access | undefined> {
  const file = config['bus.accounts']
  if (file === undefined) return undefined
  const invalid = (reason: string): CMeshError => new CMeshError('CMESH_CONFIG_INVALID', { key: 'bus.accounts', reason })
  if (config['bus.url'] === undefined) throw invalid('a broker of the node\'s own has its own accounts; it goes with bus.url')
  if (config['bus.nkeySeed'] !== undefined) throw invalid('bus.nkeySeed is given too; one login is needed')
  const accounts = await givenAccounts(path.resolve(file))
  return { accounts, logins: loginsOf(accounts, Math.floor(Date.now() / 1_000)) }
}

/** An older one lacks what the streams are made with, and says so only when it is used. */
function refuseOld({ connection: { info } }: NatsBus): void {
  const [, major = 0, minor = 0] = (/^v?(\d+)\.(\d+)\./.exec(info?.version ?? '') ?? []).map(Number)
  if (major > OLDEST[0] || (major === OLDEST[0] && minor >= OLDEST[1])) return
  throw new CMeshError('CMESH_BUS_VERSION', { server: info?.server_name ?? 'bus.url', version: info?.version ?? 'unknown' })
}

/** A server without accounts lets everybody in and asks nobody to sign; whoever gave accounts believes otherwise. */
function refuseWithoutAccounts(bus: NatsBus): void {
  if (bus.signed) return
  throw new CMeshError('CMESH_BROKER_ACCOUNTS', { reason: 'the server at bus.url was not configured with them; include what `cmesh operator export` wrote' })
}

async function connect(name: string, servers: string | readonly string[], login: NatsLogin, log: Log): Promise<NatsBus> {
  const bus = await connectNats({
    servers,
    name: `cmesh-${name}`,
    ...login,
    onError: (error: CMeshError) => { log.error({ err: error, code: error.code, connection: name }, 'the bus failed') },
  })
  bus.onStatus(status => { log[status === 'disconnected' ? 'warn' : 'info']({ connection: name, status }, 'the connection to the broker changed') })
  return bus
}

function managed(config: Config, log: Log): ManagedBroker {
  const port = config['bus.port']
  return new ManagedBroker({
    dir: path.join(config['data.dir'], 'broker'),
    accountsDir: path.join(config['data.dir'], 'operator'),
    ...(port !== undefined && { port }),
    onExit: exit => { log.error({ ...exit }, 'the broker is gone; starting it again') },
    onRestart: failure => {
      if (failure === undefined) log.info({}, 'the broker is back')
      else log.error({ err: failure, code: failure.code }, 'the broker did not start')
    },
  })
}

/**
 * The node's two connections: one in the sessions' account, where requests come in and replies leave, one in the services'
 * account. Over a broker of its own, or over an existing cluster by URL, where both use the one login that was given.
 */
import path from 'node:path'
import type { CMeshError } from '../cmtp/errors.ts'
import { connectNats, type NatsBus } from '../providers/bus/nats.ts'
import { withoutCredentials } from '../providers/bus/nats-login.ts'
import type { BrokerSessions } from '../services/iam/connections.ts'
import type { Log } from '../services/log.ts'
import { ManagedBroker } from './broker/managed.ts'
import type { Config } from './settings.ts'

export interface Buses {
  readonly core: NatsBus
  readonly mesh: NatsBus
  /** In the account of newcomers, where handshakes come in. The same as `mesh` where the broker has no accounts. */
  readonly door: NatsBus
  /** Logins of sessions. Undefined where the broker has no accounts: it enforces nothing then. */
  readonly sessions: BrokerSessions | undefined
  /** Where clients connect. */
  readonly url: string
  /** The broker's process, where it is this node's own. */
  readonly broker: ManagedBroker | undefined
}

/**
 * Connects, after starting a broker where the settings name none. Rejects with `CMESH_BROKER_*` or `CMESH_BUS_*`; undone then, as it is
 * when `signal` fires while the broker starts.
 */
export async function openBuses(config: Config, log: Log, signal?: AbortSignal): Promise<Buses> {
  const url = config['bus.url']
  const broker = url === undefined ? managed(config, log) : undefined
  const opened: NatsBus[] = []
  const interrupt = (): void => { void broker?.stop() }
  try {
    signal?.addEventListener('abort', interrupt)
    if (signal?.aborted === true) interrupt()
    await broker?.start()
    const open = async (name: string, nkeySeed: string | undefined): Promise<NatsBus> => {
      const bus = await connectNats({
        servers: broker?.url ?? (url ?? '').split(','),
        name: `cmesh-${name}`,
        ...(nkeySeed !== undefined && { nkeySeed }),
        onError: (error: CMeshError) => { log.error({ err: error, code: error.code, connection: name }, 'the bus failed') },
      })
      opened.push(bus)
      bus.onStatus(status => { log[status === 'disconnected' ? 'warn' : 'info']({ connection: name, status }, 'the connection to the broker changed') })
      return bus
    }
    const core = await open('core', broker?.core.nkeySeed ?? config['bus.nkeySeed'])
    const mesh = await open('mesh', broker?.mesh.nkeySeed ?? config['bus.nkeySeed'])
    // The descriptor is for every client to read; the node's login is not.
    const address = broker?.url ?? (url ?? '').split(',').map(withoutCredentials).join(',')
    return { core, mesh, door: mesh, sessions: undefined, url: address, broker }
  } catch (error) {
    await Promise.all(opened.map(bus => bus.close()))
    await broker?.stop()
    throw error
  } finally {
    signal?.removeEventListener('abort', interrupt)
  }
}

/** Idempotent. */
export async function closeBuses(buses: Buses): Promise<void> {
  await Promise.all([buses.mesh.close(), buses.core.close()])
  await buses.broker?.stop()
}

function managed(config: Config, log: Log): ManagedBroker {
  const port = config['bus.port']
  return new ManagedBroker({
    dir: path.join(config['data.dir'], 'broker'),
    ...(port !== undefined && { port }),
    onExit: exit => { log.error({ ...exit }, 'the broker is gone; starting it again') },
    onRestart: failure => {
      if (failure === undefined) log.info({}, 'the broker is back')
      else log.error({ err: failure, code: failure.code }, 'the broker did not start')
    },
  })
}

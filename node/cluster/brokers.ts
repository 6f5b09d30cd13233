/** The brokers of a cluster on this machine: three nats-servers that replicate JetStream, started together and restarted one at a time. */
import type { CMeshError } from '../../cmtp/errors.ts'
import { connectNats } from '../../providers/bus/nats.ts'
import { loginsOf } from '../broker/accounts.ts'
import { ManagedBroker } from '../broker/managed.ts'
import type { ClusterFiles } from './files.ts'
import { JetStreamApi } from './jetstream-api.ts'
import type { BrokerPorts } from './plan.ts'

export interface BrokersParts {
  readonly files: ClusterFiles
  readonly ports: readonly BrokerPorts[]
  /** Told what happened that nobody asked for. */
  readonly onNote: (line: string) => void
  /** Told each time that one runs again, in a process of another number than before. */
  readonly onRestart?: () => void
}

/** An election takes its time, and longer on a machine that does much else, in ms. */
const READY_MS = 60_000

export class Brokers {
  readonly #parts: BrokersParts
  readonly #brokers: ReadonlyMap<string, ManagedBroker>
  readonly #stopping = new AbortController()
  /** Restarted on purpose just now. */
  #planned: string | undefined

  constructor(parts: BrokersParts) {
    const { files, ports, onNote, onRestart } = parts
    this.#parts = parts
    this.#brokers = new Map(files.brokers.map(({ name, dir, routes }, i) => [name, new ManagedBroker({
      dir, accountsDir: files.accountsDir, port: (ports[i] as BrokerPorts).client, serverName: name, routes, readyMs: READY_MS,
      onExit: ({ code, restartInMs }) => {
        if (this.#planned !== name) onNote(`${name} ended with code ${String(code)}; it is started again in ${restartInMs} ms`)
      },
      onRestart: failure => {
        if (failure !== undefined) onNote(`${name} did not start: ${failure.code}: ${failure.message}`)
        else {
          if (this.#planned !== name) onNote(`${name} is back`)
          onRestart?.()
        }
      },
    })]))
  }

  get names(): readonly string[] {
    return [...this.#brokers.keys()]
  }

  pidOf(name: string): number | undefined {
    return this.#brokers.get(name)?.pid
  }

  /** Resolves when all run, and they and every stream have a leader: among servers that had streams before that takes some seconds. Rejects with `CMESH_BROKER_*`; `stop` undoes what was begun. */
  async start(): Promise<void> {
    // At once: none is ready before it has others to elect a leader with.
    await Promise.all([...this.#brokers.values()].map(broker => broker.start()))
    await this.#asking(api => api.ready(READY_MS, this.#stopping.signal))
  }

  /** Lets one hand over what it leads, ends it, and resolves when another runs in its place and all copies are level again. */
  async restart(name: string, onStep: (step: string) => void): Promise<void> {
    await this.#asking(async api => {
      await api.level(READY_MS, this.#stopping.signal)
      onStep(`${name} hands over what it leads`)
      await api.stepDown(name, READY_MS, this.#stopping.signal)
      onStep(`${name} restarts`)
      this.#planned = name
      try {
        await this.#brokers.get(name)?.restart()
      } finally {
        this.#planned = undefined
      }
      onStep(`${name} catches up`)
      await api.level(READY_MS, this.#stopping.signal)
    })
  }

  async stop(): Promise<void> {
    this.#stopping.abort()
    await Promise.all([...this.#brokers.values()].map(broker => broker.stop()))
  }

  async #asking<T>(use: (api: JetStreamApi) => Promise<T>): Promise<T> {
    const { files, onNote } = this.#parts
    const bus = await connectNats({
      servers: files.urls, name: 'cmesh-supervisor', ...loginsOf(files.accounts, Math.floor(Date.now() / 1_000)).core,
      onError: (error: CMeshError) => { onNote(`the supervisor's connection: ${error.code}: ${error.message}`) },
    })
    try {
      return await use(new JetStreamApi(bus))
    } finally {
      await bus.close()
    }
  }
}

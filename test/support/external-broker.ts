/**
 * A nats-server that belongs to no node, as `docker-compose.yml` runs one: JetStream, no accounts unless a test gives it some. It can be killed and brought
 * back on its port and with its streams. `stop` ends it, looks for secrets in its log and removes its directory.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { BROKER_FILES } from '../../node/broker/config.ts'
import { locateNatsServer } from '../../node/broker/locate.ts'
import { ServerProcess } from '../../node/broker/server-process.ts'
import { secretsIn } from './secrets.ts'
import { standStill } from './stand-still.ts'

export interface ExternalBrokerOptions {
  /** Default true. */
  readonly jetstream?: boolean
  /** Largest message. Default 2 MiB. */
  readonly payloadBytes?: number
  /** More lines of `nats.conf`; `dir` is the server's own. Default none. */
  readonly extra?: (dir: string) => string
}

export class ExternalBroker {
  readonly #dir: string
  readonly #options: ExternalBrokerOptions
  #server: ServerProcess

  static async start(options: ExternalBrokerOptions = {}): Promise<ExternalBroker> {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-nats-'))
    return new ExternalBroker(dir, options, await launch(dir, -1, options))
  }

  private constructor(dir: string, options: ExternalBrokerOptions, server: ServerProcess) {
    this.#dir = dir
    this.#options = options
    this.#server = server
  }

  /** Where its streams are. */
  get storeDir(): string {
    return path.join(this.#dir, 'store')
  }

  get url(): string {
    return `nats://127.0.0.1:${this.#server.port}`
  }

  signal(signal: NodeJS.Signals): void {
    this.#server.signal(signal)
  }

  /** SIGSTOP; resolves when nothing of it runs any more. SIGCONT lets it go on. */
  async standStill(): Promise<void> {
    await standStill(this.#server.pid)
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(): Promise<void> {
    this.#server.signal('SIGKILL')
    await this.#server.exited
  }

  /** Brings it back after `kill`. */
  async restart(): Promise<void> {
    this.#server = await launch(this.#dir, this.#server.port, this.#options)
  }

  async stop(): Promise<void> {
    this.#server.signal('SIGCONT')
    await this.#server.stop()
    const leaks = secretsIn(await readFile(path.join(this.#dir, BROKER_FILES.log), 'utf8'))
    await rm(this.#dir, { recursive: true, force: true })
    if (leaks.length > 0) throw new Error(`secrets were written down in the broker's log:\n${leaks.join('\n')}`)
  }
}

async function launch(dir: string, port: number, { jetstream = true, payloadBytes = 2 * 1_024 * 1_024, extra }: ExternalBrokerOptions): Promise<ServerProcess> {
  const inDir = (name: string): string => JSON.stringify(path.join(dir, name))
  await writeFile(path.join(dir, BROKER_FILES.config), `server_name: "external"
host: "127.0.0.1"
port: ${port}
http: "127.0.0.1:-1"
ports_file_dir: ${JSON.stringify(dir)}
log_file: ${inDir(BROKER_FILES.log)}
max_payload: ${payloadBytes}
max_pending: 64MB
${jetstream ? `jetstream { store_dir: ${inDir('store')} }` : ''}
${extra?.(dir) ?? ''}
`)
  const { path: binary } = await locateNatsServer({ obtain: false })
  return await ServerProcess.launch({ binary, dir, readyMs: 15_000 })
}

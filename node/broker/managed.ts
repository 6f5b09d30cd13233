/**
 * A nats-server that belongs to this node: found or obtained, configured, started, watched, and stopped with the node. It owns
 * its directory, the server process and the logins of this boot; it opens no connection to the server.
 *
 *   idle → starting → running ⇄ restarting → stopped
 *             └─ failed start: everything undone, `start` stays rejected
 *
 * Invariants: (1) one server at a time in a directory; (2) a server that dies comes back on the same port, so that clients
 * reconnect; (3) when this process dies, the server dies with it; (4) the logins of this boot stay in memory; what signs them is
 * in the accounts' own file, and the configuration has public keys only.
 */
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import type { BrokerAccounts } from '../../cmtp/identity/nats-accounts.ts'
import { adoptNamedStreams, keptAccounts, loginsOf, sessionLogin, type BrokerLogin, type BrokerLogins } from './accounts.ts'
import { BROKER_FILES, brokerConfig, type BrokerRoutes } from './config.ts'
import { BrokerDirectory } from './directory.ts'
import { locateNatsServer, type NatsServer } from './locate.ts'
import { awaitPrevious } from './previous.ts'
import { type ServerExit, ServerProcess } from './server-process.ts'

export type { BrokerLogin } from './accounts.ts'

export interface BrokerExit extends ServerExit {
  /** When the server is started again, in ms from now. */
  readonly restartInMs: number
}

export interface ManagedBrokerOptions {
  /** Directory of the broker, made with mode 0700: configuration, log, streams. One per node. */
  readonly dir: string
  /** Directory that keeps the broker's accounts, made with mode 0700. Default: `operator` in `dir`. */
  readonly accountsDir?: string
  /** Loopback port, 1 to 65,535. Default: the one used last in this directory if it is free, else one the server chooses. */
  readonly port?: number
  /** Name of the server in its logs. Default `cmesh`. */
  readonly serverName?: string
  /** What the streams together may keep on disk, in bytes. Default 4 TiB: each stream has a bound of its own. */
  readonly maxFileStoreBytes?: number
  /** Its place in a cluster. Default: it is alone. */
  readonly routes?: BrokerRoutes
  /** Longest wait for ready in ms. Default 15,000; recovering large streams takes time. */
  readonly readyMs?: number
  /** Which nats-server to run. Default `locateNatsServer`, which obtains one where the machine has none. */
  readonly locate?: () => Promise<NatsServer>
  /** Told each time the server is gone though nobody stopped it. It must not throw. */
  readonly onExit?: (exit: BrokerExit) => void
  /** Told when the server answers again, and when an attempt to restart it failed. It must not throw. */
  readonly onRestart?: (failure: CMeshError | undefined) => void
}

/** The pause before a restart doubles from the first to the second, in ms; a server that stayed up this long starts afresh. */
const BACKOFF = Object.freeze({ firstMs: 50, mostMs: 2_000, settledMs: 10_000 })

type Phase =
  | { readonly name: 'idle' | 'starting' | 'stopped' }
  | { readonly name: 'running'; readonly server: ServerProcess; readonly sinceMs: number }
  | { readonly name: 'restarting'; readonly done: Promise<void> }

export class ManagedBroker {
  readonly #options: ManagedBrokerOptions
  readonly #dir: string
  readonly #directory: BrokerDirectory
  readonly #stopping = new AbortController()
  #binary: NatsServer | undefined
  #accounts: BrokerAccounts | undefined
  #logins: BrokerLogins | undefined
  #port: number | undefined
  #restarts = 0
  #phase: Phase = { name: 'idle' }
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(options: ManagedBrokerOptions) {
    this.#options = options
    this.#dir = path.resolve(options.dir)
    this.#directory = new BrokerDirectory(this.#dir)
  }

  /** Login of the services, in the account that has JetStream. Like the three after it throws `CMESH_BROKER_FAILED` before it was started. */
  get core(): BrokerLogin {
    return this.#login('core')
  }

  /** Login of the router, in the account of sessions. */
  get mesh(): BrokerLogin {
    return this.#login('mesh')
  }

  /** Login where newcomers shake hands. */
  get door(): BrokerLogin {
    return this.#login('door')
  }

  /** Login that looks accounts up and changes them. */
  get sys(): BrokerLogin {
    return this.#login('sys')
  }

  /** Login of a session without a handshake: for tests and benchmarks. */
  sessionLogin(sid: string): BrokerLogin {
    return sessionLogin(this.accounts, sid, Math.floor(Date.now() / 1_000))
  }

  /** Who may do what at it. Throws `CMESH_BROKER_FAILED` before it was started. */
  get accounts(): BrokerAccounts {
    return this.#accounts ?? this.#notStarted()
  }

  /** `nats://127.0.0.1:<port>`; the same for as long as this broker lives. Throws `CMESH_BROKER_FAILED` before it was started. */
  get url(): string {
    return `nats://127.0.0.1:${this.#port ?? this.#notStarted()}`
  }

  /** Which nats-server runs, or undefined before it was started. */
  get binary(): NatsServer | undefined {
    return this.#binary
  }

  /** Process id of the server, or undefined while none runs. */
  get pid(): number | undefined {
    return this.#phase.name === 'running' ? this.#phase.server.pid : undefined
  }

  /** Whether the server runs and answers its health check. */
  healthy(): Promise<boolean> {
    return this.#phase.name === 'running' ? this.#phase.server.healthy() : Promise.resolve(false)
  }

  /**
   * Resolves when the server is ready. Memoised. Rejects with `CMESH_BROKER_NOT_FOUND`, `CMESH_CONFIG_INVALID` (an explicit
   * binary or port that cannot be used), `CMESH_BROKER_ACCOUNTS` or `CMESH_BROKER_FAILED`, and leaves no process behind then.
   */
  start(): Promise<void> {
    this.#started ??= this.#start()
    return this.#started
  }

  /** Ends the server and resolves when another runs in its place, on the same port. `onExit` hears of it. */
  async restart(): Promise<void> {
    if (this.#phase.name === 'running') await this.#phase.server.stop()
    if (this.#phase.name === 'restarting') await this.#phase.done
  }

  /** Resolves when the server is gone. Memoised; before `start`, and after a failed one, there is nothing to stop. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #start(): Promise<void> {
    this.#refuseWhenStopping()
    this.#phase = { name: 'starting' }
    this.#binary = await (this.#options.locate ?? locateNatsServer)()
    await this.#directory.make()
    await awaitPrevious(this.#dir)
    await this.#directory.removeOldLogs()
    const nowS = Math.floor(Date.now() / 1_000)
    const accounts = this.#accounts = await keptAccounts(this.#options.accountsDir ?? path.join(this.#dir, 'operator'), path.join(this.#dir, BROKER_FILES.resolver), nowS)
    this.#logins = loginsOf(accounts, nowS)
    await adoptNamedStreams(this.#dir, accounts)
    this.#refuseWhenStopping()
    const wanted = this.#options.port ?? await this.#directory.lastPort()
    const server = await this.#launch(wanted ?? -1).catch((error: unknown) => {
      // Somebody took the remembered port between the look and the start; only a port that was asked for is worth failing for.
      if (wanted === undefined || this.#options.port !== undefined || !/address already in use/.test(String(error))) throw error
      return this.#launch(-1)
    })
    this.#port = server.port
    await this.#directory.rememberPort(server.port)
    this.#enter(server)
  }

  async #stop(): Promise<void> {
    this.#stopping.abort()
    await this.#started?.catch(() => undefined)
    if (this.#phase.name === 'restarting') await this.#phase.done
    const { server } = this.#phase as { server?: ServerProcess }
    this.#phase = { name: 'stopped' }
    await server?.stop()
  }

  #enter(server: ServerProcess): void {
    this.#phase = { name: 'running', server, sinceMs: performance.now() }
    void server.exited.then((exit) => this.#onExited(server, exit))
  }

  #onExited(server: ServerProcess, exit: ServerExit): void {
    if (this.#phase.name !== 'running' || this.#phase.server !== server || this.#stopping.signal.aborted) return
    if (performance.now() - this.#phase.sinceMs > BACKOFF.settledMs) this.#restarts = 0
    this.#phase = { name: 'restarting', done: this.#restart(exit) }
  }

  /** Until it runs again or the broker is stopped. Always on the port that clients know. Never rejects. */
  async #restart(exit: ServerExit): Promise<void> {
    for (;;) {
      const restartInMs = Math.min(BACKOFF.mostMs, BACKOFF.firstMs * 2 ** this.#restarts++)
      this.#options.onExit?.({ ...exit, restartInMs })
      try {
        await delay(restartInMs, undefined, { signal: this.#stopping.signal })
        await awaitPrevious(this.#dir)
        const server = await this.#launch(this.#port as number)
        this.#enter(server)
        this.#options.onRestart?.(undefined)
        return
      } catch (thrown) {
        if (this.#stopping.signal.aborted) return
        this.#options.onRestart?.(CMeshError.from(thrown, 'broker'))
      }
    }
  }

  async #launch(port: number): Promise<ServerProcess> {
    const binary = this.#binary as NatsServer
    const text = brokerConfig({
      serverName: this.#options.serverName ?? 'cmesh',
      port,
      dir: this.#dir,
      accounts: this.accounts,
      version: binary.version,
      ...(this.#options.maxFileStoreBytes !== undefined && { maxFileStoreBytes: this.#options.maxFileStoreBytes }),
      ...(this.#options.routes !== undefined && { routes: this.#options.routes }),
    })
    await this.#directory.write(BROKER_FILES.config, text)
    return ServerProcess.launch({ binary: binary.path, dir: this.#dir, readyMs: this.#options.readyMs ?? 15_000, signal: this.#stopping.signal })
  }

  #login(of: keyof BrokerLogins): BrokerLogin {
    return this.#logins?.[of] ?? this.#notStarted()
  }

  #notStarted(): never {
    throw new CMeshError('CMESH_BROKER_FAILED', { reason: 'it was not started' })
  }

  #refuseWhenStopping(): void {
    if (this.#stopping.signal.aborted) throw new CMeshError('CMESH_BROKER_FAILED', { reason: 'it was stopped' })
  }
}

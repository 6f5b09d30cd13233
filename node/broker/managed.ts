/**
 * A nats-server that belongs to this node: found or obtained, configured, started, watched, and stopped with the node. It owns
 * its directory, the server process and the keys of this boot; it opens no connection to the server.
 *
 *   idle → starting → running ⇄ restarting → stopped
 *             └─ failed start: everything undone, `start` stays rejected
 *
 * Invariants: (1) one server at a time in a directory; (2) a server that dies comes back on the same port, so that clients
 * reconnect; (3) when this process dies, the server dies with it; (4) secrets stay in memory: the file has public keys only.
 */
import { chmod, mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createUser } from '@nats-io/nkeys'
import { CMeshError } from '../../cmtp/errors.ts'
import { BROKER_FILES, BROKER_LIMITS, brokerConfig } from './config.ts'
import { locateNatsServer, type NatsServer } from './locate.ts'
import { awaitPrevious } from './previous.ts'
import { type ServerExit, ServerProcess } from './server-process.ts'

export interface BrokerLogin {
  /** Seed of the nkey (`SU…`). Made for this instance, never written anywhere. */
  readonly nkeySeed: string
}

export interface BrokerExit extends ServerExit {
  /** When the server is started again, in ms from now. */
  readonly restartInMs: number
}

export interface ManagedBrokerOptions {
  /** Directory of the broker, made with mode 0700: configuration, log, streams. One per node. */
  readonly dir: string
  /** Loopback port, 1 to 65,535. Default: the one used last in this directory if it is free, else one the server chooses. */
  readonly port?: number
  /** Name of the server in its logs. Default `cmesh`. */
  readonly serverName?: string
  /** Disk that JetStream may use, in bytes. Default: three quarters of what is free when the server starts. */
  readonly maxFileStoreBytes?: number
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
  readonly #coreKey = createUser()
  readonly #meshKey = createUser()
  readonly #stopping = new AbortController()
  #binary: NatsServer | undefined
  #port: number | undefined
  #restarts = 0
  #phase: Phase = { name: 'idle' }
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined

  constructor(options: ManagedBrokerOptions) {
    this.#options = options
    this.#dir = path.resolve(options.dir)
  }

  /** Login of the services, in the account that has JetStream. */
  get core(): BrokerLogin {
    return { nkeySeed: new TextDecoder().decode(this.#coreKey.getSeed()) }
  }

  /** Login of the router, in the account where requests come in. */
  get mesh(): BrokerLogin {
    return { nkeySeed: new TextDecoder().decode(this.#meshKey.getSeed()) }
  }

  /** `nats://127.0.0.1:<port>`; the same for as long as this broker lives. Throws `CMESH_BROKER_FAILED` before it was started. */
  get url(): string {
    if (this.#port === undefined) throw new CMeshError('CMESH_BROKER_FAILED', { reason: 'it was not started' })
    return `nats://127.0.0.1:${this.#port}`
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
   * binary or port that cannot be used) or `CMESH_BROKER_FAILED`, and leaves no process behind then.
   */
  start(): Promise<void> {
    this.#started ??= this.#start()
    return this.#started
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
    await mkdir(this.#dir, { recursive: true, mode: 0o700 })
    await chmod(this.#dir, 0o700)
    await awaitPrevious(this.#dir)
    await this.#removeOldLogs()
    this.#refuseWhenStopping()
    const wanted = this.#options.port ?? await this.#lastPort()
    const server = await this.#launch(wanted ?? -1).catch((error: unknown) => {
      // Somebody took the remembered port between the look and the start; only a port that was asked for is worth failing for.
      if (wanted === undefined || this.#options.port !== undefined || !/address already in use/.test(String(error))) throw error
      return this.#launch(-1)
    })
    this.#port = server.port
    await this.#rememberPort(server.port)
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
      coreUser: this.#coreKey.getPublicKey(),
      meshUser: this.#meshKey.getPublicKey(),
      version: binary.version,
      ...(this.#options.maxFileStoreBytes !== undefined && { maxFileStoreBytes: this.#options.maxFileStoreBytes }),
    })
    await this.#write(BROKER_FILES.config, text)
    return ServerProcess.launch({ binary: binary.path, dir: this.#dir, readyMs: this.#options.readyMs ?? 15_000, signal: this.#stopping.signal })
  }

  async #lastPort(): Promise<number | undefined> {
    const port = Number(await readFile(path.join(this.#dir, BROKER_FILES.port), 'utf8').catch(() => ''))
    return Number.isInteger(port) && port > 0 && port < 65_536 && await isFree(port) ? port : undefined
  }

  async #rememberPort(port: number): Promise<void> {
    await this.#write(BROKER_FILES.port, `${port}\n`)
  }

  /** Whole or not at all, readable by nobody else. */
  async #write(name: string, text: string): Promise<void> {
    const target = path.join(this.#dir, name)
    await rm(`${target}.part`, { force: true })
    await writeFile(`${target}.part`, text, { mode: 0o600, flag: 'wx' })
    await rename(`${target}.part`, target)
  }

  /** nats-server before 2.10 puts full logs aside and never removes one. */
  async #removeOldLogs(): Promise<void> {
    const aside = (await readdir(this.#dir)).filter((name) => name.startsWith(`${BROKER_FILES.log}.`)).sort()
    await Promise.all(aside.slice(0, -BROKER_LIMITS.logFiles).map((name) => rm(path.join(this.#dir, name), { force: true })))
  }

  #refuseWhenStopping(): void {
    if (this.#stopping.signal.aborted) throw new CMeshError('CMESH_BROKER_FAILED', { reason: 'it was stopped' })
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const probe = createServer()
    probe.once('error', () => resolve(false))
    probe.listen({ host: '127.0.0.1', port, exclusive: true }, () => probe.close(() => resolve(true)))
  })
}

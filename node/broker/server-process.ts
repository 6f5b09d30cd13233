/**
 * One life of a nats-server process: from spawn, through ready, to its exit. It owns the process and the guard that ends it
 * when this process dies, however it dies; it never restarts anything. A life that does not become ready is ended.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { readdir, readFile, rm, stat } from 'node:fs/promises'
import { connect } from 'node:net'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import { BROKER_FILES } from './config.ts'

export interface ServerExit {
  /** Exit status, or null when a signal ended the guard itself. 128 + n stands for signal n. */
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

export interface ServerLaunch {
  /** Path of the nats-server binary. */
  readonly binary: string
  /** Directory that holds `nats.conf`; the server writes its ports file there. */
  readonly dir: string
  /** Longest wait for ready in ms. */
  readonly readyMs: number
  /** Ends the wait. */
  readonly signal?: AbortSignal
}

/** How long a server may take to stop before it is killed, in ms. The guard allows as much. */
const STOP_MS = 5_000
/** How often a server that starts is looked at, in ms. It takes about ten. */
const POLL_MS = 5
/** How a NATS server begins. */
const GREETING = 'INFO '

/**
 * $0 is the server, $1 its configuration. Standard input is a pipe from our process that nothing is written to: when it ends,
 * our process is gone, by kill -9 too, and the server is stopped, at last killed. The reader of the pipe is a process beside
 * the shell, so that the shell can wait for the server and pass its status on. The first line printed is the server's id.
 */
const GUARD = `"$0" -c "$1" </dev/null >/dev/null & server=$!
echo $server
exec 3<&0
(cat <&3 >/dev/null; kill -INT $server
for second in 1 2 3 4 5; do sleep 1; kill -0 $server || exit; done; kill -KILL $server) >/dev/null 2>&1 & watch=$!
exec 0</dev/null 1>/dev/null 3<&-
wait $server; status=$?
kill $watch 2>/dev/null
exit $status`

export class ServerProcess {
  /** Process id of the nats-server itself, not of its guard. */
  readonly pid: number
  /** Port for clients on 127.0.0.1. */
  readonly port: number
  /** Resolves once, when the server is gone. Never rejects. */
  readonly exited: Promise<ServerExit>
  #gone = false

  private constructor(pid: number, port: number, exited: Promise<ServerExit>) {
    this.pid = pid
    this.port = port
    this.exited = exited
    void exited.then(() => { this.#gone = true })
  }

  /** Resolves when a new server greets clients. Rejects with `CMESH_BROKER_FAILED`, leaving nothing behind. */
  static async launch(launch: ServerLaunch): Promise<ServerProcess> {
    await removePortsFiles(launch.dir)
    const logStart = await stat(path.join(launch.dir, BROKER_FILES.log)).then((found) => found.size, () => 0)
    const child = spawnGuarded(launch)
    let errorText = ''
    child.stderr?.on('data', (chunk: Buffer) => { errorText = (errorText + chunk.toString()).slice(-2_000) })
    let gone: ServerExit | undefined
    const exited = new Promise<ServerExit>((resolve) => {
      child.once('error', (error) => { errorText += error.message; resolve({ code: null, signal: null }) })
      child.once('exit', (code, signal) => resolve({ code, signal }))
    }).then((exit) => gone = exit)

    let pid: number | undefined
    try {
      const deadline = performance.now() + launch.readyMs
      const check = (): void => {
        if (gone !== undefined) throw new Error('it exited')
        if (launch.signal?.aborted === true) throw new Error('it was stopped')
        if (performance.now() > deadline) throw new Error(`it was not ready after ${launch.readyMs} ms`)
      }
      pid = await Promise.race([serverPid(child), exited.then(() => undefined)])
      if (pid === undefined) throw new Error('it exited')
      const port = await poll(check, () => readPort(launch.dir, pid as number))
      await poll(check, () => greets(port))
      return new ServerProcess(pid, port, exited)
    } catch (thrown) {
      if (pid !== undefined && gone === undefined) signalProcess(pid, 'SIGKILL')
      child.stdin?.destroy()
      await exited
      const reason = await failureReason(launch.dir, logStart, errorText, thrown)
      throw new CMeshError('CMESH_BROKER_FAILED', { reason }, { cause: thrown })
    }
  }

  /** Whether it greets a client now. */
  healthy(): Promise<boolean> {
    return greets(this.port).then((answer) => answer === true)
  }

  /** Asks the server to stop, kills it after five seconds, resolves when it is gone. */
  async stop(): Promise<void> {
    this.signal('SIGINT')
    const kill = setTimeout(() => this.signal('SIGKILL'), STOP_MS)
    await this.exited
    clearTimeout(kill)
  }

  /** Sends a signal to the server, if it still lives. */
  signal(signal: NodeJS.Signals): void {
    if (!this.#gone) signalProcess(this.pid, signal)
  }
}

function spawnGuarded(launch: ServerLaunch): ChildProcess {
  const config = path.join(launch.dir, BROKER_FILES.config)
  // A session of its own: Ctrl-C in a terminal goes to every process of the group, and the node drains before its broker stops.
  const child = spawn('/bin/sh', ['-c', GUARD, launch.binary, config], { stdio: ['pipe', 'pipe', 'pipe'], detached: true })
  // The pipe breaks when the guard dies first; that exit is seen as such.
  child.stdin.on('error', () => undefined)
  return child
}

function serverPid(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    child.stdout?.once('data', (chunk: Buffer) => resolve(Number.parseInt(chunk.toString(), 10)))
    child.once('error', reject)
  })
}

async function poll<T>(check: () => void, look: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await look()
    if (found !== undefined) return found
    check()
    await delay(POLL_MS)
  }
}

/** The port for clients. The server names the file after its own binary, so it is known by its end. */
async function readPort(dir: string, pid: number): Promise<number | undefined> {
  const name = (await readdir(dir)).find((entry) => entry.endsWith(`_${pid}.ports`))
  if (name === undefined) return undefined
  const text = await readFile(path.join(dir, name), 'utf8')
  try {
    const [client] = (JSON.parse(text) as { readonly nats?: readonly string[] }).nats ?? []
    return client === undefined ? undefined : Number(new URL(client).port)
  } catch {
    // Half written: the next look finds it whole.
    return undefined
  }
}

async function removePortsFiles(dir: string): Promise<void> {
  const stale = (await readdir(dir)).filter((name) => name.endsWith('.ports'))
  await Promise.all(stale.map((name) => rm(path.join(dir, name), { force: true })))
}

/**
 * A server greets who connects, before any login, by `INFO`; it lets clients come only once JetStream has recovered its streams.
 * Resolves with undefined where none does within a second.
 */
function greets(port: number): Promise<true | undefined> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, timeout: 1_000 })
    let said = ''
    socket.on('data', (chunk: Buffer) => {
      said += chunk.toString('latin1')
      if (said.length >= GREETING.length) socket.destroy()
    })
    socket.on('timeout', () => socket.destroy())
    // Its close says all there is to say.
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(said.startsWith(GREETING) ? true : undefined))
  })
}

function signalProcess(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch (thrown) {
    // Gone already, which is what the signal was for.
    if ((thrown as NodeJS.ErrnoException).code !== 'ESRCH') throw thrown
  }
}

/** The server says why in its log, or before it has one on standard error. */
async function failureReason(dir: string, logStart: number, errorText: string, thrown: unknown): Promise<string> {
  const log = await readFile(path.join(dir, BROKER_FILES.log)).catch(() => Buffer.alloc(0))
  const lines = `${errorText}\n${log.subarray(logStart).toString()}`.split('\n')
  const said = lines.filter((line) => /\[FTL\]|\[ERR\]|nats-server:/.test(line)).at(-1)
  const what = thrown instanceof Error ? thrown.message : String(thrown)
  return said === undefined ? `${what}. ${errorText.trim()}`.trim() : `${what}: ${said.replace(/^.*\[(?:FTL|ERR)\]\s*/, '')}`
}

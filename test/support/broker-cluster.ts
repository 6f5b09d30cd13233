/**
 * Three nats-servers that are one cluster and belong to no node: JetStream, no accounts. Each can be killed, and brought back on
 * its port and with its streams. `stop` ends them and removes their directories.
 */
import { randomInt } from 'node:crypto'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import net from 'node:net'
import os from 'node:os'
import path from 'node:path'
import { BROKER_FILES } from '../../node/broker/config.ts'
import { locateNatsServer } from '../../node/broker/locate.ts'
import { ServerProcess } from '../../node/broker/server-process.ts'

const NAMES = ['one', 'two', 'three'] as const
/** An election takes its time, and longer on a machine that runs many tests at once. */
const READY_MS = 60_000

interface Member {
  readonly name: string
  readonly dir: string
  readonly binary: string
  server: ServerProcess | undefined
}

export class BrokerCluster {
  readonly #members: readonly Member[]
  readonly #ports: readonly number[]

  static async start(): Promise<BrokerCluster> {
    const ports = await freePorts(2 * NAMES.length)
    const { path: binary } = await locateNatsServer({ obtain: false })
    const routes = NAMES.map((_, i) => `"nats://127.0.0.1:${ports[NAMES.length + i] as number}"`).join(', ')
    const members = await Promise.all(NAMES.map(async (name, i): Promise<Member> => {
      const dir = await mkdtemp(path.join(os.tmpdir(), `cmesh-test-cluster-${name}-`))
      const inDir = (file: string): string => JSON.stringify(path.join(dir, file))
      await writeFile(path.join(dir, BROKER_FILES.config), `server_name: "${name}"
host: "127.0.0.1"
port: ${ports[i] as number}
http: "127.0.0.1:-1"
ports_file_dir: ${JSON.stringify(dir)}
log_file: ${inDir(BROKER_FILES.log)}
max_payload: 2MB
max_pending: 64MB
jetstream { store_dir: ${inDir('store')} }
cluster { name: "test", listen: "127.0.0.1:${ports[NAMES.length + i] as number}", routes: [ ${routes} ] }
`)
      return { name, dir, binary, server: undefined }
    }))
    const cluster = new BrokerCluster(members, ports)
    try {
      // At once: none is ready before it has others to elect a leader with.
      await Promise.all(NAMES.map(name => cluster.launch(name)))
      return cluster
    } catch (error) {
      await cluster.stop()
      throw error
    }
  }

  private constructor(members: readonly Member[], ports: readonly number[]) {
    this.#members = members
    this.#ports = ports
  }

  get urls(): string[] {
    return this.#ports.slice(0, NAMES.length).map(port => `nats://127.0.0.1:${port}`)
  }

  /** SIGKILL; resolves when it is gone. */
  async kill(name: string): Promise<void> {
    const { server } = this.#member(name)
    server?.signal('SIGKILL')
    await server?.exited
  }

  /** Brings it up, the first time or after `kill`. */
  async launch(name: string): Promise<void> {
    const member = this.#member(name)
    member.server = await ServerProcess.launch({ binary: member.binary, dir: member.dir, readyMs: READY_MS })
  }

  async stop(): Promise<void> {
    await Promise.all(this.#members.map(async ({ server, dir }) => {
      server?.signal('SIGKILL')
      await server?.exited
      await rm(dir, { recursive: true, force: true })
    }))
  }

  #member(name: string): Member {
    const found = this.#members.find(member => member.name === name)
    if (found === undefined) throw new Error(`no server is called ${name}`)
    return found
  }
}

/** Ports below those that systems give out by themselves: nobody else's connection gets one of them, not while its server is dead either. */
async function freePorts(count: number): Promise<number[]> {
  const free = new Set<number>()
  while (free.size < count) {
    const port = randomInt(20_000, 32_000)
    const server = net.createServer()
    const listening = once(server, 'listening').then(() => true, () => false)
    server.listen(port, '127.0.0.1')
    if (!await listening) continue
    server.close()
    await once(server, 'close')
    free.add(port)
  }
  return [...free]
}

/**
 * The clients of a drill: writers that fill the ledger, and a few that read and write one register and one counter of the round, each with one call under way,
 * and keep the history of it. They hide nothing: what an error leaves open is left open.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { connect } from '../../../client/connect.ts'
import type { MeshClient } from '../../../client/mesh-client.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { KeyPair } from '../../../cmtp/identity/keys.ts'
import { until } from '../../client/support/until.ts'
import type { Draw } from '../../support/draw.ts'
import type { Ledger, Write } from './ledger.ts'
import type { CounterInput, Operation, RegisterInput } from './linearizability.ts'

export interface WorkloadParts {
  readonly url: string
  readonly mesh: string
  readonly identity: KeyPair
  readonly ledger: Ledger
  readonly wasm: Uint8Array
}

export interface Histories {
  readonly register: Operation<RegisterInput, number>[]
  readonly counter: Operation<CounterInput, number>[]
  /** Views at the level `session` that did not show what their client had done. */
  readonly stale: string[]
}

const HISTORIANS = 5
const WRITERS = 32
/** Of one history: a check takes longer the more there are. */
const MOST_OPERATIONS = 120
/** Between two calls of one client, at most, in ms: what is measured is not how much the machine can do. */
const HISTORIAN_MS = 120
const WRITER_MS = 20
const HISTORIAN_TIMEOUT_MS = 3_000
const WRITER_TIMEOUT_MS = 5_000
/** How long the mesh may take to acknowledge again when everything runs. */
const AGAIN_MS = 60_000
/** Errors that say that nothing was done. */
const REFUSALS: ReadonlySet<string> = new Set([
  'CMESH_ROUTER_DEADLINE', 'CMESH_ROUTER_TIMEOUT', 'CMESH_ROUTER_BUSY', 'CMESH_ROUTER_NO_SERVICE', 'CMESH_BUS_NO_RESPONDERS',
])
const LEVEL = 'quorum-os'

export class Workload {
  readonly address: string
  /** How often each error came. */
  readonly errors = new Map<string, number>()
  readonly #clients: readonly MeshClient[]
  readonly #ledger: Ledger
  /** The last acknowledgement of each loop, by `performance.now()`. */
  readonly #lastMs = new Map<string, number>()
  #isOver = true
  #loops: Promise<unknown> = Promise.resolve()
  #histories: Histories = { register: [], counter: [], stale: [] }

  static async open({ url, mesh, identity, ledger, wasm }: WorkloadParts): Promise<Workload> {
    const options = { url, mesh, identity, drainMs: 0, connectTimeoutMs: 30_000, onWarning: () => undefined }
    const clients = await Promise.all(Array.from({ length: HISTORIANS + 1 }, () => connect(options)))
    const { address } = await (clients[0] as MeshClient).deploy({ wasm, name: 'tally', version: '1.0.0', timeoutMs: 30_000 })
    return new Workload(clients, address, ledger)
  }

  private constructor(clients: readonly MeshClient[], address: string, ledger: Ledger) {
    this.#clients = clients
    this.address = address
    this.#ledger = ledger
  }

  begin(round: number, draw: Draw): void {
    this.#isOver = false
    this.#histories = { register: [], counter: [], stale: [] }
    this.#lastMs.clear()
    const seeds = Array.from({ length: HISTORIANS }, () => draw.fork())
    this.#loops = Promise.all([
      ...seeds.map((own, i) => this.#historian(this.#clients[i] as MeshClient, i, round, own)),
      ...Array.from({ length: WRITERS }, (_, i) => this.#writer(i, draw.fork())),
    ])
  }

  /** Resolves when every loop was served since now: what was broken is whole again. */
  async served(): Promise<void> {
    const nowMs = performance.now()
    await until(`every client is served again; errors so far: ${JSON.stringify([...this.errors])}`,
      () => this.#lastMs.size === HISTORIANS + WRITERS && [...this.#lastMs.values()].every(ms => ms > nowMs), AGAIN_MS)
  }

  async end(): Promise<Histories> {
    this.#isOver = true
    await this.#loops
    return this.#histories
  }

  async close(): Promise<void> {
    this.#isOver = true
    await Promise.all(this.#clients.map(client => client.close()))
    await this.#loops
  }

  async #writer(index: number, draw: Draw): Promise<void> {
    const client = this.#clients[HISTORIANS] as MeshClient
    while (!this.#isOver) {
      if (await this.#write(client, { kind: 'increment', key: 'ledger' }, WRITER_TIMEOUT_MS) !== undefined) this.#lastMs.set(`writer ${index}`, performance.now())
      await delay(draw.below(WRITER_MS))
    }
  }

  async #historian(client: MeshClient, index: number, round: number, draw: Draw): Promise<void> {
    const [register, counter] = [`r${round}`, `c${round}`]
    const { register: ofRegister, counter: ofCounter, stale } = this.#histories
    let own = 0
    while (!this.#isOver) {
      const start = performance.now()
      const isFull = ofRegister.length + ofCounter.length >= 2 * MOST_OPERATIONS
      const choice = isFull ? 6 : draw.below(7)
      let answer: number | undefined
      if (choice < 2) {
        const place = ofRegister.length
        ofRegister.push({ input: { kind: 'read' }, output: undefined, start, end: start })
        answer = await this.#read(client, register, 'linear')
        if (answer !== undefined) ofRegister[place] = { input: { kind: 'read' }, output: answer, start, end: performance.now() }
      } else if (choice < 3) {
        const place = ofRegister.length
        const number = this.#ledger.begin({ kind: 'put', key: register })
        ofRegister.push({ input: { kind: 'write', value: number }, output: undefined, start, end: start })
        answer = await this.#write(client, { kind: 'put', key: register }, HISTORIAN_TIMEOUT_MS, number)
        if (answer !== undefined) ofRegister[place] = { input: { kind: 'write', value: number }, output: answer, start, end: performance.now() }
      } else if (choice < 4) {
        const place = ofCounter.length
        ofCounter.push({ input: { kind: 'read' }, output: undefined, start, end: start })
        answer = await this.#read(client, counter, 'linear')
        if (answer !== undefined) ofCounter[place] = { input: { kind: 'read' }, output: answer, start, end: performance.now() }
      } else if (choice < 6) {
        const place = ofCounter.length
        ofCounter.push({ input: { kind: 'increment' }, output: undefined, start, end: start })
        answer = await this.#write(client, { kind: 'increment', key: counter }, HISTORIAN_TIMEOUT_MS)
        if (answer !== undefined) ofCounter[place] = { input: { kind: 'increment' }, output: own = answer, start, end: performance.now() }
      } else {
        answer = await this.#read(client, counter, 'session')
        if (answer !== undefined && answer < own) stale.push(`client ${index} read ${answer} after its own increment to ${own}`)
      }
      if (answer !== undefined) this.#lastMs.set(`historian ${index}`, performance.now())
      await delay(draw.below(HISTORIAN_MS))
    }
  }

  async #read(client: MeshClient, key: string, read: 'linear' | 'session'): Promise<number | undefined> {
    try {
      return (await client.call(`0xS:${this.address}:get`, { args: [key], read, timeoutMs: HISTORIAN_TIMEOUT_MS })).json<number>()
    } catch (error) {
      this.#failed(error)
      return undefined
    }
  }

  /** The answer of an acknowledged one. */
  async #write(client: MeshClient, { kind, key }: Write, timeoutMs: number, number = this.#ledger.begin({ kind, key })): Promise<number | undefined> {
    try {
      const reply = await client.call(`0xSW:${this.address}:${kind}`, { args: [key, number], timeoutMs })
      if (reply.header('x-cmesh-durability') !== LEVEL) throw new Error(`a write was acknowledged at ${String(reply.header('x-cmesh-durability'))}`)
      const answer = reply.json<number>()
      this.#ledger.acknowledge(number, { seq: Number(reply.header('x-cmesh-sequence')), answer })
      return answer
    } catch (error) {
      const code = this.#failed(error)
      if (REFUSALS.has(code)) this.#ledger.refuse(number, code)
      return undefined
    }
  }

  #failed(error: unknown): string {
    if (!(error instanceof CMeshError)) throw error
    this.errors.set(error.code, (this.errors.get(error.code) ?? 0) + 1)
    return error.code
  }
}

/**
 * A load of so many requests a second, whatever becomes of those before, half of them reads and half writes, with a ledger: what was
 * acknowledged, what failed, and, when it is over, whether the mesh did each write once. It owns no client and starts no process.
 *
 * The writes are increments of the counter `0x002`, which answers each with the number it came to. So two acknowledgements of one number are
 * a write that was lost, and a counter that went further than its writes did one of them twice. Each start of a node adds one too, by its self-test.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError, type MeshClient } from '../client/index.ts'

const READS = ['0xS:0x001:hello_world', '0xS:0x002:get'] as const
const WRITE = '0xSW:0x002:increment'
const COUNTER = '0xS:0x002:get'
const EVENTS = 'events.state.contracts.0x002.incremented'
/** How often requests leave, in ms: a hundredth of a second's worth at a time. */
const BEAT_MS = 10
/** Transactions looked up in one message. */
const LOOKUPS = 512
/** So many transactions a mesh knows by id at least (docs/limits.md): of a load with more writes nobody can say what became of each. */
const KNOWN = 65_536
/** How long the last events may take to be out, in ms. */
const EVENTS_MS = 30_000

/** What became of the requests of one phase. */
export class Phase {
  readonly name: string
  requests = 0
  reads = 0
  writes = 0
  /** Those that failed, by code. */
  readonly failures = new Map<string, number>()
  /** Longest answer, in ms. */
  slowestMs = 0
  /** Requests that were sent more than once and settled in this phase. */
  resent = 0

  constructor(name: string) {
    this.name = name
  }

  get failed(): number {
    return [...this.failures.values()].reduce((sum, count) => sum + count, 0)
  }
}

export interface Verdict {
  readonly acknowledged: number
  /** Acknowledged writes that the mesh does not have, or has given the number of another. */
  readonly lost: number
  /** Writes beyond those that were asked for, once each. */
  readonly duplicated: number
  /** Events beyond the writes, or short of them. */
  readonly events: number
}

export interface SteadyLoadOptions {
  /** Asked in turn. */
  readonly clients: readonly MeshClient[]
  readonly perSecond: number
}

export class SteadyLoad {
  readonly #options: SteadyLoadOptions
  readonly #phases: Phase[] = []
  readonly #underWay = new Set<Promise<void>>()
  /** Of acknowledged writes: transaction to number. */
  readonly #acknowledged = new Map<string, number>()
  /** Transactions whose outcome nobody was told. */
  readonly #unknown: string[] = []
  #before = 0
  /** Requests sent more than once, up to the phase that is under way. */
  #resent = 0
  #over = false
  #running: Promise<void> | undefined

  constructor(options: SteadyLoadOptions) {
    this.#options = options
  }

  get phases(): readonly Phase[] {
    return this.#phases
  }

  /** Begins; nothing else may write to the counter from here on. */
  async start(phase: string): Promise<void> {
    this.#before = await this.#counter()
    this.enter(phase)
    this.#running = this.#run()
  }

  /** What is asked from now on counts for another phase. */
  enter(name: string): void {
    this.#closePhase()
    this.#phases.push(new Phase(name))
  }

  #closePhase(): void {
    const resent = this.#options.clients.reduce((sum, client) => sum + client.resent, 0)
    const phase = this.#phases.at(-1)
    if (phase !== undefined) phase.resent = resent - this.#resent
    this.#resent = resent
  }

  /** Ends; resolves when every request has its answer. */
  async stop(): Promise<void> {
    this.#over = true
    await this.#running
    await Promise.all(this.#underWay)
    this.#closePhase()
  }

  /** Compares what was acknowledged with what there is. `boots`: nodes that were started meanwhile. Rejects where there were more writes than the mesh can know. */
  async verdict(boots: number): Promise<Verdict> {
    const writes = this.#phases.reduce((sum, phase) => sum + phase.writes, boots)
    if (writes > KNOWN) throw new Error(`${writes} writes cannot be looked up: a mesh knows the last ${KNOWN} by id. Ask for fewer a second, or for a shorter time.`)
    const after = await this.#counter()
    const numbers = new Set(this.#acknowledged.values())
    const missing = await this.#missing([...this.#acknowledged.keys()])
    const executed = this.#unknown.length - await this.#missing(this.#unknown)
    const done = this.#acknowledged.size - missing + executed
    return {
      acknowledged: this.#acknowledged.size,
      lost: missing + this.#acknowledged.size - numbers.size,
      duplicated: after - this.#before - boots - done,
      events: await this.#events(after) - after,
    }
  }

  async #run(): Promise<void> {
    const { clients, perSecond } = this.#options
    const beganMs = performance.now()
    for (let sent = 0; !this.#over;) {
      const due = Math.floor((performance.now() - beganMs) * perSecond / 1_000)
      for (; sent < due; sent++) {
        const asked = this.#ask(clients[sent % clients.length] as MeshClient, sent).finally(() => { this.#underWay.delete(asked) })
        this.#underWay.add(asked)
      }
      await delay(BEAT_MS)
    }
  }

  async #ask(client: MeshClient, nth: number): Promise<void> {
    const phase = this.#phases.at(-1)
    const writes = nth % 2 === 0
    const beganMs = performance.now()
    phase.requests++
    if (writes) phase.writes++
    else phase.reads++
    try {
      const reply = await client.call(writes ? WRITE : READS[(nth >> 1) % READS.length] ?? WRITE)
      if (writes) this.#acknowledged.set(reply.id, reply.json<number>())
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'the load')
      phase.failures.set(error.code, (phase.failures.get(error.code) ?? 0) + 1)
      const { tx } = error.detail
      if (typeof tx === 'string') this.#unknown.push(tx)
    } finally {
      phase.slowestMs = Math.max(phase.slowestMs, performance.now() - beganMs)
    }
  }

  async #counter(): Promise<number> {
    return (await this.#first.call(COUNTER, { read: 'linear' })).json<number>()
  }

  get #first(): MeshClient {
    return this.#options.clients[0] as MeshClient
  }

  /** How many of these transactions the mesh does not know as done. */
  async #missing(transactions: readonly string[]): Promise<number> {
    let missing = 0
    for (let from = 0; from < transactions.length; from += LOOKUPS) {
      const replies = await this.#first.batch(transactions.slice(from, from + LOOKUPS).map(id => ({ fqmn: `0xC:tx:${id}` })))
      missing += replies.filter(reply => !reply.ok || reply.json<{ readonly status: number }>().status !== 200).length
    }
    return missing
  }

  /** How many events there are, once there are as many as expected, or none comes any more. */
  async #events(expected: number): Promise<number> {
    const end = performance.now() + EVENTS_MS
    for (;;) {
      const count = await this.#first.count(EVENTS)
      if (count >= expected || performance.now() > end) return count
      await delay(100)
    }
  }
}

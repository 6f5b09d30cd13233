/**
 * What the supervisor asks of JetStream: who leads which stream, whether its copies are level, and that a leader steps down. It asks on a
 * connection in the services' account, which is opened for it and closed behind it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Bus } from '../../services/bus/provider.ts'

/** A Raft group of JetStream: a stream, or a consumer of one. */
interface Group {
  /** `STREAM` or `CONSUMER`, and what names it behind that. */
  readonly kind: string
  readonly name: string
  /** Name of a server; `undefined` while none leads. */
  readonly leader: string | undefined
  /** Whether every copy is there and has what the leader has. */
  readonly level: boolean
}

interface Answer {
  readonly error?: { readonly description?: string }
  readonly streams?: readonly string[] | null
  readonly consumers?: readonly string[] | null
  readonly cluster?: { readonly leader?: string, readonly replicas?: readonly Replica[] }
}

interface Replica {
  readonly current?: boolean
  readonly offline?: boolean
  readonly lag?: number
}

/** One question; those of a cluster without a leader are not answered at all. */
const REQUEST_MS = 1_000
const POLL_MS = 50

export class JetStreamApi {
  readonly #bus: Pick<Bus, 'request'>

  constructor(bus: Pick<Bus, 'request'>) {
    this.#bus = bus
  }

  /** Resolves when the cluster and each of its groups have a leader. Rejects with `CMESH_BROKER_FAILED` after `waitMs`. */
  ready(waitMs: number, signal?: AbortSignal): Promise<void> {
    const led = async (): Promise<boolean> => (await this.#ask('INFO')).error === undefined && (await this.#groups()).every(({ leader }) => leader !== undefined)
    return patiently(led, waitMs, 'JetStream has no leader', signal)
  }

  /** Resolves when every group has a leader and level copies. Rejects with `CMESH_BROKER_FAILED` after `waitMs`. */
  level(waitMs: number, signal?: AbortSignal): Promise<void> {
    return patiently(async () => (await this.#groups()).every(({ level }) => level), waitMs, 'the copies of a stream are not level', signal)
  }

  /** Resolves when `server` leads nothing any more. Rejects with `CMESH_BROKER_FAILED` after `waitMs`. */
  stepDown(server: string, waitMs: number, signal?: AbortSignal): Promise<void> {
    return patiently(async () => {
      const led = (await this.#groups()).filter(({ leader }) => leader === server)
      for (const { kind, name } of led) await this.#ask(`${kind}.LEADER.STEPDOWN.${name}`)
      return led.length === 0
    }, waitMs, `${server} leads a stream still`, signal)
  }

  async #groups(): Promise<readonly Group[]> {
    const streams = (await this.#ask('STREAM.NAMES')).streams ?? []
    const groups = await Promise.all(streams.map(async stream => {
      const consumers = (await this.#ask(`CONSUMER.NAMES.${stream}`)).consumers ?? []
      return await Promise.all([this.#group('STREAM', stream), ...consumers.map(consumer => this.#group('CONSUMER', `${stream}.${consumer}`))])
    }))
    return groups.flat()
  }

  async #group(kind: string, name: string): Promise<Group> {
    const { cluster } = await this.#ask(`${kind}.INFO.${name}`)
    const copies = cluster?.replicas ?? []
    const level = cluster?.leader !== undefined && copies.every(({ current, offline, lag = 0 }) => current === true && offline !== true && lag === 0)
    return { kind, name, leader: cluster?.leader, level }
  }

  async #ask(what: string): Promise<Answer> {
    const answer = await this.#bus.request(`$JS.API.${what}`, new Uint8Array(), { timeoutMs: REQUEST_MS })
    return JSON.parse(Buffer.from(answer).toString('utf8')) as Answer
  }
}

/** A question that fails is asked again: where a leader just left nobody answers for it. */
async function patiently(check: () => Promise<boolean>, waitMs: number, unlike: string, signal: AbortSignal | undefined): Promise<void> {
  const end = performance.now() + waitMs
  let last: unknown
  for (;;) {
    try {
      if (await check()) return
    } catch (error) {
      if (!(error instanceof CMeshError)) throw error
      last = error
    }
    if (signal?.aborted === true) throw new CMeshError('CMESH_BROKER_FAILED', { reason: 'it was stopped' })
    if (performance.now() > end) throw new CMeshError('CMESH_BROKER_FAILED', { reason: `${unlike} after ${waitMs} ms` }, { cause: last })
    await delay(POLL_MS)
  }
}

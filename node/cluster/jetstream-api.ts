/**
 * What the supervisor asks of JetStream: who leads which stream, whether its copies are level, and that a leader steps down. It asks on a
 * connection in the services' account, which is opened for it and closed behind it.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Bus } from '../../services/bus/provider.ts'

export interface StreamPlace {
  readonly name: string
  /** Name of a server; `undefined` while none leads. */
  readonly leader: string | undefined
  /** Whether every copy is there and has what the leader has. */
  readonly level: boolean
}

interface Answer {
  readonly error?: { readonly description?: string }
  readonly streams?: readonly string[]
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

  /** Resolves when the cluster and each of its streams have a leader. Rejects with `CMESH_BROKER_FAILED` after `waitMs`. */
  ready(waitMs: number, signal?: AbortSignal): Promise<void> {
    const led = async (): Promise<boolean> => (await this.#ask('INFO')).error === undefined && (await this.streams()).every(({ leader }) => leader !== undefined)
    return patiently(led, waitMs, 'JetStream has no leader', signal)
  }

  async streams(): Promise<readonly StreamPlace[]> {
    const names = (await this.#ask('STREAM.NAMES')).streams ?? []
    return Promise.all(names.map(async name => {
      const { cluster } = await this.#ask(`STREAM.INFO.${name}`)
      const copies = cluster?.replicas ?? []
      const level = cluster?.leader !== undefined && copies.every(({ current, offline, lag = 0 }) => current === true && offline !== true && lag === 0)
      return { name, leader: cluster?.leader, level }
    }))
  }

  /** Resolves when every stream has a leader and level copies. Rejects with `CMESH_BROKER_FAILED` after `waitMs`. */
  level(waitMs: number, signal?: AbortSignal): Promise<void> {
    return patiently(async () => (await this.streams()).every(stream => stream.level), waitMs, 'the copies of a stream are not level', signal)
  }

  /** Resolves when `server` leads no stream any more. Rejects with `CMESH_BROKER_FAILED` after `waitMs`. */
  stepDown(server: string, waitMs: number, signal?: AbortSignal): Promise<void> {
    return patiently(async () => {
      const led = (await this.streams()).filter(({ leader }) => leader === server)
      for (const { name } of led) await this.#ask(`STREAM.LEADER.STEPDOWN.${name}`)
      return led.length === 0
    }, waitMs, `${server} leads a stream still`, signal)
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

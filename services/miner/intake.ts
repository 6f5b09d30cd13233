/**
 * The way of requests to be mined from the sessions' account into the services', where their stream is: `cmesh.v1.mine.<sid>` is
 * taken off the one bus and put into the other, and the store's receipt is brought back. Only where the broker has accounts; without
 * them the stream hears the sessions itself. The broker could carry it across by an import, and must not be asked to: it would send
 * the receipt to whatever subject a session names, and a nats-server of 2.9 ends when that is a pattern.
 *
 * Invariants: what a session left goes under that session's own subject; a receipt goes to an inbox of the connection that asked,
 * and what wants it elsewhere is dropped; past a bound an entry is refused, never queued; what was taken was answered before `drain`
 * resolves.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { isReplyOf, MINE_WILDCARD, mineSubject, sessionOfMine } from '../../cmtp/subject.ts'
import { sendAnswer } from '../bus/answer.ts'
import type { Bus, BusMessage, BusSubscription } from '../bus/provider.ts'
import type { Log } from '../log.ts'

export interface MineIntakeParts {
  /** The connection inside the sessions' account. */
  readonly mesh: Bus
  /** The connection inside the services' account, where the stream is. */
  readonly core: Pick<Bus, 'request'>
  readonly log: Log
  /** Entries of one session on their way at once. Default 256. */
  readonly perSession?: number
  /** Entries on their way at once in all. Default 4,096. */
  readonly inAll?: number
}

const MINE_QUEUE = 'miner'
const RETRY_AFTER_MS = 50

export class MineIntake {
  readonly #parts: MineIntakeParts
  readonly #perSession: number
  readonly #inAll: number
  readonly #sessions = new Map<string, number>()
  readonly #underWay = new Set<Promise<void>>()
  #dropped = 0
  #subscription: BusSubscription | undefined

  constructor(parts: MineIntakeParts) {
    const { perSession = 256, inAll = 4_096 } = parts
    this.#parts = parts
    this.#perSession = perSession
    this.#inAll = inAll
  }

  /** Entries that were not taken because their receipt was wanted where their sender does not listen. */
  get dropped(): number {
    return this.#dropped
  }

  /** Resolves when the broker knows of the subscription. Idempotent. */
  async start(): Promise<void> {
    const { mesh } = this.#parts
    this.#subscription ??= mesh.subscribe(MINE_WILDCARD, message => { this.#take(message) }, { queue: MINE_QUEUE })
    await mesh.flush()
  }

  /** Takes nothing more; resolves when every entry taken was answered. */
  async drain(): Promise<void> {
    await this.#subscription?.drain()
    await Promise.all(this.#underWay)
  }

  #take({ subject, reply, data }: BusMessage): void {
    const sid = sessionOfMine(subject)
    // Who wants no receipt may do without: the miner answers by an event anyway.
    if (sid === undefined || (reply !== '' && !isReplyOf(sid, reply))) {
      this.#dropped++
      return
    }
    const refusal = this.#refusal(sid)
    if (refusal !== undefined) {
      this.#answer(reply, refused(refusal))
      return
    }
    this.#sessions.set(sid, (this.#sessions.get(sid) ?? 0) + 1)
    const work: Promise<void> = this.#parts.core.request(mineSubject(sid), data)
      .catch((thrown: unknown) => refused(CMeshError.from(thrown, 'the miner')))
      .then(receipt => {
        this.#underWay.delete(work)
        this.#leave(sid)
        this.#answer(reply, receipt)
      })
    this.#underWay.add(work)
  }

  #refusal(sid: string): CMeshError | undefined {
    if (this.#underWay.size >= this.#inAll) return new CMeshError('CMESH_ROUTER_BUSY', { what: 'The miner', limit: this.#inAll, retryAfterMs: RETRY_AFTER_MS })
    if ((this.#sessions.get(sid) ?? 0) < this.#perSession) return undefined
    return new CMeshError('CMESH_ROUTER_BUSY', { what: 'This session', limit: this.#perSession, retryAfterMs: RETRY_AFTER_MS })
  }

  #leave(sid: string): void {
    const left = (this.#sessions.get(sid) ?? 1) - 1
    if (left === 0) this.#sessions.delete(sid)
    else this.#sessions.set(sid, left)
  }

  #answer(reply: string, receipt: Uint8Array): void {
    if (reply !== '') sendAnswer({ bus: this.#parts.mesh, log: this.#parts.log }, reply, receipt)
  }
}

/** In the shape of the store's own refusals, so that a publisher understands both. */
function refused(error: CMeshError): Buffer {
  return Buffer.from(JSON.stringify({ error: { code: error.status, description: error.message } }))
}

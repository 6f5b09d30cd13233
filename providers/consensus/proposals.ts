/**
 * Proposals on their way into the ordering stream: each is published under its own id, again and again, until it was delivered
 * from the stream or its deadline has passed. The ack says that it is stored; the delivery is what settles it.
 *
 * Invariants:
 * 1. A proposal settles once, at its deadline at the latest (plus the resolution of time-outs).
 * 2. One of which any try may have been stored is never told to have failed: its outcome is unknown.
 * 3. No try is made later than the broker surely knows the first by its id.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Proposal } from '../../services/consensus/provider.ts'
import type { PublishAck, StreamPublisher } from '../jetstream/publish.ts'
import { DUPLICATE_WINDOW_MS } from './ordered-stream.ts'

export interface ProposalsParts {
  readonly publisher: Pick<StreamPublisher, 'publish'>
  /** Where the stream takes them. */
  readonly subject: string
  /** Clock in ms since 1970. */
  readonly now: () => number
  /** How far the stream was delivered. */
  readonly delivered: () => number
  /** Told every ack, of settled proposals too. */
  readonly onAck: (id: string, ack: PublishAck) => void
}

export interface Stored {
  readonly seq: number
  readonly duplicate: boolean
}

/** Half the window: the broker may have stored the first try later than it was sent, and its clock is its own. */
const TRYING_MS = DUPLICATE_WINDOW_MS / 2
const LONGEST_TIMER_MS = 2 ** 31 - 1

interface Waiter {
  readonly proposal: Proposal
  readonly resolve: (stored: Stored) => void
  readonly reject: (error: CMeshError) => void
  readonly ending: AbortController
  /** A try ended without saying whether it was stored. */
  unknown: boolean
  /** The broker knew the id when it was first asked. */
  repeated: boolean
  settled: boolean
  timer: NodeJS.Timeout | undefined
}

export class Proposals {
  readonly #parts: ProposalsParts
  readonly #waiters = new Map<string, Waiter[]>()
  #idle: (() => void)[] = []

  constructor(parts: ProposalsParts) {
    this.#parts = parts
  }

  /** Resolves when the entry was delivered. Rejects with `CMESH_ROUTER_UNKNOWN_OUTCOME`, `CMESH_ROUTER_DEADLINE`, or the stream's refusal. */
  submit(proposal: Proposal): Promise<Stored> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { proposal, resolve, reject, ending: new AbortController(), unknown: false, repeated: false, settled: false, timer: undefined }
      const others = this.#waiters.get(proposal.id)
      if (others === undefined) this.#waiters.set(proposal.id, [waiter])
      else others.push(waiter)
      void this.#publish(waiter)
    })
  }

  /** The stream has it; of several with one id the first made the entry. */
  delivered(id: string, seq: number): void {
    for (const [i, waiter] of [...this.#waiters.get(id) ?? []].entries()) {
      this.#settle(waiter, () => { waiter.resolve({ seq, duplicate: i > 0 || waiter.repeated }) })
    }
  }

  /** Nothing is delivered any more. */
  fail(cause: CMeshError): void {
    for (const waiter of [...this.#waiters.values()].flat()) this.#refuse(waiter, unknownOutcome(waiter, cause))
  }

  /** Resolves when none is under way. */
  settled(): Promise<void> {
    return this.#waiters.size === 0 ? Promise.resolve() : new Promise(resolve => { this.#idle.push(resolve) })
  }

  async #publish(waiter: Waiter): Promise<void> {
    const { publisher, subject, now, delivered, onAck } = this.#parts
    const { id, data, deadlineMs } = waiter.proposal
    const onUnknown = (): void => {
      if (waiter.settled) return
      waiter.timer ??= setTimeout(() => { waiter.ending.abort() }, TRYING_MS)
      waiter.unknown = true
    }
    try {
      const timeoutMs = Math.max(1, deadlineMs - now())
      const ack = await publisher.publish({ subject, data, id, timeoutMs, signal: waiter.ending.signal, onUnknown })
      onAck(id, ack)
      if (waiter.settled) return
      clearTimeout(waiter.timer)
      // What was stored before this process began was handed over before it began too.
      if (ack.duplicate && ack.seq <= delivered()) return this.#settle(waiter, () => { waiter.resolve({ seq: ack.seq, duplicate: true }) })
      waiter.repeated = ack.duplicate && !waiter.unknown
      const leftMs = Math.min(Math.max(0, deadlineMs - now()), LONGEST_TIMER_MS)
      waiter.timer = setTimeout(() => { this.#refuse(waiter, unknownOutcome(waiter)) }, leftMs)
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'consensus', id)
      if (waiter.unknown) this.#refuse(waiter, unknownOutcome(waiter, error))
      else this.#refuse(waiter, NEVER_SENT.has(error.code) ? new CMeshError('CMESH_ROUTER_DEADLINE', {}, { cause: error }) : error)
    }
  }

  #refuse(waiter: Waiter, error: CMeshError): void {
    this.#settle(waiter, () => { waiter.reject(error) })
  }

  #settle(waiter: Waiter, tell: () => void): void {
    if (waiter.settled) return
    waiter.settled = true
    clearTimeout(waiter.timer)
    waiter.ending.abort()
    const { id } = waiter.proposal
    const others = (this.#waiters.get(id) ?? []).filter(each => each !== waiter)
    if (others.length > 0) this.#waiters.set(id, others)
    else this.#waiters.delete(id)
    tell()
    if (this.#waiters.size > 0) return
    for (const resolve of this.#idle.splice(0)) resolve()
  }
}

/** What trying ends with when the time is over and nothing had left, or nobody was there to take it. */
const NEVER_SENT: ReadonlySet<string> = new Set(['CMESH_BUS_DISCONNECTED', 'CMESH_BUS_NO_RESPONDERS', 'CMESH_BUS_BUSY', 'CMESH_BUS_TIMEOUT'])

function unknownOutcome({ proposal }: Waiter, cause?: CMeshError): CMeshError {
  return new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: proposal.id }, { cause })
}

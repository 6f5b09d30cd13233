/**
 * Answers what other members ask of a read: runs it for its caller and gives the hash of the result, signed.
 *
 * Invariants:
 * 1. Nobody is believed that a caller may read something: the question brings the caller's token, and this node's own guard checks it and
 *    the right to the address, as at its own front door. Who asks needs no right, and learns nothing that the caller may not read.
 * 2. What leaves is a hash, a stretch of the log and a signature, or one word why not; never a result.
 * 3. So many questions are worked on and no more; the gas of their views is counted with that of the caller's own, turn by turn.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import { RouteCache } from '../../../cmtp/fqmn.ts'
import { controlSubject } from '../../../cmtp/subject.ts'
import { isInbox, sendAnswer } from '../../bus/answer.ts'
import type { Bus, BusMessage, BusSubscription } from '../../bus/provider.ts'
import type { Call } from '../../call.ts'
import type { Clock } from '../../clock.ts'
import type { AuthContext, Guard } from '../../iam/guard.ts'
import type { Log } from '../../log.ts'
import { AHEAD_MS } from '../other-member.ts'
import type { AtSequence } from './at-sequence.ts'
import { isComparable, runExactly, type RunView } from './run.ts'
import { decodeQuestion, encodeAnswer, encodeRefusal } from './wire.ts'

/** Questions that are worked on at once, those included that wait for a block. */
const AT_ONCE = 2_048
/** Longest that one is worked on, in ms, whatever its deadline says. */
export const CHECK_MS = 2_000
const NO_BYTES = new Uint8Array(0)

export interface AnswererParts {
  /** Among the services: no session can send there. */
  readonly bus: Pick<Bus, 'status' | 'subscribe' | 'publish'>
  readonly member: { readonly did: string, readonly sign: (bytes: Uint8Array) => Uint8Array }
  readonly guard: Pick<Guard, 'check' | 'authorise'>
  /** Throws when the caller may no longer read, or nobody may. */
  readonly confirm: (auth: AuthContext) => void
  readonly run: RunView
  /** Most gas that one view may use here. */
  readonly gasLimit: number
  readonly sequences: AtSequence
  readonly clock: Clock
  readonly log: Log
  /** Counted here. */
  readonly stats: AnswererStats
}

export interface AnswererStats {
  answered: number
  refused: number
  /** Gas of the views that others asked for. */
  gas: number
}

/** Where one member answers. */
export function checkSubject(did: string): string {
  return controlSubject('check', did)
}

export class Answerer {
  readonly #parts: AnswererParts
  readonly #routes = new RouteCache(4_096)
  #subscription: BusSubscription | undefined
  readonly #working = new Set<Promise<void>>()

  constructor(parts: AnswererParts) {
    this.#parts = parts
  }

  /** Idempotent. */
  start(): void {
    this.#subscription ??= this.#parts.bus.subscribe(checkSubject(this.#parts.member.did), message => { this.#take(message) })
  }

  /** Takes no more; resolves when what was taken is answered. Idempotent. */
  async stop(): Promise<void> {
    this.#subscription?.unsubscribe()
    await Promise.all(this.#working)
  }

  #take({ data, reply }: BusMessage): void {
    if (!isInbox(reply)) return
    if (this.#working.size >= AT_ONCE) return this.#refuse(reply, 'CMESH_ROUTER_BUSY')
    const { stats } = this.#parts
    const work = this.#answer(data).then(
      answer => {
        stats.answered++
        sendAnswer(this.#parts, reply, answer)
      },
      (thrown: unknown) => {
        const error = CMeshError.from(thrown, 'the check of a read')
        if (error.retry === 'bug') this.#parts.log.error({ err: error, code: error.code }, 'a read that another member checks could not be run')
        this.#refuse(reply, error.code)
      },
    ).finally(() => { this.#working.delete(work) })
    this.#working.add(work)
  }

  #refuse(reply: string, reason: string): void {
    this.#parts.stats.refused++
    sendAnswer(this.#parts, reply, encodeRefusal(reason))
  }

  async #answer(data: Uint8Array): Promise<Uint8Array> {
    const { guard, confirm, run, gasLimit, sequences, clock, member, stats } = this.#parts
    const question = decodeQuestion(data)
    const { nonce, at, wish, patienceMs, sid, token, fqmn, body } = question
    const route = this.#routes.fromText(fqmn)
    if (!isComparable(route)) throw new CMeshError('CMESH_ROUTER_INTERNAL_ONLY', { fqmn: route.bare })
    // With less gas it might end otherwise.
    if (question.gasLimit > gasLimit) throw new CMeshError('CMESH_CONTRACT_OUT_OF_GAS', { contract: route.bare, reason: 'this node lets no view use so much' })
    const nowMs = clock.nowMs()
    // By the asker's clock, which is not this one.
    const deadlineMs = Math.min(question.deadlineMs + AHEAD_MS, nowMs + CHECK_MS)
    if (deadlineMs < nowMs) throw new CMeshError('CMESH_ROUTER_DEADLINE')
    const auth = await guard.check(token, sid)
    guard.authorise(auth, route)
    const call: Call = {
      id: nonce, route, body, headers: NO_BYTES, deadlineMs, token, sid, replySubject: '', hops: 0, auth, layers: [], markUs: clock.nowUs(), salt: undefined, proposed: false,
    }
    const notes = { gas: 0n, before: undefined, after: undefined }
    const ran = await sequences.run({ at, wish, patienceMs, deadlineMs }, async () => {
      // Time went by, in which anything may have changed.
      confirm(auth)
      guard.authorise(auth, route)
      return runExactly(run, call, auth, notes, question.gasLimit)
    })
    stats.gas += Number(notes.gas)
    return encodeAnswer(ran, data, member.sign)
  }
}

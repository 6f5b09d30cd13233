/**
 * A receipt, whichever node of the mesh answered the message: what this node has itself, or else what another member gives.
 *
 * Invariants:
 * 1. Nobody is believed that a caller may have a receipt: a question brings the caller's token, and the guard of the node that has the receipt
 *    checks it and decides, as at its own front door. Who asks needs no right, and learns nothing but what goes to the caller.
 * 2. A question is answered from that node's own log alone: it goes no further.
 * 3. Each other member is asked once, all at a time, and the first receipt counts; what nobody has given by then is not waited for. A receipt of a
 *    401 counts where there is no other: the client asked again under the same id, of another node perhaps.
 * 4. So many searches are under way, of one caller and in all, and so many questions answered, and no more.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { encodeReply, encodeRequest, ReplyFrame, RequestFrame } from '../../cmtp/frame.ts'
import { statusOfReceipt } from '../../cmtp/receipt/recorded.ts'
import { controlSubject } from '../../cmtp/subject.ts'
import { isInbox, sendAnswer } from '../bus/answer.ts'
import type { Bus, BusMessage, BusSubscription } from '../bus/provider.ts'
import { errorReply, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Log } from '../log.ts'
import { UNAUTHENTICATED, type ReceiptWriter } from './receipts.ts'

/** Longest that a member is waited for, in ms. */
const ASK_MS = 2_000
/** Searches under way, in all and of one caller, this node's own log counted; questions of others that are worked on at once. */
const MOST = 256
const MOST_OF_ONE = 64
const AT_ONCE = 256
const RETRY_AFTER_MS = 100
const NO_BYTES = Buffer.alloc(0)

export interface ReceiptFinderParts {
  readonly receipts: Pick<ReceiptWriter, 'fetch'>
  /** Among the services: no session can send there. */
  readonly bus: Pick<Bus, 'status' | 'request' | 'subscribe' | 'publish'>
  /** DID of this node. */
  readonly did: string
  readonly members: () => readonly string[]
  readonly guard: Pick<Guard, 'check' | 'authorise' | 'tokenOf'>
  readonly clock: Pick<Clock, 'nowMs'>
  readonly log: Log
}

/** Where one member is asked for receipts of its own. */
export function receiptSubject(did: string): string {
  return controlSubject('receipt', did)
}

export class ReceiptFinder {
  readonly #parts: ReceiptFinderParts
  #subscription: BusSubscription | undefined
  readonly #working = new Set<Promise<void>>()
  readonly #ofCaller = new Map<string, number>()
  #searches = 0

  constructor(parts: ReceiptFinderParts) {
    this.#parts = parts
  }

  /** From now on other members are answered. Idempotent. */
  start(): void {
    this.#subscription ??= this.#parts.bus.subscribe(receiptSubject(this.#parts.did), message => { this.#take(message) })
  }

  /** Takes no more questions; resolves when those taken are answered. Idempotent. */
  async stop(): Promise<void> {
    this.#subscription?.unsubscribe()
    await Promise.all(this.#working)
  }

  /**
   * `0xC:receipt:<id>`. Rejects as `ReceiptWriter.fetch` does, with `CMESH_AUDIT_UNHEARD` where a member that may have it did not answer, and
   * with `CMESH_ROUTER_BUSY`. For what has no session, such as a delayed call, this node alone is asked: no token speaks for it.
   */
  async fetch(id: string, auth: AuthContext, deadlineMs: number): Promise<Reply> {
    this.#enter(auth.sub)
    try {
      return await this.#fetch(id, auth, deadlineMs)
    } finally {
      this.#leave(auth.sub)
    }
  }

  async #fetch(id: string, auth: AuthContext, deadlineMs: number): Promise<Reply> {
    const { receipts, did, members } = this.#parts
    let own: Reply | undefined
    try {
      own = await receipts.fetch(id, auth)
    } catch (error) {
      if (auth.sid === '' || !isNone(error)) throw error
    }
    const others = members().filter(member => member !== did)
    if (own !== undefined && (!isPreliminary(own) || others.length === 0 || auth.sid === '')) return own
    if (others.length === 0) throw new CMeshError('CMESH_AUDIT_NO_RECEIPT', { id })
    return this.#search(id, auth, deadlineMs, others, own)
  }

  /** `own`: what this node has, where that is worth less than what another may have. */
  async #search(id: string, auth: AuthContext, deadlineMs: number, others: readonly string[], own: Reply | undefined): Promise<Reply> {
    const { guard, clock } = this.#parts
    const timeoutMs = Math.max(1, Math.min(ASK_MS, deadlineMs - clock.nowMs()))
    const question = encodeRequest({
      id: Buffer.from(id, 'hex'), fqmn: `0xC:receipt:${id}`, token: guard.tokenOf(auth), deadlineMs: clock.nowMs() + timeoutMs, receipt: 'none', hops: 1,
      headers: NO_BYTES, body: Buffer.from(auth.sid, 'utf8'),
    })
    const found = new AbortController()
    let preliminary = own
    try {
      return await Promise.any(others.map(async member => {
        const reply = await this.#ask(member, question, timeoutMs, found.signal)
        if (!isPreliminary(reply)) return reply
        preliminary ??= reply
        throw new CMeshError('CMESH_AUDIT_NO_RECEIPT', { id })
      }))
    } catch (thrown) {
      if (!(thrown instanceof AggregateError)) throw thrown
      if (preliminary !== undefined) return preliminary
      const silent = thrown.errors.filter(error => !isNone(error)).length
      if (silent === 0) throw new CMeshError('CMESH_AUDIT_NO_RECEIPT', { id })
      throw new CMeshError('CMESH_AUDIT_UNHEARD', { id, silent, asked: others.length })
    } finally {
      found.abort()
    }
  }

  /** Rejects with what the member says, or with why it says nothing. */
  async #ask(member: string, question: Uint8Array, timeoutMs: number, signal: AbortSignal): Promise<Reply> {
    const { bus, log } = this.#parts
    try {
      const { status, headers, body } = ReplyFrame.decode(await bus.request(receiptSubject(member), question, { timeoutMs, signal }))
      if (status === 200) return { status, headers, body }
      throw CMeshError.fromWire(JSON.parse(body.toString('utf8')))
    } catch (thrown) {
      if (!isNone(thrown) && !signal.aborted) log.debug({ err: thrown, member, code: CMeshError.from(thrown, 'the bus').code }, 'a member gave no answer about a receipt')
      throw thrown
    }
  }

  #enter(caller: string): void {
    const own = this.#ofCaller.get(caller) ?? 0
    if (this.#searches >= MOST || own >= MOST_OF_ONE) {
      throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'the search for receipts', limit: own >= MOST_OF_ONE ? MOST_OF_ONE : MOST, retryAfterMs: RETRY_AFTER_MS })
    }
    this.#searches++
    this.#ofCaller.set(caller, own + 1)
  }

  #leave(caller: string): void {
    this.#searches--
    const left = (this.#ofCaller.get(caller) ?? 1) - 1
    if (left === 0) this.#ofCaller.delete(caller)
    else this.#ofCaller.set(caller, left)
  }

  #take({ data, reply }: BusMessage): void {
    if (!isInbox(reply)) return
    const work = this.#answer(data).then(frame => { sendAnswer(this.#parts, reply, frame) }).finally(() => { this.#working.delete(work) })
    this.#working.add(work)
  }

  /** Never rejects. */
  async #answer(data: Uint8Array): Promise<Buffer> {
    let reply: Reply
    try {
      if (this.#working.size >= AT_ONCE) throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'the search for receipts', limit: AT_ONCE, retryAfterMs: RETRY_AFTER_MS })
      reply = await this.#own(RequestFrame.decode(data))
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'the search for receipts')
      if (error.retry === 'bug') this.#parts.log.error({ err: thrown, code: error.code }, 'a receipt that another member asked for could not be given')
      reply = errorReply(error)
    }
    return encodeReply({ ...reply, id: Buffer.alloc(16), receipt: 'none', finalHash: '\0'.repeat(32), layers: NO_BYTES })
  }

  async #own(request: RequestFrame): Promise<Reply> {
    const { receipts, guard, clock } = this.#parts
    const route = parseFqmn(request.fqmn)
    const { service, write, segments: [action, id = ''] } = route
    if (service !== 'C' || write || action !== 'receipt') throw new CMeshError('CMESH_ROUTER_INTERNAL_ONLY', { fqmn: route.bare })
    if (request.deadlineMs < clock.nowMs()) throw new CMeshError('CMESH_ROUTER_DEADLINE')
    const auth = await guard.check(request.token, request.body.toString('utf8'))
    guard.authorise(auth, route)
    return receipts.fetch(id, auth)
  }
}

function isPreliminary({ body }: Reply): boolean {
  return statusOfReceipt(body) === UNAUTHENTICATED
}

function isNone(thrown: unknown): boolean {
  return thrown instanceof CMeshError && thrown.code === 'CMESH_AUDIT_NO_RECEIPT'
}

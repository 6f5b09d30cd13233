/**
 * The consensus check on responses: other members run the same view at the same sequence, and hashes of the results are compared.
 *
 *     none     nobody is asked; what is asked by others is answered
 *     sample   one read in so many is checked behind its reply
 *     all      a reply leaves once a quorum has the same result, and says so: `x-cmesh-checked: <agree>/<members> @<sequence>`
 *
 * Invariants:
 * 1. Under `all` a reply to a session's read that can be compared is one that a quorum agrees on, this node among them, at the sequence named,
 *    which is none before the state that the read first saw; or it is refused.
 * 2. Under `sample` no reply waits, and none is changed.
 * 3. So many checks are under way, of one caller and in all, and no more.
 * 4. Where two members differ at one sequence it is told (`mismatches.ts`), whatever becomes of the reply.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import { decodeHeaders, encodeHeaders } from '../../../cmtp/headers.ts'
import { formatMessageId } from '../../../cmtp/message-id.ts'
import type { Bus } from '../../bus/provider.ts'
import type { Call, Reply } from '../../call.ts'
import type { Clock } from '../../clock.ts'
import type { HopNotes } from '../../endpoint.ts'
import type { AuthContext, Guard } from '../../iam/guard.ts'
import type { Log } from '../../log.ts'
import { Places } from '../places.ts'
import { Answerer, CHECK_MS, type AnswererStats } from './answerer.ts'
import { AtSequence } from './at-sequence.ts'
import { Inquiries, type Finding } from './inquiry.ts'
import { Mismatches } from './mismatches.ts'
import { isComparable, runExactly, type Ran, type RunView } from './run.ts'

export const CHECKED_HEADER = 'x-cmesh-checked'
export const READ_CHECK_MODES = ['none', 'sample', 'all'] as const
export type ReadCheckMode = typeof READ_CHECK_MODES[number]

/** Checks that replies wait for: in all, and of one caller. */
const MOST = 1_024
const MOST_OF_ONE = 256
/** Checks behind replies at once: a sample that finds no room is none. */
const MOST_SAMPLES = 64
/** Told to who is refused, in ms. */
const RETRY_AFTER_MS = 100
/** A check is over so long before its caller's deadline, in ms, that the caller hears what it came to. */
const HEADROOM_MS = 50

/** What a node is given for it. */
export interface ReadCheckOptions {
  readonly mode: ReadCheckMode
  /** Under `sample`, one read in so many is checked: 1 and up. */
  readonly oneIn: number
  /** Among the services: no session can send there. */
  readonly bus: Pick<Bus, 'status' | 'request' | 'subscribe' | 'publish'>
  readonly guard: Pick<Guard, 'check' | 'authorise' | 'tokenOf'>
  /** Publishes on the channel `audit`; an id is stored once. */
  readonly audit: (data: Uint8Array, id: string) => Promise<unknown>
  /** From 0 up to 1. Default `Math.random`. */
  readonly random?: () => number
  /** How long members wait for a block behind which all of them are to run a read again, in ms, once more so long each time. Default 20. */
  readonly patienceMs?: number
}

export interface ReadChecksParts extends ReadCheckOptions {
  readonly member: {
    readonly did: string
    readonly sign: (bytes: Uint8Array) => Uint8Array
    readonly verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean
  }
  readonly members: () => readonly string[]
  readonly confirm: (auth: AuthContext) => void
  readonly run: RunView
  readonly gasLimit: number
  /** The sequence of the last applied block. */
  readonly applied: () => number
  readonly clock: Clock
  readonly log: Log
}

export interface ReadCheckStats extends AnswererStats {
  /** A quorum had this node's result, another one, or none in time. */
  agreed: number
  outvoted: number
  open: number
  /** Refused, or left out of the sample, since too many were under way. */
  busy: number
  /** Reads to which two members gave different results. */
  mismatches: number
}

export class ReadChecks {
  readonly stats: ReadCheckStats = { agreed: 0, outvoted: 0, open: 0, busy: 0, mismatches: 0, answered: 0, refused: 0, gas: 0 }
  readonly #parts: ReadChecksParts
  readonly #random: () => number
  readonly #sequences: AtSequence
  readonly #inquiries: Inquiries
  readonly #answerer: Answerer
  readonly #mismatches: Mismatches
  readonly #places = new Places({ what: 'the check of reads', most: MOST, mostOfOne: MOST_OF_ONE, retryAfterMs: RETRY_AFTER_MS })
  readonly #samples = new Set<Promise<void>>()

  constructor(parts: ReadChecksParts) {
    const { member, clock, log, bus, audit } = parts
    this.#parts = parts
    this.#random = parts.random ?? Math.random
    this.#sequences = new AtSequence(parts)
    this.#inquiries = new Inquiries(parts)
    this.#mismatches = new Mismatches({ node: member.did, publish: audit, clock, log })
    const { guard, confirm, run, gasLimit } = parts
    this.#answerer = new Answerer({ bus, member, guard, confirm, run, gasLimit, sequences: this.#sequences, clock, log, stats: this.stats })
  }

  /** What is checked here; `oneIn` under `sample`. */
  get mode(): { readonly mode: ReadCheckMode, readonly oneIn?: number } {
    const { mode, oneIn } = this.#parts
    return mode === 'sample' ? { mode, oneIn } : { mode }
  }

  /** From now on others are answered. */
  start(): void {
    this.#answerer.start()
  }

  /** A block is applied. */
  applied(seq: number): void {
    this.#sequences.applied(seq)
  }

  /** Whoever waits for a block hears of it. */
  fail(error: CMeshError): void {
    this.#sequences.fail(error)
  }

  /** Answers nobody any more; resolves when what is under way is settled. Idempotent. */
  async stop(): Promise<void> {
    this.fail(new CMeshError('CMESH_ROUTER_DRAINING'))
    this.#inquiries.stop()
    await this.#answerer.stop()
    await Promise.all(this.#samples)
    await this.#mismatches.flush()
  }

  /**
   * A read as the mode wants it. Rejects with `CMESH_CONSENSUS_OUTVOTED` and `CMESH_CONSENSUS_UNCHECKED`, `CMESH_ROUTER_BUSY`, `CMESH_FRAME_TOO_LARGE` for
   * one that is too large to ask others for, and as the read does. What contracts and delayed calls read is not checked: no token speaks for them.
   */
  read(call: Call, auth: AuthContext, notes: HopNotes): Reply | Promise<Reply> {
    const { mode, run, oneIn } = this.#parts
    if (mode === 'none' || !isComparable(call.route) || auth.sid === '') return run(call, auth, notes)
    if (mode === 'all') return this.#checked(call, auth, notes)
    return this.#random() * oneIn < 1 ? this.#sampled(call, auth, notes) : run(call, auth, notes)
  }

  async #checked(call: Call, auth: AuthContext, notes: HopNotes): Promise<Reply> {
    try {
      this.#places.take(auth.sub)
    } catch (error) {
      this.stats.busy++
      throw error
    }
    try {
      const { run, gasLimit } = this.#parts
      const first = await runExactly(run, call, auth, notes, gasLimit)
      const { kind, ran: { reply }, count, members, quorum, seq } = await this.#inquire(call, auth, notes, first)
      const { bare: fqmn } = call.route
      if (kind === 'outvoted') throw new CMeshError('CMESH_CONSENSUS_OUTVOTED', { fqmn, count, members, seq })
      if (kind === 'open') throw new CMeshError('CMESH_CONSENSUS_UNCHECKED', { fqmn, count, quorum, members })
      return { ...reply, headers: encodeHeaders([...decodeHeaders(reply.headers), [CHECKED_HEADER, `${count}/${members} @${seq}`]]) }
    } finally {
      this.#places.leave(auth.sub)
    }
  }

  #sampled(call: Call, auth: AuthContext, notes: HopNotes): Reply | Promise<Reply> {
    const { run, gasLimit, clock, log } = this.#parts
    if (this.#samples.size >= MOST_SAMPLES) {
      this.stats.busy++
      return run(call, auth, notes)
    }
    // What came in a frame lasts until the reply.
    const kept: Call = { ...call, id: Buffer.from(call.id), body: Buffer.from(call.body), deadlineMs: clock.nowMs() + CHECK_MS, layers: [] }
    const running = runExactly(run, call, auth, notes, gasLimit)
    const sample = running.then(async first => {
      await new Promise(resolve => { setImmediate(resolve) })
      await this.#inquire(kept, auth, { ...notes }, first)
    }).catch((error: unknown) => { log.debug({ err: error, fqmn: kept.route.bare }, 'a read could not be checked') }).finally(() => { this.#samples.delete(sample) })
    this.#samples.add(sample)
    return running.then(({ reply }) => reply)
  }

  async #inquire(call: Call, auth: AuthContext, notes: HopNotes, first: Ran): Promise<Finding> {
    const { guard, gasLimit, clock, run, confirm } = this.#parts
    const { route, body } = call
    const nowMs = clock.nowMs()
    const deadlineMs = Math.min(Math.max(call.deadlineMs - HEADROOM_MS, nowMs), nowMs + CHECK_MS)
    const asked = { deadlineMs, gasLimit, sid: auth.sid, token: guard.tokenOf(auth), fqmn: route.text, body }
    const finding = await this.#inquiries.ask(asked, first, when => this.#sequences.run(when, async () => {
      confirm(auth)
      return runExactly(run, call, auth, notes, gasLimit)
    }))
    const { kind, evidence, quorum, members, ran } = finding
    this.stats[kind]++
    if (evidence.length > 0) {
      this.stats.mismatches++
      this.#mismatches.tell({ message: formatMessageId(call.id), fqmn: route.bare, seq: ran.to, verdict: kind, quorum, members, words: evidence })
    }
    return finding
  }
}

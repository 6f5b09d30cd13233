/**
 * One read put to the other members: so many are asked as can make a quorum, another where one fails, differs or is slow, and nobody any more
 * once the quorum is there. Where state has changed between this node and another, all run the read again behind one later block; whoever is
 * slow then is waited for no more, and what it still says of the earlier block counts for nothing.
 */
import { randomBytes } from 'node:crypto'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Bus } from '../../bus/provider.ts'
import type { Clock } from '../../clock.ts'
import { quorumOf } from '../../consensus/provider.ts'
import type { Log } from '../../log.ts'
import { checkSubject } from './answerer.ts'
import type { When } from './at-sequence.ts'
import type { Ran } from './run.ts'
import { differing, meet, tally, type Verdict, type Word } from './tally.ts'
import { decodeAnswer, encodeQuestion, MOST_PATIENCE_MS, type CheckQuestion } from './wire.ts'

/** How long a member may be silent before another is asked beside it, in ms. */
const SLOW_MS = 100
/** How long one that failed or was slow is asked last, in ms. */
const SHUNNED_MS = 5_000
/** Times that all run the read behind a later block. */
const ROUNDS = 5
/** How long that block is waited for where nothing else is said, in ms; once more so long each time. */
const PATIENCE_MS = 20
/** Nobody is believed that the log goes further beyond this node's than so many blocks. */
const AHEAD = 64

export interface InquiryParts {
  readonly bus: Pick<Bus, 'request'>
  readonly member: { readonly did: string, readonly verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean }
  readonly members: () => readonly string[]
  readonly clock: Pick<Clock, 'nowMs'>
  readonly log: Log
  /** How long a block that is still to come is waited for, in ms, once more so long each time. Default 20. */
  readonly patienceMs?: number
}

/** What is asked, but for the block. */
export type Asked = Omit<CheckQuestion, 'nonce' | 'at' | 'wish' | 'patienceMs'>

export interface Finding extends Verdict {
  /** This node's result, of a later block perhaps than at first. */
  readonly ran: Ran
  readonly quorum: number
  readonly members: number
  /** Where a member has another result than this node at one sequence: what each has said, this node first. */
  readonly evidence: readonly Word[]
}

/** Keeps of one inquiry to the next who failed. */
export class Inquiries {
  readonly #parts: InquiryParts
  readonly #shunnedUntil = new Map<string, number>()
  readonly #stopped = new AbortController()
  #turn = 0

  constructor(parts: InquiryParts) {
    this.#parts = parts
  }

  /** Nobody is asked any more, and nobody waited for. Idempotent. */
  stop(): void {
    this.#stopped.abort()
  }

  /**
   * Resolves at the deadline at the latest. `first` is what the read gave here; `again` runs it once more. Rejects where that does, with
   * `CMESH_STATE_NOT_MEMBER` where this node's word counts for nothing, and with `CMESH_FRAME_TOO_LARGE`.
   */
  async ask(asked: Asked, first: Ran, again: (when: When) => Promise<Ran>): Promise<Finding> {
    const { member: { did }, members, clock } = this.#parts
    const all = members()
    if (!all.includes(did)) throw new CMeshError('CMESH_STATE_NOT_MEMBER', { reason: 'the log does not list it' })
    const quorum = quorumOf(all)
    const least = first.to
    const words = new Map<string, Word>()
    let ran = first
    let evidence: readonly Word[] = []
    let when: When = { at: least, wish: least, patienceMs: 0, deadlineMs: asked.deadlineMs }
    for (let round = 1; ; round++) {
      const question = encodeQuestion({ ...asked, ...when, nonce: randomBytes(16) })
      const running = round === 1 ? first : again(when)
      const { deadlineMs } = asked
      const [order, { patienceMs }, isLast] = [this.#order(all), when, round > ROUNDS]
      const verdict = await this.#round({ question, running, deadlineMs, order, words, quorum, least, patienceMs, isLast })
      ran = await running
      const own = { did, ...ran }
      const heard = [...words.values()]
      if (differing(own, heard).length > 0) evidence = [own, ...heard]
      const ahead = heard.filter(word => !meet(own, word))
      if (verdict.kind !== 'open' || ahead.length === 0 || isLast || clock.nowMs() >= deadlineMs) {
        return { ...verdict, ran, quorum, members: all.length, evidence }
      }
      const wish = Math.min(Math.max(ran.to, ...ahead.map(({ to }) => to)), ran.to + AHEAD) + 2 ** round
      when = { ...when, wish, patienceMs: Math.min((this.#parts.patienceMs ?? PATIENCE_MS) * round, MOST_PATIENCE_MS) }
      // Who has not come so far is asked again, whether it met this node or not: else those that agree at one block would alternate.
      for (const word of heard) if (word.to < wish || ahead.includes(word)) words.delete(word.did)
    }
  }

  async #round({ question, running, deadlineMs, order, words, quorum, least, patienceMs, isLast }: Round): Promise<Verdict> {
    const { member: { did } } = this.#parts
    let isOver = false
    const asking = new Map<string, Promise<void>>()
    const left = order.filter(other => !words.has(other))
    const next = (): void => {
      const other = left.shift()
      if (other === undefined) return
      asking.set(other, this.#word(other, question, deadlineMs).then(word => {
        asking.delete(other)
        if (word !== undefined && !isOver) words.set(other, word)
      }))
    }
    while (asking.size + words.size + 1 < quorum && left.length > 0) next()
    const own: Word = { did, ...await running }
    for (;;) {
      const heard = [...words.values()]
      const verdict = tally(own, heard, quorum, least)
      // As many as may still make a quorum with this node.
      const hopeful = heard.filter(word => word.hash === own.hash && meet(own, word)).length
      while (1 + hopeful + asking.size < quorum && left.length > 0) next()
      if (verdict.kind !== 'open' || asking.size === 0) return verdict
      if (!await isSlow(asking.values(), SLOW_MS + patienceMs)) continue
      for (const other of asking.keys()) this.#shun(other)
      // Only another round can bring the quorum, or those that are silent: they are asked again in it.
      if (left.length === 0 && !isLast && heard.some(word => !meet(own, word))) {
        isOver = true
        return verdict
      }
      next()
    }
  }

  /** What another member says; `undefined` where that is nothing. Never rejects. */
  async #word(did: string, question: Uint8Array, deadlineMs: number): Promise<Word | undefined> {
    const { bus, member: { verify }, clock, log } = this.#parts
    try {
      const timeoutMs = Math.max(1, Math.ceil(deadlineMs - clock.nowMs()))
      const bytes = await bus.request(checkSubject(did), question, { timeoutMs, signal: this.#stopped.signal })
      const answer = decodeAnswer(bytes, question, (signed, signature) => verify(did, signed, signature))
      if (answer.kind === 'result') return { did, from: answer.from, to: answer.to, hash: answer.hash }
      log.debug({ member: did, reason: answer.reason }, 'a member did not check a read')
    } catch (thrown) {
      const { code } = CMeshError.from(thrown, 'the bus')
      log.debug({ err: thrown, member: did, code }, 'a member did not check a read')
    }
    this.#shun(did)
    return undefined
  }

  #shun(did: string): void {
    this.#shunnedUntil.set(did, this.#parts.clock.nowMs() + SHUNNED_MS)
  }

  /** The others, by turns; those that failed of late come last. */
  #order(all: readonly string[]): string[] {
    const { member: { did }, clock } = this.#parts
    const others = all.filter(other => other !== did)
    const turn = this.#turn++ % Math.max(1, others.length)
    const nowMs = clock.nowMs()
    const shunned = (other: string): number => ((this.#shunnedUntil.get(other) ?? 0) > nowMs ? 1 : 0)
    return [...others.slice(turn), ...others.slice(0, turn)].sort((one, other) => shunned(one) - shunned(other))
  }
}

interface Round {
  readonly question: Uint8Array
  readonly running: Ran | Promise<Ran>
  readonly deadlineMs: number
  readonly order: readonly string[]
  /** By member; filled. */
  readonly words: Map<string, Word>
  readonly quorum: number
  readonly least: number
  /** How long a member may wait for the block before it answers, in ms. */
  readonly patienceMs: number
  readonly isLast: boolean
}

/** Resolves when one of them did, with false, or when that takes so long. */
async function isSlow(asking: Iterable<Promise<void>>, slowMs: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<boolean>(resolve => { timer = setTimeout(() => { resolve(true) }, slowMs) })
  const slow = await Promise.race([late, ...[...asking].map(async answer => {
    await answer
    return false
  })])
  clearTimeout(timer)
  return slow
}

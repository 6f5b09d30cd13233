/**
 * Gives other replicas the blocks of this one. It keeps nothing of who asks: a question says all, and has one bounded answer.
 *
 * Invariants: only what is durable here goes out; no more than a few questions are worked on at once and not many wait, so that who
 * catches up takes what the node has to spare; a question that is refused or fails is answered, one that is too many is not.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import { controlSubject } from '../../../cmtp/subject.ts'
import type { Bus, BusMessage, BusSubscription } from '../../bus/provider.ts'
import type { Log } from '../../log.ts'
import type { ReplicaLog, StateHead } from '../provider.ts'
import { decodeQuestion, encodeAnswer, type Answer, type Question } from './wire.ts'

const AT_ONCE = 4
const WAITING = 256

export interface BlockServerParts {
  /** The connection of the services: no session can send there. */
  readonly bus: Pick<Bus, 'subscribe' | 'publish'>
  /** DID of this node. */
  readonly did: string
  readonly replica: ReplicaLog
  readonly head: () => StateHead
  readonly log: Log
}

/** Where one replica answers, and with no DID all do. */
export function blocksSubject(did?: string): string {
  return did === undefined ? controlSubject('blocks') : controlSubject('blocks', did)
}

export class BlockServer {
  readonly #parts: BlockServerParts
  readonly #subscriptions: BusSubscription[] = []
  readonly #waiting: BusMessage[] = []
  readonly #working = new Set<Promise<void>>()
  #stopped = false

  constructor(parts: BlockServerParts) {
    this.#parts = parts
  }

  start(): void {
    for (const subject of [blocksSubject(), blocksSubject(this.#parts.did)]) {
      this.#subscriptions.push(this.#parts.bus.subscribe(subject, message => { this.#take(message) }))
    }
  }

  /** Takes no more questions; resolves when the log is let go of. Idempotent. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#waiting.length = 0
    for (const subscription of this.#subscriptions.splice(0)) subscription.unsubscribe()
    await Promise.all(this.#working)
  }

  #take(message: BusMessage): void {
    if (this.#stopped || message.reply === '' || this.#waiting.length >= WAITING) return
    this.#waiting.push(message)
    if (this.#working.size < AT_ONCE) this.#work()
  }

  #work(): void {
    const message = this.#waiting.shift()
    if (message === undefined) return
    const work = this.#reply(message).finally(() => {
      this.#working.delete(work)
      this.#work()
    })
    this.#working.add(work)
  }

  /** Never rejects. */
  async #reply({ data, reply }: BusMessage): Promise<void> {
    const { bus, log } = this.#parts
    try {
      let answer: Answer
      try {
        answer = await this.#answer(decodeQuestion(data))
      } catch (thrown) {
        const error = CMeshError.from(thrown, 'the block server')
        if (error.code !== 'CMESH_STATE_CATCH_UP') log.warn({ err: error, code: error.code }, 'blocks could not be given to another replica')
        answer = { kind: 'refused', reason: error.code === 'CMESH_STATE_CATCH_UP' ? String(error.detail['reason']) : error.code }
      }
      if (!this.#stopped) bus.publish(reply, encodeAnswer(answer))
    } catch (thrown) {
      log.warn({ err: thrown }, 'an answer to another replica could not be sent')
    }
  }

  async #answer(question: Question): Promise<Answer> {
    const { replica, head, did } = this.#parts
    if (question.kind === 'heads') return { kind: 'heads', did, head: head() }
    if (question.kind === 'chains') {
      const chains: Uint8Array[] = []
      for (let i = 0; i < question.count; i++) chains.push(await replica.chainAt(question.first + i * question.step))
      return { kind: 'chains', chains }
    }
    const { seq, to, offset, bytes } = question
    const blocks = await replica.read(seq, Math.min(to, head().seq), bytes)
    const [first] = blocks
    if (first === undefined || (offset === 0 && first.length <= bytes)) return { kind: 'blocks', blocks }
    return { kind: 'piece', length: first.length, bytes: first.subarray(offset, offset + bytes) }
  }
}

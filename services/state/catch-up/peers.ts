/**
 * Who else is there with a log, and how far it says it goes. Nothing that is heard here is believed further than that it may be asked.
 */
import { randomBytes } from 'node:crypto'
import type { Bus, BusSubscription } from '../../bus/provider.ts'
import { blocksSubject } from './server.ts'
import { decodeAnswer, encodeQuestion } from './wire.ts'

/** Most others that are listened to. */
const MOST = 64

export interface PeersParts {
  readonly bus: Pick<Bus, 'subscribe' | 'publish'>
  /** DID of this node, which is none of them. */
  readonly did: string
  /** How long others may take to say that they are there, in ms. */
  readonly answerMs: number
}

export class Peers {
  readonly #parts: PeersParts
  /** Head each of them says it has, by DID. */
  readonly #heads = new Map<string, number>()
  readonly #inbox = blocksSubject(`answers-${randomBytes(12).toString('hex')}`)
  readonly #subscription: BusSubscription
  #askedMs = -Infinity
  #changed: () => void = () => {}

  constructor(parts: PeersParts) {
    this.#parts = parts
    this.#subscription = parts.bus.subscribe(this.#inbox, ({ data }) => { this.#hear(data) })
  }

  /** Asks who is there; those that answer can be taken as soon as they have. */
  ask(): void {
    this.#askedMs = performance.now()
    this.#parts.bus.publish(blocksSubject(), encodeQuestion({ kind: 'heads' }), this.#inbox)
  }

  /** The DID of one that goes at least up to `seq` and is not `tried`; waits for it a while. `undefined` when there is none. */
  async next(seq: number, tried: ReadonlySet<string>): Promise<string | undefined> {
    for (;;) {
      for (const [did, head] of this.#heads) if (head >= seq && !tried.has(did)) return did
      const leftMs = this.#askedMs + this.#parts.answerMs - performance.now()
      if (leftMs <= 0) return undefined
      await new Promise<void>(resolve => {
        const timer = setTimeout(resolve, leftMs)
        this.#changed = () => {
          clearTimeout(timer)
          resolve()
        }
      })
    }
  }

  close(): void {
    this.#subscription.unsubscribe()
    this.#changed()
  }

  #hear(data: Uint8Array): void {
    try {
      const answer = decodeAnswer(data)
      if (answer.kind !== 'heads' || answer.did === this.#parts.did) return
      if (this.#heads.size >= MOST && !this.#heads.has(answer.did)) return
      this.#heads.set(answer.did, answer.head.seq)
      this.#changed()
    } catch {
      // What is no answer is nobody's.
    }
  }
}

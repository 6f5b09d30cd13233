/**
 * Answers what other members ask for receipts: signs the root over outcomes of writes that this node finds in its own log.
 *
 * Invariants:
 * 1. What is signed is durable here, and taken from this node's log alone: who asks names transactions and salts, nothing else.
 * 2. A question is signed whole or not at all; one that cannot be answered is told so at once, so that nobody waits for it.
 * 3. So many questions are worked on and no more.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { ClaimLevel } from '../../../cmtp/claim.ts'
import type { Certificate } from '../../../cmtp/identity/certificate.ts'
import { bareCertificate } from '../../../cmtp/receipt/bare-certificate.ts'
import { merkleRoot } from '../../../cmtp/receipt/merkle.ts'
import { signOutcomes } from '../../../cmtp/receipt/outcome.ts'
import { controlSubject } from '../../../cmtp/subject.ts'
import { isInbox, sendAnswer } from '../../bus/answer.ts'
import type { Bus, BusMessage, BusSubscription } from '../../bus/provider.ts'
import type { Clock } from '../../clock.ts'
import type { Log } from '../../log.ts'
import type { LoggedOutcomes } from '../../state/logged-outcomes.ts'
import { leafOf } from './leaf.ts'
import { decodeQuestion, encodeAnswer, type OutcomesAnswer } from './wire.ts'

/** Questions that are worked on at once, those included that wait for a block. */
const AT_ONCE = 256
/** How long a block is waited for that is not here yet, ms. */
export const PATIENCE_MS = 1_000

export interface AnswererParts {
  /** Among the services: no session can send there. */
  readonly bus: Pick<Bus, 'status' | 'subscribe' | 'publish'>
  readonly member: { readonly did: string, readonly sign: (bytes: Uint8Array) => Uint8Array }
  /** Of this node; none where its key is the mesh's. */
  readonly certificate: Certificate | undefined
  readonly members: () => readonly string[]
  readonly outcomes: Pick<LoggedOutcomes, 'find' | 'durable'>
  /** Why this node says nothing; `undefined` while it may. */
  readonly refusal: () => CMeshError | undefined
  readonly level: ClaimLevel
  readonly clock: Pick<Clock, 'nowMs'>
  readonly log: Log
}

/** Where one member answers. */
export function outcomesSubject(did: string): string {
  return controlSubject('outcomes', did)
}

export class OutcomesAnswerer {
  readonly #parts: AnswererParts
  readonly #working = new Set<Promise<void>>()
  #subscription: BusSubscription | undefined

  constructor(parts: AnswererParts) {
    this.#parts = parts
  }

  /** Idempotent. */
  start(): void {
    this.#subscription ??= this.#parts.bus.subscribe(outcomesSubject(this.#parts.member.did), message => { this.#take(message) })
  }

  /** Takes no more; resolves when what was taken is answered. Idempotent. */
  async stop(): Promise<void> {
    this.#subscription?.unsubscribe()
    await Promise.all(this.#working)
  }

  #take({ data, reply }: BusMessage): void {
    if (!isInbox(reply)) return
    if (this.#working.size >= AT_ONCE) {
      sendAnswer(this.#parts, reply, encodeAnswer(undefined))
      return
    }
    const work = this.#answer(data).catch((thrown: unknown) => {
      const { log } = this.#parts
      const error = CMeshError.from(thrown, 'the claims of receipts')
      log.debug({ err: error, code: error.code }, 'what another member asks for a receipt could not be answered')
      return undefined
    }).then(answer => { sendAnswer(this.#parts, reply, encodeAnswer(answer)) }).finally(() => { this.#working.delete(work) })
    this.#working.add(work)
  }

  async #answer(data: Uint8Array): Promise<OutcomesAnswer | undefined> {
    const { member, certificate, members, outcomes, refusal, level, clock } = this.#parts
    const asked = decodeQuestion(data)
    let last = 0
    for (const { seq } of asked) last = Math.max(last, seq)
    await outcomes.durable(last, clock.nowMs() + PATIENCE_MS)
    const leaves: Buffer[] = []
    for (const { seq, id, salt } of asked) {
      const found = await outcomes.find(Buffer.from(id).toString('hex'), seq)
      if (found === undefined) return undefined
      leaves.push(leafOf(id, salt, found))
    }
    const all = members()
    if (!all.includes(member.did) || refusal() !== undefined) return undefined
    const said = { members: all.length, level, timeMs: Math.floor(clock.nowMs()) }
    const signature = signOutcomes({ ...said, did: member.did, root: merkleRoot(Buffer.concat(leaves)), count: asked.length }, member)
    return { ...said, signature, certificate: certificate && bareCertificate(certificate) }
  }
}

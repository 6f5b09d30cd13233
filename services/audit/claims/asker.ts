/**
 * Gathers what the members claim of writes that this node has answered: its own claim, and those of the others, who are asked. Writes that come
 * in one turn of the event loop share a question, and a signature of each member.
 *
 * Invariants:
 * 1. A claim counts where a member signed it over the very root that this node's own log gives, for as many members as this node knows.
 * 2. Nobody waits longer than `patienceMs`, and once a quorum has spoken, no longer than `graceMs` for those that are slow.
 * 3. So many questions are under way and no more: what comes meanwhile goes together into the next.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { ClaimLevel } from '../../../cmtp/claim.ts'
import type { Certificate } from '../../../cmtp/identity/certificate.ts'
import { decodeDid } from '../../../cmtp/identity/did.ts'
import { bareCertificate, certificateFault } from '../../../cmtp/receipt/bare-certificate.ts'
import { MerkleTree } from '../../../cmtp/receipt/merkle.ts'
import { MOST_OUTCOMES, signOutcomes, verifyOutcomes, type OutcomesClaim } from '../../../cmtp/receipt/outcome.ts'
import type { OutcomeClaim, OutcomeEvidence } from '../../../cmtp/receipt/outcome-evidence.ts'
import type { Bus } from '../../bus/provider.ts'
import type { Clock } from '../../clock.ts'
import { quorumOf } from '../../consensus/provider.ts'
import type { Log } from '../../log.ts'
import { outcomesSubject, PATIENCE_MS } from './answerer.ts'
import { decodeAnswer, encodeQuestion, type AskedOutcome } from './wire.ts'

/** How long a member may take beyond the quorum, ms. */
const GRACE_MS = 20
/** How long one that did not answer in time is not asked, ms. */
const SHUNNED_MS = 2_000
const QUESTIONS = 8
/** Most claims in one receipt. */
const MOST_CLAIMANTS = 16
/** What a claim takes in a receipt, and what the evidence takes beside its claims, with the longest path. */
const CLAIM_BYTES = 178
const FIXED_BYTES = 331

export interface AskerParts {
  /** Among the services; absent: this node is alone. */
  readonly bus: Pick<Bus, 'request'> | undefined
  readonly member: {
    readonly did: string
    readonly sign: (bytes: Uint8Array) => Uint8Array
    readonly verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean
  }
  /** Of this node; none where its key is the mesh's. */
  readonly certificate: Certificate | undefined
  /** DID of the mesh. */
  readonly mesh: string
  readonly members: () => readonly string[]
  readonly level: ClaimLevel
  /** How long a member is waited for, ms. Default 1,000. */
  readonly patienceMs?: number
  /** How long beyond the quorum, ms. Default 20. */
  readonly graceMs?: number
  readonly clock: Pick<Clock, 'nowMs'>
  readonly log: Log
}

/** An outcome as this node's own log has it. */
export interface OwnOutcome extends AskedOutcome {
  /** The hash of its leaf. */
  readonly leaf: Uint8Array
}

export type Gathered = Pick<OutcomeEvidence, 'members' | 'index' | 'count' | 'path' | 'claims'>

type Root = Pick<OutcomesClaim, 'root' | 'count' | 'members'>

interface Waiting extends OwnOutcome {
  readonly resolve: (gathered: Gathered | undefined) => void
}

export class OutcomesAsker {
  readonly #parts: AskerParts
  readonly #shunnedUntil = new Map<string, number>()
  readonly #stopped = new AbortController()
  #waiting: Waiting[] = []
  #underWay = 0
  #soon = false

  constructor(parts: AskerParts) {
    this.#parts = parts
  }

  /** The most that what is gathered takes in a receipt, in bytes. */
  get bytes(): number {
    return FIXED_BYTES + CLAIM_BYTES * Math.min(MOST_CLAIMANTS, Math.max(1, this.#parts.members().length))
  }

  /** Resolves with the claims there are; `undefined` where nobody's is. Never rejects. */
  gather(own: OwnOutcome): Promise<Gathered | undefined> {
    return new Promise(resolve => {
      this.#waiting.push({ ...own, resolve })
      this.#schedule()
    })
  }

  /** Nobody is asked any more, and nobody waited for. Idempotent. */
  stop(): void {
    this.#stopped.abort()
  }

  #schedule(): void {
    if (this.#soon || this.#waiting.length === 0) return
    this.#soon = true
    setImmediate(() => {
      this.#soon = false
      while (this.#waiting.length > 0 && this.#underWay < QUESTIONS) void this.#ask(this.#waiting.splice(0, MOST_OUTCOMES))
    })
  }

  /** Never rejects. */
  async #ask(asked: readonly Waiting[]): Promise<void> {
    this.#underWay++
    const tree = new MerkleTree(Buffer.concat(asked.map(({ leaf }) => leaf)))
    const all = this.#parts.members()
    const members = Math.max(1, all.length)
    const claims = await this.#claims(asked, { root: tree.root, count: asked.length, members }, all)
    this.#underWay--
    asked.forEach(({ resolve }, index) => {
      resolve(claims.length === 0 ? undefined : { members, index, count: asked.length, path: tree.path(index), claims })
    })
    this.#schedule()
  }

  async #claims(asked: readonly Waiting[], of: Root, all: readonly string[]): Promise<OutcomeClaim[]> {
    const { member, certificate, level, clock } = this.#parts
    const claims: OutcomeClaim[] = []
    if (all.length === 0 || all.includes(member.did)) {
      const timeMs = Math.floor(clock.nowMs())
      const signature = signOutcomes({ ...of, did: member.did, level, timeMs }, member)
      claims.push({ member: decodeDid(member.did), level, timeMs, certificate: certificate && bareCertificate(certificate), signature })
    }
    const others = this.#others(all)
    if (others.length > 0) await this.#hear(others, encodeQuestion(asked), of, claims, quorumOf(all))
    return claims
  }

  /** Fills `claims`; resolves when all have spoken, or those that have are enough and the others slow. */
  #hear(others: readonly string[], question: Buffer, of: Root, claims: OutcomeClaim[], quorum: number): Promise<void> {
    return new Promise(resolve => {
      let left = others.length
      let grace: NodeJS.Timeout | undefined
      let isOver = false
      const end = (): void => {
        isOver = true
        clearTimeout(grace)
        resolve()
      }
      for (const did of others) {
        void this.#word(did, question, of).then(claim => {
          if (isOver) return
          if (claim !== undefined && claims.length < MOST_CLAIMANTS) claims.push(claim)
          if (--left === 0) end()
          else if (claims.length >= quorum) grace ??= setTimeout(end, this.#parts.graceMs ?? GRACE_MS)
        })
      }
    })
  }

  /** What another member says; `undefined` where that is nothing, or something else than this node. Never rejects. */
  async #word(did: string, question: Buffer, of: Root): Promise<OutcomeClaim | undefined> {
    const { bus, member: { verify }, mesh, patienceMs = PATIENCE_MS, clock, log } = this.#parts
    try {
      const bytes = await bus?.request(outcomesSubject(did), question, { timeoutMs: patienceMs, signal: this.#stopped.signal })
      const answer = bytes && decodeAnswer(bytes)
      if (answer === undefined) return undefined
      const { level, timeMs, certificate } = answer
      const fault = answer.members === of.members ? certificateFault(certificate, did, mesh, 'member') : 'it counts other members'
      if (fault === undefined && verifyOutcomes({ ...of, did, level, timeMs }, answer.signature, verify)) {
        return { member: decodeDid(did), level, timeMs, certificate, signature: Buffer.from(answer.signature) }
      }
      log.warn({ member: did, fault }, 'a member claims another outcome of a write than this node has')
    } catch (thrown) {
      const { code } = CMeshError.from(thrown, 'the bus')
      log.debug({ err: thrown, member: did, code }, 'a member claimed nothing for a receipt')
      this.#shunnedUntil.set(did, clock.nowMs() + SHUNNED_MS)
    }
    return undefined
  }

  #others(all: readonly string[]): string[] {
    const { bus, member: { did }, clock } = this.#parts
    if (bus === undefined) return []
    const nowMs = clock.nowMs()
    return all.filter(other => other !== did && (this.#shunnedUntil.get(other) ?? 0) <= nowMs)
  }
}

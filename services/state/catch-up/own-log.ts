/**
 * What a node does where its log is not the members': it takes what it lacks, or notes that its own is another one. It decides whose word that
 * takes, and the rest is `catch-up.ts`'s, `executed.ts`'s and `divergence.ts`'s.
 *
 * Invariants: no state is taken, and no log given up, on the word of fewer than a quorum. A log that turns out to name other members than those
 * that vouched for it waits for a quorum of those it names; where it is all that the node has, only those count that the mesh certified, and without
 * them it is put aside: the next start would ask whomever it names.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import { quorumOf } from '../../consensus/provider.ts'
import type { Block, LogAnchor, TakenNote } from '../provider.ts'
import { catchUp, type CatchUpParts } from './catch-up.ts'
import { divergedAt } from './divergence.ts'
import { executeUpTo, type OrderBegun } from './executed.ts'
import { isTrusted, trustedHead, type Trusted, type TrustedParts } from './trusted.ts'

export interface OwnLogParts extends CatchUpParts, Pick<TrustedParts, 'verify' | 'nowMs'> {
  /** DIDs of the members, as the log names them; none while it is empty. */
  readonly members: () => readonly string[]
  /** DIDs of the others that are there and that the mesh certified. */
  readonly present: () => readonly string[]
  /** How long a quorum may take to say the same, in ms. Default 15,000. */
  readonly quorumMs?: number
}

/** How long a node without a log listens for who claims one, in ms: every member does once a second. */
const SETTLE_MS = 2_500
/** Who is named where there is no quorum to name. */
const NO_QUORUM = 'that disagree among themselves'

export class OwnLog {
  readonly #parts: OwnLogParts

  constructor(parts: OwnLogParts) {
    this.#parts = parts
  }

  /**
   * Brings the log up to `upTo` at least; by what the order says of its beginning where there is no quorum to ask. Rejects as `catchUp` and
   * `executeUpTo` do, with `CMESH_STATE_CATCH_UP` only while the log is as it was, and with
   * `CMESH_STATE_UNVOUCHED` where no quorum of the members vouches for it that it names when it is taken in.
   */
  async catchUp(upTo: number, onBlock: (block: Block) => void, begun?: OrderBegun): Promise<void> {
    const { store, log, members, present } = this.#parts
    const isEmpty = members().length === 0
    let trusted: Trusted
    try {
      trusted = await trustedHead(isEmpty ? this.#trusting(present, SETTLE_MS) : this.#trusting(members), upTo)
    } catch (error) {
      if (begun === undefined || isEmpty) throw error
      log.warn({ sequence: store.head.seq, upTo: begun.before.seq }, 'no quorum says how the log goes on: executing what the order begins behind')
      return executeUpTo(this.#parts, begun)
    }
    const { seq: from } = store.head
    log.info({ sequence: from, upTo: trusted.seq }, 'catching up with the other members')
    // Whoever is killed in the midst of it, or waits for others in vain, knows at its next start on whose word it has what it has.
    const onHeld = async (): Promise<void> => { await store.replica?.taken.write({ from, seq: trusted.seq, by: trusted.by }) }
    await catchUp(this.#parts, { trusted, onBlock, onHeld })
    return this.#judge({ from, by: trusted.by }, onBlock)
  }

  /**
   * At a start, before anything is made of the log: where it took in blocks on the word of members that are no quorum of those that it names,
   * asks those as `catchUp` does, and rejects as that does.
   */
  async vouch(onBlock: (block: Block) => void): Promise<void> {
    const { store } = this.#parts
    const note = await store.replica?.taken.read()
    if (note === undefined) return
    if (store.head.seq > note.from) await this.#judge(note, onBlock)
    else await store.replica?.taken.forget()
  }

  async #judge({ from, by }: Pick<TakenNote, 'from' | 'by'>, onBlock: (block: Block) => void): Promise<void> {
    const { store, members, present, forget } = this.#parts
    if (!isTrusted({ by }, members())) {
      try {
        if (from > 0) await this.#vouched(onBlock, this.#trusting(members))
        // Of four, those that were heard first may be two of three others: a quorum of who was there, and not of all.
        else await this.#vouched(onBlock, { ...this.#trusting(() => members().filter(did => present().includes(did))), quorum: () => quorumOf(members()) })
      } catch (error) {
        if (from > 0 || !(error instanceof CMeshError) || error.code !== 'CMESH_STATE_UNVOUCHED') throw error
        await forget?.()
        await store.replica?.markDiverged({ seq: store.head.seq, own: `vouched for by ${by.join(', ')}`, peers: [`it names ${members().join(', ')}`] })
        throw error
      }
    }
    await store.replica?.taken.forget()
  }

  /** The members are others than those that were asked: goes on until a quorum of those vouches for it. */
  async #vouched(onBlock: (block: Block) => void, trusting: TrustedParts): Promise<void> {
    const { store, log, members } = this.#parts
    try {
      for (let trusted: Trusted | undefined; trusted === undefined || !isTrusted(trusted, members());) {
        const [named, counted] = [members(), trusting.members()]
        if (counted.length < quorumOf(named)) throw new CMeshError('CMESH_STATE_CATCH_UP', { reason: `of ${named.length} members that the log names ${counted.length} count` })
        log.info({ sequence: store.head.seq, members: named.length }, 'waiting for a quorum of the members that the log names now')
        trusted = await trustedHead(trusting, store.head.seq)
        await catchUp(this.#parts, { trusted, onBlock })
      }
    } catch (error) {
      if (!(error instanceof CMeshError) || error.code !== 'CMESH_STATE_CATCH_UP') throw error
      throw new CMeshError('CMESH_STATE_UNVOUCHED', { seq: store.head.seq }, { cause: error })
    }
  }

  /**
   * Members claim another log at `place` than this one. Resolves with the error to stop with: where a quorum of them is of one mind that is
   * noted, and the log put aside at the next start; else nobody knows whose is right, and each keeps its own.
   */
  async diverged(place: LogAnchor): Promise<CMeshError> {
    const { did, store, log, members } = this.#parts
    const quorum = await trustedHead(this.#trusting(members), place.seq).catch(() => undefined)
    if (quorum !== undefined && !quorum.by.includes(did)) return divergedAt(this.#parts, quorum.seq <= store.head.seq ? quorum : place)
    log.error({ seq: place.seq }, 'members claim another log than this node has, and no quorum of them the same one: it keeps its own')
    return new CMeshError('CMESH_STATE_DIVERGED', { seq: place.seq, members: NO_QUORUM })
  }

  #trusting(members: () => readonly string[], settleMs = 0): TrustedParts {
    const { bus, verify, quorumMs, nowMs } = this.#parts
    return { bus, verify, members, settleMs, ...(quorumMs !== undefined && { timeoutMs: quorumMs }), ...(nowMs !== undefined && { nowMs }) }
  }
}

/**
 * The keys that tokens of the mesh are signed with: this node's own, and those of the other members as they told them. It owns what counts of
 * the others' and for how long.
 *
 * 1. A set counts while its node is a member and, once that is not heard any more, until every token it signed has expired; a restart in
 *    between changes nothing.
 * 2. Of one node no older set takes the place of a newer one. A key that was dropped by order counts no more, even before its node heard of it.
 * 3. A key that is not known is asked for before its token is refused. However many such tokens come, questions are bounded, and so are those
 *    who wait; where nobody is there to ask there is nothing to wait for.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { checkKeySet, signerOf, type KeySet } from '../../cmtp/identity/key-set.ts'
import type { PublicKey } from '../../cmtp/identity/keys.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import type { Log } from '../log.ts'
import type { TokenKeys } from './key-ring.ts'

/** What is kept of one member. */
export interface MemberKeySet {
  readonly set: KeySet
  /** When it was last known to count, ms since 1970. */
  readonly heardMs: number
  /** Ids of keys in it that were dropped by order. */
  readonly dropped: readonly string[]
}

/** Where they are kept. Implemented by the node, on a file. */
export interface MemberKeyStore {
  load(): readonly MemberKeySet[]
  save(sets: readonly MemberKeySet[]): void
}

export interface MemberKeysParts {
  readonly mesh: string
  /** DID of this node. */
  readonly node: string
  /** The keys of this node. */
  readonly own: TokenKeys
  /** Whether the node of that DID is a member now. Default: whoever the mesh certified is. */
  readonly isMember?: ((did: string) => boolean) | undefined
  /** Asks the others for their keys; resolves with whether all who are there answered. */
  readonly ask: () => Promise<boolean>
  /** Whether anybody is there to be asked. */
  readonly anybody: () => boolean
  /** Default: they are kept as long as this is. */
  readonly store?: MemberKeyStore
  /** The longest life of a token with its grace, ms. */
  readonly tokenLifeMs: number
  /** A key counts that did not before. */
  readonly onAdded: () => void
  /** A key counts no more that did before. */
  readonly onLost: () => void
  /** A member signs by a key that was dropped by order: it did not hear of that. */
  readonly onReturned: (kid: string) => void
  readonly log: Log
  /** ms since 1970. */
  readonly now: () => number
}

interface Member {
  set: KeySet
  keys: ReadonlyMap<string, PublicKey>
  heardMs: number
  readonly dropped: Set<string>
}

const KID = /^[A-Za-z0-9_-]{43}$/
/** Most members whose keys are kept; past it the one not heard for longest is forgotten. */
const MOST_MEMBERS = 64
/** Most tokens that wait until it is known whether a member has their key. */
const MOST_LEARNING = 128
const RETRY_AFTER_MS = 200
/** Keys that were dropped and are not asked for. */
const MOST_GONE = 1_024
/** Between two times that are written down when members were heard, ms: so much longer their keys count. */
const SAVE_MS = 60_000

export class MemberKeys implements TokenKeys {
  readonly #parts: MemberKeysParts
  readonly #isMember: (did: string) => boolean
  readonly #members = new Map<string, Member>()
  /** Ids of keys that were dropped by order: nobody has them any more. */
  readonly #gone = new TwoGenerations<string, true>({ entries: MOST_GONE })
  #learning = 0
  #savedMs = 0

  constructor(parts: MemberKeysParts) {
    const { isMember = () => true, store } = parts
    this.#parts = parts
    this.#isMember = isMember
    for (const { set, heardMs, dropped } of store?.load() ?? []) this.#put(set, heardMs, dropped)
  }

  verifierOf(kid: string): PublicKey | undefined {
    const own = this.#parts.own.verifierOf(kid)
    if (own !== undefined) return own
    for (const [node, member] of this.#members) {
      const key = member.keys.get(kid)
      if (key !== undefined && this.#counts(node, member, kid)) return key
    }
    return undefined
  }

  async learn(kid: string): Promise<PublicKey | undefined> {
    const { anybody, ask } = this.#parts
    if (!KID.test(kid) || this.#gone.get(kid) === true || !anybody()) return undefined
    const busy = (): CMeshError => new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: RETRY_AFTER_MS })
    if (this.#learning >= MOST_LEARNING) throw busy()
    this.#learning++
    try {
      // The first answers may have left before the key was there.
      for (let left = 2; left > 0; left--) {
        const all = await ask()
        const key = this.verifierOf(kid)
        if (key !== undefined) return key
        if (!all && left === 1) throw busy()
      }
      return undefined
    } finally {
      this.#learning--
    }
  }

  /** What a member said of its keys. */
  take(node: string, set: KeySet): void {
    const nowMs = this.#parts.now()
    const known = this.#members.get(node)
    if (known?.set.signature === set.signature) {
      known.heardMs = nowMs
      if (nowMs - this.#savedMs >= SAVE_MS) this.#save()
      return
    }
    if (known !== undefined && (set.epoch < known.set.epoch || (set.epoch === known.set.epoch && set.issued < known.set.issued))) return
    if (signerOf(set) !== node || !this.#put(set, nowMs, set.epoch === known?.set.epoch ? [...known.dropped] : [])) return
    this.#save()
    const { onAdded, onLost, onReturned } = this.#parts
    const { keys, dropped } = this.#members.get(node) as Member
    if (known !== undefined && [...known.keys.keys()].some(kid => !keys.has(kid))) onLost()
    if ([...keys.keys()].some(kid => known?.keys.has(kid) !== true)) onAdded()
    for (const kid of dropped) if (keys.has(kid)) onReturned(kid)
  }

  /** What is known of each member's keys. */
  get known(): readonly MemberKeySet[] {
    return [...this.#members.values()].map(({ set, heardMs, dropped }) => ({ set, heardMs, dropped: [...dropped] }))
  }

  /** What another member knows of one's keys, which may be gone. */
  hear({ set, heardMs, dropped }: MemberKeySet): void {
    const nowMs = this.#parts.now()
    const node = signerOf(set)
    const known = this.#members.get(node)
    // What a node says of itself comes first.
    if (known !== undefined || node === this.#parts.node || !this.#isMember(node)) return
    if (this.#put(set, Math.min(heardMs, nowMs), dropped)) {
      this.#save()
      this.#parts.onAdded()
    }
  }

  /** No token by that key counts from now on, whatever its node says until it has heard of it. */
  drop(kid: string): void {
    this.#gone.set(kid, true)
    let dropped = false
    for (const member of this.#members.values()) {
      if (!member.keys.has(kid) || member.dropped.has(kid)) continue
      member.dropped.add(kid)
      dropped = true
    }
    if (!dropped) return
    this.#save()
    this.#parts.onLost()
  }

  /** To be called after a node left. */
  membersChanged(): void {
    let left = false
    for (const node of [...this.#members.keys()]) if (!this.#isMember(node)) left = this.#members.delete(node)
    if (!left) return
    this.#save()
    this.#parts.onLost()
  }

  #counts(node: string, { heardMs, dropped, set }: Member, kid: string): boolean {
    const nowMs = this.#parts.now()
    const notAfter = set.keys.find(key => key.kid === kid)?.notAfter ?? 0
    return !dropped.has(kid) && nowMs < heardMs + this.#parts.tokenLifeMs + SAVE_MS && (notAfter === 0 || nowMs < notAfter) && this.#isMember(node)
  }

  /** Whether the set is the mesh's. */
  #put(set: KeySet, heardMs: number, dropped: readonly string[]): boolean {
    const node = signerOf(set)
    try {
      this.#members.set(node, { set, keys: checkKeySet(set, this.#parts.mesh), heardMs, dropped: new Set(dropped) })
    } catch (error) {
      if (!(error instanceof CMeshError)) throw error
      this.#parts.log.warn({ err: error, node }, 'the keys of another node are refused')
      return false
    }
    if (this.#members.size > MOST_MEMBERS) {
      const [[longest] = []] = [...this.#members].sort(([, a], [, b]) => a.heardMs - b.heardMs)
      if (longest !== undefined) this.#members.delete(longest)
    }
    return true
  }

  #save(): void {
    this.#savedMs = this.#parts.now()
    try {
      this.#parts.store?.save(this.known)
    } catch (error) {
      // They are asked for again after a restart.
      this.#parts.log.warn({ err: error }, 'the keys of the other nodes could not be written down')
    }
  }
}

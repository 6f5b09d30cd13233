/**
 * The keys that sign session tokens: one that signs, those before it that still verify, and the set of all of them under the
 * signature of the node's own key, which is the mesh's or certified by it. That key itself signs no token, so that a token key can be changed without changing the mesh's name.
 *
 * 1. A rotation puts a new key in place at once; the last one verifies for one token life more, so no good token is refused.
 * 2. A dropped key verifies nothing from then on, and the epoch rises: no older set counts with who saw the new one.
 * 3. What is told to the listener is stored already: a restart never brings back a key that was dropped.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import { signKeySet, type KeySet } from '../../cmtp/identity/key-set.ts'
import { KeyPair, type PublicKey } from '../../cmtp/identity/keys.ts'
import { KEY_SET_KEYS } from '../../cmtp/identity/messages.ts'

/** What verifies tokens. */
export interface TokenKeys {
  /** The key of that id while its tokens count; `undefined` for any other text. */
  verifierOf(kid: string): PublicKey | undefined
  /** Looks for a key of that id elsewhere. Rejects with `CMESH_IAM_BUSY` where it cannot be known yet whether there is one. Default: there is none. */
  learn?(kid: string): Promise<PublicKey | undefined>
}

export interface RingState {
  readonly version: 1
  readonly epoch: number
  /** The one that signs first. Seeds are secrets, base64url; `notAfter` as in a key set. */
  readonly keys: readonly { readonly seed: string, readonly notAfter: number }[]
}

/** Where the keys are kept. Implemented by the node, on a file that nobody else can read. */
export interface KeyStore {
  /** `undefined` when nothing was saved yet. Throws `CMESH_IAM_KEY` for a file that others can read or that holds no keys. */
  load(): RingState | undefined
  /** Returns when the state survives a kill of the process. */
  save(state: RingState): void
}

export interface KeyRingParts {
  /** The node's own key pair, which signs the set. */
  readonly root: KeyPair
  /** Default: none, and the key is the mesh's own. */
  readonly certificate?: Certificate | undefined
  /** Default: the keys live as long as the ring. */
  readonly store?: KeyStore
  /** ms since 1970. Default `Date.now`. */
  readonly now?: () => number
  /** How long a key verifies after another took its place, ms. Default 360,000, the longest life of a token with its grace. */
  readonly tokenLifeMs?: number
}

interface RingKey {
  readonly pair: KeyPair
  readonly notAfter: number
}

export class KeyRing implements TokenKeys {
  readonly #root: KeyPair
  readonly #certificate: Certificate | undefined
  readonly #store: KeyStore | undefined
  readonly #now: () => number
  readonly #tokenLifeMs: number
  readonly #listeners = new Set<() => void>()
  readonly #onRotate = new Set<() => void>()
  #epoch: number
  /** By `kid`; the one that signs stands first. */
  #keys: ReadonlyMap<string, RingKey>
  #keySet: KeySet

  /** Takes up the keys of the store, or makes the first one. Throws what the store throws. */
  constructor({ root, certificate, store, now = Date.now, tokenLifeMs = 360_000 }: KeyRingParts) {
    this.#root = root
    this.#certificate = certificate
    this.#store = store
    this.#now = now
    this.#tokenLifeMs = tokenLifeMs
    const kept = store?.load()
    this.#epoch = kept?.epoch ?? 1
    const keys = (kept?.keys ?? []).map(({ seed, notAfter }) => ({ pair: KeyPair.fromSeed(Buffer.from(seed, 'base64url')), notAfter }))
    this.#keys = byKid(keys.length === 0 ? [fresh()] : keys)
    this.#keySet = this.#sign()
    if (keys.length === 0) this.#save(this.#keys, this.#epoch)
  }

  /** Signs tokens. */
  get current(): KeyPair {
    const [first] = this.#keys.values()
    return (first as RingKey).pair
  }

  /** Every key that verifies, under the root's signature. */
  get keySet(): KeySet {
    if (this.#keySet.keys.some(({ notAfter }) => notAfter !== 0 && notAfter <= this.#now())) this.#keySet = this.#sign()
    return this.#keySet
  }

  verifierOf(kid: string): PublicKey | undefined {
    const key = this.#keys.get(kid)
    return key === undefined || this.#isOver(key) ? undefined : key.pair.publicKey
  }

  /** A new key signs from now on; returns its id. Throws `CMESH_IAM_BUSY` when too many before it still verify, and what the store throws. */
  rotate(): string {
    const keys = this.#live()
    const [oldest] = keys.filter(({ notAfter }) => notAfter !== 0).map(({ notAfter }) => notAfter).sort((a, b) => a - b)
    if (keys.length >= KEY_SET_KEYS && oldest !== undefined) throw new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: Math.max(1, oldest - this.#now()) })
    const notAfter = this.#now() + this.#tokenLifeMs
    this.#put([fresh(), ...keys.map(key => (key.notAfter === 0 ? { ...key, notAfter } : key))], this.#epoch)
    for (const listener of this.#onRotate) listener()
    return this.current.publicKey.thumbprint
  }

  /**
   * No token by that key counts from now on; where it is the one that signs, another takes its place. Returns the epoch. Throws
   * `CMESH_IAM_KEY` for an id that is none of this ring's, and what the store throws.
   */
  drop(kid: string): number {
    if (!this.#keys.has(kid)) throw new CMeshError('CMESH_IAM_KEY', { reason: 'this mesh signs by no key of that id' })
    const left = this.#live().filter(({ pair }) => pair.publicKey.thumbprint !== kid)
    this.#put(left.some(({ notAfter }) => notAfter === 0) ? left : [fresh(), ...left], this.#epoch + 1)
    for (const listener of this.#listeners) listener()
    return this.#epoch
  }

  /** Whether the key of that id is one of this ring's. */
  has(kid: string): boolean {
    return this.#keys.has(kid)
  }

  /** Called after another key has begun to sign; returns the function that ends that. */
  onRotate(listener: () => void): () => void {
    this.#onRotate.add(listener)
    return () => { this.#onRotate.delete(listener) }
  }

  /** Called after a key was dropped; returns the function that ends that. */
  onDrop(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  #live(): RingKey[] {
    return [...this.#keys.values()].filter(key => !this.#isOver(key))
  }

  #isOver({ notAfter }: RingKey): boolean {
    return notAfter !== 0 && this.#now() >= notAfter
  }

  /** Stored first, then in force. */
  #put(keys: readonly RingKey[], epoch: number): void {
    const next = byKid(keys)
    this.#save(next, epoch)
    this.#keys = next
    this.#epoch = epoch
    this.#keySet = this.#sign()
  }

  #save(keys: ReadonlyMap<string, RingKey>, epoch: number): void {
    this.#store?.save({
      version: 1, epoch,
      keys: [...keys.values()].map(({ pair, notAfter }) => ({ seed: pair.exportSeed().toString('base64url'), notAfter })),
    })
  }

  #sign(): KeySet {
    const keys = this.#live().map(({ pair: { publicKey }, notAfter }) => ({ kid: publicKey.thumbprint, x: publicKey.text, notAfter }))
    const by = { mesh: this.#certificate?.mesh ?? this.#root.did, ...(this.#certificate !== undefined && { certificate: this.#certificate }) }
    return signKeySet({ version: 1, ...by, epoch: this.#epoch, issued: this.#now(), keys }, this.#root)
  }
}

/** Its id does not begin with a dash: it is typed as a word of a command line. */
function fresh(): RingKey {
  let pair: KeyPair
  do pair = KeyPair.generate(); while (pair.publicKey.thumbprint.startsWith('-'))
  return { pair, notAfter: 0 }
}

function byKid(keys: readonly RingKey[]): ReadonlyMap<string, RingKey> {
  return new Map(keys.map(key => [key.pair.publicKey.thumbprint, key]))
}

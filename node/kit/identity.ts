/** Who acts in a sandbox: keys made from a name, so that every run has the same DIDs. They guard nothing. */
import { hash } from 'node:crypto'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'

/** Made once a process: a key takes longer than anything else a sandbox begins with, and the same name is the same key. */
const made = new TwoGenerations<string, Identity>({ entries: 256 })

export function identityOf(name: string): Identity {
  let identity = made.get(name)
  if (identity === undefined) made.set(name, identity = new Identity(name))
  return identity
}

export class Identity {
  readonly name: string
  /** `did:key:z6Mk…`, the same for the same name, always. */
  readonly did: string
  readonly #key: KeyPair

  /** Use `Sandbox.identity`. */
  constructor(name: string) {
    this.name = name
    this.#key = KeyPair.fromSeed(hash('sha256', `cmesh/testing/identity\0${name}`, 'buffer'))
    this.did = this.#key.did
  }

  /** 64 bytes of Ed25519, for contracts that verify signatures. */
  sign(message: Uint8Array): Buffer {
    return this.#key.sign(message)
  }

  /** The 32 bytes of the public key. */
  publicKey(): Buffer {
    return this.#key.publicKey.toBytes()
  }

  /** As an argument of a call it is its DID. */
  toJSON(): string {
    return this.did
  }

  toString(): string {
    return this.did
  }
}

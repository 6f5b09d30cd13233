/**
 * What members of a mesh sign and check at every turn, by the Ed25519 of libsodium, which Hypercore brings along: signing what is short takes half, checking
 * a third of what `node:crypto` takes. A signature has the same bytes (RFC 8032). Of those that no honest signer makes libsodium refuses more: what members
 * sign as members, batches and claims, is checked by this alone, here and where a log is read again, so that all decide alike.
 */
import { keyPair, sign, verify } from 'hypercore-crypto'
import { PublicKey, type KeyPair } from '../cmtp/identity/keys.ts'
import { TwoGenerations } from '../cmtp/two-generations.ts'

/** From here on what is hashed takes longer than the rest, and OpenSSL is the faster at that. */
const LONG_BYTES = 16_384

/** Signs as the key pair does. */
export function signerOf(key: KeyPair): (bytes: Uint8Array) => Uint8Array {
  const seed = key.exportSeed()
  const { secretKey } = keyPair(seed)
  seed.fill(0)
  return bytes => bytes.length < LONG_BYTES ? sign(bytes, secretKey) : key.sign(bytes)
}

/** Checks signatures by the DID of who is said to have made them; a public key is decoded once. Throws `CMESH_IAM_KEY` for what is no DID. */
export function signatureCheck(): (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean {
  const keys = new TwoGenerations<string, Buffer>({ entries: 64 })
  return (did, bytes, signature) => {
    let key = keys.get(did)
    if (key === undefined) keys.set(did, key = PublicKey.fromDid(did).toBytes())
    return verify(bytes, signature, key)
  }
}

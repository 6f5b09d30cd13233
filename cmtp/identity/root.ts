/**
 * A root and what is derived of it. The root is 32 random bytes, written as 24 words (BIP39, English, no passphrase); their seed
 * is the input of HKDF-SHA512 (RFC 5869), which gives one key for each purpose in each context. Contexts cannot be linked to one
 * another or to the root by whoever sees their keys. Nothing here stores, prints or sends a secret.
 */
import { hkdfSync, pbkdf2Sync, randomBytes } from 'node:crypto'
import { CMeshError } from '../errors.ts'
import { SEED_BYTES } from './keys.ts'

export const ROOT_WORDS = 24
/** Bytes that 24 words stand for; another 8 bits of them are a checksum. */
export const ROOT_BYTES = 32
/** The context of an identity that is used as it was made. */
export const DEFAULT_CONTEXT = 'default'
/** Longest context in bytes of UTF-8. */
export const CONTEXT_BYTES = 256

/** `did` signs as an identity, `nats` logs in to a broker, `x25519` agrees on keys. One key is never used for two of them. */
export type KeyPurpose = 'did' | 'nats' | 'x25519'

const SALT = 'cmesh/identity/v1'
/** BIP39, "From mnemonic to seed". */
const SEED_ROUNDS = 2_048
const SEED_LENGTH = 64

/** Entropy for a new root. */
export function makeRoot(): Buffer {
  return randomBytes(ROOT_BYTES)
}

/** The 24 words of a root. Rejects with `CMESH_IAM_KEY` for another length than 32 bytes. */
export async function wordsOfRoot(root: Uint8Array): Promise<string> {
  if (root.length !== ROOT_BYTES) throw refused(`a root has ${ROOT_BYTES} bytes, not ${root.length}`)
  const { bip39, wordlist } = await loadWords()
  return bip39.entropyToMnemonic(root, wordlist)
}

/** The root that the words stand for, in any case and spacing. Rejects with `CMESH_IAM_KEY`, which never repeats a word. */
export async function rootOfWords(words: string): Promise<Buffer> {
  const list = words.normalize('NFKD').toLowerCase().split(/\s+/u).filter(word => word !== '')
  if (list.length !== ROOT_WORDS) throw refused(`a root has ${ROOT_WORDS} words, not ${list.length}`)
  const { bip39, wordlist } = await loadWords()
  const known = new Set(wordlist)
  const unknown = list.findIndex(word => !known.has(word))
  if (unknown !== -1) throw refused(`word ${unknown + 1} is not one of the BIP39 list`)
  try {
    return Buffer.from(bip39.mnemonicToEntropy(list.join(' '), wordlist))
  } catch {
    // Its own error could quote what it was given.
    throw refused('the words do not fit their checksum: one is another than it was, or they are in another order')
  }
}

/** BIP39, "From mnemonic to seed": 64 bytes. `passphrase`: default none, as everywhere in CMesh. */
export function seedOfWords(words: string, passphrase = ''): Buffer {
  return pbkdf2Sync(words.normalize('NFKD'), `mnemonic${passphrase}`.normalize('NFKD'), SEED_ROUNDS, SEED_LENGTH, 'sha512')
}

/**
 * The 32-byte seed of the key for a purpose in a context. `seed`: `seedOfWords`. `context`: 1 to 256 bytes of text without `|`. Throws
 * `CMESH_IAM_KEY`.
 */
export function deriveSeed(seed: Uint8Array, purpose: KeyPurpose, context: string): Buffer {
  checkContext(context)
  const info = Buffer.concat([withLength(purpose), withLength(context)])
  return Buffer.from(hkdfSync('sha512', seed, SALT, info, SEED_BYTES))
}

/** Throws `CMESH_IAM_KEY` for what is no context. */
export function checkContext(context: string): void {
  const bytes = Buffer.byteLength(context)
  if (bytes === 0 || bytes > CONTEXT_BYTES) throw refused(`a context has 1 to ${CONTEXT_BYTES} bytes, not ${bytes}`)
  // What follows a bar is kept for the keys that one context may have after another.
  if (context.includes('|')) throw refused('a context has no |')
  if (context !== context.normalize('NFC')) throw refused('a context is written in one way (Unicode NFC)')
  if (Buffer.from(context, 'utf8').toString('utf8') !== context) throw refused('a context is well-formed text')
}

/** Parts are told apart by their length, so that no two pairs of purpose and context have the same bytes. */
function withLength(part: string): Buffer {
  const bytes = Buffer.from(part, 'utf8')
  const length = Buffer.alloc(2)
  length.writeUInt16BE(bytes.length)
  return Buffer.concat([length, bytes])
}

/** Loaded when a root is made or written out: the list costs every start of the command line 25 ms otherwise. */
async function loadWords(): Promise<{ bip39: typeof import('@scure/bip39'), wordlist: string[] }> {
  const [bip39, { wordlist }] = await Promise.all([import('@scure/bip39'), import('@scure/bip39/wordlists/english.js')])
  return { bip39, wordlist }
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_KEY', { reason })
}

/**
 * How an identity lies in its file. Version 1 is a seed alone and is read for ever; version 2 is a root with its words' entropy, or
 * what was derived of one, without it. All hold the seed of the DID itself, so that acting as an identity derives nothing.
 */
import { join } from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { checkContext, deriveSeed, seedOfWords, wordsOfRoot } from '../cmtp/identity/root.ts'
import { KeyPair } from '../cmtp/identity/keys.ts'
import { fieldsOf, keyOf, unusable } from './private-files.ts'

export interface IdentityFile {
  readonly version: 1 | 2
  readonly did: string
  /** base64url of the 32-byte seed of the DID: the secret. */
  readonly seed: string
  /** What the DID was derived for. Absent in version 1, and where a seed was imported. */
  readonly context?: string
  /** base64url of the root that 24 words stand for: the secret behind all its contexts. Only in the file of a root. */
  readonly entropy?: string
  /** DID of the root's own context, where this was derived of one. */
  readonly root?: string
  /** How often it was rotated. Absent where it never was. */
  readonly generation?: number
  /** It came from elsewhere, or was derived of what did: it may be what another identity has committed to. */
  readonly imported?: true
  /** DID whose place it took, or was to take, where nothing else of that one is here. */
  readonly from?: string
}

/** An identity as it may be shown: no secret. */
export interface IdentityInfo {
  readonly name: string
  readonly did: string
  readonly kind: 'root' | 'derived' | 'seed'
  readonly context: string | undefined
  /** DID of the root it was derived of. */
  readonly root: string | undefined
}

/** What an identity may be called. */
export const IDENTITY_NAME = /^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/

/** Where the identity of a name lies. Throws `CMESH_CLIENT_USAGE` for a name that is no file name. */
export function identityPath(directory: string, name: string): string {
  if (!IDENTITY_NAME.test(name)) {
    const reason = 'The name of an identity has 1 to 64 letters, digits, _ or -, and begins with a letter or digit.'
    throw new CMeshError('CMESH_CLIENT_USAGE', { reason })
  }
  return join(directory, 'identities', `${name}.json`)
}

/** The file of a root, whose own DID is the one of its context `default`. */
export async function rootFile(entropy: Uint8Array, context: string): Promise<IdentityFile> {
  const key = await keyOfRoot(entropy, context)
  return { version: 2, did: key.did, context, seed: textOf(key.exportSeed()), entropy: textOf(entropy) }
}

/** The file of another context of a root. */
export async function derivedFile(entropy: Uint8Array, context: string, root: string): Promise<IdentityFile> {
  const key = await keyOfRoot(entropy, context)
  return { version: 2, did: key.did, context, seed: textOf(key.exportSeed()), root }
}

/** The file of a seed that came alone. */
export function seedFile(key: KeyPair): IdentityFile {
  return { version: 2, did: key.did, seed: textOf(key.exportSeed()) }
}

export function infoOf(name: string, { did, context, entropy, root }: IdentityFile): IdentityInfo {
  return { name, did, kind: entropy !== undefined ? 'root' : root !== undefined ? 'derived' : 'seed', context, root }
}

/** What was read from `path`, with its key. Throws `CMESH_CLIENT_CREDENTIALS`. */
export function readIdentityFile(path: string, value: unknown): { readonly file: IdentityFile, readonly key: KeyPair } {
  const { version, did, seed, context, entropy, root, generation = 0, from } = fieldsOf(value)
  const optional = [context, entropy, root, from].every(each => each === undefined || typeof each === 'string')
  if ((version !== 1 && version !== 2) || typeof did !== 'string' || typeof seed !== 'string' || !optional || !Number.isSafeInteger(generation)) {
    throw unusable(path, 'it does not hold an identity')
  }
  const key = keyOf(path, seed)
  if (key.did !== did) throw unusable(path, 'its seed is not the one of its DID')
  return { file: value as IdentityFile, key }
}

/** The root in the file at `path`. Rejects with `CMESH_CLIENT_CREDENTIALS` where it is not the root of the file's own DID. */
export async function entropyOf(path: string, { entropy, context = '', did }: IdentityFile): Promise<Buffer | undefined> {
  if (entropy === undefined) return undefined
  const bytes = Buffer.from(entropy, 'base64url')
  const own = await keyOfRoot(bytes, context).catch(() => undefined)
  if (own?.did !== did) throw unusable(path, 'its root is not the one of its DID')
  return bytes
}

/** The DID of a context of a root. */
export async function didOfRoot(entropy: Uint8Array, context: string): Promise<string> {
  return (await keyOfRoot(entropy, context)).did
}

async function keyOfRoot(entropy: Uint8Array, context: string): Promise<KeyPair> {
  checkContext(context)
  return KeyPair.fromSeed(deriveSeed(seedOfWords(await wordsOfRoot(entropy)), 'did', context))
}

function textOf(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}

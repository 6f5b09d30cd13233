/**
 * Identities of the person at this machine, under the user's config directory: `identities/<name>.json` holds a root, or a seed that
 * was derived of one or imported. The sessions beside them are `session-store.ts`'s. A secret leaves by `exportWords` and
 * `exportSeed` alone.
 */
import { join } from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { KeyPair, SEED_BYTES } from '../cmtp/identity/keys.ts'
import type { Session } from '../cmtp/identity/login.ts'
import { DEFAULT_CONTEXT, makeRoot, rootOfWords, wordsOfRoot } from '../cmtp/identity/root.ts'
import {
  derivedFile, entropyOf, IDENTITY_NAME, identityPath, infoOf, readIdentityFile, rootFile, seedFile, type IdentityFile, type IdentityInfo,
} from './identity-file.ts'
import { usage } from './options.ts'
import { configDirectory, PrivateFiles, unusable } from './private-files.ts'
import { SessionStore } from './session-store.ts'

export { configDirectory } from './private-files.ts'
export type { IdentityInfo } from './identity-file.ts'

export const DEFAULT_IDENTITY = 'default'

export class IdentityStore {
  readonly directory: string
  readonly #files: PrivateFiles
  readonly #sessions: SessionStore

  /** Nothing is read or made before it is asked for. */
  constructor(directory: string = configDirectory()) {
    this.directory = directory
    this.#files = new PrivateFiles(directory)
    this.#sessions = new SessionStore(directory)
  }

  /**
   * The identity of that name, a new root when there is none; of two processes that make it at once both get the same. Rejects with
   * `CMESH_CLIENT_CREDENTIALS` for a file or directory that is open to others or does not hold an identity, and with
   * `CMESH_CLIENT_USAGE` for a name that is no file name.
   */
  async loadOrCreateIdentity(name: string = DEFAULT_IDENTITY): Promise<KeyPair> {
    const path = this.#identityPath(name)
    const existing = await this.#files.read(path)
    if (existing !== undefined) return readIdentityFile(path, existing).key

    const file = await rootFile(makeRoot(), DEFAULT_CONTEXT)
    if (await this.#files.write(path, file, 'create')) return readIdentityFile(path, file).key
    const others = await this.#files.read(path)
    if (others === undefined) throw unusable(path, 'it was removed while it was read')
    return readIdentityFile(path, others).key
  }

  /** The identity of that name; `undefined` when there is none. Rejects as `loadOrCreateIdentity` does. */
  async loadIdentity(name: string = DEFAULT_IDENTITY): Promise<KeyPair | undefined> {
    return (await this.#read(name))?.key
  }

  /** What may be shown of it; `undefined` when there is none. Rejects as `loadOrCreateIdentity` does. */
  async describe(name: string = DEFAULT_IDENTITY): Promise<IdentityInfo | undefined> {
    const found = await this.#read(name)
    return found === undefined ? undefined : infoOf(name, found.file)
  }

  /** All there are, by name. Rejects as `loadOrCreateIdentity` does. */
  async list(): Promise<IdentityInfo[]> {
    const files = await this.#files.names(join(this.directory, 'identities'))
    const names = files.filter(file => file.endsWith('.json')).map(file => file.slice(0, -5)).filter(name => IDENTITY_NAME.test(name)).sort()
    const all = await Promise.all(names.map(name => this.describe(name)))
    return all.filter(info => info !== undefined)
  }

  /** A new root under a free name. Rejects with `CMESH_CLIENT_USAGE` when the name is taken, and as `loadOrCreateIdentity` does. */
  async create(name: string): Promise<IdentityInfo> {
    return await this.#add(name, await rootFile(makeRoot(), DEFAULT_CONTEXT))
  }

  /**
   * The identity of another context of a root, under a free name; the same context gives the same DID again. Rejects with
   * `CMESH_CLIENT_USAGE` when the name is taken or `root` is no root, and with `CMESH_IAM_KEY` for what is no context.
   */
  async derive(root: string, context: string, name: string): Promise<IdentityInfo> {
    const found = await this.#mustRead(root)
    const entropy = await entropyOf(this.#identityPath(root), found.file)
    if (entropy === undefined) throw usage(`The identity ${root} is no root: nothing can be derived of it.`)
    const derived = await derivedFile(entropy, context, found.file.did)
    return await this.#add(name, found.file.imported === true ? { ...derived, imported: true } : derived)
  }

  /** The 24 words of a root: the secret behind it and all that is derived of it. Rejects with `CMESH_CLIENT_USAGE` for what has none. */
  async exportWords(name: string): Promise<string> {
    const { file } = await this.#mustRead(name)
    const entropy = await entropyOf(this.#identityPath(name), file)
    if (entropy === undefined) throw usage(`The identity ${name} has no words: it is no root. Its seed can be exported.`)
    return await wordsOfRoot(entropy)
  }

  /** The seed of the DID, 43 characters of base64url: the secret of this identity alone. Rejects with `CMESH_CLIENT_USAGE`. */
  async exportSeed(name: string): Promise<string> {
    const { key } = await this.#mustRead(name)
    return key.exportSeed().toString('base64url')
  }

  /**
   * Takes in the 24 words of a root, or a seed, under a free name. Rejects with `CMESH_CLIENT_USAGE` when the name is taken, and
   * with `CMESH_IAM_KEY` for text that is neither; no error repeats it.
   */
  async import(name: string, secret: string): Promise<IdentityInfo> {
    const text = secret.trim()
    if (/^[A-Za-z0-9_-]{43}$/.test(text)) return await this.#add(name, { ...seedFile(keyOfSeed(text)), imported: true })
    return await this.#add(name, { ...await rootFile(await rootOfWords(text), DEFAULT_CONTEXT), imported: true })
  }

  /** Keeps the session of an identity with the mesh at `url`, in place of the one before. */
  saveSession(url: string, identity: string, session: Session): Promise<void> {
    return this.#sessions.saveSession(url, identity, session)
  }

  /** The session kept for that mesh; `undefined` when there is none. It may have expired. Rejects as `loadOrCreateIdentity` does. */
  loadSession(url: string, identity: string = DEFAULT_IDENTITY): Promise<Session | undefined> {
    return this.#sessions.loadSession(url, identity)
  }

  /** Forgets the session. Resolves as well when there is none. */
  removeSession(url: string, identity: string = DEFAULT_IDENTITY): Promise<void> {
    return this.#sessions.removeSession(url, identity)
  }

  async #read(name: string): Promise<ReturnType<typeof readIdentityFile> | undefined> {
    const path = this.#identityPath(name)
    const existing = await this.#files.read(path)
    return existing === undefined ? undefined : readIdentityFile(path, existing)
  }

  async #mustRead(name: string): Promise<ReturnType<typeof readIdentityFile>> {
    const found = await this.#read(name)
    if (found === undefined) throw usage(`There is no identity ${name}.`)
    return found
  }

  async #add(name: string, file: IdentityFile): Promise<IdentityInfo> {
    if (!await this.#files.write(this.#identityPath(name), file, 'create')) throw usage(`There is an identity ${name} already.`)
    return infoOf(name, file)
  }

  #identityPath(name: string): string {
    return identityPath(this.directory, name)
  }
}

function keyOfSeed(text: string): KeyPair {
  const seed = Buffer.from(text, 'base64url')
  if (seed.length !== SEED_BYTES || seed.toString('base64url') !== text) throw new CMeshError('CMESH_IAM_KEY', { reason: 'it is no seed in base64url' })
  return KeyPair.fromSeed(seed)
}

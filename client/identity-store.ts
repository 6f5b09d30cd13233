/**
 * Identities of the person at this machine, under the user's config directory: `identities/<name>.json` holds a root seed. The
 * sessions beside them are `session-store.ts`'s.
 */
import { join } from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { KeyPair } from '../cmtp/identity/keys.ts'
import type { Session } from '../cmtp/identity/login.ts'
import { configDirectory, fieldsOf, keyOf, PrivateFiles, unusable } from './private-files.ts'
import { SessionStore } from './session-store.ts'

export { configDirectory } from './private-files.ts'

export const DEFAULT_IDENTITY = 'default'

interface IdentityFile {
  readonly version: 1
  readonly did: string
  /** base64url of the 32-byte seed: the secret. */
  readonly seed: string
}

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
   * The identity of that name, made when there is none; of two processes that make it at once both get the same. Rejects with
   * `CMESH_CLIENT_CREDENTIALS` for a file or directory that is open to others or does not hold an identity, and with
   * `CMESH_CLIENT_USAGE` for a name that is no file name.
   */
  async loadOrCreateIdentity(name: string = DEFAULT_IDENTITY): Promise<KeyPair> {
    const path = this.#identityPath(name)
    const existing = await this.#files.read(path)
    if (existing !== undefined) return readIdentity(path, existing)

    const key = KeyPair.generate()
    const file: IdentityFile = { version: 1, did: key.did, seed: key.exportSeed().toString('base64url') }
    if (await this.#files.write(path, file, 'create')) return key
    const others = await this.#files.read(path)
    if (others === undefined) throw unusable(path, 'it was removed while it was read')
    return readIdentity(path, others)
  }

  /** The identity of that name; `undefined` when there is none. Rejects as `loadOrCreateIdentity` does. */
  async loadIdentity(name: string = DEFAULT_IDENTITY): Promise<KeyPair | undefined> {
    const path = this.#identityPath(name)
    const existing = await this.#files.read(path)
    return existing === undefined ? undefined : readIdentity(path, existing)
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

  #identityPath(name: string): string {
    if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(name)) {
      const reason = 'The name of an identity has 1 to 64 letters, digits, _ or -, and begins with a letter or digit.'
      throw new CMeshError('CMESH_CLIENT_USAGE', { reason })
    }
    return join(this.directory, 'identities', `${name}.json`)
  }
}

function readIdentity(path: string, value: unknown): KeyPair {
  const { version, did, seed } = fieldsOf(value)
  if (version !== 1 || typeof did !== 'string' || typeof seed !== 'string') throw unusable(path, 'it does not hold an identity')
  const key = keyOf(path, seed)
  if (key.did !== did) throw unusable(path, 'its seed is not the one of its DID')
  return key
}

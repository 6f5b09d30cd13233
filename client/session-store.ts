/**
 * Sessions of the person at this machine, under the user's config directory: `sessions/<hash>.json` holds a session with one mesh,
 * its key included.
 */
import { hash } from 'node:crypto'
import { join } from 'node:path'
import type { Session } from '../cmtp/identity/login.ts'
import { fieldsOf, keyOf, PrivateFiles, unusable } from './private-files.ts'

interface SessionFile extends Omit<Session, 'key'> {
  readonly version: 1
  readonly url: string
  /** base64url of the session key's seed: a secret. */
  readonly key: string
}

export class SessionStore {
  readonly #files: PrivateFiles

  /** Nothing is read or made before it is asked for. */
  constructor(directory: string) {
    this.#files = new PrivateFiles(directory)
  }

  /** Keeps the session of an identity with the mesh at `url`, in place of the one before. */
  async saveSession(url: string, identity: string, session: Session): Promise<void> {
    const file: SessionFile = { ...session, version: 1, url, key: session.key.exportSeed().toString('base64url') }
    await this.#files.write(this.#sessionPath(url, identity), file, 'replace')
  }

  /**
   * The session kept for that mesh; `undefined` when there is none. It may have expired. Rejects with
   * `CMESH_CLIENT_CREDENTIALS` for a file or directory that is open to others or does not hold a session.
   */
  async loadSession(url: string, identity: string): Promise<Session | undefined> {
    const path = this.#sessionPath(url, identity)
    const existing = await this.#files.read(path)
    return existing === undefined ? undefined : readSession(path, url, existing)
  }

  /** Forgets the session. Resolves as well when there is none. */
  async removeSession(url: string, identity: string): Promise<void> {
    await this.#files.remove(this.#sessionPath(url, identity))
  }

  #sessionPath(url: string, identity: string): string {
    return join(this.#files.directory, 'sessions', `${hash('sha256', `${url}\n${identity}`, 'hex').slice(0, 32)}.json`)
  }
}

function readSession(path: string, url: string, value: unknown): Session {
  const { version, url: savedUrl, key, ...fields } = fieldsOf(value)
  const { sid, token, sub, mesh, node, perms, keyEpoch, issued, expires } = fields
  if (
    version !== 1 || savedUrl !== url || typeof key !== 'string' || typeof sid !== 'string' || typeof token !== 'string'
    || typeof sub !== 'string' || typeof mesh !== 'string' || typeof node !== 'string' || !Array.isArray(perms)
    || !perms.every(text => typeof text === 'string') || typeof issued !== 'number' || typeof expires !== 'number'
    || (keyEpoch !== undefined && typeof keyEpoch !== 'number')
  ) {
    throw unusable(path, 'it does not hold a session with this mesh')
  }
  return { sid, token, sub, mesh, node, perms, ...(keyEpoch !== undefined && { keyEpoch }), issued, expires, key: keyOf(path, key) }
}

/**
 * Sessions of the person at this machine, under the user's config directory: `sessions/<hash>.json` holds a session with one mesh,
 * its keys and its login at the broker included. What is saved is named field by field: keys show themselves to nobody by themselves.
 */
import { hash } from 'node:crypto'
import { join } from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import type { KeyEpochs } from '../cmtp/identity/key-set.ts'
import type { Session } from '../cmtp/identity/login.ts'
import { Nkey } from '../cmtp/identity/nats-keys.ts'
import { fieldsOf, keyOf, PrivateFiles, unusable } from './private-files.ts'

interface SessionFile extends Omit<Session, 'key' | 'nkey' | 'via'> {
  readonly version: 1
  readonly url: string
  /** base64url of the session key's seed: a secret. */
  readonly key: string
  /** Seed of the nkey that its connection logs in with: a secret. */
  readonly nkey?: string
}

export class SessionStore {
  readonly #files: PrivateFiles

  /** Nothing is read or made before it is asked for. */
  constructor(directory: string) {
    this.#files = new PrivateFiles(directory)
  }

  /** Keeps the session of an identity with the mesh at `url`, in place of the one before. */
  async saveSession(url: string, identity: string, session: Session): Promise<void> {
    const { sid, token, sub, mesh, node, perms, keyEpochs, issued, expires, key, nkey, connection } = session
    const file: SessionFile = {
      version: 1, url, sid, token, sub, mesh, node, perms, ...(keyEpochs !== undefined && { keyEpochs }), issued, expires,
      key: key.exportSeed().toString('base64url'),
      ...(nkey !== undefined && { nkey: nkey.exportSeed() }),
      ...(connection !== undefined && { connection: { jwt: connection.jwt, expires: connection.expires } }),
    }
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
  const { version, url: savedUrl, key, nkey, connection, ...fields } = fieldsOf(value)
  const { sid, token, sub, mesh, node, perms, keyEpoch, keyEpochs, issued, expires } = fields
  if (
    version !== 1 || savedUrl !== url || typeof key !== 'string' || typeof sid !== 'string' || typeof token !== 'string'
    || typeof sub !== 'string' || typeof mesh !== 'string' || typeof node !== 'string' || !Array.isArray(perms)
    || !perms.every(text => typeof text === 'string') || typeof issued !== 'number' || typeof expires !== 'number'
    || (keyEpoch !== undefined && typeof keyEpoch !== 'number') || (keyEpochs !== undefined && !areEpochs(keyEpochs))
    || (nkey !== undefined && typeof nkey !== 'string')
  ) {
    throw unusable(path, 'it does not hold a session with this mesh')
  }
  // One number in files from before a mesh had several nodes: of the mesh's own key.
  const epochs = keyEpochs ?? (keyEpoch === undefined ? undefined : { [mesh]: keyEpoch })
  return {
    sid, token, sub, mesh, node, perms, ...(epochs !== undefined && { keyEpochs: epochs }), issued, expires, key: keyOf(path, key),
    ...(nkey !== undefined && { nkey: nkeyOf(path, nkey) }), ...(connection !== undefined && { connection: loginOf(path, connection) }),
  }
}

function areEpochs(value: unknown): value is KeyEpochs {
  return typeof value === 'object' && value !== null && Object.values(value).every(epoch => Number.isSafeInteger(epoch))
}

function nkeyOf(path: string, seed: string): Nkey {
  try {
    return Nkey.fromSeed(seed)
  } catch (cause) {
    throw new CMeshError('CMESH_CLIENT_CREDENTIALS', { path, reason: 'its nkey is no seed' }, { cause })
  }
}

function loginOf(path: string, value: unknown): NonNullable<Session['connection']> {
  const { jwt, expires } = fieldsOf(value)
  if (typeof jwt !== 'string' || typeof expires !== 'number') throw unusable(path, 'its login at the broker cannot be read')
  return { jwt, expires }
}

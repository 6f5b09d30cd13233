/**
 * Identities and sessions of the person at this machine, under the user's config directory: `identities/<name>.json` holds a
 * root seed, `sessions/<hash>.json` a session with one mesh. Directories are 0700, files 0600 and replaced as a whole. What
 * others could read or have replaced is refused, never repaired in silence: who read it before cannot be known.
 */
import { hash, randomBytes } from 'node:crypto'
import { link, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { KeyPair } from '../cmtp/identity/keys.ts'
import type { Session } from '../cmtp/identity/login.ts'

/** `$CMESH_CONFIG_DIR`, else `$XDG_CONFIG_HOME/cmesh`, else `~/.config/cmesh`. */
export function configDirectory(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const own = env['CMESH_CONFIG_DIR']
  if (own !== undefined && own !== '') return own
  const xdg = env['XDG_CONFIG_HOME']
  return join(xdg !== undefined && xdg !== '' ? xdg : join(homedir(), '.config'), 'cmesh')
}

export const DEFAULT_IDENTITY = 'default'

interface IdentityFile {
  readonly version: 1
  readonly did: string
  /** base64url of the 32-byte seed: the secret. */
  readonly seed: string
}

interface SessionFile extends Omit<Session, 'key'> {
  readonly version: 1
  readonly url: string
  /** base64url of the session key's seed: a secret. */
  readonly key: string
}

export class IdentityStore {
  readonly directory: string

  /** Nothing is read or made before it is asked for. */
  constructor(directory: string = configDirectory()) {
    this.directory = directory
  }

  /**
   * The identity of that name, made when there is none; of two processes that make it at once both get the same. Rejects with
   * `CMESH_CLIENT_CREDENTIALS` for a file or directory that is open to others or does not hold an identity, and with
   * `CMESH_CLIENT_USAGE` for a name that is no file name.
   */
  async loadOrCreateIdentity(name: string = DEFAULT_IDENTITY): Promise<KeyPair> {
    const path = this.#identityPath(name)
    const existing = await this.#read(path)
    if (existing !== undefined) return readIdentity(path, existing)

    const key = KeyPair.generate()
    const file: IdentityFile = { version: 1, did: key.did, seed: key.exportSeed().toString('base64url') }
    if (await this.#write(path, file, 'create')) return key
    const others = await this.#read(path)
    if (others === undefined) throw unusable(path, 'it was removed while it was read')
    return readIdentity(path, others)
  }

  /** The identity of that name; `undefined` when there is none. Rejects as `loadOrCreateIdentity` does. */
  async loadIdentity(name: string = DEFAULT_IDENTITY): Promise<KeyPair | undefined> {
    const path = this.#identityPath(name)
    const existing = await this.#read(path)
    return existing === undefined ? undefined : readIdentity(path, existing)
  }

  /** Keeps the session of an identity with the mesh at `url`, in place of the one before. */
  async saveSession(url: string, identity: string, session: Session): Promise<void> {
    const file: SessionFile = { ...session, version: 1, url, key: session.key.exportSeed().toString('base64url') }
    await this.#write(this.#sessionPath(url, identity), file, 'replace')
  }

  /**
   * The session kept for that mesh; `undefined` when there is none. It may have expired. Rejects as `loadOrCreateIdentity`
   * does.
   */
  async loadSession(url: string, identity: string = DEFAULT_IDENTITY): Promise<Session | undefined> {
    const path = this.#sessionPath(url, identity)
    const existing = await this.#read(path)
    return existing === undefined ? undefined : readSession(path, url, existing)
  }

  /** Forgets the session. Resolves as well when there is none. */
  async removeSession(url: string, identity: string = DEFAULT_IDENTITY): Promise<void> {
    await rm(this.#sessionPath(url, identity), { force: true })
  }

  #identityPath(name: string): string {
    if (!/^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$/.test(name)) {
      const reason = 'The name of an identity has 1 to 64 letters, digits, _ or -, and begins with a letter or digit.'
      throw new CMeshError('CMESH_CLIENT_USAGE', { reason })
    }
    return join(this.directory, 'identities', `${name}.json`)
  }

  #sessionPath(url: string, identity: string): string {
    return join(this.directory, 'sessions', `${hash('sha256', `${url}\n${identity}`, 'hex').slice(0, 32)}.json`)
  }

  /** The JSON in a file; `undefined` when there is no file. */
  async #read(path: string): Promise<unknown> {
    let file
    try {
      file = await open(path, 'r')
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined
      throw asUnusable(path, 'opened', error)
    }
    try {
      // Of the open file, so that what was checked is what is read.
      const { mode } = await file.stat()
      if (OWNER_BITS && (mode & 0o077) !== 0) throw unusable(path, `others can read it; run: chmod 600 ${path}`)
      await this.#checkDirectories(path)
      return JSON.parse(await file.readFile('utf8')) as unknown
    } catch (error) {
      if (error instanceof SyntaxError) throw unusable(path, 'it is no JSON')
      throw asUnusable(path, 'read', error)
    } finally {
      await file.close()
    }
  }

  /** Whoever can write to a directory can replace the files in it. */
  async #checkDirectories(path: string): Promise<void> {
    for (const directory of [dirname(path), this.directory]) {
      const { mode } = await stat(directory)
      if (OWNER_BITS && (mode & 0o022) !== 0) throw unusable(directory, `others can write to it; run: chmod 700 ${directory}`)
    }
  }

  async #write(path: string, value: object, how: 'create' | 'replace'): Promise<boolean> {
    try {
      return await this.#place(path, value, how)
    } catch (error) {
      throw asUnusable(path, 'written', error)
    }
  }

  /** Writes a whole file beside its place and moves it there. `create` leaves an existing file alone and resolves with false. */
  async #place(path: string, value: object, how: 'create' | 'replace'): Promise<boolean> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await this.#checkDirectories(path)
    const beside = `${path}.${process.pid}.${randomBytes(4).toString('hex')}`
    try {
      const file = await open(beside, 'wx', 0o600)
      try {
        await file.writeFile(`${JSON.stringify(value, undefined, 2)}\n`)
        await file.sync()
      } finally {
        await file.close()
      }
      if (how === 'replace') {
        await rename(beside, path)
        return true
      }
      try {
        // Unlike a rename, a link never replaces what another process put there first.
        await link(beside, path)
        return true
      } catch (error) {
        if (codeOf(error) === 'EEXIST') return false
        throw error
      }
    } finally {
      await rm(beside, { force: true })
    }
  }
}

/** Windows has no such bits. */
const OWNER_BITS = process.platform !== 'win32'

function readIdentity(path: string, value: unknown): KeyPair {
  const { version, did, seed } = fieldsOf(value)
  if (version !== 1 || typeof did !== 'string' || typeof seed !== 'string') throw unusable(path, 'it does not hold an identity')
  const key = keyOf(path, seed)
  if (key.did !== did) throw unusable(path, 'its seed is not the one of its DID')
  return key
}

function readSession(path: string, url: string, value: unknown): Session {
  const { version, url: savedUrl, key, ...fields } = fieldsOf(value)
  const { sid, token, sub, mesh, node, perms, issued, expires } = fields
  if (
    version !== 1 || savedUrl !== url || typeof key !== 'string' || typeof sid !== 'string' || typeof token !== 'string'
    || typeof sub !== 'string' || typeof mesh !== 'string' || typeof node !== 'string' || !Array.isArray(perms)
    || !perms.every(text => typeof text === 'string') || typeof issued !== 'number' || typeof expires !== 'number'
  ) {
    throw unusable(path, 'it does not hold a session with this mesh')
  }
  return { sid, token, sub, mesh, node, perms, issued, expires, key: keyOf(path, key) }
}

function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}

function keyOf(path: string, seed: string): KeyPair {
  try {
    return KeyPair.fromSeed(Buffer.from(seed, 'base64url'))
  } catch (cause) {
    throw new CMeshError('CMESH_CLIENT_CREDENTIALS', { path, reason: 'its seed does not have 32 bytes' }, { cause })
  }
}

function codeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : 'unknown'
}

function asUnusable(path: string, verb: string, error: unknown): CMeshError {
  if (error instanceof CMeshError) return error
  return new CMeshError('CMESH_CLIENT_CREDENTIALS', { path, reason: `it cannot be ${verb} (${codeOf(error)})` }, { cause: error })
}

function unusable(path: string, reason: string): CMeshError {
  return new CMeshError('CMESH_CLIENT_CREDENTIALS', { path, reason })
}

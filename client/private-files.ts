/**
 * Small JSON files that are the user's alone: directories are 0700, files 0600 and replaced as a whole. What others could read or
 * have replaced is refused, never repaired in silence: who read it before cannot be known. What the files mean is their owners'.
 */
import { randomBytes } from 'node:crypto'
import { link, mkdir, open, readdir, rename, rm, stat, unlink } from 'node:fs/promises'
import { homedir } from 'node:os'
import { dirname, join } from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { KeyPair } from '../cmtp/identity/keys.ts'

/** `$CMESH_CONFIG_DIR`, else `$XDG_CONFIG_HOME/cmesh`, else `~/.config/cmesh`. */
export function configDirectory(env: Readonly<Record<string, string | undefined>> = process.env): string {
  const own = env['CMESH_CONFIG_DIR']
  if (own !== undefined && own !== '') return own
  const xdg = env['XDG_CONFIG_HOME']
  return join(xdg !== undefined && xdg !== '' ? xdg : join(homedir(), '.config'), 'cmesh')
}

/** Windows has no such bits. */
const OWNER_BITS = process.platform !== 'win32'

export class PrivateFiles {
  readonly directory: string

  /** Nothing is read or made before it is asked for. Every path given later lies in a directory of `directory`. */
  constructor(directory: string) {
    this.directory = directory
  }

  /** The JSON in a file; `undefined` when there is no file. Rejects with `CMESH_CLIENT_CREDENTIALS` for one that is open to others. */
  async read(path: string): Promise<unknown> {
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

  /** Writes a whole file. `create` leaves an existing one alone and resolves with false. Rejects with `CMESH_CLIENT_CREDENTIALS`. */
  async write(path: string, value: object, how: 'create' | 'replace'): Promise<boolean> {
    try {
      return await this.#place(path, value, how)
    } catch (error) {
      throw asUnusable(path, 'written', error)
    }
  }

  /** Names of what is in a directory; none when there is no such directory. Rejects with `CMESH_CLIENT_CREDENTIALS`. */
  async names(directory: string): Promise<readonly string[]> {
    try {
      return await readdir(directory)
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return []
      throw asUnusable(directory, 'listed', error)
    }
  }

  /** Resolves as well when there is no such file. */
  async remove(path: string): Promise<void> {
    await rm(path, { force: true })
  }

  /** Removes a file, and says whether it was this call that did: of several at once it is true for one. */
  async take(path: string): Promise<boolean> {
    try {
      // Not `rm`, which looks before it removes and is content when another did.
      await unlink(path)
      return true
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return false
      throw asUnusable(path, 'removed', error)
    }
  }

  /** Whoever can write to a directory can replace the files in it. */
  async #checkDirectories(path: string): Promise<void> {
    for (const directory of [dirname(path), this.directory]) {
      const { mode } = await stat(directory)
      if (OWNER_BITS && (mode & 0o022) !== 0) throw unusable(directory, `others can write to it; run: chmod 700 ${directory}`)
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

/** The fields of what was read; none when it is no object. */
export function fieldsOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}

/** The key of a seed that was read from `path`. Throws `CMESH_CLIENT_CREDENTIALS`. */
export function keyOf(path: string, seed: string): KeyPair {
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

export function unusable(path: string, reason: string): CMeshError {
  return new CMeshError('CMESH_CLIENT_CREDENTIALS', { path, reason })
}

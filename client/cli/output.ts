/**
 * Files that a command writes because it was told to, each for its owner alone. A file that is there already is never written over: it may be
 * the only place where something else stands.
 */
import { open, rm, stat, type FileHandle } from 'node:fs/promises'
import { resolve } from 'node:path'
import { usage } from '../options.ts'

/** A file that was made and is empty so far: who makes it before the work knows that what comes of the work has a place. */
export class OutputFile {
  readonly path: string
  readonly #handle: FileHandle

  private constructor(path: string, handle: FileHandle) {
    this.path = path
    this.#handle = handle
  }

  /** Rejects with `CMESH_CLIENT_USAGE` where a file is there, or none can be made. */
  static async make(file: string): Promise<OutputFile> {
    const path = resolve(file)
    return new OutputFile(path, await open(path, 'wx', 0o600).catch(async (cause: unknown) => { throw await isEmpty(path) ? leftOver(file) : refused(file, cause) }))
  }

  /** Fills and closes it. Rejects with `CMESH_CLIENT_USAGE`, and it is gone then. */
  async write(bytes: Uint8Array): Promise<void> {
    try {
      await this.#handle.writeFile(bytes)
      await this.#handle.close()
    } catch (cause) {
      await this.discard()
      throw refused(this.path, cause)
    }
  }

  /** Closes it and takes it away again. */
  async discard(): Promise<void> {
    await this.#handle.close()
    await rm(this.path, { force: true })
  }
}

/** Writes a file and gives where it is. Rejects with `CMESH_CLIENT_USAGE`. */
export async function writeOutput(file: string, bytes: Uint8Array): Promise<string> {
  const made = await OutputFile.make(file)
  await made.write(bytes)
  return made.path
}

async function isEmpty(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined)
  return found?.isFile() === true && found.size === 0
}

/** Whoever made it may be at work with it. */
function leftOver(file: string): Error {
  return usage(`${file} is there already, and empty: a command that was killed may have left it. Remove it, or give another name.`)
}

function refused(file: string, cause: unknown): Error {
  if ((cause as NodeJS.ErrnoException).code === 'EEXIST') return usage(`${file} is there already and is not written over: give another name, or move it away first.`)
  return usage(`${file} cannot be written: ${cause instanceof Error ? cause.message : String(cause)}.`)
}

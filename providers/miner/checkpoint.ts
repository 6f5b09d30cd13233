/**
 * Where a log file was left, kept in a small file of its own so that the next process resumes there. Written whole or
 * not at all (a temporary file, renamed over the old one). It is not synced to the disk: after a power cut an older
 * position, or none, is found, and entries are read again.
 */
import { hash } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { isMissing } from './file-errors.ts'

/** Which file it was: numbers as decimal text, since they have 64 bits. */
export interface FileIdentity {
  readonly dev: string
  readonly ino: string
}

/** The beginning of the file, so that another one under the same number is told apart. */
export interface Fingerprint {
  /** How many bytes from the beginning. */
  readonly bytes: number
  /** Their SHA-256, 64 hex digits. */
  readonly sha256: string
}

export interface Checkpoint extends FileIdentity {
  readonly version: 1
  /** The log file's path, for whoever reads the checkpoint. */
  readonly path: string
  readonly offset: number
  readonly fingerprint: Fingerprint
}

export class CheckpointFile {
  readonly path: string

  /** `<dataDir>/miner/<hash of the log file's absolute path>.json`. */
  constructor(dataDir: string, logfile: string) {
    this.path = path.join(dataDir, 'miner', `${hash('sha256', path.resolve(logfile), 'hex').slice(0, 32)}.json`)
  }

  /** `undefined` when there is none, or none that can be read: the log file is then read from its beginning. */
  async read(): Promise<Checkpoint | undefined> {
    let text: string
    try {
      text = await readFile(this.path, 'utf8')
    } catch (thrown) {
      if (isMissing(thrown)) return undefined
      throw thrown
    }
    return parseCheckpoint(text)
  }

  async write(checkpoint: Checkpoint): Promise<void> {
    await mkdir(path.dirname(this.path), { recursive: true, mode: 0o700 })
    const temporary = `${this.path}.${process.pid}.tmp`
    await writeFile(temporary, `${JSON.stringify(checkpoint)}\n`, { mode: 0o600 })
    await rename(temporary, this.path)
  }
}

/** Total: anything that is no checkpoint gives `undefined`. */
export function parseCheckpoint(text: string): Checkpoint | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    // Half a file after a power cut. There is nothing to be had from it.
    return undefined
  }
  return isCheckpoint(value) ? value : undefined
}

function isCheckpoint(value: unknown): value is Checkpoint {
  if (!isRecord(value) || value.version !== 1 || !isRecord(value.fingerprint)) return false
  const { path: name, dev, ino, offset, fingerprint } = value
  return typeof name === 'string' && typeof dev === 'string' && typeof ino === 'string' && isCount(offset)
    && isCount(fingerprint.bytes) && typeof fingerprint.sha256 === 'string'
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

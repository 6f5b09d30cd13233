/** The keys that sign tokens, in one file of mode 0600 that is replaced whole: `<data.dir>/iam/keys.json`. They never leave the node. */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { SEED_BYTES } from '../cmtp/identity/keys.ts'
import type { KeyStore, RingState } from '../services/iam/key-ring.ts'

const FILE = 'keys.json'

export class FileKeyStore implements KeyStore {
  readonly #file: string

  /** `dir` is made when something is first saved. */
  constructor(dir: string) {
    this.#file = path.join(dir, FILE)
  }

  load(): RingState | undefined {
    this.#removeTorn()
    let text: string
    try {
      text = readFileSync(this.#file, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw error
    }
    if ((statSync(this.#file).mode & 0o077) !== 0) throw this.#unusable('can be read by others; run chmod 600 on it')
    const state = parse(text)
    if (state === undefined) throw this.#unusable('does not hold the keys of a mesh')
    return state
  }

  save(state: RingState): void {
    mkdirSync(path.dirname(this.#file), { recursive: true, mode: 0o700 })
    const beside = `${this.#file}.${process.pid}`
    const file = openSync(beside, 'w', 0o600)
    try {
      writeFileSync(file, `${JSON.stringify(state)}\n`)
      fsyncSync(file)
    } finally {
      closeSync(file)
    }
    renameSync(beside, this.#file)
  }

  /** What a kill left beside the file: a key may be in it that was dropped since. Nobody else writes here, the node holds its directory. */
  #removeTorn(): void {
    const dir = path.dirname(this.#file)
    for (const name of existsSync(dir) ? readdirSync(dir) : []) if (name.startsWith(`${FILE}.`)) rmSync(path.join(dir, name))
  }

  #unusable(reason: string): CMeshError {
    return new CMeshError('CMESH_IAM_KEY', { reason: `${this.#file} ${reason}` })
  }
}

function parse(text: string): RingState | undefined {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    return undefined
  }
  const { version, epoch, keys } = (typeof value === 'object' && value !== null ? value : {}) as Partial<RingState>
  const sound = version === 1 && Number.isSafeInteger(epoch) && Array.isArray(keys) && keys.length > 0 && keys.every(isKey)
  return sound ? value as RingState : undefined
}

function isKey(value: unknown): boolean {
  const { seed, notAfter } = (typeof value === 'object' && value !== null ? value : {}) as Partial<RingState['keys'][number]>
  return typeof seed === 'string' && Buffer.from(seed, 'base64url').length === SEED_BYTES && Number.isSafeInteger(notAfter)
}

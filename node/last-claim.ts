/**
 * The last claim of this node in a file: `{v, epoch, seq, chain, timeMs}`, and `shared: true` where several nodes shared the order. Written at
 * most once in `WRITE_MS` and when closed, whole and on the disk each time, so that not even a power cut takes a claim back that stands there.
 * Nobody waits for it.
 */
import { existsSync, readFileSync } from 'node:fs'
import { open, rename, rm } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import type { ClaimedPosition, LastClaim } from '../services/state/last-claim.ts'

/** In the data directory. */
export const CLAIM_FILE = 'claim.json'
const VERSION = 1
const WRITE_MS = 1_000
const CHAIN = /^[0-9a-f]{64}$/

export class FileLastClaim implements LastClaim {
  readonly #file: string
  readonly #onFailure: (error: unknown) => void
  #claim: ClaimedPosition | undefined
  #unwritten = false
  #forgotten = false
  #timer: NodeJS.Timeout | undefined
  #writing: Promise<void> = Promise.resolve()

  /** `onFailure` is told when the file cannot be written: the next claim is written all the same. Throws as `readClaim` does. */
  constructor(dir: string, onFailure: (error: unknown) => void) {
    this.#file = path.join(dir, CLAIM_FILE)
    this.#onFailure = onFailure
    this.#claim = readClaim(dir)
  }

  read(): ClaimedPosition | undefined {
    return this.#claim
  }

  write(claim: ClaimedPosition): void {
    if (this.#forgotten) return
    this.#claim = claim
    this.#unwritten = true
    this.#timer ??= setTimeout(() => { void this.#save() }, WRITE_MS).unref()
  }

  /** Resolves when the last one is on the disk. Idempotent. */
  close(): Promise<void> {
    return this.#save()
  }

  /** Takes everything back that was claimed: the log it was claimed of counts no more, and nothing that is still written to it. Resolves when the file is gone. */
  forget(): Promise<void> {
    this.#forgotten = true
    this.#unwritten = false
    this.#claim = undefined
    this.#writing = this.#writing.then(() => rm(this.#file, { force: true }).catch(this.#onFailure))
    return this.#writing
  }

  #save(): Promise<void> {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#writing = this.#writing.then(async () => {
      const claim = this.#claim
      if (!this.#unwritten || claim === undefined) return
      this.#unwritten = false
      await writeClaim(this.#file, claim).catch(this.#onFailure)
    })
    return this.#writing
  }
}

/** The claim in a data directory. Throws `CMESH_STATE_CLAIM` for a file that holds none. */
export function readClaim(dir: string): ClaimedPosition | undefined {
  const file = path.join(dir, CLAIM_FILE)
  if (!existsSync(file)) return undefined
  let value: unknown
  try {
    value = JSON.parse(readFileSync(file, 'utf8'))
  } catch {
    value = undefined
  }
  const { v, epoch, seq, chain, timeMs, shared } = (typeof value === 'object' && value !== null ? value : {}) as Partial<ClaimedPosition & { v: unknown }>
  const sound = v === VERSION && [epoch, seq, timeMs].every(count => Number.isSafeInteger(count) && (count as number) >= 0)
  if (!sound || typeof chain !== 'string' || !CHAIN.test(chain)) {
    throw new CMeshError('CMESH_STATE_CLAIM', { path: file, reason: 'it holds no claim' })
  }
  return { epoch, seq, chain, timeMs, ...(shared === true && { shared }) } as ClaimedPosition
}

/** Resolves when the claim is in the file, and on the disk. */
export async function writeClaim(file: string, { epoch, seq, chain, timeMs, shared }: ClaimedPosition): Promise<void> {
  const fresh = `${file}.new`
  const handle = await open(fresh, 'w', 0o600)
  try {
    await handle.writeFile(`${JSON.stringify({ v: VERSION, epoch, seq, chain, timeMs, shared })}\n`)
    await handle.sync()
  } finally {
    await handle.close()
  }
  await rename(fresh, file)
}

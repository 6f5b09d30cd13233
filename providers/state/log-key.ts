/**
 * The key that signs a log, kept as the hex of its Ed25519 seed in a file that only its owner reads. Made once, with
 * the log; it is never made again for a log that is there, nor guessed.
 */
import { randomBytes } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { keyPair } from 'hypercore-crypto'
import type { KeyPair } from 'hypercore'
import { CMeshError } from '../../cmtp/errors.ts'

const SEED = /^([0-9a-f]{64})\n?$/

/** The key in `path`; `undefined` when there is no file. Throws `CMESH_STATE_CORRUPT` when the file holds anything else. */
export async function readLogKey(path: string): Promise<KeyPair | undefined> {
  let text: string
  try {
    text = await readFile(path, 'latin1')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw thrown
  }
  const seed = SEED.exec(text)?.[1]
  if (seed === undefined) {
    throw new CMeshError('CMESH_STATE_CORRUPT', { path, block: 0, reason: 'the key file is not 64 hex digits' })
  }
  return keyPair(Buffer.from(seed, 'hex'))
}

/** A new key, in `path` with mode 0600 and on the disk before this resolves. */
export async function makeLogKey(path: string): Promise<KeyPair> {
  const seed = randomBytes(32)
  const part = `${path}.part`
  await rm(part, { force: true })
  const file = await open(part, 'wx', 0o600)
  try {
    await file.writeFile(`${seed.toString('hex')}\n`)
    await file.sync()
  } finally {
    await file.close()
  }
  await rename(part, path)
  return keyPair(seed)
}

/**
 * The file of a node's or a mesh's key: a seed of 32 bytes in base64url, mode 0600, as a node writes its own. A file that others can read is
 * refused; one that is there is never written over.
 */
import { mkdir, open, readFile, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { KeyPair, SEED_BYTES } from '../cmtp/identity/keys.ts'

/** The key in a file; `undefined` where there is no file. Rejects with `CMESH_IAM_KEY` for one that others can read, or that holds no seed. */
export async function readKeyFile(file: string): Promise<KeyPair | undefined> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new CMeshError('CMESH_IAM_KEY', { reason: `${file} cannot be read` }, { cause })
  }
  if (((await stat(file)).mode & 0o077) !== 0) throw new CMeshError('CMESH_IAM_KEY', { reason: `${file} can be read by others; run chmod 600 on it` })
  const seed = Buffer.from(text.trim(), 'base64url')
  if (seed.length !== SEED_BYTES) throw new CMeshError('CMESH_IAM_KEY', { reason: `${file} holds no seed of ${SEED_BYTES} bytes` })
  return KeyPair.fromSeed(seed)
}

/** The key in a file, made there where there is none. Rejects as `readKeyFile` does. */
export async function keptKeyFile(file: string): Promise<KeyPair> {
  const found = await readKeyFile(file)
  if (found !== undefined) return found
  const key = KeyPair.generate()
  await mkdir(path.dirname(file), { recursive: true, mode: 0o700 })
  const handle = await open(file, 'wx', 0o600)
  try {
    await writeFile(handle, `${key.exportSeed().toString('base64url')}\n`, { flush: true })
  } finally {
    await handle.close()
  }
  return key
}

/** The node's own key: loaded from its data directory, or made there once, mode 0600. It never leaves the node. */
import { chmod, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { KeyPair, SEED_BYTES } from '../cmtp/identity/keys.ts'

const FILE = 'node.key'

/** Resolves with the key in `<dir>/node.key`. Rejects as `keptKey` does. */
export function nodeIdentity(dir: string): Promise<KeyPair> {
  return keptKey(dir, FILE)
}

/** Resolves with the key in a file of `dir`. Rejects with `CMESH_IAM_KEY` for one that others can read, or that holds no seed. */
export async function keptKey(dir: string, name: string): Promise<KeyPair> {
  const file = path.join(dir, name)
  await mkdir(dir, { recursive: true, mode: 0o700 })
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
    const key = KeyPair.generate()
    const fresh = `${file}.${process.pid}`
    await writeFile(fresh, `${key.exportSeed().toString('base64url')}\n`, { mode: 0o600, flush: true })
    await chmod(fresh, 0o600)
    await rename(fresh, file)
    return key
  }
  if (((await stat(file)).mode & 0o077) !== 0) throw new CMeshError('CMESH_IAM_KEY', { reason: `${file} can be read by others; run chmod 600 on it` })
  const seed = Buffer.from(text.trim(), 'base64url')
  if (seed.length !== SEED_BYTES) throw new CMeshError('CMESH_IAM_KEY', { reason: `${file} holds no seed of ${SEED_BYTES} bytes` })
  return KeyPair.fromSeed(seed)
}

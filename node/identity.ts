/**
 * Who the node is: its own key, loaded from its data directory or made there once, mode 0600, which never leaves the node; and the certificate by
 * which it speaks for a mesh whose key is another's.
 */
import { chmod, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { parseCertificate, type Certificate } from '../cmtp/identity/certificate.ts'
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

/**
 * The certificate in a file; `undefined` where none is named, and for the node whose key is the mesh's. Rejects with `CMESH_CONFIG_INVALID` for a
 * file that cannot be read, `CMESH_IAM_CERTIFICATE` for a text that is none, and for another node's.
 */
export async function nodeCertificate(file: string | undefined, node: string): Promise<Certificate | undefined> {
  if (file === undefined) return undefined
  let text: string
  try {
    text = await readFile(path.resolve(file), 'utf8')
  } catch (cause) {
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'mesh.certificate', reason: 'the file cannot be read' }, { cause })
  }
  const certificate = parseCertificate(text)
  if (certificate.node !== node) throw new CMeshError('CMESH_IAM_CERTIFICATE', { reason: `it is of the node ${certificate.node}, and this one is ${node}` })
  return certificate.mesh === node ? undefined : certificate
}

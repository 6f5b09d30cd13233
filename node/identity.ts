/**
 * Who the node is: its own key, loaded from its data directory or made there once, mode 0600, which never leaves the node; and the certificate by
 * which it speaks for a mesh whose key is another's.
 */
import { existsSync } from 'node:fs'
import { chmod, mkdir, readFile, rename, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import { parseCertificate, type Certificate } from '../cmtp/identity/certificate.ts'
import { KeyPair, SEED_BYTES } from '../cmtp/identity/keys.ts'
import { hasLog } from './archive/source.ts'

const FILE = 'node.key'

/** Resolves with the key in `<dir>/node.key`. Rejects as `keptKey` does. */
export function nodeIdentity(dir: string): Promise<KeyPair> {
  return keptKey(dir, FILE)
}

/**
 * As `nodeIdentity`, for a node that starts: no key is made beside a log that another key's node wrote, as in what was restored without keys. It would
 * make this another node, which is no member of the mesh, and hide that the right one is missing. Rejects with `CMESH_IAM_KEY` then.
 */
export async function startingIdentity(dir: string): Promise<KeyPair> {
  const file = path.join(dir, FILE)
  if (hasLog(dir) && !existsSync(file)) {
    throw new CMeshError('CMESH_IAM_KEY', {
      reason: `${file} is missing, and the log there is of the node that had it. Put it back, mode 0600. Where it is lost, `
        + `\`cmesh mesh init --data ${dir}\` makes another: that of another node, which the mesh's key has to certify`,
    })
  }
  return await nodeIdentity(dir)
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

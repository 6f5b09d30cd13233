import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { formatCertificate, issueCertificate } from '../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { nodeCertificate, nodeIdentity, startingIdentity } from '../../node/identity.ts'

let root: string
let dir: string
let file: string
beforeEach(async () => {
  root = await mkdtemp(path.join(os.tmpdir(), 'cmesh-identity-'))
  dir = path.join(root, 'data')
  file = path.join(dir, 'node.key')
})
afterEach(() => rm(root, { recursive: true, force: true }))

describe('the node\'s own key', () => {
  test('is made once, readable by its user alone whatever the umask, and loaded ever after', async () => {
    const before = process.umask(0)
    try {
      const made = await nodeIdentity(dir)
      expect((await stat(file)).mode & 0o777).toBe(0o600)
      expect((await stat(dir)).mode & 0o777).toBe(0o700)
      expect(await readdir(dir)).toEqual(['node.key'])
      expect((await nodeIdentity(dir)).did).toBe(made.did)
    } finally {
      process.umask(before)
    }
  })

  test.each(['640', '604', '620', '602', '660', '644'])('in a file of mode %s is refused, and the file is left as it is', async mode => {
    await nodeIdentity(dir)
    await chmod(file, Number.parseInt(mode, 8))
    const before = await readFile(file, 'utf8')
    await expect(nodeIdentity(dir)).rejects.toMatchObject({
      code: 'CMESH_IAM_KEY', message: `The key is refused: ${file} can be read by others; run chmod 600 on it.`,
    })
    expect(await readFile(file, 'utf8')).toBe(before)
  })

  test.each([
    ['nothing', ''],
    ['a seed that is too short', `${Buffer.alloc(31, 1).toString('base64url')}\n`],
    ['a seed that is too long', `${Buffer.alloc(33, 1).toString('base64url')}\n`],
    ['noise', 'not a key\n'],
  ])('in a file with %s is refused and not replaced', async (_, text) => {
    await nodeIdentity(dir)
    await writeFile(file, text)
    await expect(nodeIdentity(dir)).rejects.toMatchObject({ code: 'CMESH_IAM_KEY', message: `The key is refused: ${file} holds no seed of 32 bytes.` })
    expect(await readFile(file, 'utf8')).toBe(text)
  })

  test('is not made beside a log by a node that starts: it would be another node\'s', async () => {
    await mkdir(path.join(dir, 'state', 'log'), { recursive: true })
    await expect(startingIdentity(dir)).rejects.toMatchObject({
      code: 'CMESH_IAM_KEY', message: expect.stringContaining(`${file} is missing, and the log there is of the node that had it. Put it back, mode 0600. `),
    })
    expect(await readdir(dir)).toEqual(['state'])
    const { did } = await nodeIdentity(dir)
    expect((await startingIdentity(dir)).did).toBe(did)
  })

  test('that was half written by a process that was killed is made anew under its name', async () => {
    await nodeIdentity(dir)
    await rm(file)
    await writeFile(`${file}.${process.pid}`, 'half', { mode: 0o644 })
    await nodeIdentity(dir)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
  })
})

describe('the certificate of a node', () => {
  const mesh = KeyPair.generate()
  const node = KeyPair.generate()
  const written = async (text: string): Promise<string> => {
    const at = path.join(root, 'certificate')
    await writeFile(at, text)
    return at
  }

  test('is what the file holds; none where no file is named, or the key is the mesh\'s', async () => {
    const certificate = issueCertificate(node.did, mesh, 1)
    expect(await nodeCertificate(await written(`${formatCertificate(certificate)}\n`), node.did)).toEqual(certificate)
    expect(await nodeCertificate(undefined, node.did)).toBeUndefined()
    expect(await nodeCertificate(await written(formatCertificate(issueCertificate(mesh.did, mesh, 1))), mesh.did)).toBeUndefined()
  })

  test('is refused where it is another node\'s or damaged, and where there is none', async () => {
    const other = KeyPair.generate()
    await expect(nodeCertificate(await written(formatCertificate(issueCertificate(other.did, mesh, 1))), node.did)).rejects.toMatchObject({
      code: 'CMESH_IAM_CERTIFICATE', detail: { reason: `it is of the node ${other.did}, and this one is ${node.did}` },
    })
    await expect(nodeCertificate(await written('not one'), node.did)).rejects.toMatchObject({ code: 'CMESH_IAM_CERTIFICATE' })
    await expect(nodeCertificate(path.join(root, 'missing'), node.did)).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: 'The setting mesh.certificate is not valid: the file cannot be read.',
    })
  })
})

import { chmod, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { homedir, tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { configDirectory, IdentityStore } from '../../client/identity-store.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { deriveSeed, seedOfWords } from '../../cmtp/identity/root.ts'
import { failureOf } from '../support/iam.ts'

const URL = 'nats://127.0.0.1:4222'
const session: Session = {
  sid: 'sid', token: 'a.b.c', key: KeyPair.fromSeed(Buffer.alloc(32, 9)), sub: 'did:key:zSub', mesh: 'did:key:zMesh',
  node: 'node-1', perms: ['newcomer'], issued: 1, expires: 2,
  nkey: Nkey.fromBytes('user', Buffer.alloc(32, 7)), connection: { jwt: 'j.w.t', expires: 3 },
}

let home: string
let directory: string
let store: IdentityStore
beforeEach(async () => {
  home = await mkdtemp(join(tmpdir(), 'cmesh-identity-'))
  directory = join(home, 'deep', 'cmesh')
  store = new IdentityStore(directory)
})
afterEach(async () => {
  await rm(home, { recursive: true, force: true })
})

const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8)
const identityFile = (name = 'default'): string => join(directory, 'identities', `${name}.json`)
const unusable = (path: string, reason: string): object => ({
  code: 'CMESH_CLIENT_CREDENTIALS', message: `The credentials in ${path} cannot be used: ${reason}.`,
})

describe('the config directory', () => {
  test.each([
    [{ CMESH_CONFIG_DIR: '/a', XDG_CONFIG_HOME: '/b' }, '/a'],
    [{ XDG_CONFIG_HOME: '/b' }, '/b/cmesh'],
    [{ CMESH_CONFIG_DIR: '', XDG_CONFIG_HOME: '' }, join(homedir(), '.config', 'cmesh')],
    [{}, join(homedir(), '.config', 'cmesh')],
  ])('of %j is %s', (env, path) => {
    expect(configDirectory(env)).toBe(path)
  })
})

describe('an identity', () => {
  test('is made once and found again', async () => {
    const made = await store.loadOrCreateIdentity()
    expect((await store.loadOrCreateIdentity()).did).toBe(made.did)
    expect((await new IdentityStore(directory).loadIdentity())?.did).toBe(made.did)
    expect((await store.loadOrCreateIdentity('work')).did).not.toBe(made.did)
  })

  test('is not there before it was made, and asking makes nothing', async () => {
    expect(await store.loadIdentity()).toBeUndefined()
    expect(await readdir(home)).toEqual([])
  })

  test('is the same for all that make it at once', async () => {
    const keys = await Promise.all(Array.from({ length: 8 }, () => new IdentityStore(directory).loadOrCreateIdentity()))
    expect(new Set(keys.map(key => key.did)).size).toBe(1)
    expect(await readdir(join(directory, 'identities'))).toEqual(['default.json'])
  })

  test('lies in a file of its owner, in directories of its owner, whatever the umask', async () => {
    const umask = process.umask(0)
    try {
      await store.loadOrCreateIdentity()
    } finally {
      process.umask(umask)
    }
    expect(await modeOf(identityFile())).toBe('600')
    for (const path of [directory, join(directory, 'identities')]) expect(await modeOf(path)).toBe('700')
  })

  test.each([0o640, 0o604, 0o660, 0o644])('in a file of mode %o is refused, with the fix', async mode => {
    await store.loadOrCreateIdentity()
    await chmod(identityFile(), mode)
    const path = identityFile()
    expect(await failureOf(() => store.loadOrCreateIdentity()))
      .toMatchObject(unusable(path, `others can read it; run: chmod 600 ${path}`))
    await chmod(path, 0o600)
    await expect(store.loadOrCreateIdentity()).resolves.toBeInstanceOf(KeyPair)
  })

  test('in a directory that others can write to is refused, with the fix, before one is made there too', async () => {
    await mkdir(directory, { recursive: true })
    await chmod(directory, 0o777)
    expect(await failureOf(() => store.loadOrCreateIdentity()))
      .toMatchObject(unusable(directory, `others can write to it; run: chmod 700 ${directory}`))
    await chmod(directory, 0o755)
    await store.loadOrCreateIdentity()
    await chmod(join(directory, 'identities'), 0o720)
    expect((await failureOf(() => store.loadIdentity())).code).toBe('CMESH_CLIENT_CREDENTIALS')
  })

  test.each([
    ['', 'it is no JSON'], ['{"version":1', 'it is no JSON'], ['null', 'it does not hold an identity'],
    ['{"version":2}', 'it does not hold an identity'],
    ['{"version":1,"did":"did:key:z","seed":"AA"}', 'its seed does not have 32 bytes'],
    [
      `{"version":1,"did":"did:key:z","seed":"${Buffer.alloc(32, 1).toString('base64url')}"}`,
      'its seed is not the one of its DID',
    ],
  ])('in a file with %s is refused and left as it is', async (text, reason) => {
    await mkdir(join(directory, 'identities'), { recursive: true, mode: 0o700 })
    await writeFile(identityFile(), text, { mode: 0o600 })
    expect(await failureOf(() => store.loadOrCreateIdentity())).toMatchObject(unusable(identityFile(), reason))
    expect(await readFile(identityFile(), 'utf8')).toBe(text)
  })

  test('in a place that cannot be read or written is refused', async () => {
    await mkdir(identityFile(), { recursive: true, mode: 0o700 })
    expect(await failureOf(() => store.loadOrCreateIdentity()))
      .toMatchObject(unusable(identityFile(), 'it cannot be read (EISDIR)'))
    await writeFile(join(directory, 'sessions'), '', { mode: 0o600 })
    expect(await failureOf(() => store.saveSession(URL, 'default', session)))
      .toMatchObject({ code: 'CMESH_CLIENT_CREDENTIALS', detail: { reason: 'it cannot be written (EEXIST)' } })
  })

  test.each(['', '..', '../x', 'a/b', '.hidden', 'a b', 'x'.repeat(65)])('has no name "%s"', async name => {
    expect((await failureOf(() => store.loadOrCreateIdentity(name))).code).toBe('CMESH_CLIENT_USAGE')
  })

  test('keeps its seed out of every refusal', async () => {
    const key = await store.loadOrCreateIdentity()
    const seed = key.exportSeed().toString('base64url')
    await writeFile(identityFile(), (await readFile(identityFile(), 'utf8')).replace(key.did, 'did:key:zOther'))
    const failure = await failureOf(() => store.loadOrCreateIdentity())
    expect(`${failure.message}${JSON.stringify(failure.toWire())}`).not.toContain(seed)
  })
})

describe('the file of an identity', () => {
  const WORDS = `${'abandon '.repeat(23)}art`

  test('of version 1 is read, keeps its DID and is left as it is', async () => {
    const key = KeyPair.fromSeed(Buffer.alloc(32, 7))
    const text = JSON.stringify({ version: 1, did: key.did, seed: key.exportSeed().toString('base64url') })
    await mkdir(join(directory, 'identities'), { recursive: true, mode: 0o700 })
    await writeFile(identityFile(), text, { mode: 0o600 })
    expect((await store.loadOrCreateIdentity()).did).toBe(key.did)
    expect(await store.describe()).toEqual({ name: 'default', did: key.did, kind: 'seed', context: undefined, root: undefined })
    expect(await readFile(identityFile(), 'utf8')).toBe(text)
    expect(await store.exportSeed('default')).toBe(key.exportSeed().toString('base64url'))
    for (const work of [() => store.exportWords('default'), () => store.derive('default', 'shop', 'shop')]) {
      expect((await failureOf(work)).code).toBe('CMESH_CLIENT_USAGE')
    }
  })

  test('of a new identity is a root, whose words give it again elsewhere', async () => {
    const { did } = await store.loadOrCreateIdentity()
    expect(await store.describe()).toMatchObject({ did, kind: 'root', context: 'default' })
    const words = await store.exportWords('default')
    expect(words.split(' ')).toHaveLength(24)
    expect(KeyPair.fromSeed(deriveSeed(seedOfWords(words), 'did', 'default')).did).toBe(did)
    const elsewhere = new IdentityStore(join(home, 'elsewhere'))
    expect(await elsewhere.import('mine', `${words.toUpperCase()}\n`)).toMatchObject({ name: 'mine', did, kind: 'root' })
    expect((await elsewhere.loadIdentity('mine'))?.did).toBe(did)
    expect(await elsewhere.exportWords('mine')).toBe(words)
  })

  test('of a derived one holds neither the root nor what leads to it', async () => {
    const root = await store.import('root', WORDS)
    const shop = await store.derive('root', 'shop', 'shop')
    expect(shop).toEqual({ name: 'shop', did: shop.did, kind: 'derived', context: 'shop', root: root.did })
    expect(shop.did).not.toBe(root.did)
    expect((await store.loadIdentity('shop'))?.did).toBe(shop.did)
    expect((await store.derive('root', 'shop', 'again')).did).toBe(shop.did)
    const text = await readFile(identityFile('shop'), 'utf8')
    for (const secret of [Buffer.alloc(32), seedOfWords(WORDS), Buffer.from(await store.exportSeed('root'), 'base64url')]) {
      for (const encoding of ['hex', 'base64', 'base64url'] as const) expect(text).not.toContain(secret.toString(encoding))
    }
    expect((await failureOf(() => store.exportWords('shop'))).message).toContain('The identity shop has no words: it is no root.')
    expect((await failureOf(() => store.derive('shop', 'deeper', 'deeper'))).message).toContain('The identity shop is no root')
  })

  test('comes from a seed too, which gives back the same DID', async () => {
    const seed = Buffer.alloc(32, 5)
    const made = await store.import('seed', ` ${seed.toString('base64url')}\n`)
    expect(made).toMatchObject({ did: KeyPair.fromSeed(seed).did, kind: 'seed' })
    expect(await store.exportSeed('seed')).toBe(seed.toString('base64url'))
  })

  test('is never put over another one', async () => {
    await store.create('mine')
    const before = await readFile(identityFile('mine'), 'utf8')
    for (const work of [() => store.create('mine'), () => store.import('mine', WORDS), () => store.derive('mine', 'shop', 'mine')]) {
      expect((await failureOf(work)).message).toContain('There is an identity mine already.')
    }
    expect(await readFile(identityFile('mine'), 'utf8')).toBe(before)
  })

  test('that is missing cannot be exported or derived of', async () => {
    for (const work of [() => store.exportWords('none'), () => store.exportSeed('none'), () => store.derive('none', 'a', 'b')]) {
      expect((await failureOf(work)).message).toContain('There is no identity none.')
    }
  })

  test.each(['', 'abandon', WORDS.replace('art', 'able'), 'A'.repeat(44), `${'A'.repeat(42)}B`, '\u0000'])('is not made of "%.20s", which no refusal repeats', async secret => {
    const failure = await failureOf(() => store.import('mine', secret))
    expect(failure.code).toBe('CMESH_IAM_KEY')
    if (secret.length > 7) expect(`${failure.message}${JSON.stringify(failure.toWire())}`).not.toContain(secret)
    expect(await store.describe('mine')).toBeUndefined()
  })

  test('whose root is not the one of its DID is refused before anything leaves it', async () => {
    await store.create('mine')
    const file = JSON.parse(await readFile(identityFile('mine'), 'utf8')) as object
    await writeFile(identityFile('mine'), JSON.stringify({ ...file, entropy: Buffer.alloc(32).toString('base64url') }))
    for (const work of [() => store.exportWords('mine'), () => store.derive('mine', 'shop', 'shop')]) {
      expect(await failureOf(work)).toMatchObject(unusable(identityFile('mine'), 'its root is not the one of its DID'))
    }
  })

  test('is listed by its name, without a secret', async () => {
    expect(await store.list()).toEqual([])
    await store.import('work', WORDS)
    await store.derive('work', 'shop', 'a-shop')
    await writeFile(join(directory, 'identities', 'note.txt'), 'no identity', { mode: 0o600 })
    const all = await store.list()
    expect(all.map(({ name, kind }) => [name, kind])).toEqual([['a-shop', 'derived'], ['work', 'root']])
    expect(JSON.stringify(all)).not.toMatch(/seed"|entropy/)
  })
})

describe('a session', () => {
  test('comes back as it was kept, for its mesh and its identity', async () => {
    await store.saveSession(URL, 'default', session)
    const { key, nkey, ...rest } = await store.loadSession(URL) as Session
    const { key: _, nkey: _nkey, ...expected } = session
    expect(rest).toEqual(expected)
    expect(key.did).toBe(session.key.did)
    expect(nkey?.exportSeed()).toBe(session.nkey?.exportSeed())
    expect(await store.loadSession(URL, 'work')).toBeUndefined()
    expect(await store.loadSession('nats://elsewhere:4222')).toBeUndefined()
  })

  test('takes the place of the one before as a whole, with nothing left beside it', async () => {
    await store.saveSession(URL, 'default', session)
    await store.saveSession(URL, 'default', { ...session, token: 'd.e.f' })
    expect((await store.loadSession(URL))?.token).toBe('d.e.f')
    const files = await readdir(join(directory, 'sessions'))
    expect(files).toHaveLength(1)
    expect(await modeOf(join(directory, 'sessions', files[0] as string))).toBe('600')
  })

  test('of the time before sessions had links, or of a broker without accounts, comes back without', async () => {
    const { nkey: _nkey, connection: _connection, ...plain } = session
    await store.saveSession(URL, 'default', plain)
    expect(Object.keys(await store.loadSession(URL) as Session).sort()).toEqual(Object.keys(plain).sort())
  })

  test.each<[string, object, string]>([
    ['whose nkey is none', { nkey: 'SUAB' }, 'its nkey is no seed'],
    ['whose nkey is no text', { nkey: 7 }, 'it does not hold a session with this mesh'],
    ['whose login is none', { connection: { jwt: 7 } }, 'its login at the broker cannot be read'],
  ])('%s is refused, and the seed is not told', async (_, changes, reason) => {
    await store.saveSession(URL, 'default', session)
    const path = join(directory, 'sessions', (await readdir(join(directory, 'sessions')))[0] as string)
    await writeFile(path, JSON.stringify({ ...JSON.parse(await readFile(path, 'utf8')) as object, ...changes }))
    expect(await failureOf(() => store.loadSession(URL))).toMatchObject(unusable(path, reason))
  })

  test('is forgotten when asked to, once or twice', async () => {
    await store.saveSession(URL, 'default', session)
    await store.removeSession(URL)
    expect(await store.loadSession(URL)).toBeUndefined()
    await expect(store.removeSession(URL)).resolves.toBeUndefined()
  })

  test('that others can read, or that is none, is refused', async () => {
    await store.saveSession(URL, 'default', session)
    const path = join(directory, 'sessions', (await readdir(join(directory, 'sessions')))[0] as string)
    await chmod(path, 0o644)
    expect(await failureOf(() => store.loadSession(URL)))
      .toMatchObject(unusable(path, `others can read it; run: chmod 600 ${path}`))
    await chmod(path, 0o600)
    await writeFile(path, '{"version":1}')
    expect(await failureOf(() => store.loadSession(URL)))
      .toMatchObject(unusable(path, 'it does not hold a session with this mesh'))
  })
})

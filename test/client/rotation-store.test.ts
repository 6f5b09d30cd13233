import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { IdentityStore } from '../../client/identity-store.ts'
import { RotationStore, type PendingRotation } from '../../client/rotation-store.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { commitmentTo } from '../../cmtp/identity/rotation.ts'
import { deriveSeed, rootOfWords, seedOfWords, wordsOfRoot } from '../../cmtp/identity/root.ts'
import { failureOf } from '../support/iam.ts'

let directory: string
let identities: IdentityStore
let store: RotationStore
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cmesh-rotation-'))
  identities = new IdentityStore(directory)
  store = new RotationStore(directory)
})
afterEach(() => rm(directory, { recursive: true, force: true }))

const files = async (part: string): Promise<string[]> => await readdir(join(directory, part)).catch(() => [])
const json = async (...path: string[]): Promise<Record<string, unknown>> => JSON.parse(await readFile(join(directory, ...path), 'utf8')) as Record<string, unknown>
const wordsOf = async (...path: string[]): Promise<string> => await wordsOfRoot(Buffer.from((await json(...path))['entropy'] as string, 'base64url'))
const didOf = (words: string, context = 'default'): string => KeyPair.fromSeed(deriveSeed(seedOfWords(words), 'did', context)).did
const usage = (reason: string): object => ({ code: 'CMESH_CLIENT_USAGE', message: expect.stringContaining(reason) as unknown })
const rotated = async (name: string, words?: string): Promise<PendingRotation> => {
  const pending = await store.begin(name, await store.plan(name, { words }))
  await store.finish(name)
  return pending
}

describe('what an identity commits to', () => {
  test('is the same context of a root that is made apart, once, whoever asks at once', async () => {
    await identities.create('me')
    expect(await store.state('me')).toMatchObject({ generation: 0, next: 'none', commitment: undefined, pending: undefined })
    const all = await Promise.all(Array.from({ length: 6 }, () => new RotationStore(directory).commitment('me')))
    expect(new Set(all)).toEqual(new Set([commitmentTo(didOf(await wordsOf('next', 'me.json')))]))
    expect(await wordsOf('next', 'me.json')).not.toBe(await identities.exportWords('me'))
    expect(((await stat(join(directory, 'next', 'me.json'))).mode & 0o777).toString(8)).toBe('600')
    expect(await store.state('me')).toMatchObject({ next: 'here', commitment: all[0] })
  })

  test('of a derived identity is that context of its root\'s next root, which stays in one file', async () => {
    await identities.create('me')
    await identities.derive('me', 'shop', 'me-shop')
    const commitment = await store.commitment('me-shop')
    expect(commitment).toBe(commitmentTo(didOf(await wordsOf('next', 'me.json'), 'shop')))
    expect(await json('next', 'me-shop.json')).not.toHaveProperty('entropy')
    expect(await store.state('me-shop')).toMatchObject({ next: 'here' })
    expect(await failureOf(() => store.carryAway('me-shop', join(directory, 'out')))).toMatchObject(usage('The next root of me-shop is not kept here under its name'))
  })

  test('of a derived identity whose root is not here is a root of its own', async () => {
    await identities.create('me')
    await identities.derive('me', 'shop', 'me-shop')
    await rm(join(directory, 'identities', 'me.json'))
    expect(await store.commitment('me-shop')).toBe(commitmentTo(didOf(await wordsOf('next', 'me-shop.json'), 'shop')))
    await rotated('me-shop')
    expect(await identities.describe('me-shop')).toMatchObject({ kind: 'root', context: 'shop' })
  })

  test('of an identity of before, a seed alone, is one as well, and it becomes a root', async () => {
    const key = KeyPair.generate()
    await mkdir(join(directory, 'identities'), { mode: 0o700 })
    await writeFile(join(directory, 'identities', 'first.json'), JSON.stringify({ version: 1, did: key.did, seed: key.exportSeed().toString('base64url') }), { mode: 0o600 })
    const commitment = await store.commitment('first')
    const { file } = await rotated('first')
    expect([commitmentTo(file.did), file.version, file.generation]).toEqual([commitment, 2, 1])
    expect(didOf(await identities.exportWords('first'))).toBe(file.did)
  })

  test('is another for another identity that comes under the same name', async () => {
    await identities.create('me')
    const first = await store.commitment('me')
    await rm(join(directory, 'identities', 'me.json'))
    await identities.create('me')
    expect(await store.state('me')).toMatchObject({ next: 'none' })
    const second = await store.commitment('me')
    expect([second === first, await store.commitment('me')]).toEqual([false, second])
  })

  test('is kept by its digest once the words were carried away, and nothing is made in its place', async () => {
    await identities.create('me')
    const commitment = await store.commitment('me')
    await store.carryAway('me', join(directory, 'out'))
    expect([await store.commitment('me'), (await store.state('me')).next]).toEqual([commitment, 'away'])
  })

  test('is held back of what was imported, and of what was derived of that, until it is told whose place it took', async () => {
    await identities.create('me')
    expect(await store.heldBack('me')).toEqual({ imported: false })
    await identities.import('found', await identities.exportWords('me'))
    await identities.derive('found', 'shop', 'found-shop')
    await identities.import('seed', await identities.exportSeed('me'))
    for (const name of ['found', 'found-shop', 'seed']) expect([name, await store.heldBack(name)]).toEqual([name, { imported: true }])
    expect(await store.takes('found', 'did:key:lost')).toBeUndefined()
    expect(await store.heldBack('found')).toEqual({ imported: false })
    expect((await store.steps('found')).map(({ old, to }) => [old, to.did])).toEqual([['did:key:lost', (await identities.describe('found'))?.did]])
    expect(await store.takes('found', undefined)).toBe('did:key:lost')
    expect([await store.heldBack('found'), await store.steps('found')]).toEqual([{ imported: true }, []])
  })

  test('is held back of what another identity here has committed to, for as long as that one is there', async () => {
    await identities.create('me')
    await identities.derive('me', 'shop', 'me-shop')
    await store.commitment('me-shop')
    await rotated('me')
    await identities.derive('me', 'shop', 'me-again')
    expect(await store.heldBack('me-again')).toEqual({ awaitedBy: 'me-shop', imported: false })
    await rotated('me-shop')
    expect(await store.heldBack('me-again')).toEqual({ imported: false })
  }, 20_000)

  test('is refused for no identity, no name, and a file that holds something else', async () => {
    expect(await failureOf(() => store.commitment('nobody'))).toMatchObject(usage('There is no identity nobody'))
    for (const call of [() => store.commitment('../me'), () => store.pending('../me')]) expect(await failureOf(call)).toMatchObject(usage('The name of an identity'))
    await identities.create('me')
    await store.commitment('me')
    for (const value of [{}, { version: 1, of: 'x', commitment: 'x' }, { version: 1, of: 'x', commitment: commitmentTo('x'), entropy: 'short' }]) {
      await writeFile(join(directory, 'next', 'me.json'), JSON.stringify(value), { mode: 0o600 })
      expect((await failureOf(() => store.commitment('me'))).code).toBe('CMESH_CLIENT_CREDENTIALS')
    }
  })
})

describe('the words of a next root', () => {
  test('leave for a new file of its owner, and are forgotten here only then', async () => {
    await identities.create('me')
    const commitment = await store.commitment('me')
    await writeFile(join(directory, 'taken'), 'mine')
    expect(await failureOf(() => store.carryAway('me', join(directory, 'taken')))).toMatchObject(usage('it must be a new file'))
    expect(await store.state('me')).toMatchObject({ next: 'here' })
    await store.carryAway('me', join(directory, 'out'))
    const words = (await readFile(join(directory, 'out'), 'utf8')).trim()
    expect([commitmentTo(didOf(words)), ((await stat(join(directory, 'out'))).mode & 0o777).toString(8)]).toEqual([commitment, '600'])
    expect(await store.state('me')).toMatchObject({ next: 'away', commitment })
    const entropy = (await rootOfWords(words)).toString('base64url')
    for (const name of await readdir(directory, { recursive: true, withFileTypes: true })) {
      if (name.isFile()) expect(await readFile(join(name.parentPath, name.name), 'utf8')).not.toContain(entropy)
    }
    expect(await failureOf(() => store.plan('me'))).toMatchObject(usage('The next root of me is not on this machine'))
    expect((await store.plan('me', { words })).file.did).toBe(didOf(words))
  })
})

describe('a rotation at this machine', () => {
  test('puts the next root in the place of the root, and keeps the old one aside', async () => {
    const { did } = await identities.create('me')
    await store.commitment('me')
    const { file, next } = await rotated('me')
    expect(await identities.describe('me')).toMatchObject({ did: file.did, kind: 'root', context: 'default' })
    expect(await store.state('me')).toEqual({ did: file.did, generation: 1, next: 'here', commitment: next.commitment, pending: undefined })
    expect(await files('retired')).toEqual([`me.0.${did.slice(-8)}.json`])
    expect((await store.keys('me')).map(key => key.did)).toEqual([did, file.did])
    const again = await rotated('me')
    expect((await store.keys('me')).map(key => key.did)).toEqual([did, file.did, again.file.did])
    expect([commitmentTo(again.file.did), again.file.generation]).toEqual([next.commitment, 2])
  }, 20_000)

  test('that was begun stays what it was begun as', async () => {
    await identities.create('me')
    await store.commitment('me')
    const [one, other] = [await store.plan('me'), await store.plan('me')]
    expect(one.next.commitment).not.toBe(other.next.commitment)
    expect(await store.begin('me', one)).toEqual(one)
    expect(await store.begin('me', other)).toEqual(one)
    expect(await store.pending('me')).toEqual(one)
    await store.abandon('me')
    expect([await store.pending('me'), (await store.state('me')).generation]).toEqual([undefined, 0])
  })

  test('cut off behind any step of its end is ended by the next try, and loses neither identity', async () => {
    const steps = ['nothing', 'retired', 'identities', 'next'] as const
    for (const [done, step] of steps.entries()) {
      const name = `me${done}`
      const { did } = await identities.create(name)
      await store.commitment(name)
      const pending = await store.begin(name, await store.plan(name))
      const read = async (): Promise<string> => await readFile(join(directory, 'identities', `${name}.json`), 'utf8')
      const old = await read()
      await store.finish(name)
      // As it lies behind that step: what comes after it is put back.
      await writeFile(join(directory, 'rotations', `${name}.json`), JSON.stringify(pending), { mode: 0o600 })
      if (done < 3) await rm(join(directory, 'next', `${name}.json`))
      if (done < 2) await writeFile(join(directory, 'identities', `${name}.json`), old, { mode: 0o600 })
      if (done < 1) await rm(join(directory, 'retired', `${name}.0.${did.slice(-8)}.json`))
      await store.finish(name)
      expect([step, await store.state(name)]).toEqual([step, { did: pending.file.did, generation: 1, next: 'here', commitment: pending.next.commitment, pending: undefined }])
      expect(await json('retired', `${name}.0.${did.slice(-8)}.json`)).toMatchObject({ did })
      expect((await store.keys(name)).map(key => key.did)).toEqual([did, pending.file.did])
      await store.finish(name)
    }
  }, 20_000)

  test('of one identity is not ended on another that came under its name', async () => {
    await identities.create('me')
    await store.commitment('me')
    await store.begin('me', await store.plan('me'))
    await rm(join(directory, 'identities', 'me.json'))
    const { did } = await identities.create('me')
    expect(await failureOf(() => store.finish('me'))).toMatchObject({ code: 'CMESH_CLIENT_CREDENTIALS', message: expect.stringContaining('it is a rotation of another identity') as unknown })
    expect((await identities.describe('me'))?.did).toBe(did)
  })

  test('takes what was made here or what its owner gives the words of, and never what a mesh says alone', async () => {
    await identities.create('me')
    await identities.create('spare')
    const [words, spare] = [await identities.exportWords('spare'), commitmentTo((await identities.describe('spare'))?.did as string)]
    // The mesh says that `me` has committed to what is another identity here: that must not become `me`.
    expect(await failureOf(() => store.plan('me', { held: spare }))).toMatchObject(usage('The next root of me is not on this machine'))
    expect((await store.plan('me', { held: spare, words })).file.did).toBe((await identities.describe('spare'))?.did)
    const own = await store.commitment('me')
    expect(commitmentTo((await store.plan('me', { held: own })).file.did)).toBe(own)
    expect(await failureOf(() => store.plan('me', { held: spare }))).toMatchObject(usage('This mesh says that me has committed to another next root'))
    expect(await failureOf(() => store.plan('me', { words }))).toMatchObject(usage('These are not the words of the next root of me.'))
    // The next root that lies here would be gone.
    expect(await failureOf(() => store.plan('me', { held: spare, words }))).toMatchObject(usage('Another next root of me lies here'))
    await store.carryAway('me', join(directory, 'out'))
    expect((await store.plan('me', { held: spare, words })).file.did).toBe((await identities.describe('spare'))?.did)
    const carried = await readFile(join(directory, 'out'), 'utf8')
    expect(await failureOf(() => store.plan('me', { held: spare, words: carried }))).toMatchObject(usage('This mesh says that me has committed to another next root'))
  })

  test('of what committed to nothing is none', async () => {
    await identities.create('me')
    expect(await failureOf(() => store.plan('me'))).toMatchObject(usage('The identity me has committed to no other'))
  })
})

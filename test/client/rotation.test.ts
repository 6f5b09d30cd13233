import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { IdentityStore } from '../../client/identity-store.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import { completeRotation, prepareRotation, takePlaceOf, type Opener } from '../../client/rotation.ts'
import { RotationStore } from '../../client/rotation-store.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { makeRequestProof, readRequestProof } from '../../cmtp/identity/request-proof.ts'
import { commitmentTo } from '../../cmtp/identity/rotation.ts'
import { heirOf, rotationStatus } from '../../services/iam/rotations.ts'
import { SYSTEM_SPACE } from '../../services/state/transaction.ts'
import { batchOf, genesisTransaction, MEMBER, outputOf, replica, transactionOf } from '../support/replica.ts'

const TOKEN = Buffer.from('header.payload.signature')

let directory: string
let identities: IdentityStore
let store: RotationStore
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'cmesh-rotation-'))
  identities = new IdentityStore(directory)
  store = new RotationStore(directory)
})
afterEach(() => rm(directory, { recursive: true, force: true }))

interface Mesh {
  readonly open: Opener
  /** What it holds of a DID. */
  status(did: string): ReturnType<typeof rotationStatus>
  heir(did: string): string
  /** An order signed by anybody; rejects with what the mesh refuses it with. */
  order(by: KeyPair, fqmn: string, body: object): unknown
}

/** The real records and orders of a mesh, asked without a broker. `says`: what it answers about anybody's rotation instead of the truth. */
async function meshOf(says?: object): Promise<Mesh> {
  const made = await replica()
  made.next(batchOf([genesisTransaction()]))
  const records = made.store.space(SYSTEM_SPACE)
  const order = (by: KeyPair, fqmn: string, body: object): unknown => {
    const plain = transactionOf(fqmn, { sub: by.did, body: Buffer.from(JSON.stringify(body)) })
    const [record] = made.next(batchOf([{ ...plain, proof: readRequestProof(makeRequestProof({ ...plain, token: TOKEN }, by), fqmn) }]))
    const value = outputOf(record)
    if (record?.status !== 200) throw CMeshError.fromWire(value)
    return value
  }
  const clientOf = (by: KeyPair): MeshClient => ({
    mesh: MEMBER.did,
    call: (fqmn: string, { body = '{}' }: { body?: string } = {}) => {
      const [, did = by.did] = /^0xI:rotation:\["(.*)"\]$/.exec(fqmn) ?? []
      const value = fqmn.startsWith('0xI:rotation') ? says ?? rotationStatus(records, did) : order(by, fqmn, JSON.parse(body) as object)
      return Promise.resolve({ json: () => value })
    },
  }) as unknown as MeshClient
  return { open: (key, use) => use(clientOf(key)), status: did => rotationStatus(records, did), heir: did => heirOf(records, did), order }
}

const keyOf = async (name: string): Promise<KeyPair> => await identities.loadIdentity(name) as KeyPair
const login = async (mesh: Mesh, name: string, more: { commit?: boolean } = {}): ReturnType<typeof prepareRotation> => (
  await mesh.open(await keyOf(name), client => prepareRotation(client, store, name, mesh.open, more))
)
const codeOf = async (work: Promise<unknown>): Promise<unknown> => await work.then(() => 'nothing', (error: unknown) => (error as CMeshError).code)
const lies = (next: unknown, rest: object = {}): object => ({ did: 'x', next, rotatedTo: null, rotatedFrom: [], ...rest })

describe('what a mesh says an identity has committed to', () => {
  test.each([['before anything was made here', false], ['after that was carried away', true]])('%s is told to no other mesh, and takes no identity there', async (_, away) => {
    const evil = KeyPair.generate()
    await identities.create('me')
    const { did } = await keyOf('me')
    if (away) await store.carryAway('me', join(directory, 'out'))
    const hostile = await meshOf(lies(commitmentTo(evil.did)))
    expect(await login(hostile, 'me')).toEqual({ standing: 'another', followed: 0 })
    const honest = await meshOf()
    expect(await login(honest, 'me')).toEqual({ standing: 'committed', followed: 0 })
    expect([honest.status(did).next, honest.status(did).next === commitmentTo(evil.did)]).toEqual([await store.commitment('me'), false])
    expect(() => honest.order(evil, '0xIW:rotate', { mesh: MEMBER.did, old: did, next: commitmentTo(KeyPair.generate().did) })).toThrow('the old DID has committed to another one')
    expect([honest.heir(did), (await login(honest, 'me')).standing]).toEqual([did, 'committed'])
  })

  test('is another for whatever it is that was not made here', async () => {
    await identities.create('me')
    for (const next of [undefined, 1, '', { toString: () => 'x' }]) expect((await login(await meshOf(lies(next)), 'me')).standing).toBe('another')
    expect(await store.state('me')).toMatchObject({ next: 'here' })
  })

  test('is not taken over for an identity that came from elsewhere, of which nothing was made here', async () => {
    await identities.import('me', await keyOf((await identities.create('first')).name).then(key => key.exportSeed().toString('base64url')))
    const [evil, { did }] = [KeyPair.generate(), await keyOf('me')]
    expect((await login(await meshOf(lies(commitmentTo(evil.did))), 'me')).standing).toBe('another')
    expect(await store.state('me')).toMatchObject({ next: 'none' })
    const honest = await meshOf()
    expect(await login(honest, 'me', { commit: true })).toEqual({ standing: 'committed', followed: 0 })
    expect(honest.status(did).next).toBe(await store.commitment('me'))
    expect(await store.commitment('me')).not.toBe(commitmentTo(evil.did))
  })
})

describe('a next root', () => {
  const rotate = async (mesh: Mesh, name: string): Promise<void> => { await completeRotation(store, name, await store.plan(name), mesh.open) }

  test('that was imported commits to nothing by itself, takes its place, and takes it on other meshes at the login there', async () => {
    const [one, other, third] = [await meshOf(), await meshOf(), await meshOf()]
    const lost = await identities.create('lost')
    for (const mesh of [one, other]) expect((await login(mesh, 'lost')).standing).toBe('committed')
    await store.carryAway('lost', join(directory, 'out'))
    const { file } = await store.plan('lost', { words: await readFile(join(directory, 'out'), 'utf8') })
    // As on another machine, where nothing is but the words.
    await rm(directory, { recursive: true })
    await identities.import('found', file.seed)
    expect([await login(one, 'found'), one.status(file.did).next]).toEqual([{ standing: 'imported', followed: 0 }, null])
    const stranger = KeyPair.generate().did
    const take = (from: string): Promise<unknown> => keyOf('found').then(key => one.open(key, client => takePlaceOf(client, store, 'found', from)))
    expect(await codeOf(take(stranger))).toBe('CMESH_IAM_ROTATION')
    expect([await login(one, 'found'), one.status(file.did).next]).toEqual([{ standing: 'imported', followed: 0 }, null])
    await take(lost.did)
    expect([one.heir(lost.did), (await login(one, 'found')).standing]).toEqual([file.did, 'committed'])
    expect([await login(other, 'found'), other.heir(lost.did)]).toEqual([{ standing: 'committed', followed: 1 }, file.did])
    await rotate(one, 'found')
    expect((await login(third, 'found')).standing).toBe('committed')
  }, 20_000)

  test('that is an identity here as well commits to nothing before the other takes it', async () => {
    const mesh = await meshOf()
    await identities.create('me')
    await identities.derive('me', 'shop', 'me-shop')
    for (const name of ['me', 'me-shop']) await login(mesh, name)
    await rotate(mesh, 'me')
    await identities.derive('me', 'shop', 'me-again')
    const { did } = await keyOf('me-again')
    expect([await login(mesh, 'me-again', { commit: true }), mesh.status(did).next]).toEqual([{ standing: 'awaited', followed: 0 }, null])
    await rotate(mesh, 'me-shop')
    expect([mesh.status(did).rotatedFrom.length, (await keyOf('me-shop')).did]).toEqual([1, did])
  }, 20_000)

  test('takes every place before it commits, on a mesh that heard of none of them', async () => {
    const [one, other] = [await meshOf(), await meshOf()]
    const { did: first } = await identities.create('me')
    for (const mesh of [one, other]) await login(mesh, 'me')
    for (let i = 0; i < 3; i++) await rotate(one, 'me')
    expect(await login(other, 'me')).toEqual({ standing: 'committed', followed: 3 })
    expect([other.heir(first), other.status((await keyOf('me')).did).next]).toEqual([(await keyOf('me')).did, await store.commitment('me')])
    expect(await login(other, 'me')).toEqual({ standing: 'committed', followed: 0 })
  }, 30_000)
})

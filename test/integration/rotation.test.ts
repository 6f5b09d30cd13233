/** Rotation on a real node by the real command line: what moves, what ends, what a kill leaves, and what other meshes learn of it. */
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { connect, IdentityStore, type KeyPair, type MeshClient } from '../../client/index.ts'
import { rotationOf, sendRotation } from '../../client/rotation.ts'
import { RotationStore } from '../../client/rotation-store.ts'
import { KeyPair as Key } from '../../cmtp/identity/keys.ts'
import { CliHome, type CliResult, type CliRun } from '../client/support/cli-process.ts'
import { until } from '../client/support/until.ts'
import { NodeRoom } from '../support/node-process.ts'

const INCREMENT = '0xSW:0x002:increment'

interface Shown {
  readonly did: string
  readonly generation: number
  readonly pending?: string
}
interface RotatedJson { readonly did: string }

let home: CliHome
let node: CliRun
let config: string
const room = new NodeRoom()
const up = async (): Promise<void> => {
  node = home.start(['up'])
  await node.printed('Ctrl-C drains')
}
beforeAll(async () => {
  home = await CliHome.make()
  home.tells('identity export')
  config = join(home.directory, 'config')
  await up()
})
afterAll(async () => {
  await home.close()
  await room.close()
})

const as = (name: string, ...args: string[]): Promise<CliResult> => home.run([...args, '--identity', name])
const login = async (name: string, ...args: string[]): Promise<CliResult> => {
  const result = await as(name, 'login', '--yes', ...args)
  expect(result).toMatchObject({ code: 0 })
  return result
}
const show = async (name: string, ...args: string[]): Promise<Shown> => await home.json('identity', 'show', name, ...args) as Shown
const rotate = async (name: string, ...args: string[]): Promise<RotatedJson> => await home.json('identity', 'rotate', name, '--yes', ...args) as RotatedJson
const made = async (name: string): Promise<string> => {
  const { did } = await home.json('identity', 'new', name) as { did: string }
  await login(name)
  return did
}
const keyOf = async (name: string): Promise<KeyPair> => await new IdentityStore(config).loadIdentity(name) as KeyPair
const meshUrl = async (): Promise<string> => (JSON.parse(await readFile(join(home.directory, 'mesh', 'mesh.json'), 'utf8')) as { url: string }).url
const client = async (identity: KeyPair, url?: string): Promise<MeshClient> => await connect({
  url: url ?? await meshUrl(), identity,
  // That a session ended for good is what is tested; by default it is a warning of the process.
  onWarning: () => undefined,
})
const refusedFor = async (work: Promise<unknown>): Promise<string> => await work.then(() => 'nothing', (error: unknown) => (error as { code: string }).code)

describe('cmesh identity rotate', () => {
  test('moves grants and names, ends the old sessions at once, and all of it outlives a kill of the node', async () => {
    const old = await made('ann')
    expect(await show('ann', '--mesh')).toMatchObject({ did: old, generation: 0, next: 'here', mesh: 'same' })
    const grant = await home.json('authz', 'grant', old, 'write 0xSW:0x002:>') as { id: string }
    await login('ann')
    expect(await as('ann', 'register', 'anns.mcom', '0xS:0x002')).toMatchObject({ code: 0 })
    const oldKey = await keyOf('ann')
    const before = await client(oldKey)
    expect((await before.call(INCREMENT)).text()).toBe('2')

    const rotated = await rotate('ann')
    expect(rotated).toMatchObject({ old, generation: 1, nextRoot: 'here', moved: { grants: 1, capabilities: 0, names: 1 } })
    // A read first: of a write that was sent as the connection was cut nobody could say that it was refused.
    expect(await refusedFor(before.call('0xI:whoami'))).toBe('CMESH_IAM_HANDSHAKE')
    expect(await refusedFor(before.call(INCREMENT))).toBe('CMESH_IAM_HANDSHAKE')
    await before.close()
    expect(await home.json('call', '0xS:0x002:get')).toMatchObject({ body: 2 })
    expect(await refusedFor(client(oldKey))).toBe('CMESH_IAM_HANDSHAKE')

    const checked = async (): Promise<void> => {
      expect(await show('ann', '--mesh')).toMatchObject({ did: rotated.did, kind: 'root', generation: 1, next: 'here', mesh: 'same' })
      await login('ann')
      expect(await as('ann', 'call', INCREMENT)).toMatchObject({ code: 0 })
      const held = await as('ann', 'authz', 'list')
      for (const text of [grant.id, rotated.did, `rotated from  ${old}`]) expect(held.stdout).toContain(text)
      expect((await home.run(['authz', 'list', old])).stdout).toMatch(new RegExp(`rotated to +${rotated.did}`))
      expect((await home.run(['authz', 'explain', old, INCREMENT])).stdout).toBe(`denied: it was rotated to ${rotated.did}\n`)
      expect(await refusedFor(client(oldKey))).toBe('CMESH_IAM_HANDSHAKE')
    }
    await checked()
    expect(await home.json('resolve', 'anns.mcom')).toMatchObject({ owner: old, holder: rotated.did, sequence: 1 })
    node.child.kill('SIGKILL')
    await node.result
    await up()
    await checked()
    const ann = await client(await keyOf('ann'))
    expect(await ann.update('anns.mcom', '0xS:0x001')).toMatchObject({ owner: rotated.did, sequence: 2 })
    await ann.close()
    expect(await home.json('resolve', 'anns.mcom')).not.toHaveProperty('holder')
    // The old one is kept aside, for its owner alone.
    const [aside = ''] = (await readdir(join(config, 'retired'))).filter(name => name.startsWith('ann.0.'))
    expect(JSON.parse(await readFile(join(config, 'retired', aside), 'utf8'))).toMatchObject({ did: old })
    expect(((await stat(join(config, 'retired', aside))).mode & 0o777).toString(8)).toBe('600')
  })

  test('moves the operator\'s role', async () => {
    const { did: old } = await show('default')
    await login('default')
    const { did } = await rotate('default')
    await login('default')
    expect(await home.run(['authz', 'grant', (await show('ann')).did, 'write 0xSW:0x001:>'])).toMatchObject({ code: 0 })
    expect((await home.run(['authz', 'explain', did, '0xIW:grant'])).stdout).toMatch(/^allowed\n.*operator/)
    expect((await home.run(['authz', 'explain', old, '0xIW:grant'])).stdout).toBe(`denied: it was rotated to ${did}\n`)
  })

  test('asks first, and says what moves, stays and ends', async () => {
    expect(await home.run(['identity', 'rotate', 'ann'])).toMatchObject({ code: 2, stderr: 'error CMESH_CLIENT_USAGE: Nobody is there to ask: say --yes, or rotate on a terminal.\n' })
    const { did } = await show('ann')
    const { code, stdout, stderr } = await home.run(['identity', 'rotate', 'ann', '--yes'])
    const after = await show('ann')
    expect(code).toBe(0)
    const lines = stderr.split('\n').map(line => line.replace(/ {2,}/, ' '))
    expect(lines.slice(0, 5)).toEqual([
      `from ${did}`, `to ${after.did}`, 'moves grants, capabilities, names, contracts it deployed, the operator\'s role',
      'stays what contracts keep under the old DID, and credentials bound to it', 'ends every session of the old DID, at once and for good',
    ])
    expect(stdout).toMatch(/^rotated {2}ann, generation 2\n/)
  })

  test('needs the words of the next root once they were carried away, and no other words will do', async () => {
    await made('cat')
    const words = join(home.directory, 'cat-next.txt')
    expect(await home.run(['identity', 'next', 'cat', '--out', words])).toMatchObject({ code: 0, stdout: `The words of its next root are in ${words}, and no longer here.\n` })
    expect([((await stat(words)).mode & 0o777).toString(8), (await readFile(words, 'utf8')).trim().split(' ').length]).toEqual(['600', 24])
    expect(await home.run(['identity', 'next', 'cat', '--out', `${words}.2`])).toMatchObject({ code: 2 })
    expect(await readFile(join(config, 'next', 'cat.json'), 'utf8')).not.toContain('entropy')
    expect(await show('cat', '--mesh')).toMatchObject({ next: 'away', mesh: 'same' })
    expect(await home.run(['identity', 'rotate', 'cat', '--yes'])).toMatchObject({ code: 2, stderr: expect.stringContaining('The next root of cat is not on this machine: give its words by --next-words.') })
    await home.json('identity', 'new', 'other')
    const { stdout: wrong } = await home.run(['identity', 'export', 'other', '--words', '--yes'])
    const refused = await home.run(['identity', 'rotate', 'cat', '--yes', '--next-words', '-'], wrong)
    expect(refused).toMatchObject({ code: 2, stderr: expect.stringContaining('These are not the words of the next root of cat.') })
    expect(refused.stderr).not.toContain(wrong.split(' ').slice(0, 3).join(' '))
    expect(await show('cat')).toMatchObject({ generation: 0 })
    const { did } = await rotate('cat', '--next-words', words)
    // The words are those of the root of today now.
    const { stdout: today } = await home.run(['identity', 'export', 'cat', '--words', '--yes'])
    expect([today, (await show('cat')).did]).toEqual([await readFile(words, 'utf8'), did])
  })

  test('with a root goes what was derived of it: the same contexts of its next root', async () => {
    await made('dan')
    await home.json('identity', 'derive', 'dan', '--context', 'shop', '--as', 'dan-shop')
    await login('dan-shop')
    await rotate('dan')
    const { did } = await rotate('dan-shop')
    expect(await show('dan-shop')).toMatchObject({ did, kind: 'derived', generation: 1, root: (await show('dan')).did, next: 'here' })
    expect(await home.json('identity', 'derive', 'dan', '--context', 'shop', '--as', 'dan-again')).toMatchObject({ did })
  })

  test('takes the place of a DID whose key is lost, with nothing but the words of its next root', async () => {
    const lost = await made('eve')
    const words = join(home.directory, 'eve-next.txt')
    await home.run(['identity', 'next', 'eve', '--out', words])
    const elsewhere = await CliHome.make()
    try {
      const url = await meshUrl()
      const { did } = await elsewhere.json('identity', 'import', 'found', words) as { did: string }
      expect(await elsewhere.run(['identity', 'rotate', 'found', '--from', (await show('cat')).did, '--yes', '--url', url])).toMatchObject({
        code: 1, stderr: expect.stringContaining('error CMESH_IAM_ROTATION: The rotation is refused: the old DID has committed to another one.'),
      })
      const early = await elsewhere.run(['login', '--identity', 'found', '--yes', '--url', url])
      expect(early.stderr).toContain('warning found was imported, and has committed to no next root on this mesh.\n')
      expect(early.stderr).toContain('first take its place: cmesh identity rotate found --from DID\n')
      expect(await elsewhere.json('identity', 'rotate', 'found', '--from', lost, '--yes', '--url', url)).toMatchObject({ old: lost, did })
      expect(await elsewhere.json('identity', 'show', 'found', '--mesh', '--url', url)).toMatchObject({ did, mesh: 'same' })
      expect((await elsewhere.run(['login', '--identity', 'found', '--yes', '--url', url])).stderr).not.toContain('warning')
      // An identity of its own says that it is one, and takes no place from then on.
      elsewhere.tells('identity export')
      await elsewhere.run(['identity', 'new', 'own'])
      const { stdout: seed } = await elsewhere.run(['identity', 'export', 'own', '--seed', '--yes'])
      await elsewhere.run(['identity', 'import', 'moved', '-'], seed)
      expect((await elsewhere.run(['login', '--identity', 'moved', '--yes', '--commit', '--url', url])).stderr).not.toContain('warning')
      expect(await elsewhere.json('identity', 'show', 'moved', '--mesh', '--url', url)).toMatchObject({ mesh: 'same' })
    } finally {
      await elsewhere.close()
    }
  })
})

describe('a rotation that is cut off', () => {
  const begun = async (name: string): Promise<{ store: RotationStore, key: KeyPair, old: string, next: string }> => {
    const store = new RotationStore(config)
    const { old, file, next } = await store.begin(name, await store.plan(name))
    return { store, key: Key.fromSeed(Buffer.from(file.seed, 'base64url')), old, next: next.commitment }
  }

  test('before the mesh heard of it goes on, and a login meanwhile says so', async () => {
    await made('fay')
    const { key, old } = await begun('fay')
    expect(await show('fay')).toMatchObject({ did: old, generation: 0, pending: key.did })
    expect((await login('fay')).stderr).toContain('warning A rotation of fay was begun and not ended: cmesh identity rotate fay\n')
    expect(await rotate('fay')).toMatchObject({ old, did: key.did, generation: 1 })
    expect(await show('fay', '--mesh')).toMatchObject({ did: key.did, generation: 1, mesh: 'same' })
  })

  test('after the mesh did it and before the identity was replaced goes on', async () => {
    await made('gil')
    const { key, old, next } = await begun('gil')
    const other = await client(key)
    await sendRotation(other, { old, next })
    await other.close()
    expect(await as('gil', 'whoami')).toMatchObject({ code: 1 })
    expect(await rotate('gil')).toMatchObject({ old, did: key.did, generation: 1 })
    await login('gil')
    expect(await show('gil', '--mesh')).toMatchObject({ did: key.did, generation: 1, mesh: 'same' })
    expect(existsSync(join(config, 'rotations', 'gil.json'))).toBe(false)
  })

  test('by a kill, wherever that hits it, ends as one rotation', async () => {
    const old = await made('hal')
    const run = home.start(['identity', 'rotate', 'hal', '--yes'])
    await until('the rotation is begun', () => existsSync(join(config, 'rotations', 'hal.json')) || run.stdout !== '')
    run.child.kill('SIGKILL')
    await run.result
    const { pending, generation } = await show('hal')
    if (pending !== undefined || generation === 0) await rotate('hal')
    const { did, generation: after } = await show('hal')
    expect(after).toBe(1)
    await login('hal')
    const hal = await client(await keyOf('hal'))
    expect(await rotationOf(hal, old)).toEqual({ did: old, next: null, rotatedTo: did, rotatedFrom: [] })
    await hal.close()
  })

  test('because the mesh refuses it is forgotten, and the identity stays', async () => {
    const did = await made('ida')
    await home.json('authz', 'revoke', did, '--ban')
    const { store } = await begun('ida')
    expect(await home.run(['identity', 'rotate', 'ida', '--yes'])).toMatchObject({ code: 1, stderr: expect.stringContaining('error CMESH_IAM_ROTATION: The rotation is refused: the old DID is banned.') })
    expect([await store.pending('ida'), (await show('ida')).did]).toEqual([undefined, did])
  })
})

describe('another mesh', () => {
  test('follows a rotation at the next login there', async () => {
    const { url } = await room.start()
    const old = await made('jon')
    await login('jon', '--url', url)
    const { did } = await rotate('jon')
    const there = await login('jon', '--url', url)
    expect(there.stderr).toContain('This mesh follows a rotation of jon now: log in again for what it may do.\n')
    const jon = await client(await keyOf('jon'), url)
    expect(await rotationOf(jon, old)).toMatchObject({ rotatedTo: did })
    expect(await rotationOf(jon)).toMatchObject({ did, rotatedFrom: [old], next: await new RotationStore(config).commitment('jon') })
    await jon.close()
    expect((await login('jon', '--url', url)).stderr).not.toContain('follows')
  })

  test('that knows another commitment says so at the login, which it does not fail', async () => {
    await made('kim')
    const elsewhere = new RotationStore(join(home.directory, 'elsewhere'))
    const { stdout: seed } = await home.run(['identity', 'export', 'kim', '--seed', '--yes'])
    await new IdentityStore(elsewhere.directory).import('kim', seed)
    await writeFile(join(config, 'next', 'kim.json'), JSON.stringify({ version: 1, of: (await show('kim')).did, commitment: await elsewhere.commitment('kim') }), { mode: 0o600 })
    expect((await login('kim')).stderr).toContain('warning This mesh says that kim has committed to another next root than the one this machine knows: here it is rotated with the words of that one alone.\n')
    expect(await show('kim', '--mesh')).toMatchObject({ mesh: 'another' })
  })
})

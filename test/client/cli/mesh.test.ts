/** `cmesh mesh`: keys and certificates of nodes, from files alone. */
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { run } from '../../../client/cli/program.ts'
import { parseCertificate } from '../../../cmtp/identity/certificate.ts'
import { clusterFiles } from '../../../node/cluster/files.ts'
import { planCluster } from '../../../node/cluster/plan.ts'
import { nodeIdentity } from '../../../node/identity.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { secretsIn, secretsOf } from '../../support/secrets.ts'
import { capture } from '../support/capture.ts'

let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-test-mesh-')) })
afterEach(async () => { await rm(dir, { recursive: true, force: true }) })

const at = (...names: readonly string[]): string => path.join(dir, ...names)

/** Runs `cmesh mesh …`; whatever it prints holds no secret. */
async function mesh(...args: readonly string[]): Promise<{ code: number, out: string, err: string }> {
  const { terminal, out, err } = capture()
  const code = await run(['mesh', ...args], terminal)
  expect(secretsIn(out() + err(), new Map([at('a'), at('b')].flatMap(each => [...secretsOf(each)])))).toEqual([])
  return { code, out: out(), err: err() }
}

async function json<T>(...args: readonly string[]): Promise<T> {
  const { code, out, err } = await mesh(...args, '--json')
  expect([code, err]).toEqual([0, ''])
  return JSON.parse(out) as T
}

test('init makes a node\'s key once, as the node itself would', async () => {
  const { node } = await json<{ node: string }>('init', '--data', at('a'))
  expect(await json('init', '--data', at('a'))).toEqual({ node })
  expect((await stat(at('a', 'node.key'))).mode & 0o777).toBe(0o600)
  expect((await nodeIdentity(at('a'))).did).toBe(node)
})

test('certify certifies a node by the founding node\'s own key, and did names both', async () => {
  const founder = await nodeIdentity(at('a'))
  const { node } = await json<{ node: string }>('init', '--data', at('b'))
  const { out } = await mesh('certify', node, '--data', at('a'))
  expect(parseCertificate(out)).toMatchObject({ mesh: founder.did, node })

  expect((await mesh('certify', node, '--data', at('a'), '--out', at('b', 'certificate'))).code).toBe(0)
  expect(parseCertificate(await readFile(at('b', 'certificate'), 'utf8'))).toMatchObject({ mesh: founder.did, node })
  expect(await json('did', '--data', at('b'))).toEqual({ mesh: founder.did, nodes: [{ name: 'node', did: node, mesh: founder.did }] })
  expect(await json('did', '--data', at('a'))).toEqual({ mesh: founder.did, nodes: [{ name: 'node', did: founder.did }] })
})

test('certify writes over no file', async () => {
  const { did } = await nodeIdentity(at('a'))
  await writeFile(at('there'), 'mine')
  expect(await mesh('certify', did, '--data', at('a'), '--out', at('there'))).toMatchObject({ code: 2, err: expect.stringContaining('cannot be written (EEXIST)') as unknown })
  expect(await readFile(at('there'), 'utf8')).toBe('mine')
})

test('a node that was certified certifies nobody by its own key', async () => {
  await nodeIdentity(at('a'))
  const { node } = await json<{ node: string }>('init', '--data', at('b'))
  await mesh('certify', node, '--data', at('a'), '--out', at('b', 'certificate'))
  const { code, err } = await mesh('certify', node, '--data', at('b'))
  expect([code, err]).toEqual([2, expect.stringMatching(/CMESH_CLIENT_USAGE: .* is the key of a node of the mesh did:key:\S+, whose own key certifies: give it by --key/)])
})

test('init with a key founds a mesh whose key is no node\'s', async () => {
  const first = await json<{ node: string, mesh: string }>('init', '--data', at('a'), '--key', at('mesh.key'))
  const second = await json<{ node: string, mesh: string }>('init', '--data', at('b'), '--key', at('mesh.key'))
  expect(second.mesh).toBe(first.mesh)
  expect(new Set([first.mesh, first.node, second.node]).size).toBe(3)
  expect(parseCertificate(await readFile(at('b', 'certificate'), 'utf8'))).toMatchObject({ mesh: second.mesh, node: second.node })
  expect(await mesh('init', '--data', at('a'), '--key', at('other.key'))).toMatchObject({ code: 2, err: expect.stringContaining(`is of the mesh ${first.mesh}; a node has one mesh.`) as unknown })
  await expect(stat(at('other.key'))).rejects.toMatchObject({ code: 'ENOENT' })
})

test('did and certify know the directory of a cluster', async () => {
  const files = await clusterFiles(dir, await planCluster({ dir, nodes: 3 }), { clients: ['a:1', 'b:2', 'c:3'], routes: ['a:4', 'b:5', 'c:6'], settings: () => ({}) })
  expect(await json('did', '--data', dir)).toEqual({ mesh: files.mesh, nodes: files.nodes.map(({ name, did }) => ({ name, did, mesh: files.mesh })) })
  const { did } = KeyPair.generate()
  expect(await json('certify', did, '--data', dir)).toMatchObject({ mesh: files.mesh, node: did })
})

test.each([
  ['did', (): string[] => ['did', '--data', at('none')], 'holds no mesh; `cmesh up` makes one there, `cmesh mesh init` the key of a node.'],
  ['certify', (): string[] => ['certify', KeyPair.generate().did, '--key', at('none')], 'There is no key in '],
  ['a text that is no DID', (): string[] => ['certify', 'second'], 'It must be a DID like did:key:z6Mk…'],
])('%s of nothing says what to do', async (_, args, says) => {
  expect(await mesh(...args())).toMatchObject({ code: 2, err: expect.stringContaining(says) as unknown })
})

test('a key that others can read is refused', async () => {
  await nodeIdentity(at('a'))
  await chmod(at('a', 'node.key'), 0o640)
  const { code, err } = await mesh('did', '--data', at('a'))
  expect([code, err]).toEqual([1, expect.stringContaining(`CMESH_IAM_KEY: The key is refused: ${at('a', 'node.key')} can be read by others; run chmod 600 on it.`)])
})

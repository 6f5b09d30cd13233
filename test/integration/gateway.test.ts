/** A gateway on a real node: many identities on one connection, each seen by the mesh as itself. */
import { afterAll, beforeAll, beforeEach, afterEach, expect, test } from '@jest/globals'
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'
import { until } from '../client/support/until.ts'
import { callerContract } from '../support/caller-contract.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'

const room = new NodeRoom()
const operator = KeyPair.generate()
let node: TestNode
let who: string
let address: string
let gateway: MeshClient
let users: MeshClient[]

const SETTINGS = { args: ['--operator', operator.did] }

beforeAll(async () => {
  node = await room.start(SETTINGS)
  await using deployer = await connect({ url: node.url, mesh: node.descriptor.did, identity: operator })
  address = (await deployer.deploy({ wasm: callerContract(), name: 'caller', version: '1.0.0' })).address
  who = `0xS:${address}:who`
})
beforeEach(async () => {
  gateway = await connect({ url: node.url, mesh: node.descriptor.did, identity: operator, timeoutMs: 30_000 })
  users = await Promise.all(Array.from({ length: 8 }, () => gateway.as(KeyPair.generate())))
})
afterEach(() => gateway.close())
afterAll(() => room.close())

/** Reads of everybody in turns, all at once. */
async function seen(count: number): Promise<string[]> {
  const asked = Array.from({ length: count }, () => users).flat()
  return (await Promise.all(asked.map((user) => user.call(who)))).map((reply) => reply.text())
}
const dids = (count: number): string[] => Array.from({ length: count }, () => users).flat().map(({ did }) => did)

test('each is answered as itself, whoever shares its frame, and the frames are few', async () => {
  expect(await seen(1)).toEqual(dids(1))
  const before = await node.metrics()
  const replies = await Promise.all(Array.from({ length: 50 }, () => users).flat().map((user) => user.call(who)))
  expect(replies.map((reply) => reply.text())).toEqual(dids(50))
  expect(new Set(replies.map(({ id }) => id)).size).toBe(400)
  expect(new Set(replies.map(({ finalHash }) => finalHash)).size).toBe(400)
  const after = await node.metrics()
  expect(metric(after, 'cmesh_requests_total') - metric(before, 'cmesh_requests_total')).toBe(400)
  const batches = metric(after, 'cmesh_batches_total') - metric(before, 'cmesh_batches_total')
  expect(batches).toBeGreaterThanOrEqual(7)
  expect(batches).toBeLessThan(20)
  // Answered once for each of the eight in each frame, never once for two of them.
  const repeated = metric(after, 'cmesh_requests_repeated_total') - metric(before, 'cmesh_requests_repeated_total')
  expect(repeated).toBeGreaterThan(0)
  expect(repeated).toBeLessThanOrEqual(400 - 8 * batches)
  expect((await users[0]?.whoami())?.['did']).toBe(users[0]?.did)
})

test('a gateway of the operator lends nobody its rights, and each writes as itself', async () => {
  const [first] = users as [MeshClient]
  await expect(first.call(`0xSW:${address}:sign`)).rejects.toMatchObject({ code: 'CMESH_IAM_DENIED', status: 403 })
  const again = await gateway.as(operator)
  await again.call(`0xSW:${address}:sign`)
  expect((await first.call(`0xS:${address}:last`)).text()).toBe(operator.did)
  await first.register('gatewayUser.mcom', '0xS:0x001')
  expect(await users[1]?.resolve('gatewayUser.mcom')).toMatchObject({ owner: first.did })
  await expect(gateway.release('gatewayUser.mcom')).rejects.toMatchObject({ code: 'CMESH_REGISTRAR_NOT_OWNER' })
})

test('each follows channels of its own', async () => {
  const [first, second] = users as [MeshClient, MeshClient]
  const heard: string[] = []
  const subscription = await first.subscribe('gateway.news', ({ data }) => { heard.push(`first ${String(data)}`) })
  await second.subscribe('gateway.news', ({ data }) => { heard.push(`second ${String(data)}`) })
  await gateway.publish('gateway.news', 'one')
  await until('both heard', () => heard.length === 2)
  await second.close()
  await gateway.publish('gateway.news', 'two')
  await until('the other heard', () => heard.length === 3)
  expect(heard.sort()).toEqual(['first one', 'first two', 'second one'])
  await subscription.close()
})

test('a session that ends at the mesh is opened again without a failed request, and the others never notice', async () => {
  await seen(1)
  const [first] = users as [MeshClient]
  await first.call('0xIW:hangup')
  expect(await seen(5)).toEqual(dids(5))
})

test('the gateway\'s session may end: the others go on', async () => {
  await seen(1)
  await gateway.call('0xIW:hangup')
  for (let i = 0; i < 5; i++) expect(await seen(5)).toEqual(dids(5))
  expect((await gateway.whoami())['did']).toBe(operator.did)
})

test('a node that is killed and started again costs nobody a request', async () => {
  await seen(1)
  const { port } = new URL(node.url)
  await node.kill()
  const asked = seen(3)
  node = await room.start({ dir: node.dir, args: [...SETTINGS.args, '--port', port] })
  expect(await asked).toEqual(dids(3))
  expect(await seen(3)).toEqual(dids(3))
})

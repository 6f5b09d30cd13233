/**
 * Contracts on a real node, through the SDK: who may deploy, what stands after a replacement, a proxy, a change of the gas limit and a
 * kill −9, and that what a contract sent is done once whatever happened to the node in between.
 */
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'
import { codeHash } from '../../cmtp/package.ts'
import { DEPLOY_GAS_PER_BYTE } from '../../services/contracts/deployments.ts'
import { until } from '../client/support/until.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'
import { sendingContract } from '../support/sending-contract.ts'
import { versionedContract } from '../support/versioned-contracts.ts'

const room = new NodeRoom()
const operator = KeyPair.generate()
const author = KeyPair.generate()
const GRANTS = `iam.grants=${author.did}=deploy 0xSW:0x000:deploy|replace 0xSW:0x000:replace|proxy 0xSW:0x000:proxy|write 0xSW:>`
const ARGS = ['--operator', operator.did, '--set', GRANTS]
const ONE = versionedContract({ which: 1, init: 'keeps' })
const TWO = versionedContract({ which: 2, migrate: 'keeps' })
const BREAKING = versionedContract({ which: 3, migrate: 'fails' })

let node: TestNode
let clients: MeshClient[] = []
beforeAll(async () => { node = await room.start({ args: ARGS }) })
afterAll(() => room.close())
afterEach(async () => {
  await Promise.all(clients.map(client => client.close()))
  clients = []
})

async function open(identity: KeyPair): Promise<MeshClient> {
  const client = await connect({ url: node.url, mesh: node.descriptor.did, identity, timeoutMs: 20_000, drainMs: 0, onWarning: () => undefined })
  clients.push(client)
  return client
}

/** The node gone by kill −9, and another on its data. */
async function killed(): Promise<void> {
  await node.kill()
  await Promise.all(clients.map(client => client.close()))
  clients = []
  node = await room.start({ dir: node.dir, args: ARGS })
}

const text = async (client: MeshClient, address: string, name: string): Promise<string> => (await client.call(`0xS:${address}:${name}`)).text()

describe('deploying', () => {
  test('is for whom the permission was granted, and a newcomer is told which one is missing', async () => {
    const newcomer = await open(KeyPair.generate())
    await expect(newcomer.deploy({ wasm: ONE, name: 'mine', version: '1.0.0' })).rejects.toMatchObject({
      code: 'CMESH_IAM_DENIED', status: 403, message: 'Permission deploy on 0xSW:0x000:deploy is missing.',
    })
    const client = await open(author)
    const { address, codeHash: hash, version } = await client.deploy({ wasm: ONE, name: 'kept', version: '1.0.0', init: ['begun'], flags: '-O3', sourceHash: 'ab'.repeat(32) })
    expect([hash, version]).toEqual([codeHash(ONE), 1])
    expect(await newcomer.contract(address)).toMatchObject({
      address, version: 1, deployer: author.did, strategy: 'immutable', manifest: { name: 'kept', flags: '-O3', sourceHash: 'ab'.repeat(32) },
      abi: { functions: expect.arrayContaining([expect.objectContaining({ name: 'value', mode: 'view' })]) },
    })
    expect(await text(newcomer, address, 'value')).toBe('["begun"]')
    expect((await newcomer.code(hash)).equals(ONE)).toBe(true)
    await expect(newcomer.code('00'.repeat(32))).rejects.toMatchObject({ code: 'CMESH_STATE_NO_CODE' })
  })

  test('by one key and sent by another is refused', async () => {
    const [client, other] = [await open(author), await open(operator)]
    const { encodePackage, packageManifest, signPackage } = await import('../../cmtp/package.ts')
    const bytes = encodePackage({ salt: Buffer.alloc(16, 1), strategy: 'immutable', manifest: packageManifest({ name: 'n', version: '1' }), init: Buffer.alloc(0), module: ONE })
    const body = signPackage(bytes, { purpose: 'deploy' }, author)
    expect((await other.call('0xSW:0x000:deploy', { body, throwOnError: false })).error()).toMatchObject({ code: 'CMESH_DEPLOY_SIGNATURE', status: 403 })
    expect((await client.call('0xSW:0x000:deploy', { body })).status).toBe(200)
  })
})

describe('a contract over its life', () => {
  test('is replaced with its state, not by what breaks it, copied, and known at every sequence, also after kill −9', async () => {
    let client = await open(author)
    const { address } = await client.deploy({ wasm: ONE, name: 'kept', version: '1.0.0', init: ['begun'], strategy: 'replaceable' })
    const { address: copy, target } = await client.proxy(address, { init: ['copied'] })
    expect(target).toBe(address)

    const dry = await client.dryReplace(address, { wasm: TWO, name: 'kept', version: '2.0.0', calls: [{ function: 'put', args: [1] }, { function: 'which' }] })
    expect(dry).toMatchObject({ version: 2, migrate: { status: 200 }, firstDifference: { call: 1, function: 'which', part: 'output', before: '1', after: '2' } })
    expect(await client.dryDeploy({ wasm: ONE, name: 'x', version: '1', init: ['dry'] })).toMatchObject({ init: { status: 200 } })

    await expect(client.replace(address, { wasm: BREAKING, name: 'kept', version: '3.0.0' })).rejects.toMatchObject({ code: 'CMESH_CONTRACT_TRAP' })
    expect([await text(client, address, 'which'), await text(client, address, 'value'), await text(client, copy, 'value')]).toEqual(['1', '["begun"]', '["copied"]'])
    const replaced = await client.replace(address, { wasm: TWO, name: 'kept', version: '2.0.0' })
    expect(replaced).toMatchObject({ address, version: 2, replaced: codeHash(ONE) })
    await expect((await open(KeyPair.generate())).replace(address, { wasm: TWO, name: 'kept', version: '2.0.1' })).rejects.toMatchObject({ code: 'CMESH_IAM_DENIED' })

    const told = async (): Promise<unknown> => ({
      which: [await text(client, address, 'which'), await text(client, copy, 'which')],
      values: [await text(client, address, 'value'), await text(client, copy, 'value')],
      versions: await client.versions(address),
      proxy: (await client.contract(copy)).proxyOf,
    })
    const before = await told()
    expect(before).toMatchObject({ which: ['2', '2'], values: ['["1.0.0"]', '["copied"]'], versions: [{ version: 1 }, { version: 2 }], proxy: address })
    await killed()
    client = await open(author)
    expect(await told()).toEqual(before)
    const [first, second] = await client.versions(address)
    expect(await client.versionAt(address, (second?.seq ?? 0) - 1)).toEqual(first)
    expect(await client.versionAt(address, second?.seq ?? 0)).toEqual(second)
    await expect(client.versionAt(address, (first?.seq ?? 0) - 1)).rejects.toMatchObject({ code: 'CMESH_STATE_NO_CONTRACT' })
  })
})

describe('gas', () => {
  test('stands on every reply of a view and a write, failures too', async () => {
    const client = await open(author)
    const { address } = await client.deploy({ wasm: sendingContract(), name: 'gas', version: '1' })
    for (const [fqmn, status] of [[`0xS:${address}:who`, 200], [`0xSW:${address}:note`, 200], [`0xSW:${address}:refuse`, 422], [`0xSW:${address}:spin`, 422]] as const) {
      const reply = await client.call(fqmn, { throwOnError: false })
      expect({ fqmn, status: reply.status, gas: Number(reply.header('x-cmesh-gas')) > 0 }).toEqual({ fqmn, status, gas: true })
    }
    const spun = await client.call(`0xSW:${address}:spin`, { throwOnError: false })
    expect([spun.error()?.code, spun.header('x-cmesh-gas')]).toEqual(['CMESH_CONTRACT_OUT_OF_GAS', '20000000'])
    expect(metric(await node.metrics(), 'cmesh_contract_failures_total')).toBeGreaterThanOrEqual(3)
  })

  test('of a transaction is what the log says from the next sequence on, also after kill −9', async () => {
    let client = await open(operator)
    const { address } = await client.deploy({ wasm: sendingContract(), name: 'gas', version: '2' })
    const spin = async (): Promise<string | undefined> => (await client.call(`0xSW:${address}:spin`, { throwOnError: false })).header('x-cmesh-gas')
    const { from } = (await client.call('0xSW:0x000:meter:[1,1,1234567]')).json<{ from: number }>()
    expect(await spin()).toBe('1234567')
    await killed()
    client = await open(operator)
    expect(await spin()).toBe('1234567')
    const { meter } = (await client.call('0xS:0x000')).json<{ meter: { from: number, transactionGas: number }[] }>()
    expect(meter.at(-1)).toMatchObject({ from, transactionGas: 1_234_567 })
    const large = versionedContract({ which: 1, padding: Math.ceil(1_234_567 / DEPLOY_GAS_PER_BYTE) })
    await expect(client.deploy({ wasm: large, name: 'large', version: '1' })).rejects.toMatchObject({ code: 'CMESH_CONTRACT_OUT_OF_GAS' })
    await expect((await open(author)).call('0xSW:0x000:meter:[1,1]')).rejects.toMatchObject({ code: 'CMESH_IAM_DENIED' })
    expect((await client.call('0xSW:0x000:meter:[1,1,20000000]')).status).toBe(200)
    await client.deploy({ wasm: large, name: 'large', version: '1' })
  })
})

describe('what a contract sends', () => {
  test('is answered, and may be about anything that anybody may read', async () => {
    const client = await open(author)
    const { address } = await client.deploy({ wasm: sendingContract({ ask: { fqmn: '0xS:0x001:hello_world:["you"]', reply: 'heard' } }), name: 'asks', version: '1' })
    await client.call(`0xSW:${address}:ask`)
    await until('the answer is heard', async () => await text(client, address, 'last') !== '')
    expect(JSON.parse(await text(client, address, 'last'))).toEqual([expect.stringMatching(/^\d+\.[0-9a-f]{32}\.0$/), 200, '"Hello, you"'])
  })

  test('is done once, whenever the node is killed in between', async () => {
    let client = await open(author)
    const module = sendingContract({ many: { fqmn: '0xSW:0x002:increment:[1]', reply: 'heard', gas: 500_000, times: 16 } })
    const { address } = await client.deploy({ wasm: module, name: 'many', version: '1' })
    const counted = async (): Promise<number> => (await client.call('0xS:0x002:get')).json<number>()
    for (let round = 0; round < 3; round++) {
      const before = await counted()
      const calls = await Promise.all(Array.from({ length: 3 }, () => client.call(`0xSW:${address}:many`)))
      expect(calls.map(call => call.status)).toEqual([200, 200, 200])
      await killed()
      client = await open(author)
      await until('nothing is under way', async () => metric(await node.metrics(), 'cmesh_contract_messages_pending') === 0)
      // One by the self-test of the boot.
      expect(await counted()).toBe(before + 3 * 16 + 1)
    }
  }, 60_000)
})

test('a mesh whose operator replaced what it was born with starts again, and answers by that', async () => {
  const client = await open(operator)
  for (const address of ['0x001', '0x002']) await client.replace(address, { wasm: TWO, name: 'other', version: '2' })
  await killed()
  expect(await text(await open(operator), '0x001', 'which')).toBe('2')
})

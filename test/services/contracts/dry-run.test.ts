import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { codeHash, contractAddress } from '../../../cmtp/package.ts'
import { parseGrants } from '../../../services/iam/grants.ts'
import { DEPLOY_GAS_PER_BYTE } from '../../../services/contracts/deployments.ts'
import { Overlay } from '../../../services/contracts/overlay.ts'
import { contentOf } from '../../support/blocks.ts'
import { abiText, contractModule } from '../../support/contract-module.ts'
import { startMesh, type Answer, type TestMesh } from '../../support/mesh.ts'
import { deploymentOf, packageOf, replacementOf } from '../../support/replica.ts'
import { versionedContract } from '../../support/versioned-contracts.ts'

const DEPLOYER = KeyPair.generate()
const ONE = versionedContract({ which: 1 })
const TWO = versionedContract({ which: 2 })
const MIGRATING = versionedContract({ which: 3, migrate: 'keeps' })
const BREAKING = versionedContract({ which: 4, migrate: 'fails' })

let mesh: TestMesh
let deployer: Session
let address: string
beforeAll(async () => {
  mesh = await startMesh()
  mesh.grants.set(DEPLOYER.did, parseGrants(`${DEPLOYER.did}=newcomer|deploy 0xSW:0x000:deploy|replace 0xSW:0x000:replace|write 0xSW:>`).get(DEPLOYER.did) ?? [])
  deployer = await mesh.open({ identity: DEPLOYER })
  const { value } = await mesh.ask(deployer, '0xSW:0x000:deploy', { body: deploymentOf(ONE, {}, DEPLOYER) })
  address = (value as { address: string }).address
  await mesh.ask(deployer, `0xSW:${address}:put`, { body: '"kept"' })
})
afterAll(() => mesh.stop())

/** Asks, and holds it to leave nothing behind: no block, no key, and the old code in its place. */
async function tried(fqmn: string, body: object, session = deployer): Promise<Answer> {
  const [head, content] = [mesh.state.head, contentOf(mesh.store)]
  const answer = await mesh.ask(session, fqmn, { body: JSON.stringify(body) })
  expect(mesh.state.head).toBe(head)
  expect(contentOf(mesh.store)).toEqual(content)
  expect((await mesh.ask(deployer, `0xS:${address}:which`)).value).toBe(1)
  expect((await mesh.ask(deployer, `0xS:${address}:value`)).value).toBe('kept')
  return answer
}
const base64 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64')
const replacing = (module: Uint8Array, more: object = {}, session = deployer): Promise<Answer> =>
  tried(`0xS:0x000:dryrun:["replace","${address}"]`, { package: base64(packageOf(module)), ...more }, session)

describe('a replacement that is tried out', () => {
  test('says what it would be, what migrate would do, and where calls would end otherwise', async () => {
    const { status, value } = await replacing(MIGRATING, { calls: [{ function: 'value' }, { function: 'put', args: [7] }, { function: 'value' }, { function: 'which' }] })
    expect(status).toBe(200)
    const kept = (what: string): object => ({ space: address, key: 'v', value: what })
    expect(value).toMatchObject({
      address, version: 2, codeHash: codeHash(MIGRATING), deployGas: (packageOf(MIGRATING).length + 64) * DEPLOY_GAS_PER_BYTE,
      report: { bytes: MIGRATING.length, functions: expect.any(Number), imports: expect.arrayContaining(['cmesh.set']) },
      migrate: { status: 200, gas: expect.any(Number), writes: [kept('["1.0.0"]')], events: [{ contract: address, topic: 'v', data: 'v' }], messages: [] },
      calls: [
        { function: 'value', same: false, before: { status: 200, output: '"kept"' }, after: { status: 200, output: '["1.0.0"]' } },
        { function: 'put', args: [7], same: true, before: { writes: [kept('[7]')] }, after: { writes: [kept('[7]')] } },
        { function: 'value', same: true, before: { output: '[7]' }, after: { output: '[7]' } },
        { function: 'which', same: false, before: { output: '1' }, after: { output: '3' } },
      ],
      firstDifference: { call: 0, function: 'value', args: [], part: 'output', before: '"kept"', after: '["1.0.0"]' },
    })
  })

  test('whose calls end the same has no difference, whatever its gas', async () => {
    const { value } = await replacing(TWO, { calls: [{ function: 'value' }, { function: 'put', args: ['x'], caller: 'did:key:zSomebody' }] })
    expect(value).toMatchObject({ migrate: null, firstDifference: null, calls: [{ same: true }, { same: true }] })
  })

  test('whose migrate fails says how', async () => {
    expect((await replacing(BREAKING)).value).toMatchObject({ migrate: { status: 422, output: { code: 'CMESH_CONTRACT_TRAP' }, writes: [] }, calls: [], firstDifference: null })
  })

  test('tells of a function that one of the two does not have', async () => {
    const without = contractModule('(func (export "call_which"))', { abi: abiText([{ name: 'which' }]) })
    expect((await replacing(without, { calls: [{ function: 'value' }] })).value).toMatchObject({
      firstDifference: { call: 0, part: 'status', before: 200, after: 404 }, calls: [{ after: { output: { code: 'CMESH_STATE_NO_FUNCTION' } } }],
    })
  })

  test('may come with its signature', async () => {
    const body = { package: base64(replacementOf(address, 2, TWO, {}, DEPLOYER)) }
    expect(await tried(`0xS:0x000:dryrun:["replace","${address}"]`, body)).toMatchObject({ status: 200, value: { version: 2 } })
  })

  test.each<[string, () => Promise<Answer>, number, string]>([
    ['by a newcomer', async () => replacing(TWO, {}, await mesh.open()), 403, 'CMESH_IAM_DENIED'],
    ['of somebody else\'s contract', async () => tried('0xS:0x000:dryrun:["replace","0x001"]', { package: base64(packageOf(TWO)) }), 403, 'CMESH_DEPLOY_OWNER'],
    ['of what is not there', async () => tried('0xS:0x000:dryrun:["replace","0xfff"]', { package: base64(packageOf(TWO)) }), 404, 'CMESH_STATE_NO_CONTRACT'],
    ['by a module that is none', async () => replacing(Buffer.from('no module')), 400, 'CMESH_DEPLOY_MAGIC'],
    ['without a package', async () => tried(`0xS:0x000:dryrun:["replace","${address}"]`, {}), 400, 'CMESH_DEPLOY_MALFORMED'],
    ['with noise for a package', async () => tried(`0xS:0x000:dryrun:["replace","${address}"]`, { package: 'noise' }), 400, 'CMESH_DEPLOY_MALFORMED'],
    ['with calls that are no list', async () => replacing(TWO, { calls: 7 }), 422, 'CMESH_CONTRACT_REVERT'],
    ['with too many calls', async () => replacing(TWO, { calls: Array.from({ length: 65 }, () => ({ function: 'value' })) }), 422, 'CMESH_CONTRACT_REVERT'],
    ['with a call of nothing', async () => replacing(TWO, { calls: [{}] }), 422, 'CMESH_CONTRACT_REVERT'],
    ['without saying of what', async () => tried('0xS:0x000:dryrun:["replace"]', { package: base64(packageOf(TWO)) }), 422, 'CMESH_CONTRACT_REVERT'],
    ['of anything else', async () => tried('0xS:0x000:dryrun:["proxy"]', {}), 422, 'CMESH_CONTRACT_REVERT'],
  ])('%s is refused', async (_what, ask, status, code) => {
    expect(await ask()).toMatchObject({ status, code })
  })
})

describe('a deployment that is tried out', () => {
  const deploying = (bytes: Uint8Array, session = deployer): Promise<Answer> => tried('0xS:0x000:dryrun:["deploy"]', { package: base64(bytes) }, session)

  test('says where it would stand and what init would do', async () => {
    const bytes = packageOf(versionedContract({ which: 1, init: 'keeps' }), { init: Buffer.from('["begun"]') })
    const would = contractAddress(bytes, DEPLOYER.did)
    expect((await deploying(bytes)).value).toMatchObject({
      address: would, deployGas: (bytes.length + 64) * DEPLOY_GAS_PER_BYTE, init: { status: 200, writes: [{ space: would, key: 'v', value: '["begun"]' }] },
    })
    expect(mesh.engine.has(would)).toBe(false)
  })

  test('without init, or with one that fails', async () => {
    expect((await deploying(packageOf(TWO))).value).toMatchObject({ init: null })
    expect((await deploying(packageOf(versionedContract({ which: 1, init: 'fails' })))).value).toMatchObject({ init: { status: 422, output: { code: 'CMESH_CONTRACT_TRAP' } } })
  })

  test.each<[string, () => Promise<Answer>, number, string]>([
    ['by a newcomer', async () => deploying(packageOf(TWO), await mesh.open()), 403, 'CMESH_IAM_DENIED'],
    ['of what stands already', async () => deploying(packageOf(ONE)), 409, 'CMESH_DEPLOY_EXISTS'],
    ['for another meter', async () => deploying(packageOf(TWO, { manifest: { meter: 7 } })), 409, 'CMESH_DEPLOY_METER'],
    ['with init arguments for nothing', async () => deploying(packageOf(TWO, { init: Buffer.from('[1]') })), 400, 'CMESH_DEPLOY_MALFORMED'],
  ])('%s is refused', async (_what, ask, status, code) => {
    expect(await ask()).toMatchObject({ status, code })
  })
})

describe('a space over another', () => {
  test('is what a copy of it would be, and leaves it as it was', () => {
    const value = (text: string): Uint8Array => Buffer.from(text)
    const below = new Map([['a', value('1')], ['b', value('2')], ['c', value('3')]])
    const copy = new Map(below)
    const overlay = new Overlay(below)
    for (const space of [copy, overlay]) {
      space.set('b', value('20'))
      space.set('d', value('4'))
      expect([space.delete('c'), space.delete('x'), space.delete('d')]).toEqual([true, false, true])
      space.set('d', value('5'))
      space.delete('a')
      space.set('a', value('6'))
    }
    const sorted = (space: Map<string, Uint8Array>): string => JSON.stringify([...space].sort(([x], [y]) => (x < y ? -1 : 1)))
    expect(sorted(overlay)).toBe(sorted(copy))
    expect([overlay.size, overlay.get('c'), overlay.has('c'), overlay.has('a')]).toEqual([3, undefined, false, true])
    expect([...overlay.keys()].sort()).toEqual(['a', 'b', 'd'])
    expect([...overlay.values()].map(bytes => Buffer.from(bytes).toString()).sort()).toEqual(['20', '5', '6'])
    const seen: string[] = []
    overlay.forEach((_, key) => { seen.push(key) })
    expect(seen.sort()).toEqual(['a', 'b', 'd'])
    overlay.apply('here', [{ space: 'here', key: 'a', value: undefined }, { space: 'there', key: 'b', value: undefined }, { space: 'here', key: 'e', value: value('7') }])
    expect([...overlay.keys()].sort()).toEqual(['b', 'd', 'e'])
    expect([...below.keys()]).toEqual(['a', 'b', 'c'])
  })
})

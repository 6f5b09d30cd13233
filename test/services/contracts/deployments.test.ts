import type { Space } from '../../../services/state/provider.ts'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { codeHash, contractAddress, proxyAddress, signPackage, signProxy } from '../../../cmtp/package.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import { DEPLOY_GAS_PER_BYTE } from '../../../services/contracts/deployments.ts'
import { contractHistory, contractRecord, moduleOf, versionAt } from '../../../services/contracts/records.ts'
import type { TransactionRecord } from '../../../services/state/provider.ts'
import { contentOf } from '../../support/blocks.ts'
import { contractModule } from '../../support/contract-module.ts'
import { refusal } from '../../support/refusal.ts'
import {
  batchOf, deploymentOf, genesisTransaction, METER, OPERATOR, outputOf, packageOf, replacementOf, replica, transactionOf, type Replica,
} from '../../support/replica.ts'
import { versionedContract } from '../../support/versioned-contracts.ts'

const DEPLOYER = KeyPair.generate()
const STRANGER = KeyPair.generate()
const ONE = versionedContract({ which: 1 })
const TWO = versionedContract({ which: 2 })
const MIGRATING = versionedContract({ which: 3, migrate: 'keeps' })
const BREAKING = versionedContract({ which: 4, migrate: 'fails' })

const SALT = '07'.repeat(16)

let made: Replica
beforeEach(async () => {
  made = await replica()
  made.next(batchOf([genesisTransaction()]))
})

/** The record of one transaction in a block of its own. */
function done(fqmn: string, by: KeyPair, body: Uint8Array = Buffer.alloc(0), to = made): TransactionRecord {
  return to.next(batchOf([transactionOf(fqmn, { sub: by.did, body })]))[0] as TransactionRecord
}

function deployed(module: Uint8Array, facts: Parameters<typeof packageOf>[1] = {}, by = DEPLOYER): string {
  const record = done('0xSW:0x000:deploy', by, deploymentOf(module, facts, by))
  expect(outputOf(record)).toMatchObject({ codeHash: codeHash(module), version: 1 })
  return (outputOf(record) as { address: string }).address
}

/** What a view gives, asked of the engine itself. */
function view(address: string, name: string, of = made): string {
  const context = { seq: 1, timeMs: 1, caller: 'x', origin: 'x', seed: Buffer.alloc(32) }
  const result = of.engine.call({ address, function: name, input: Buffer.alloc(0), view: true, gasLimit: 1_000_000, context })
  return result.ok ? Buffer.from(result.output).toString() : result.failure
}

const system = (): Space => made.store.space('0x000')
const whole = (): object => ({ content: contentOf(made.store), heads: [...system().keys()].length })

describe('a deployment', () => {
  test('by whoever signed it stands at the address of package and deployer, with its record, its version and its code', () => {
    const address = deployed(ONE, { manifest: { sourceHash: 'ab'.repeat(32) } })
    expect(address).toBe(contractAddress(packageOf(ONE, { manifest: { sourceHash: 'ab'.repeat(32) } }), DEPLOYER.did))
    const record = contractRecord(system(), address)
    expect(record).toMatchObject({ address, version: 1, codeHash: codeHash(ONE), deployer: DEPLOYER.did, strategy: 'replaceable', seq: 2, manifest: { name: 'made', sourceHash: 'ab'.repeat(32) } })
    expect(Buffer.from(moduleOf(system(), record.codeHash)).equals(ONE)).toBe(true)
    expect(view(address, 'which')).toBe('1')
  })

  test('of one module twice keeps its bytes once', () => {
    const [first, second] = [deployed(ONE), deployed(ONE, { salt: Buffer.alloc(16, 1) })]
    expect(first).not.toBe(second)
    expect([...system().keys()].filter(key => key.startsWith('code/'))).toEqual([`code/${codeHash(ONE)}`])
  })

  test.each<[string, () => Uint8Array, string, RegExp]>([
    ['nothing', () => Buffer.alloc(0), 'CMESH_DEPLOY_MALFORMED', /does not start with "CMPK"/],
    ['a package without a signature', () => packageOf(ONE), 'CMESH_DEPLOY_MALFORMED', /^The package is not valid: /],
    ['a package signed by somebody else', () => deploymentOf(ONE, {}, STRANGER), 'CMESH_DEPLOY_SIGNATURE', /^The package is not signed by who deploys it: its signature is not its deployer's over this package, to deploy it\.$/],
    ['a package signed to replace', () => replacementOf(`0x${'ab'.repeat(32)}`, 1, ONE, {}, DEPLOYER), 'CMESH_DEPLOY_SIGNATURE', /to deploy it/],
    ['a module that is none', () => deploymentOf(Buffer.from('no module'), {}, DEPLOYER), 'CMESH_DEPLOY_MAGIC', /./],
    ['init arguments for a contract without init', () => deploymentOf(ONE, { init: Buffer.from('[1]') }, DEPLOYER), 'CMESH_DEPLOY_MALFORMED', /it has init arguments but the contract has no init function/],
    ['a package for another meter', () => deploymentOf(ONE, { manifest: { meter: 9 } }, DEPLOYER), 'CMESH_DEPLOY_METER', /^Gas is asked to be counted by the package for meter 9 and schedule 0; here it is counted by meter 1 and schedule 1\.$/],
    ['a contract whose init fails', () => deploymentOf(versionedContract({ which: 1, init: 'fails' }), {}, DEPLOYER), 'CMESH_CONTRACT_TRAP', /./],
  ])('of %s is refused, charged for its bytes, and changes nothing', (_what, body, code, message) => {
    const before = whole()
    const bytes = body()
    const record = done('0xSW:0x000:deploy', DEPLOYER, bytes)
    expect(outputOf(record)).toMatchObject({ code, message: expect.stringMatching(message) })
    expect(record).toMatchObject({ writes: [], events: [] })
    expect(record.gas).toBeGreaterThanOrEqual(BigInt(bytes.length * DEPLOY_GAS_PER_BYTE))
    expect(whole()).toEqual(before)
    expect(made.halts).toEqual([])
  })

  test('of the same package again is refused, and the first stands', () => {
    const address = deployed(ONE)
    expect(outputOf(done('0xSW:0x000:deploy', DEPLOYER, deploymentOf(ONE, {}, DEPLOYER)))).toMatchObject({ code: 'CMESH_DEPLOY_EXISTS', message: `The contract ${address} is deployed already.` })
    expect(view(address, 'which')).toBe('1')
  })

  test('that costs more than a transaction may use is refused before anybody looks at it', async () => {
    made = await replica()
    made.next(batchOf([genesisTransaction({}, { meter: { ...METER, transactionGas: 100_000 } })]))
    const body = deploymentOf(versionedContract({ which: 1, padding: 4_000 }), {}, DEPLOYER)
    expect(outputOf(done('0xSW:0x000:deploy', DEPLOYER, body))).toMatchObject({ code: 'CMESH_CONTRACT_OUT_OF_GAS', message: expect.stringContaining(`${body.length} bytes cost ${body.length * DEPLOY_GAS_PER_BYTE}`) })
  })

  test('runs init with its arguments, as its deployer, under what gas is left', () => {
    const address = deployed(versionedContract({ which: 1, init: 'keeps' }), { init: Buffer.from('["begun"]') })
    expect(view(address, 'value')).toBe('["begun"]')
    expect(made.applied.at(-1)?.transactions[0]?.events).toMatchObject([{ contract: address, topic: 'v' }])
  })
})

describe('a replacement', () => {
  let address: string
  beforeEach(() => {
    address = deployed(ONE)
    done(`0xSW:${address}:put`, STRANGER, Buffer.from('"kept"'))
  })

  const replace = (module: Uint8Array, version = 2, by = DEPLOYER, facts: Parameters<typeof packageOf>[1] = {}): TransactionRecord =>
    done(`0xSW:0x000:replace:["${address}"]`, by, replacementOf(address, version, module, facts, by))

  test('keeps address, state and deployer, and is the next version', () => {
    expect(outputOf(replace(TWO))).toEqual({ address, codeHash: codeHash(TWO), name: 'made', version: 2, replaced: codeHash(ONE) })
    expect([view(address, 'which'), view(address, 'value')]).toEqual(['2', '"kept"'])
    expect(contractRecord(system(), address)).toMatchObject({ version: 2, codeHash: codeHash(TWO), deployer: DEPLOYER.did, seq: 2 })
  })

  test('runs migrate with the version it comes from, in the same transaction', () => {
    const record = replace(MIGRATING, 2, DEPLOYER, { manifest: { version: '2.0.0' } })
    expect(outputOf(record)).toMatchObject({ version: 2 })
    expect(record.events).toMatchObject([{ contract: address, topic: 'v' }])
    expect([view(address, 'which'), view(address, 'value')]).toEqual(['3', '["1.0.0"]'])
  })

  test('may be the operator\'s', () => {
    expect(outputOf(replace(TWO, 2, OPERATOR))).toMatchObject({ version: 2 })
    expect(contractRecord(system(), address)).toMatchObject({ deployer: DEPLOYER.did })
    expect(contractHistory(system(), address).map(({ deployer }) => deployer)).toEqual([DEPLOYER.did, OPERATOR.did])
  })

  test.each<[string, () => TransactionRecord, string, RegExp]>([
    ['by a stranger', () => replace(TWO, 2, STRANGER), 'CMESH_DEPLOY_OWNER', /is not yours to replace: its deployer and the operator may\.$/],
    ['signed to deploy', () => done(`0xSW:0x000:replace:["${address}"]`, DEPLOYER, deploymentOf(TWO, {}, DEPLOYER)), 'CMESH_DEPLOY_SIGNATURE', /as version 2 of 0x/],
    ['signed for another version', () => replace(TWO, 3), 'CMESH_DEPLOY_SIGNATURE', /as version 2 of 0x/],
    ['signed for another contract', () => done(`0xSW:0x000:replace:["${address}"]`, DEPLOYER, signPackage(packageOf(TWO), { purpose: 'replace', target: `0x${'00'.repeat(32)}`, version: 2 }, DEPLOYER)), 'CMESH_DEPLOY_SIGNATURE', /as version 2 of 0x/],
    ['with init arguments', () => replace(TWO, 2, DEPLOYER, { init: Buffer.from('[]') }), 'CMESH_DEPLOY_MALFORMED', /a replacement does not begin anew/],
    ['by a module that is none', () => replace(Buffer.from('no module')), 'CMESH_DEPLOY_MAGIC', /./],
    ['for another schedule', () => replace(TWO, 2, DEPLOYER, { manifest: { schedule: 7 } }), 'CMESH_DEPLOY_METER', /schedule 7/],
    ['whose migrate fails', () => replace(BREAKING), 'CMESH_CONTRACT_TRAP', /unreachable/],
    ['of what is not there', () => done('0xSW:0x000:replace:["0xfff"]', DEPLOYER, replacementOf('0xfff', 2, TWO, {}, DEPLOYER)), 'CMESH_STATE_NO_CONTRACT', /There is no contract 0xfff\./],
    ['of the system contract', () => done('0xSW:0x000:replace:["0x000"]', OPERATOR, replacementOf('0x000', 2, TWO)), 'CMESH_CONTRACT_REVERT', /replace takes \["<address>"\]/],
    ['without an address', () => done('0xSW:0x000:replace', OPERATOR, replacementOf('0x000', 2, TWO)), 'CMESH_CONTRACT_REVERT', /replace takes/],
    ['with an address too many', () => done(`0xSW:0x000:replace:["${address}",1]`, DEPLOYER, replacementOf(address, 2, TWO, {}, DEPLOYER)), 'CMESH_CONTRACT_REVERT', /replace takes/],
  ])('%s changes nothing: the old code runs on the old state', (_what, act, code, message) => {
    const before = whole()
    const record = act()
    expect(outputOf(record)).toMatchObject({ code, message: expect.stringMatching(message) })
    expect(record).toMatchObject({ writes: [], events: [] })
    expect(whole()).toEqual(before)
    expect([view(address, 'which'), view(address, 'value')]).toEqual(['1', '"kept"'])
    expect(outputOf(replace(TWO))).toMatchObject({ version: 2 })
  })

  test('turns away what is called for the code before, at the contract and at its proxies, and nothing else', () => {
    const proxy = (outputOf(done(`0xSW:0x000:proxy:["${address}","${SALT}"]`, STRANGER, signProxy({ target: address, salt: SALT, init: '' }, STRANGER))) as { address: string }).address
    const put = (at: string, code: Uint8Array | undefined): TransactionRecord => {
      const condition = code && { condition: Buffer.from(codeHash(code), 'hex') }
      return made.next(batchOf([transactionOf(`0xSW:${at}:put`, { body: Buffer.from('["new"]'), ...condition })]))[0] as TransactionRecord
    }
    expect([put(address, ONE), put(proxy, ONE), put(address, undefined)].map(({ status }) => status)).toEqual([200, 200, 200])
    replace(TWO)
    const before = whole()
    for (const at of [address, proxy]) {
      const record = put(at, ONE)
      expect(record).toMatchObject({ status: 412, gas: 0n, writes: [], events: [] })
      expect(outputOf(record)).toMatchObject({
        code: 'CMESH_STATE_IF_MATCH',
        message: `The contract ${at} runs the code ${codeHash(TWO)}, and the call is for ${codeHash(ONE)} (if-match). Nothing was done. Look at what changed (cmesh contract inspect), and call again for the code that it runs.`,
      })
    }
    expect(whole()).toEqual(before)
    expect([put(address, TWO), put(proxy, TWO), put(address, undefined)].map(({ status }) => status)).toEqual([200, 200, 200])
    expect(made.halts).toEqual([])
  })

  test('cannot be played again over a later one', () => {
    const body = replacementOf(address, 2, TWO, {}, DEPLOYER)
    expect(done(`0xSW:0x000:replace:["${address}"]`, DEPLOYER, body).status).toBe(200)
    expect(outputOf(replace(ONE, 3))).toMatchObject({ version: 3 })
    expect(outputOf(done(`0xSW:0x000:replace:["${address}"]`, DEPLOYER, body))).toMatchObject({ code: 'CMESH_DEPLOY_SIGNATURE' })
    expect(view(address, 'which')).toBe('1')
  })

  test('by immutable code is the last', () => {
    expect(replace(TWO, 2, DEPLOYER, { strategy: 'immutable' }).status).toBe(200)
    expect(outputOf(replace(ONE, 3))).toMatchObject({ code: 'CMESH_DEPLOY_IMMUTABLE', message: `The contract ${address} cannot be replaced: it was deployed as immutable.` })
    expect(view(address, 'which')).toBe('2')
  })

  test('leaves a history: what was in force at any sequence, and its code', () => {
    for (const [module, version] of [[TWO, 2], [MIGRATING, 3], [TWO, 4]] as const) replace(module, version)
    const history = contractHistory(system(), address)
    expect(history.map(({ version, codeHash: hash, seq }) => [version, hash, seq])).toEqual([
      [1, codeHash(ONE), 2], [2, codeHash(TWO), 4], [3, codeHash(MIGRATING), 5], [4, codeHash(TWO), 6],
    ])
    expect([1, 2, 3, 4, 5, 6, 99].map(seq => versionAt(system(), address, seq)?.version)).toEqual([undefined, 1, 1, 2, 3, 4, 4])
    for (const { codeHash: hash } of history) expect(codeHash(moduleOf(system(), hash))).toBe(hash)
  })
})

describe('a proxy', () => {
  let target: string
  beforeEach(() => { target = deployed(versionedContract({ which: 1, init: 'keeps' }), { init: Buffer.from('["first"]') }) })

  const proxy = (by = STRANGER, { of = target, salt = SALT, init = '["second"]' } = {}, body = signProxy({ target: of, salt, init }, by)): TransactionRecord =>
    done(`0xSW:0x000:proxy:["${of}","${salt}"${init === '' ? '' : `,${init}`}]`, by, body)

  test('runs the code of its target on a state of its own, which its own init begins', () => {
    const address = proxyAddress(target, SALT, STRANGER.did)
    expect(outputOf(proxy())).toMatchObject({ address, target })
    expect([view(address, 'value'), view(target, 'value')]).toEqual(['["second"]', '["first"]'])
    done(`0xSW:${address}:put`, STRANGER, Buffer.from('"own"'))
    expect([view(address, 'value'), view(target, 'value')]).toEqual(['"own"', '["first"]'])
    expect(contractRecord(system(), address)).toMatchObject({ address, proxyOf: target, deployer: STRANGER.did, version: 1, seq: 3 })
  })

  test('follows the replacements of its target, and is not replaced itself', () => {
    const address = (outputOf(proxy()) as { address: string }).address
    done(`0xSW:0x000:replace:["${target}"]`, DEPLOYER, replacementOf(target, 2, TWO, {}, DEPLOYER))
    expect([view(address, 'which'), view(address, 'value')]).toEqual(['2', '["second"]'])
    expect(contractRecord(system(), address)).toMatchObject({ version: 2, codeHash: codeHash(TWO) })
    expect(versionAt(system(), address, 2)).toBeUndefined()
    expect([3, 4].map(seq => versionAt(system(), address, seq)?.version)).toEqual([1, 2])
    expect(outputOf(done(`0xSW:0x000:replace:["${address}"]`, STRANGER, replacementOf(address, 2, TWO, {}, STRANGER)))).toMatchObject({
      code: 'CMESH_DEPLOY_IMMUTABLE', message: `The contract ${address} cannot be replaced: it is a proxy and runs the code of ${target}.`,
    })
  })

  test('of a proxy runs the code of the first', () => {
    const first = (outputOf(proxy()) as { address: string }).address
    const second = (outputOf(proxy(STRANGER, { of: first })) as { address: string }).address
    expect(contractRecord(system(), second)).toMatchObject({ proxyOf: target })
    expect(view(second, 'value')).toBe('["second"]')
  })

  test.each<[string, () => TransactionRecord, string]>([
    ['signed by nobody', () => proxy(STRANGER, {}, Buffer.alloc(64)), 'CMESH_DEPLOY_SIGNATURE'],
    ['signed by somebody else', () => proxy(STRANGER, {}, signProxy({ target, salt: SALT, init: '["second"]' }, DEPLOYER)), 'CMESH_DEPLOY_SIGNATURE'],
    ['signed for other arguments', () => proxy(STRANGER, {}, signProxy({ target, salt: SALT, init: '["third"]' }, STRANGER)), 'CMESH_DEPLOY_SIGNATURE'],
    ['of what is not there', () => proxy(STRANGER, { of: '0xfff' }), 'CMESH_STATE_NO_CONTRACT'],
    ['with a salt that is short', () => proxy(STRANGER, { salt: '07' }), 'CMESH_CONTRACT_REVERT'],
  ])('%s is refused and changes nothing', (_what, act, code) => {
    const before = whole()
    expect(outputOf(act())).toMatchObject({ code })
    expect(whole()).toEqual(before)
  })

  test('with the same salt again is refused', () => {
    const address = (outputOf(proxy()) as { address: string }).address
    expect(outputOf(proxy())).toMatchObject({ code: 'CMESH_DEPLOY_EXISTS', detail: { contract: address } })
    expect(view(address, 'value')).toBe('["second"]')
  })

  test('whose init fails is not there', () => {
    const failing = deployed(versionedContract({ which: 5 }))
    done(`0xSW:0x000:replace:["${failing}"]`, DEPLOYER, replacementOf(failing, 2, versionedContract({ which: 6, init: 'fails' }), {}, DEPLOYER))
    const before = whole()
    const record = proxy(STRANGER, { of: failing })
    expect(outputOf(record)).toMatchObject({ code: 'CMESH_CONTRACT_TRAP' })
    expect(whole()).toEqual(before)
    expect(made.engine.has(proxyAddress(failing, SALT, STRANGER.did))).toBe(false)
  })
})

describe('a replica that reads its log back', () => {
  let dir: string
  beforeAll(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-deployments-')) })
  afterAll(() => rm(dir, { recursive: true, force: true }))

  test('runs what stood last, proxies included, without running any of it on the way', async () => {
    made = await replica({ store: new HypercoreStateStore({ dir }) })
    made.next(batchOf([genesisTransaction()]))
    const target = deployed(ONE)
    const failed = deployed(TWO, { salt: Buffer.alloc(16, 9) })
    const salt = '01'.repeat(16)
    const proxied = outputOf(done(`0xSW:0x000:proxy:["${target}","${salt}"]`, STRANGER, signProxy({ target, salt, init: '' }, STRANGER))) as { address: string }
    done(`0xSW:${proxied.address}:put`, STRANGER, Buffer.from('"proxied"'))
    done(`0xSW:0x000:replace:["${target}"]`, DEPLOYER, replacementOf(target, 2, MIGRATING, {}, DEPLOYER))
    done(`0xSW:0x000:replace:["${failed}"]`, DEPLOYER, replacementOf(failed, 2, BREAKING, {}, DEPLOYER))
    const look = (of: Replica): object => [target, failed, proxied.address].map(address => [view(address, 'which', of), view(address, 'value', of), of.engine.abi(address)])
    const before = look(made)
    const { chain } = made.store.head
    await made.store.close()
    made.engine.close()

    const again = await replica({ store: new HypercoreStateStore({ dir }) })
    expect(look(again)).toEqual(before)
    expect(Buffer.from(again.store.head.chain)).toEqual(Buffer.from(chain))
    expect(outputOf(done(`0xSW:0x000:replace:["${target}"]`, DEPLOYER, replacementOf(target, 3, TWO, {}, DEPLOYER), again))).toMatchObject({ version: 3 })
    expect([view(target, 'which', again), view(proxied.address, 'which', again)]).toEqual(['2', '2'])
    await again.store.close()
  })

  test('does not know a module that nobody deployed', () => {
    expect(refusal(() => moduleOf(new Map(), 'ab'.repeat(32)))).toMatchObject({ code: 'CMESH_STATE_NO_CODE', message: `There is no code with the hash ${'ab'.repeat(32)}.` })
  })

  test('refuses a module without functions as any engine does', () => {
    expect(outputOf(done('0xSW:0x000:deploy', DEPLOYER, deploymentOf(contractModule('(func (export "other"))', { abi: undefined }), {}, DEPLOYER)))).toMatchObject({ code: expect.stringMatching(/^CMESH_DEPLOY_/) })
  })
})

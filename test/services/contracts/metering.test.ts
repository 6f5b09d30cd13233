import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { createHash } from 'node:crypto'
import { METERS, type Meter } from '../../../providers/contracts/meter/index.ts'
import { WasmEngine } from '../../../providers/contracts/wasm.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import { changeMeter, meterChanges, Metering } from '../../../services/contracts/metering.ts'
import type { TransactionRecord } from '../../../services/state/provider.ts'
import { Recorder } from '../../../services/state/transaction.ts'
import { contractModule } from '../../support/contract-module.ts'
import { failureOf } from '../../support/iam.ts'
import { startMesh } from '../../support/mesh.ts'
import { refusal } from '../../support/refusal.ts'
import { batchOf, deploymentOf, genesisTransaction, MEMBER, METER, outputOf, replica, replacementOf, transactionOf, type Replica } from '../../support/replica.ts'
import { versionedContract } from '../../support/versioned-contracts.ts'

const [FIRST] = METERS as readonly [Meter]
/** The same costs, and entering a contract costs a million more. */
const DEARER: Meter = {
  meter: 1, schedule: 2, costs: { ...FIRST.costs, version: 2, contract: { ...FIRST.costs.contract, base: FIRST.costs.contract.base + 1_000_000 } },
}
const BOTH = [FIRST, DEARER]
const CODE = versionedContract({ which: 1 })

let made: Replica
beforeEach(async () => {
  made = await replica({ engine: new WasmEngine({ meters: BOTH }) })
  made.next(batchOf([genesisTransaction({ '0x0aa': CODE })]))
})

const put = (fields: Parameters<typeof transactionOf>[1] = {}): ReturnType<typeof transactionOf> => transactionOf('0xSW:0x0aa:put', { body: Buffer.from('1'), ...fields })
const meter = (args: string, fields: Parameters<typeof transactionOf>[1] = {}): ReturnType<typeof transactionOf> => transactionOf(`0xSW:0x000:meter:${args}`, fields)
const gasOf = (record: TransactionRecord | undefined): number => Number(record?.gas)

describe('a change of the meter', () => {
  test('is in force from the block behind the one that holds it, for every contract', () => {
    const [before] = made.next(batchOf([put()]))
    const [inside, change, after] = made.next(batchOf([put(), meter('[1,2]'), put()]))
    expect(outputOf(change)).toEqual({ from: 4, meter: 1, schedule: 2, transactionGas: METER.transactionGas })
    const [behind] = made.next(batchOf([put()]))
    expect([gasOf(inside), gasOf(after)]).toEqual([gasOf(before), gasOf(before)])
    expect(gasOf(behind)).toBe(gasOf(before) + 1_000_000)
    expect(made.engine.meter).toEqual(expect.objectContaining({ meter: 1, schedule: 2 }))
    expect(meterChanges(made.store.space('0x000'))).toEqual([
      { from: 1, ...METER }, { from: 4, meter: 1, schedule: 2, transactionGas: METER.transactionGas },
    ])
  })

  test('may change what a transaction may use, and back again', () => {
    made.next(batchOf([meter('[1,1,10000]')]))
    expect(outputOf(made.next(batchOf([transactionOf('0xSW:0x000:deploy', { body: deploymentOf(CODE) })]))[0])).toMatchObject({ code: 'CMESH_CONTRACT_OUT_OF_GAS' })
    made.next(batchOf([meter('[1,1,20000000]')]))
    expect(made.next(batchOf([transactionOf('0xSW:0x000:deploy', { body: deploymentOf(CODE) })]))[0]).toMatchObject({ status: 200 })
  })

  test('a second one in the same block takes the place of the first', () => {
    made.next(batchOf([meter('[1,2]'), meter('[1,1,777]')]))
    expect(meterChanges(made.store.space('0x000')).slice(1)).toEqual([{ from: 3, meter: 1, schedule: 1, transactionGas: 777 }])
  })

  test('decides which packages are taken', () => {
    made.next(batchOf([meter('[1,2]')]))
    const asked = (schedule: number): TransactionRecord | undefined =>
      made.next(batchOf([transactionOf('0xSW:0x000:deploy', { body: deploymentOf(CODE, { manifest: { meter: 1, schedule } }) })]))[0]
    expect(outputOf(asked(1))).toMatchObject({ code: 'CMESH_DEPLOY_METER' })
    expect(asked(2)).toMatchObject({ status: 200 })
  })

  test.each<[string, string, Parameters<typeof transactionOf>[1], string]>([
    ['by anybody but the operator', '[1,2]', { sub: MEMBER.did }, 'CMESH_IAM_DENIED'],
    ['without a schedule', '[1]', {}, 'CMESH_CONTRACT_REVERT'],
    ['to versions that are none', '[0,1]', {}, 'CMESH_CONTRACT_REVERT'],
    ['to half a version', '[1,1.5]', {}, 'CMESH_CONTRACT_REVERT'],
    ['to no gas at all', '[1,1,0]', {}, 'CMESH_CONTRACT_REVERT'],
    ['with more than it takes', '[1,1,1,1]', {}, 'CMESH_CONTRACT_REVERT'],
  ])('%s is refused', (_what, args, fields, code) => {
    const [record] = made.next(batchOf([meter(args, fields)]))
    expect(outputOf(record)).toMatchObject({ code })
    expect(meterChanges(made.store.space('0x000'))).toHaveLength(1)
  })
})

describe('a replica that does not know the meter', () => {
  test('halts before the first block that is counted by it, and says what to do', async () => {
    const old = await replica({ engine: new WasmEngine({ meters: [FIRST] }) })
    old.next(batchOf([genesisTransaction({ '0x0aa': CODE })]))
    const [change] = old.next(batchOf([meter('[1,2]')]))
    expect(change).toMatchObject({ status: 200 })
    const { chain } = old.store.head
    old.next(batchOf([put()]))
    expect(old.halts.map(({ code, message }) => ({ code, message }))).toEqual([{
      code: 'CMESH_DEPLOY_METER',
      message: 'Gas is asked to be counted by meter 1 and schedule 2 from sequence 3 on; here it is counted by no other than meter 1 and schedule 1: bring this node up to date.',
    }])
    expect(old.store.head.chain).toBe(chain)
  })

  test('is told so before it is ordered, where it is the one that is asked', async () => {
    const mesh = await startMesh()
    const { head } = mesh.state
    expect(await mesh.ask(mesh.root, '0xSW:0x000:meter:[1,99]')).toMatchObject({ status: 409, code: 'CMESH_DEPLOY_METER' })
    expect(await mesh.ask(mesh.root, '0xSW:0x000:meter')).toMatchObject({ status: 422, code: 'CMESH_CONTRACT_REVERT' })
    expect(mesh.state.head).toBe(head)
    await mesh.stop()
  })
})

describe('the log read back', () => {
  let dir: string
  beforeAll(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-meter-')) })
  afterAll(() => rm(dir, { recursive: true, force: true }))

  test('puts in force what it says, before anything is compiled', async () => {
    const first = await replica({ store: new HypercoreStateStore({ dir }), engine: new WasmEngine({ meters: BOTH }) })
    first.next(batchOf([genesisTransaction({ '0x0aa': CODE })]))
    first.next(batchOf([meter('[1,2]')]))
    const [dear] = first.next(batchOf([put()]))
    await first.store.close()

    const again = await replica({ store: new HypercoreStateStore({ dir }), engine: new WasmEngine({ meters: BOTH }) })
    expect(again.engine.meter).toEqual(expect.objectContaining({ meter: 1, schedule: 2 }))
    const [same] = again.next(batchOf([put()]))
    expect(gasOf(same)).toBe(gasOf(dear))
    await again.store.close()
    expect((await failureOf(() => replica({ store: new HypercoreStateStore({ dir }), engine: new WasmEngine({ meters: [FIRST] }) }))).code).toBe('CMESH_DEPLOY_METER')
  })
})

describe('what is recorded', () => {
  test('is asked by sequence, and the engine counts by what was asked for last', () => {
    const space = new Map<string, Uint8Array>()
    const engine = new WasmEngine({ meters: BOTH })
    const metering = new Metering(engine, space)
    expect(metering.begun).toBe(false)
    expect(refusal(() => metering.at(1))).toMatchObject({ code: 'CMESH_STATE_GENESIS' })
    const recorder = new Recorder('0x000', space)
    changeMeter(recorder, { from: 1, meter: 1, schedule: 1, transactionGas: 5 })
    changeMeter(recorder, { from: 10, meter: 1, schedule: 2, transactionGas: 6 })
    for (const [seq, schedule, gas] of [[1, 1, 5], [9, 1, 5], [10, 2, 6], [9, 1, 5], [1_000, 2, 6]] as const) {
      expect(metering.at(seq)).toMatchObject({ schedule, transactionGas: gas })
      expect(engine.meter.schedule).toBe(schedule)
    }
    changeMeter(recorder, { from: 11, meter: 1, schedule: 1, transactionGas: 7 })
    expect(metering.at(1_000)).toMatchObject({ schedule: 1, transactionGas: 7 })
  })
})

describe('what a contract finds in its context', () => {
  const looking = contractModule(`
    (func (export "call_seed") (call $seed (i32.const 1024)) (call $set (i32.const 0) (i32.const 1) (i32.const 1024) (i32.const 32)))
    (func (export "call_origin") (local $n i32) (local.set $n (call $ctxs (i32.const 2))) (call $reg (i32.const 1024)) (call $set (i32.const 0) (i32.const 1) (i32.const 1024) (local.get $n)))`)

  test('the seed follows from the chain before the block and the transaction, and differs between transactions', () => {
    const address = (outputOf(made.next(batchOf([transactionOf('0xSW:0x000:deploy', { body: deploymentOf(looking) })]))[0]) as { address: string }).address
    const chain = Buffer.from(made.store.head.chain)
    const transactions = [transactionOf(`0xSW:${address}:seed`), transactionOf(`0xSW:${address}:seed`)]
    const records = made.next(batchOf(transactions))
    const seeds = records.map(({ writes }) => Buffer.from(writes[0]?.value ?? []).toString('hex'))
    const expected = transactions.map(({ id }) => {
      const seed = createHash('sha256').update('cmesh/seed').update(chain).update(Buffer.from(id, 'hex')).digest()
      // The first number that the engine makes of it.
      return createHash('sha256').update(seed).update(Buffer.alloc(4)).digest('hex')
    })
    expect(seeds).toEqual(expected)
    expect(new Set(seeds).size).toBe(2)
  })

  test('the origin is who signed the transaction', () => {
    const address = (outputOf(made.next(batchOf([transactionOf('0xSW:0x000:deploy', { body: deploymentOf(looking) })]))[0]) as { address: string }).address
    const [record] = made.next(batchOf([transactionOf(`0xSW:${address}:origin`, { sub: MEMBER.did })]))
    expect(Buffer.from(record?.writes[0]?.value ?? []).toString()).toBe(MEMBER.did)
  })
})

describe('a replacement after a change of the meter', () => {
  test('that fails puts back code that counts as the log says', () => {
    const address = (outputOf(made.next(batchOf([transactionOf('0xSW:0x000:deploy', { body: deploymentOf(CODE) })]))[0]) as { address: string }).address
    const [before] = made.next(batchOf([transactionOf(`0xSW:${address}:put`, { body: Buffer.from('1') })]))
    made.next(batchOf([meter('[1,2]')]))
    const breaking = replacementOf(address, 2, versionedContract({ which: 2, migrate: 'fails' }))
    expect(made.next(batchOf([transactionOf(`0xSW:0x000:replace:["${address}"]`, { body: breaking })]))[0]).toMatchObject({ status: 422 })
    const [after] = made.next(batchOf([transactionOf(`0xSW:${address}:put`, { body: Buffer.from('1') })]))
    expect(gasOf(after)).toBe(gasOf(before) + 1_000_000)
  })
})

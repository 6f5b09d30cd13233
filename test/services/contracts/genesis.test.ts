import { describe, expect, test } from '@jest/globals'
import { encodeGenesis, parseGenesis, readGenesis, writeGenesis } from '../../../services/contracts/genesis.ts'
import { meterChanges } from '../../../services/contracts/metering.ts'
import { contractRecord, deployedModules } from '../../../services/contracts/records.ts'
import { Recorder } from '../../../services/state/transaction.ts'
import { contractModule } from '../../support/contract-module.ts'
import { contentOf } from '../../support/blocks.ts'
import { refusal } from '../../support/refusal.ts'
import { batchOf, genesisTransaction, OPERATOR, outputOf, packageOf, replica, transactionOf } from '../../support/replica.ts'

const GENESIS = { operator: 'did:key:z6MkOperator', members: ['did:key:z6MkMember'], contracts: [{ address: '0x001', pkg: Buffer.from([1, 2, 255]) }], meter: { meter: 1, schedule: 2, transactionGas: 3 } }
const json = (value: unknown): Buffer => Buffer.from(JSON.stringify(value))

describe('genesis', () => {
  test('is the same when it was encoded and read', () => {
    expect(parseGenesis(encodeGenesis(GENESIS))).toEqual(GENESIS)
  })

  const wire = { operator: 'o', members: ['m'], contracts: [{ address: '0x001', package: '' }], meter: GENESIS.meter }
  test.each<[string, unknown, string]>([
    ['no object', 7, 'its body lacks operator, members or contracts'],
    ['null', null, 'its body lacks operator, members or contracts'],
    ['no operator', { ...wire, operator: undefined }, 'its body lacks operator, members or contracts'],
    ['members that are no list', { ...wire, members: 'm' }, 'its body lacks operator, members or contracts'],
    ['a member that is no text', { ...wire, members: [1] }, 'its body lacks operator, members or contracts'],
    ['no contracts', { ...wire, contracts: undefined }, 'its body lacks operator, members or contracts'],
    ['a contract without a package', { ...wire, contracts: [{ address: '0x001' }] }, 'a contract of it lacks a genesis address or a package'],
    ['a contract at no address', { ...wire, contracts: [{ address: '0x0g1', package: '' }] }, 'a contract of it lacks a genesis address or a package'],
    ['a contract at a content address', { ...wire, contracts: [{ address: `0x${'ab'.repeat(32)}`, package: '' }] }, 'a contract of it lacks a genesis address or a package'],
    ['a contract that is null', { ...wire, contracts: [null] }, 'a contract of it lacks a genesis address or a package'],
    ['no meter', { ...wire, meter: undefined }, 'it does not say how gas is counted'],
    ['a meter that is null', { ...wire, meter: null }, 'it does not say how gas is counted'],
    ['no gas for transactions', { ...wire, meter: { meter: 1, schedule: 1 } }, 'it does not say how gas is counted'],
    ['a meter of 0', { ...wire, meter: { ...GENESIS.meter, meter: 0 } }, 'it does not say how gas is counted'],
    ['a schedule of 0', { ...wire, meter: { ...GENESIS.meter, schedule: 0 } }, 'it does not say how gas is counted'],
  ])('with %s is refused', (_what, body, reason) => {
    expect(refusal(() => parseGenesis(json(body)))).toMatchObject({ code: 'CMESH_STATE_GENESIS', message: `The genesis transaction is refused: ${reason}.` })
  })

  test('that is no JSON is refused', () => {
    expect(refusal(() => parseGenesis(Buffer.from('{'))).code).toBe('CMESH_STATE_GENESIS')
    expect(refusal(() => parseGenesis(Buffer.alloc(0))).code).toBe('CMESH_STATE_GENESIS')
  })

  test('leaves in state who operates and who the members are', () => {
    const space = new Map<string, Uint8Array>()
    expect(readGenesis(space)).toBeUndefined()
    writeGenesis(new Recorder('0x000', space), GENESIS)
    expect(readGenesis(space)).toEqual({ operator: GENESIS.operator, members: GENESIS.members })
    expect(meterChanges(space)).toEqual([{ from: 1, meter: 1, schedule: 2, transactionGas: 3 }])
  })

  test('installs its contracts and runs their init, and what they emitted is in its block', async () => {
    const module = contractModule(
      '(data (i32.const 0) "k") (func (export "call_init") (call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)) (call $emit (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)))', {
        abi: '{"abi":1,"sdk":"none","functions":[{"name":"init","mode":"init","params":[],"returns":"void"}],"events":[]}',
      },
    )
    const made = await replica()
    const [record] = made.next(batchOf([genesisTransaction({ '0x001': module, '0x0ff': module })]))
    expect(outputOf(record)).toEqual({ operator: OPERATOR.did, contracts: ['0x001', '0x0ff'] })
    expect(record?.events.map(({ contract, topic }) => [contract, topic])).toEqual([['0x001', 'k'], ['0x0ff', 'k']])
    expect(made.engine.has('0x0ff')).toBe(true)
    expect(contentOf(made.store)['0x0ff']).toEqual({ '.k': '6b' })
    expect([...deployedModules(made.store.space('0x000'))].map(([address]) => address)).toEqual(['0x001', '0x0ff'])
    expect(contractRecord(made.store.space('0x000'), '0x001')).toMatchObject({ address: '0x001', deployer: OPERATOR.did, seq: 1, manifest: { name: 'made' } })
    made.engine.close()
  })

  test('names each contract once', async () => {
    const module = contractModule('(func (export "call_f"))')
    const pkg = packageOf(module)
    const made = await replica()
    const [record] = made.next(batchOf([genesisTransaction({}, { contracts: [{ address: '0x001', pkg }, { address: '0x001', pkg }] })]))
    expect(outputOf(record)).toMatchObject({ code: 'CMESH_DEPLOY_EXISTS' })
    expect(contentOf(made.store)['0x000']).toBeUndefined()
    made.engine.close()
  })
})

describe('a transaction on a contract', () => {
  test('never runs init again, whoever proposes it', async () => {
    const module = contractModule('(func (export "call_init")) (func (export "call_f"))', {
      abi: '{"abi":1,"sdk":"none","functions":[{"name":"init","mode":"init","params":[],"returns":"void"},{"name":"f","mode":"write","params":[],"returns":"void"}],"events":[]}',
    })
    const made = await replica()
    made.next(batchOf([genesisTransaction({ '0x001': module })]))
    const records = made.next(batchOf(['0xSW:0x001:init', '0xSW:0x001:f', '0xSW:0x001', '0xSW:0x000:anything'].map(fqmn => transactionOf(fqmn))))
    expect(records.map(record => record.status)).toEqual([404, 200, 404, 404])
    made.engine.close()
  })
})

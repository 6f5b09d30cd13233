import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { makeRequestProof, readRequestProof } from '../../../cmtp/identity/request-proof.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { genesisOf } from '../../../node/genesis.ts'
import { encodeGenesis } from '../../../services/contracts/genesis.ts'
import { OrderedAuthority } from '../../../services/state/authority.ts'
import type { Transaction } from '../../../services/state/batch.ts'
import type { TransactionRecord } from '../../../services/state/provider.ts'
import { contractModule } from '../../support/contract-module.ts'
import { batchOf, deploymentOf, genesisTransaction, MEMBER, METER, OPERATOR, outputOf, replica, START_MS, transactionOf, type Replica } from '../../support/replica.ts'

const [ANN, BEN] = [KeyPair.generate(), KeyPair.generate()]
const TOKEN = Buffer.from('header.payload.signature')
const genesis = { ...genesisTransaction(), body: encodeGenesis(genesisOf({ operator: OPERATOR.did, node: MEMBER.did, meter: METER })) }

let replicas: Replica[]
beforeEach(async () => {
  replicas = await Promise.all([0, 1, 2].map(() => replica({ authority: new OrderedAuthority() })))
  ordered(genesis)
  ordered(orderOf(MEMBER, 'recheck', {}))
})
afterEach(() => {
  for (const each of replicas) each.engine.close()
})

const orderOf = (by: KeyPair, action: string, body: object, fields: Partial<Transaction> = {}): Transaction => (
  transactionOf(`0xIW:${action}`, { sub: by.did, body: Buffer.from(JSON.stringify(body)), ...fields })
)
const increment = (by: KeyPair, fields: Partial<Transaction> = {}): Transaction => transactionOf('0xSW:0x002:increment', { sub: by.did, ...fields })
const grantOf = (did: string, permission: string, more: object = {}): Transaction => orderOf(OPERATOR, 'grant', { did, permission, ...more })

/** One message on all three replicas: what they made of it, which must be the same of each, and the same chain. */
function ordered(...transactions: Transaction[]): readonly TransactionRecord[]
function ordered(proposedMs: number, ...transactions: Transaction[]): readonly TransactionRecord[]
function ordered(first: number | Transaction, ...rest: Transaction[]): readonly TransactionRecord[] {
  const message = typeof first === 'number' ? batchOf(rest, { proposedMs: first }) : batchOf([first, ...rest])
  const [records, ...others] = replicas.map(each => each.next(message))
  for (const other of others) expect(other).toEqual(records)
  expect(new Set(replicas.map(({ store }) => Buffer.from(store.head.chain).toString('hex'))).size).toBe(1)
  expect(replicas.flatMap(({ halts }) => halts)).toEqual([])
  return records as readonly TransactionRecord[]
}
const told = (record: TransactionRecord | undefined): unknown => (
  record !== undefined && record.status < 400 ? record.status : (outputOf(record) as { message?: unknown }).message
)

describe('three replicas', () => {
  test('refuse alike what was granted when it was proposed and taken back before it was ordered', () => {
    ordered(grantOf(ANN.did, 'write 0xSW:0x002:increment'))
    // The guard let both of these through at one time; the order decides.
    const [before, after] = [increment(ANN), increment(ANN)]
    const records = ordered(before, orderOf(OPERATOR, 'ungrant', { did: ANN.did, all: true }), after)
    expect(records.map(told)).toEqual([200, 200, 'Permission write on 0xSW:0x002:increment is missing.'])
    expect(records[2]).toMatchObject({ status: 403, gas: 0n, writes: [], events: [] })
    expect(told(ordered(increment(ANN))[0])).toBe('Permission write on 0xSW:0x002:increment is missing.')
    expect(told(ordered(increment(OPERATOR))[0])).toBe(200)
  })

  test('let a write through that is ordered before the ban, and none behind it', () => {
    ordered(grantOf(ANN.did, 'write 0xSW:0x002:>'))
    const records = ordered(increment(ANN), orderOf(OPERATOR, 'ban', { did: ANN.did }), increment(ANN), orderOf(OPERATOR, 'unban', { did: ANN.did }), increment(ANN))
    expect(records.map(told)).toEqual([200, 200, 'The identity was revoked before the transaction was ordered.', 200, 200])
    expect(records[2]?.status).toBe(401)
  })

  test('refuse who takes its own right away the same order in the same batch again', () => {
    ordered(grantOf(ANN.did, 'write 0xIW:ban'))
    const ban = (did: string): Transaction => orderOf(ANN, 'ban', { did })
    expect(ordered(ban(BEN.did), ban(ANN.did), ban(BEN.did)).map(told)).toEqual([200, 200, 'The identity was revoked before the transaction was ordered.'])
  })

  test('refuse what a session asked that was ended by order, and nothing of its identity\'s other sessions', () => {
    ordered(grantOf(ANN.did, 'write 0xSW:0x002:>'), orderOf(OPERATOR, 'ban', { sid: 'session-1' }))
    expect(ordered(increment(ANN, { sid: 'session-1' }), increment(ANN, { sid: 'session-2' })).map(told)).toEqual(['The session was revoked before the transaction was ordered.', 200])
  })

  test('go by the time of the log, whatever a clock says', () => {
    ordered(grantOf(ANN.did, 'write 0xSW:0x002:>', { notBefore: START_MS + 10, notAfter: START_MS + 20 }))
    expect([9, 10, 19, 20].map(ms => told(ordered(START_MS + ms, increment(ANN))[0]))).toEqual([
      'Permission write on 0xSW:0x002:increment is missing.', 200, 200, 'Permission write on 0xSW:0x002:increment is missing.',
    ])
  })

  test('do not ask again what only the guard can know of a session', () => {
    ordered(grantOf(ANN.did, 'write 0xSW:0x002:>', { aal: 2 }))
    expect(told(ordered(increment(ANN))[0])).toBe(200)
  })

  test('let a newcomer hold names and nothing more', () => {
    expect(ordered(increment(BEN), transactionOf('0xSW:0x001:say', { sub: BEN.did, body: Buffer.from('["x"]') })).map(({ status }) => status)).toEqual([403, 403])
    expect(told(ordered(transactionOf('0xRW:release:none.mcom', { sub: BEN.did }))[0])).toBe('The name none.mcom is not registered.')
    expect(told(ordered(orderOf(BEN, 'grant', { did: BEN.did, permission: 'write >' }))[0])).toBe('Permission write on 0xIW:grant is missing.')
  })

  test('let a contract ask for what contracts may, and for nothing of the system\'s', () => {
    expect(told(ordered(transactionOf('0xSW:0x000:meter:[1,1]', { sub: '0x001' }))[0])).toBe('Permission write on 0xSW:0x000:meter is missing.')
    expect(told(ordered(orderOf(OPERATOR, 'grant', { did: ANN.did, permission: 'write >' }, { sub: '0x001' }))[0])).toBe('Permission write on 0xIW:grant is missing.')
  })
})

describe('a deployment', () => {
  interface Asked extends Partial<Transaction> { readonly signer?: KeyPair, readonly signed?: Partial<Transaction> }
  const deploy = (by: KeyPair, { signer = by, signed = {}, ...fields }: Asked = {}): Transaction => {
    const body = deploymentOf(contractModule('(func (export "call_nothing"))'), {}, by)
    const made = transactionOf('0xSW:0x000:deploy', { sub: by.did, body, ...fields })
    return { ...made, proof: fields.proof ?? readRequestProof(makeRequestProof({ ...made, ...signed, token: TOKEN }, signer), made.fqmn) }
  }
  const WHY = '0xSW:0x000:deploy needs a signature of its own: '

  test('is executed once, and only with its caller\'s signature over exactly this request', () => {
    const good = deploy(OPERATOR)
    for (const bad of [
      deploy(OPERATOR, { proof: new Uint8Array(0) }), deploy(OPERATOR, { signer: ANN }), deploy(OPERATOR, { signed: { fqmn: '0xSW:0x000:replace:["0x002"]' } }),
      deploy(OPERATOR, { signed: { body: Buffer.from('another') } }), deploy(OPERATOR, { signed: { deadlineMs: START_MS + 1 } }), deploy(OPERATOR, { proof: good.proof }),
    ]) {
      const [record] = ordered(bad)
      expect([record?.status, told(record)]).toEqual([403, expect.stringContaining(WHY)])
    }
    expect(told(ordered(good)[0])).toBe(200)
    // The same again changes nothing and is no transaction; under another id the proof does not hold.
    expect(ordered(good)).toEqual([])
    expect(told(ordered({ ...good, id: 'f'.repeat(32) })[0])).toBe(`${WHY}the one it carries was not made by the caller for this request.`)
  })

  test('is not let through by the signature alone', () => {
    expect(told(ordered(deploy(ANN))[0])).toBe('Permission deploy on 0xSW:0x000:deploy is missing.')
    ordered(grantOf(ANN.did, 'deploy 0xSW:0x000:deploy'))
    expect(told(ordered(deploy(ANN))[0])).toBe(200)
  })
})

describe('a log', () => {
  test('from before anybody rechecked runs as it did, and from the block on that says so it is checked', async () => {
    const made = await replica({ authority: new OrderedAuthority() })
    made.next(batchOf([genesis]))
    expect(made.next(batchOf([increment(ANN)])).map(told)).toEqual([200])
    expect(made.next(batchOf([orderOf(MEMBER, 'recheck', {}), increment(ANN)])).map(told)).toEqual([200, 200])
    expect(made.next(batchOf([increment(ANN)])).map(told)).toEqual(['Permission write on 0xSW:0x002:increment is missing.'])
    made.engine.close()
  })

  test('is made to be checked by a member, not by the operator, and stays so', async () => {
    const made = await replica({ authority: new OrderedAuthority() })
    made.next(batchOf([genesis]))
    expect(made.next(batchOf([orderOf(OPERATOR, 'recheck', {}), orderOf(ANN, 'recheck', {})])).map(told)).toEqual([
      'The change of grants is refused: only a member of the mesh may order it.', 'Permission write on 0xIW:recheck is missing.',
    ])
    expect(outputOf(made.next(batchOf([orderOf(MEMBER, 'recheck', {})]))[0])).toEqual({ from: 4 })
    expect(outputOf(made.next(batchOf([orderOf(MEMBER, 'recheck', {})]))[0])).toEqual({ from: 4 })
    made.engine.close()
  })
})

import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { SignableNameRecord } from '../../cmtp/identity/name-record.ts'
import { nameRecordBytes, signNameRecord, verifyNameRecord } from '../../cmtp/identity/name-record.ts'

const owner = KeyPair.fromSeed(Buffer.alloc(32, 1))
const stranger = KeyPair.fromSeed(Buffer.alloc(32, 2))
const record: SignableNameRecord = { name: 'helloworld.mcom', target: '0xS:0x001', owner: owner.did, sequence: 1 }
const signature = signNameRecord(record, owner)

describe('a name record', () => {
  test('has these bytes under its signature', () => {
    expect(nameRecordBytes(record).toString()).toBe(
      `CMesh/1 name-record\n{"name":"helloworld.mcom","owner":"${owner.did}","sequence":1,"target":"0xS:0x001"}`,
    )
  })

  test('is signed by its owner', () => {
    expect(signature).toHaveLength(86)
    expect(verifyNameRecord(record, signature)).toBe(true)
  })

  test('leaves out whatever else stands in the object', () => {
    expect(nameRecordBytes({ ...record, expires: 5 } as SignableNameRecord)).toEqual(nameRecordBytes(record))
  })

  test.each<[string, Partial<SignableNameRecord>]>([
    ['name', { name: 'helloworlds.mcom' }], ['target', { target: '0xS:0x002' }], ['owner', { owner: stranger.did }],
    ['sequence', { sequence: 2 }],
  ])('is not signed once its %s is another', (_, change) => {
    expect(verifyNameRecord({ ...record, ...change }, signature)).toBe(false)
  })

  test('is not its owner\'s when somebody else signed it, unless it is a transfer by that one', () => {
    const transfer = { ...record, owner: stranger.did, sequence: 2 }
    const byFormerOwner = signNameRecord(transfer, owner)
    expect(verifyNameRecord(transfer, byFormerOwner)).toBe(false)
    expect(verifyNameRecord(transfer, byFormerOwner, owner.did)).toBe(true)
  })

  test('is not signed by the same text without the domain in front', () => {
    const bare = owner.sign(nameRecordBytes(record).subarray('CMesh/1 name-record\n'.length)).toString('base64url')
    expect(verifyNameRecord(record, bare)).toBe(false)
  })

  test.each([0, -1, 1.5, Number.NaN, Infinity, 2 ** 53])('has no sequence %d', sequence => {
    expect(verifyNameRecord({ ...record, sequence }, signature)).toBe(false)
  })

  test('answers any signature and any owner with false and no error', () => {
    fc.assert(fc.property(fc.string(), fc.oneof(fc.string(), fc.constant(owner.did)),
    fc.string({ unit: 'binary' }), (text, did, name) => {
      expect(verifyNameRecord({ ...record, name, owner: did }, text)).toBe(false)
    }))
    expect(verifyNameRecord({ ...record, name: '\ud800' }, signature)).toBe(false)
    expect(verifyNameRecord(record, `${signature}=`)).toBe(false)
  })
})

import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { issueCertificate } from '../../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { decodeRootRecord, encodeRootRecord, ROOT_RECORD_BYTES, rootRecordHash, verifyRootRecord, type AuditRoot } from '../../../cmtp/receipt/root.ts'
import { damaged, decodeTotally, everyBitFlip, everyTruncation } from '../../support/damage.ts'
import { attempt, refusal } from '../../support/refusal.ts'

const MESH = KeyPair.fromSeed(Buffer.alloc(32, 1))
const NODE = KeyPair.fromSeed(Buffer.alloc(32, 2))
const OTHER = KeyPair.fromSeed(Buffer.alloc(32, 3))
const CERTIFICATE = issueCertificate(NODE.did, MESH, 1_730_000_000_000)
const AREA = /^CMESH_RECEIPT_/

const anyHash = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(bytes => Buffer.from(bytes))
const anyRoot: fc.Arbitrary<Omit<AuditRoot, 'signature'>> = fc.record({
  mesh: fc.constant(MESH.did), node: fc.constantFrom(MESH.did, NODE.did), log: anyHash, batch: fc.maxSafeNat(), first: fc.maxSafeNat(),
  count: fc.integer({ min: 1, max: 0xffff_ffff }), merkleRoot: anyHash, previous: anyHash, timeUs: fc.maxSafeNat(),
}).map(root => ({ ...root, previous: root.batch === 0 ? Buffer.alloc(32) : root.previous.fill(1, 0, 1) }))
const ROOT: Omit<AuditRoot, 'signature'> = {
  mesh: MESH.did, node: NODE.did, log: Buffer.alloc(32, 4), batch: 7, first: 20, count: 3, merkleRoot: Buffer.alloc(32, 5),
  previous: Buffer.alloc(32, 6), timeUs: 1_730_000_000_000_000,
}
const signedBy = (key: KeyPair) => (bytes: Uint8Array): Buffer => key.sign(bytes)
const RECORD = encodeRootRecord(ROOT, signedBy(NODE))

describe('a root record', () => {
  test('decodes to what was encoded, for any root, and verifies', () => {
    fc.assert(fc.property(anyRoot, root => {
      const key = root.node === MESH.did ? MESH : NODE
      const bytes = encodeRootRecord(root, signedBy(key))
      expect(bytes).toHaveLength(ROOT_RECORD_BYTES)
      expect(decodeRootRecord(bytes)).toMatchObject(root)
      expect(verifyRootRecord(bytes, MESH.did, key === MESH ? undefined : CERTIFICATE)).toMatchObject(root)
    }), { numRuns: 100 })
  })

  test('is signed under a text of its own, and its hash has a prefix of its own', () => {
    const signed: Buffer[] = []
    const record = encodeRootRecord(ROOT, bytes => {
      signed.push(Buffer.from(bytes))
      return Buffer.alloc(64)
    })
    expect(signed).toEqual([Buffer.concat([Buffer.from('CMesh/1 audit-root\n'), record.subarray(0, 189)])])
    expect(rootRecordHash(record)).toEqual(createHash('sha256').update(Buffer.of(2)).update(record).digest())
  })

  test('with any bit changed is refused', () => {
    for (const flipped of everyBitFlip(RECORD)) {
      expect(attempt(() => verifyRootRecord(flipped, MESH.did, CERTIFICATE)).refusal?.code).toMatch(AREA)
    }
  })

  test('any bytes give a root, or a coded error with its offset', () => {
    fc.assert(fc.property(damaged(fc.constant(RECORD)), bytes => { decodeTotally(decodeRootRecord, bytes, AREA) }), { numRuns: 1_000 })
    for (const cut of everyTruncation(RECORD)) expect(decodeTotally(decodeRootRecord, cut, AREA).refusal?.code).toBe('CMESH_RECEIPT_FORMAT')
  })

  test.each([
    ['of another version', (b: Buffer) => { b[0] = 2 }, 0, 'version 1 of a root record'],
    ['with a key that is none', (b: Buffer) => { b.fill(0, 33, 65) }, 33, 'a public key'],
    ['with a number past 2^53', (b: Buffer) => { b[97] = 0x20 }, 97, 'a number below 2^53'],
    ['of no leaves', (b: Buffer) => { b.fill(0, 113, 117) }, 113, 'one leaf or more'],
    ['that follows nothing and is not the first', (b: Buffer) => { b.fill(0, 149, 181) }, 149, 'a hash of the record before, and zeros in the first one'],
  ])('%s is refused with the offset', (_, change, offset, expected) => {
    const bytes = Buffer.from(RECORD)
    change(bytes)
    expect(refusal(() => decodeRootRecord(bytes))).toMatchObject({
      code: 'CMESH_RECEIPT_FORMAT', message: `This is no receipt, or it is damaged at byte ${offset}: expected ${expected}.`,
    })
  })

  test.each([
    ['of another mesh', RECORD, OTHER.did, CERTIFICATE, 'key', 'it is of another mesh'],
    ['without the certificate', RECORD, MESH.did, undefined, 'certificate', 'the certificate of the node is missing'],
    ['with another node\'s certificate', RECORD, MESH.did, issueCertificate(OTHER.did, MESH, 1), 'certificate', 'the certificate is not that of the node'],
    ['with a certificate of another mesh', RECORD, MESH.did, issueCertificate(NODE.did, OTHER, 1), 'certificate', 'the certificate is not that of the node'],
    ['with a changed certificate', RECORD, MESH.did, { ...CERTIFICATE, issued: 1 }, 'certificate', 'the mesh did not sign the certificate of the node'],
    ['of the mesh itself with a certificate', encodeRootRecord({ ...ROOT, node: MESH.did }, signedBy(MESH)), MESH.did, CERTIFICATE, 'certificate', 'a certificate is where none is needed'],
    ['signed by another', encodeRootRecord(ROOT, signedBy(OTHER)), MESH.did, CERTIFICATE, 'signature', 'the node did not sign the root'],
  ])('%s is refused', (_, record, mesh, certificate, at, reason) => {
    expect(refusal(() => verifyRootRecord(record, mesh, certificate))).toMatchObject({
      code: 'CMESH_RECEIPT_INVALID', detail: { at, reason }, message: `The receipt does not hold (${at}): ${reason}.`,
    })
  })

  test('is not written with fields that it has no room for', () => {
    expect(() => encodeRootRecord({ ...ROOT, log: Buffer.alloc(31) }, signedBy(NODE))).toThrow('log, Merkle root and previous have 32 bytes each')
    expect(() => encodeRootRecord({ ...ROOT, count: 0 }, signedBy(NODE))).toThrow('batch, first and time are counts, and count is one')
    expect(() => encodeRootRecord({ ...ROOT, first: 2 ** 53 }, signedBy(NODE))).toThrow(RangeError)
  })
})

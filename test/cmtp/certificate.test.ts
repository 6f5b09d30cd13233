import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import { checkCertificate, formatCertificate, issueCertificate, parseCertificate } from '../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'

const MESH = KeyPair.fromSeed(Buffer.alloc(32, 1))
const NODE = KeyPair.fromSeed(Buffer.alloc(32, 2))
const ISSUED = 1_800_000_000_000

const reasonOf = (text: string): unknown => {
  try {
    parseCertificate(text)
  } catch (error) {
    if (error instanceof CMeshError && error.code === 'CMESH_IAM_CERTIFICATE') return error.detail['reason']
    throw error
  }
  return 'none'
}

describe('a certificate of a node', () => {
  test('reads back as it was issued, with a line end behind it or none', () => {
    const certificate = issueCertificate(NODE.did, MESH, ISSUED)
    expect(certificate).toMatchObject({ v: 1, mesh: MESH.did, node: NODE.did, issued: ISSUED })
    expect(parseCertificate(formatCertificate(certificate))).toEqual(certificate)
    expect(parseCertificate(`${formatCertificate(certificate)}\n`)).toEqual(certificate)
  })

  test('is not issued to what is no DID', () => {
    expect(() => issueCertificate('did:key:zNobody', MESH, ISSUED)).toThrow(expect.objectContaining({ code: 'CMESH_IAM_KEY' }))
  })

  test('is refused when any bit of it was changed', () => {
    const bytes = Buffer.from(formatCertificate(issueCertificate(NODE.did, MESH, ISSUED)), 'base64url')
    fc.assert(fc.property(fc.nat({ max: bytes.length * 8 - 1 }), bit => {
      const changed = Buffer.from(bytes)
      changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      expect(reasonOf(changed.toString('base64url'))).not.toBe('none')
    }), { numRuns: 500 })
  })

  test('is refused when another key signed it, and with a reason for each other text', () => {
    const { signature } = issueCertificate(NODE.did, NODE, ISSUED)
    const forged = { ...issueCertificate(NODE.did, MESH, ISSUED), signature }
    expect(() => checkCertificate(forged)).toThrow('The certificate of the node is refused: the mesh it names did not sign it.')
    const good = issueCertificate(NODE.did, MESH, ISSUED)
    const text = (value: unknown): string => canonicalBytes(value).toString('base64url')
    expect(reasonOf('')).toBe('it is not one line of base64url')
    expect(reasonOf('a b')).toBe('it is not one line of base64url')
    expect(reasonOf('A'.repeat(1_025))).toBe('it is not one line of base64url')
    expect(reasonOf('AAAA')).toBe('it holds no canonical JSON')
    expect(reasonOf(text(7))).toBe('it is no object')
    expect(reasonOf(text({ ...good, v: 2 }))).toBe('its version is not 1')
    expect(reasonOf(text({ ...good, mesh: 'did:key:z' }))).toBe('it names no mesh')
    expect(reasonOf(text({ ...good, node: '' }))).toBe('it names no node')
    expect(reasonOf(text({ ...good, issued: -1 }))).toBe('its fields are not those of one')
    expect(reasonOf(text({ ...good, more: 1 }))).toBe('its fields are not those of one')
  })

  test('any bytes give a certificate or a coded refusal', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 256 }), bytes => { reasonOf(Buffer.from(bytes).toString('base64url')) }), { numRuns: 500 })
  })
})

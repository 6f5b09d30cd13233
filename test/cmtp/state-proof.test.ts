import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { issueCertificate } from '../../cmtp/identity/certificate.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { checkpointChain, checkpointHead } from '../../cmtp/state-hash.ts'
import { formatStateProof, statementBytes, verifyStateProof, type StateProofParts } from '../../cmtp/state-proof.ts'
import { readVectors } from '../support/vectors.ts'
import { refusal } from '../support/refusal.ts'

interface Vector {
  readonly name: string
  readonly mesh: string
  readonly signer: string
  readonly contract: string
  readonly key: string
  readonly value: string | null
  readonly root: string
  readonly chain: string
  readonly proof: string
}

const { proofs } = readVectors<{ readonly proofs: readonly Vector[] }>('state/proofs-1.json')
const named = (name: string): Vector => proofs.find(vector => vector.name === name) as Vector
const refused = (text: string, mesh: string): string => {
  const error = refusal(() => verifyStateProof(text, mesh))
  expect(error.code).toBe('CMESH_STATE_PROOF')
  return String(error.detail['reason'])
}

const MESH = KeyPair.generate()
const NODE = KeyPair.generate()

/** A proof of the empty state, with what the test says of it. */
function proofBy(signer: KeyPair, fields: Partial<StateProofParts['signatures'][number]> = {}, signed: { readonly mesh?: string, readonly seq?: number } = {}): string {
  const block = { epoch: 0, seq: 7, timeMs: 1, previous: new Uint8Array(32), rest: new Uint8Array(32) }
  const root = Buffer.from('6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d', 'hex')
  const chain = checkpointChain(block.previous, checkpointHead({ ...block, root }), block.rest)
  const said = { node: signer.did, head: 9, atMs: 2, ...fields }
  const { mesh = MESH.did, seq = block.seq } = signed
  const signature = signer.sign(statementBytes({ mesh, node: said.node, epoch: 0, seq, chain, head: said.head, atMs: said.atMs })).toString('base64url')
  return formatStateProof({ mesh: MESH.did, contract: '0x001', key: 'k', value: undefined, page: '', path: [], block, signatures: [{ signature, ...said }] })
}

describe('a proof of state', () => {
  test.each(proofs)('made elsewhere holds: $name', ({ proof, mesh, signer, contract, key, value, root, chain }) => {
    for (const text of [proof, `${proof}\n`]) {
      const proven = verifyStateProof(text, mesh)
      const signers = [{ node: signer, head: 1030, atMs: 1_800_000_002_000 }]
      expect(proven).toMatchObject({ mesh, contract, epoch: 3, seq: 1027, timeMs: 1_800_000_000_123, signers })
      expect([proven.key, proven.value, proven.root, Buffer.from(proven.chain)].map(bytes => bytes?.toString('hex'))).toEqual([key, value ?? undefined, root, chain])
    }
  })

  test.each(['one page, a value', 'branches, an absence, by a node with a certificate'])('with any one bit turned is refused: %s', name => {
    const { proof, mesh } = named(name)
    const bytes = Buffer.from(proof)
    const kept: number[] = []
    // One bit of each byte, of a long one of every fifth: another one from byte to byte.
    const step = bytes.length > 3_000 ? 5 : 1
    for (let i = 0; i < bytes.length; i += step) {
      const bit = 1 << (i % 8)
      bytes[i] = (bytes[i] as number) ^ bit
      try {
        verifyStateProof(bytes.toString('utf8'), mesh)
        kept.push(i)
      } catch (error) {
        if (!(error instanceof CMeshError) || error.code !== 'CMESH_STATE_PROOF') throw error
      }
      bytes[i] = (bytes[i] as number) ^ bit
    }
    expect(kept).toEqual([])
    expect(verifyStateProof(bytes.toString('utf8'), mesh).seq).toBe(1027)
  })

  test('is of one mesh, whose key or whose nodes signed it', () => {
    expect(verifyStateProof(proofBy(MESH), MESH.did).signers).toEqual([{ node: MESH.did, head: 9, atMs: 2 }])
    const certificate = issueCertificate(NODE.did, MESH, 1)
    expect(verifyStateProof(proofBy(NODE, { certificate }), MESH.did).signers).toEqual([{ node: NODE.did, head: 9, atMs: 2 }])
    expect(refused(proofBy(MESH), NODE.did)).toBe('it is of another mesh')
    expect(refused(proofBy(NODE), MESH.did)).toBe(`the certificate of ${NODE.did} is missing`)
    expect(refused(proofBy(MESH, { certificate }), MESH.did)).toBe('a certificate is where none is needed')
    expect(refused(proofBy(NODE, { certificate: issueCertificate(KeyPair.generate().did, MESH, 1) }), MESH.did)).toBe(`the certificate is not that of ${NODE.did}`)
    expect(refused(proofBy(NODE, { certificate: issueCertificate(NODE.did, KeyPair.generate(), 1) }), MESH.did)).toBe(`the certificate is not that of ${NODE.did}`)
    expect(refused(proofBy(NODE, { certificate: { ...certificate, issued: 2 } }), MESH.did)).toMatch(/^the certificate of a node is refused: /)
  })

  test('is signed over the place it names', () => {
    const unsigned = `${MESH.did} did not sign it`
    expect(refused(proofBy(MESH, {}, { seq: 8 }), MESH.did)).toBe(unsigned)
    expect(refused(proofBy(MESH, {}, { mesh: NODE.did }), MESH.did)).toBe(unsigned)
    expect(refused(proofBy(MESH, { signature: '' }), MESH.did)).toBe(unsigned)
    expect(refused(proofBy(MESH, { head: 6 }), MESH.did)).toBe('a signature of it is none')
  })

  const whole = JSON.parse(proofBy(MESH)) as Record<string, unknown> & { readonly signatures: readonly unknown[], readonly block: object }
  test.each([
    ['text that is no JSON', 'no', 'it is not canonical JSON'],
    ['other spacing', JSON.stringify(whole, undefined, 1), 'it is not canonical JSON'],
    ['two line feeds', `${proofBy(MESH)}\n\n`, 'it is not canonical JSON'],
    ['a list', '[]', 'it is no object'],
    ['a field more', { a: 1 }, 'it has other fields than it should'],
    ['another version', { version: 2 }, 'it is no proof of state of version 1'],
    ['no signature', { signatures: [] }, 'it has 1 to 64 signatures'],
    ['one signature twice', { signatures: [...whole.signatures, ...whole.signatures] }, 'a node signed it twice'],
    ['no contract', { contract: 'x' }, 'it names no contract'],
    ['base64 of another spelling', { key: 'aw==' }, 'its key is not base64url'],
    ['half an entry', { page: 'AAAA' }, 'its page is none'],
    ['entries out of order', { page: Buffer.alloc(128).toString('base64url') }, 'its page is not in order'],
    ['a short path', { path: ['AAAA'] }, 'its path is none'],
    ['a longer path than there is', { path: Array.from({ length: 65 }, () => '') }, 'its path is none'],
    ['a block without a time', { block: { ...whole.block, timeMs: -1 } }, 'its block is none'],
    ['a short chain value', { block: { ...whole.block, previous: 'AAAA' } }, 'its block has a hash of another length'],
  ])('with %s is refused', (_, change, reason) => {
    const sorted = typeof change === 'string' ? change : JSON.stringify(Object.fromEntries(Object.entries({ ...whole, ...change }).sort(([a], [b]) => (a < b ? -1 : 1))))
    expect(refused(sorted, MESH.did)).toBe(reason)
  })
})

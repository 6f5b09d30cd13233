import { describe, expect, test } from '@jest/globals'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { encodeRootRecord } from '../../../cmtp/receipt/root.ts'
import { ownRoot, type TakenUp } from '../../../services/audit/own-root.ts'

const [key, other] = [KeyPair.generate(), KeyPair.generate()]
const LOG = Buffer.alloc(32, 7)

function recordOf(by: KeyPair, { mesh = by.did, log = LOG, batch = 3 } = {}): Buffer {
  const root = { mesh, node: by.did, log, batch, first: 10, count: 2, merkleRoot: Buffer.alloc(32, 1), previous: Buffer.alloc(32, 2), timeUs: 5 }
  return encodeRootRecord(root, bytes => by.sign(bytes))
}

const takenUp: TakenUp = { path: 'audit', id: LOG, length: 4, mesh: key.did, node: key.did, certificate: undefined }

describe('the last root of an audit log', () => {
  test('is taken up by the node that signed it', () => {
    expect(ownRoot(recordOf(key), takenUp)).toMatchObject({ node: key.did, batch: 3, first: 10, count: 2 })
  })

  test.each([
    ['of a mesh of its own', recordOf(other)],
    ['of this mesh', recordOf(other, { mesh: key.did })],
  ])('of another node, %s, says whose it is', (_, record) => {
    expect(() => ownRoot(record, takenUp)).toThrow(expect.objectContaining({ code: 'CMESH_AUDIT_OTHER', detail: { path: 'audit', writer: other.did, node: key.did } }))
  })

  test.each([
    ['of another log', recordOf(key, { log: Buffer.alloc(32, 8) }), 'its last root is of another log'],
    ['of another place', recordOf(key, { batch: 2 }), 'its last root is of another log'],
    ['that nobody signed', Buffer.concat([recordOf(other).subarray(0, -1), Buffer.of(recordOf(other).at(-1) ^ 1)]), 'it is of another mesh'],
    ['that is none', Buffer.alloc(253), 'root record'],
  ])('%s is damage', (_, record, reason) => {
    expect(() => ownRoot(record, takenUp)).toThrow(expect.objectContaining({ code: 'CMESH_AUDIT_CORRUPT', message: expect.stringContaining(reason) as unknown }))
  })
})

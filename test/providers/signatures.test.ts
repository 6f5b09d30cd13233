/** Members sign and check by another library than everybody else: what one makes the other takes, byte for byte. */
import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { signatureCheck, signerOf } from '../../providers/signatures.ts'

/** Short ones, and around the length from which on another library makes them. */
const anyMessage = fc.oneof(
  fc.uint8Array({ maxLength: 300 }),
  fc.tuple(fc.integer({ min: 16_380, max: 16_390 }), fc.nat(255)).map(([length, byte]) => new Uint8Array(length).fill(byte)),
)
const anyKey = fc.uint8Array({ minLength: 32, maxLength: 32 }).map(seed => KeyPair.fromSeed(seed))

test('a signature is the one that the key pair makes, and is its alone', () => {
  const holds = signatureCheck()
  fc.assert(fc.property(anyKey, anyKey, anyMessage, fc.nat(), (key, other, message, at) => {
    const signature = signerOf(key)(message)
    expect(Buffer.from(signature)).toEqual(key.sign(message))
    expect(holds(key.did, message, signature)).toBe(true)
    expect(holds(other.did, message, signature)).toBe(key.did === other.did)
    expect(holds(key.did, Buffer.concat([message, Buffer.of(0)]), signature)).toBe(false)
    const damaged = Buffer.from(signature)
    damaged[at % 64] = (damaged[at % 64] as number) ^ 1 << at % 8
    expect(holds(key.did, message, damaged)).toBe(false)
  }), { numRuns: 50 })
})

test('anything else is no signature, and who has no key is said so', () => {
  const { did } = KeyPair.generate()
  const holds = signatureCheck()
  for (const length of [0, 63, 65]) expect(holds(did, Buffer.alloc(3), Buffer.alloc(length))).toBe(false)
  expect(() => holds('did:key:nobody', Buffer.alloc(3), Buffer.alloc(64))).toThrow(expect.objectContaining({ code: 'CMESH_IAM_KEY' }))
})

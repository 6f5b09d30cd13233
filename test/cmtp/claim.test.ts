import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { decodeClaim, encodeClaim, signClaim, verifyClaim, type Claim } from '../../cmtp/claim.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import { KeyPair, PublicKey } from '../../cmtp/identity/keys.ts'

const KEY = KeyPair.fromSeed(Buffer.alloc(32, 3))
const FIELDS = { did: KEY.did, epoch: 1, seq: 7, chain: 'ab'.repeat(32), level: 'os', out: 5, timeMs: 1_800_000_000_000, version: '1.2.3' } as const
const verify = (did: string, bytes: Uint8Array, signature: Uint8Array): boolean => PublicKey.fromDid(did).verify(bytes, signature)
const holds = (claim: Claim | undefined): boolean => {
  if (claim === undefined) return false
  try {
    return verifyClaim(claim, verify)
  } catch {
    return false
  }
}

describe('a claim', () => {
  test('reads back as it was signed, whatever it says, and its signature holds', () => {
    fc.assert(fc.property(fc.nat(), fc.maxSafeNat(), fc.uint8Array({ minLength: 32, maxLength: 32 }), fc.constantFrom('memory', 'os', 'disk' as const), fc.maxSafeNat(), (epoch, seq, chain, level, timeMs) => {
      const claim = signClaim({ ...FIELDS, epoch, seq, chain: Buffer.from(chain).toString('hex'), level, timeMs }, KEY)
      expect(decodeClaim(encodeClaim(claim))).toEqual(claim)
      expect(holds(claim)).toBe(true)
    }))
  })

  test('does not hold when any bit of it was changed', () => {
    const bytes = encodeClaim(signClaim(FIELDS, KEY))
    fc.assert(fc.property(fc.nat({ max: bytes.length * 8 - 1 }), bit => {
      const changed = Buffer.from(bytes)
      changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      expect(holds(decodeClaim(changed))).toBe(false)
    }), { numRuns: 500 })
  })

  test('is none in any other bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), bytes => { expect(decodeClaim(bytes)).toBeUndefined() }))
    const claim = signClaim(FIELDS, KEY)
    for (const changed of [
      { ...claim, v: 2 }, { ...claim, more: 1 }, { ...claim, seq: -1 }, { ...claim, seq: 1.5 }, { ...claim, epoch: '1' }, { ...claim, chain: 'AB'.repeat(32) },
      { ...claim, chain: 'ab' }, { ...claim, level: 'tape' }, { ...claim, version: 1 }, { ...claim, did: 1 }, { ...claim, signature: undefined },
    ]) expect(decodeClaim(Buffer.from(JSON.stringify(changed)))).toBeUndefined()
    expect(decodeClaim(canonicalBytes({ ...claim, version: 'x'.repeat(1_024) }))).toBeUndefined()
  })
})

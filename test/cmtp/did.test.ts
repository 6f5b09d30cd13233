import { createPublicKey, verify } from 'node:crypto'
import { inspect } from 'node:util'
import { describe, expect, test } from '@jest/globals'
import { base58 } from '@scure/base'
import fc from 'fast-check'
import type { CMeshError } from '../../cmtp/errors.ts'
import { checkPublicKey, decodeDid, didFromSegment, didToSegment, encodeDid, isDid } from '../../cmtp/identity/did.ts'
import { KeyPair, PublicKey } from '../../cmtp/identity/keys.ts'
import type { OkpJwk } from '../../cmtp/identity/keys.ts'
import { runs } from '../support/runs.ts'
import { bytesOf, readVectors } from '../support/vectors.ts'

const didKey = readVectors<{ cases: { seed: string, publicKeyBase58: string, did: string }[] }>('identity/did-key.json')
const rfc8032 = readVectors<{
  cases: { name: string, seed: string, publicKey: string, message: string, signature: string }[],
}>('identity/rfc8032.json')
const rfc8037 = readVectors<{ jwk: OkpJwk, thumbprint: string }>('identity/rfc8037.json')
const refused = readVectors<{
  smallOrder: string[], smallOrderWithSign: string[], notReduced: string[],
}>('identity/refused-keys.json')

const keyBytes = fc.uint8Array({ minLength: 32, maxLength: 32 })
const accepted = keyBytes.filter(bytes => refusal(() => checkPublicKey(bytes)) === undefined)

function refusal(work: () => unknown): CMeshError | undefined {
  try {
    work()
    return undefined
  } catch (error) {
    return error as CMeshError
  }
}

const rawDid = (bytes: Uint8Array): string => `did:key:z${base58.encode(bytes)}`
const ed25519Did = (hex: string): string => rawDid(Buffer.concat([Buffer.from([0xed, 0x01]), bytesOf(hex)]))

describe('a did:key', () => {
  test.each(didKey.cases)('of the specification, $did, is its key and its key is it', ({ seed, publicKeyBase58, did }) => {
    const key = KeyPair.fromSeed(bytesOf(seed))
    expect(key.did).toBe(did)
    expect(encodeDid(base58.decode(publicKeyBase58))).toBe(did)
    expect(Buffer.from(decodeDid(did))).toEqual(Buffer.from(base58.decode(publicKeyBase58)))
  })

  test('decodes to the bytes it was made of, for every key that is accepted', () => {
    fc.assert(fc.property(accepted, bytes => {
      const did = encodeDid(bytes)
      expect(Buffer.from(decodeDid(did))).toEqual(Buffer.from(bytes))
      expect(didFromSegment(didToSegment(did))).toBe(did)
    }))
  })

  test('has one spelling: any text that decodes is what its key encodes to', () => {
    const { did } = didKey.cases[0] as { did: string }
    const edited = fc.tuple(fc.nat(did.length), fc.string({ maxLength: 2 })).map(
      ([at, text]) => did.slice(0, at) + text + did.slice(at + 1),
    )
    fc.assert(fc.property(fc.oneof(fc.string(), edited), text => {
      const failure = refusal(() => expect(encodeDid(decodeDid(text))).toBe(text))
      if (failure !== undefined) expect(failure.code).toBe('CMESH_IAM_KEY')
      expect(isDid(text)).toBe(failure === undefined)
    }), { numRuns: runs(2_000) })
  })

  test.each([
    ['', 'a DID begins with did:key:z'],
    ['did:web:example.org', 'a DID begins with did:key:z'],
    ['did:key:z6Mk', 'the DID of an Ed25519 key has 56 characters'],
    [`did:key:z${'1'.repeat(100_000)}`, 'the DID of an Ed25519 key has 56 characters'],
    [`${didKey.cases[0]?.did}#key`, 'the DID of an Ed25519 key has 56 characters'],
    [`did:key:z${'0'.repeat(47)}`, 'the DID is not base58btc'],
    [rawDid(Buffer.concat([Buffer.from([0xec, 0x01]), Buffer.alloc(32, 7)])), 'the DID does not name an Ed25519 key'],
  ])('%.40s is refused', (text, reason) => {
    const failure = refusal(() => decodeDid(text))
    expect(failure).toMatchObject({ code: 'CMESH_IAM_KEY', status: 400, message: `The key is refused: ${reason}.` })
  })

  test.each([...refused.smallOrder, ...refused.smallOrderWithSign])('never names the point of small order %s', hex => {
    const reason = 'it is a point of small order'
    expect(refusal(() => checkPublicKey(bytesOf(hex)))).toMatchObject({ code: 'CMESH_IAM_KEY', detail: { reason } })
    expect(refusal(() => encodeDid(bytesOf(hex)))).toMatchObject({ code: 'CMESH_IAM_KEY', detail: { reason } })
    expect(refusal(() => decodeDid(ed25519Did(hex)))).toMatchObject({ code: 'CMESH_IAM_KEY', detail: { reason } })
    expect(refusal(() => PublicKey.fromText(bytesOf(hex).toString('base64url'))))
      .toMatchObject({ code: 'CMESH_IAM_KEY', detail: { reason } })
  })

  test.each(refused.notReduced)('never names the second spelling of a point %s', hex => {
    const reason = 'its encoding is not canonical'
    expect(refusal(() => checkPublicKey(bytesOf(hex)))).toMatchObject({ code: 'CMESH_IAM_KEY', detail: { reason } })
    expect(refusal(() => decodeDid(ed25519Did(hex)))).toMatchObject({ code: 'CMESH_IAM_KEY', detail: { reason } })
  })

  test('is refused for small order because OpenSSL would take one signature for every message', () => {
    const identity = bytesOf(refused.smallOrder[0] as string)
    const key = createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x: identity.toString('base64url') }, format: 'jwk' })
    const signature = Buffer.concat([identity, Buffer.alloc(32)])
    expect(['one', 'two', 'three'].map(message => verify(null, Buffer.from(message), key, signature))).toEqual([true, true, true])
  })

  test.each([0, 31, 33, 64])('is not made of %i bytes', length => {
    const failure = refusal(() => encodeDid(new Uint8Array(length)))
    expect(failure)
      .toMatchObject({ code: 'CMESH_IAM_KEY', message: `The key is refused: an Ed25519 public key has 32 bytes, not ${length}.` })
  })
})

describe('an Ed25519 key', () => {
  test.each(rfc8032.cases)('of RFC 8032 $name signs and verifies as published', ({ seed, publicKey, message, signature }) => {
    const key = KeyPair.fromSeed(bytesOf(seed))
    expect(key.publicKey.toBytes().toString('hex')).toBe(publicKey)
    expect(key.sign(bytesOf(message)).toString('hex')).toBe(signature)
    expect(PublicKey.fromBytes(bytesOf(publicKey)).verify(bytesOf(message), bytesOf(signature))).toBe(true)
    expect(PublicKey.fromBytes(bytesOf(publicKey)).verify(
      Buffer.concat([bytesOf(message), Buffer.from([0])]), bytesOf(signature),
    ))
      .toBe(false)
  })

  test('has the JWK and the thumbprint of RFC 8037', () => {
    const key = PublicKey.fromText(rfc8037.jwk.x)
    expect(key.jwk).toEqual(rfc8037.jwk)
    expect(key.thumbprint).toBe(rfc8037.thumbprint)
  })

  test('answers false to a signature of any length that is not its own', () => {
    const { publicKey } = KeyPair.generate()
    fc.assert(fc.property(fc.uint8Array({ maxLength: 70 }), signature => {
      expect(publicKey.verify(Buffer.from('message'), signature)).toBe(false)
    }))
  })

  test('comes back whole from its seed, and only from 32 bytes', () => {
    const key = KeyPair.generate()
    expect(KeyPair.fromSeed(key.exportSeed()).did).toBe(key.did)
    expect(KeyPair.generate().did).not.toBe(key.did)
    expect(refusal(() => KeyPair.fromSeed(new Uint8Array(31))))
      .toMatchObject({ code: 'CMESH_IAM_KEY', message: 'The key is refused: a seed has 32 bytes, not 31.' })
  })

  test('does not show its seed to an inspector or to JSON', () => {
    const key = KeyPair.generate()
    const shown = `${inspect(key, { depth: 9, showHidden: true })}${JSON.stringify(key)}`
    for (const encoding of ['hex', 'base64', 'base64url', 'latin1'] as const) expect(shown)
      .not.toContain(key.exportSeed().toString(encoding))
  })

  test('does not change when the bytes it was made of do', () => {
    const bytes = KeyPair.generate().publicKey.toBytes()
    const key = PublicKey.fromBytes(bytes)
    const { text } = key
    bytes.fill(0)
    key.toBytes().fill(0)
    expect(key.text).toBe(text)
  })

  test.each(['', 'AA', '?'.repeat(43)])('is not read from the text "%s"', text => {
    expect(refusal(() => PublicKey.fromText(text))?.code).toBe('CMESH_IAM_KEY')
  })

  test('is read from one spelling of its text alone', () => {
    const { text } = KeyPair.generate().publicKey
    expect(PublicKey.fromText(text).text).toBe(text)
    expect(refusal(() => PublicKey.fromText(`${text}=`))?.detail).toEqual({ reason: 'it is not base64url' })
  })
})

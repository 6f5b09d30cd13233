import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { checkProofOfToken, checkRequestProof, makeRequestProof, needsProof, PROOF_BYTES, readRequestProof } from '../../cmtp/identity/request-proof.ts'
import { failureOf } from '../support/iam.ts'

const CALLER = KeyPair.generate()
const TOKEN = Buffer.from('aaa.bbb.ccc')
const REQUEST = { id: '0'.repeat(31) + '1', fqmn: '0xSW:0x000:deploy', body: Buffer.from('package'), deadlineMs: 1_800_000_000_000 }
const made = (): Buffer => readRequestProof(makeRequestProof({ ...REQUEST, token: TOKEN }, CALLER), REQUEST.fqmn)

describe('the signature of a request', () => {
  test('holds for what it was made for, and says for which token', () => {
    expect(made()).toHaveLength(PROOF_BYTES)
    expect(() => { checkProofOfToken(made(), TOKEN, { ...REQUEST, sub: CALLER.did }) }).not.toThrow()
  })

  test.each([
    ['another id', { id: '0'.repeat(31) + '2' }],
    ['another address', { fqmn: '0xSW:0x000:deploy:[1]' }],
    ['another body', { body: Buffer.from('packagf') }],
    ['another deadline', { deadlineMs: REQUEST.deadlineMs + 1 }],
    ['another caller', { sub: KeyPair.generate().did }],
  ])('is refused for %s', async (_, change) => {
    expect(await failureOf(() => { checkProofOfToken(made(), TOKEN, { ...REQUEST, sub: CALLER.did, ...change }) })).toMatchObject({
      code: 'CMESH_IAM_PROOF', status: 403, message: expect.stringMatching(/needs a signature of its own: the one it carries was not made by the caller for this request\.$/),
    })
  })

  test('is refused with another token, and with a reference in the place of the token', async () => {
    for (const token of [Buffer.from('aaa.bbb.ccd'), Buffer.alloc(16)]) {
      expect(await failureOf(() => { checkProofOfToken(made(), token, { ...REQUEST, sub: CALLER.did }) })).toMatchObject({
        code: 'CMESH_IAM_PROOF', message: '0xSW:0x000:deploy needs a signature of its own: the one it carries was made for another token.',
      })
    }
  })

  test('has one spelling, and where there is none that is said', async () => {
    const text = makeRequestProof({ ...REQUEST, token: TOKEN }, CALLER)
    for (const value of ['', `${text}=`, text.slice(1), `${text}A`, text.replace(/.$/, '!')]) {
      expect(await failureOf(() => readRequestProof(value, REQUEST.fqmn))).toMatchObject({ code: 'CMESH_IAM_PROOF', message: expect.stringContaining('is no base64url of 96 bytes') })
    }
    expect((await failureOf(() => readRequestProof(undefined, REQUEST.fqmn))).message).toBe('0xSW:0x000:deploy needs a signature of its own: it carries none.')
    expect((await failureOf(() => checkRequestProof(new Uint8Array(0), { ...REQUEST, sub: CALLER.did }))).message).toMatch(/it carries none\.$/)
  })

  test('refuses any 96 bytes that are not it, and callers that have no key, with a coded error', async () => {
    await fc.assert(fc.asyncProperty(fc.uint8Array({ minLength: PROOF_BYTES, maxLength: PROOF_BYTES }), fc.constantFrom(CALLER.did, '0x002', 'did:key:z'), async (proof, sub) => {
      expect((await failureOf(() => checkRequestProof(proof, { ...REQUEST, sub }))).code).toBe('CMESH_IAM_PROOF')
    }))
  })

  test('is needed to deploy, replace and proxy, to commit to a DID and to take the place of one, and for nothing else', () => {
    const needed = ['0xSW:0x000:deploy', '0xSW:0x000:replace:["0x002"]', '0xSW:0x000:proxy:["0x002"]', '0xIW:prepare', '0xIW:rotate']
    for (const fqmn of needed) expect([fqmn, needsProof(parseFqmn(fqmn))]).toEqual([fqmn, true])
    for (const fqmn of ['0xS:0x000:deploy', '0xSW:0x002:deploy', '0xSW:0x000:meter', '0xRW:register:a.mcom:0xS:0x001', '0xIW:grant', '0xIW:refresh', '0xI:rotate', '0xRW:rotate', '0xPW:east:0xSW:0x000:deploy']) {
      expect([fqmn, needsProof(parseFqmn(fqmn))]).toEqual([fqmn, false])
    }
  })
})

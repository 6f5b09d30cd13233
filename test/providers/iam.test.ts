import { describe, expect, test } from '@jest/globals'
import { base58 } from '@scure/base'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { makeDidProof } from '../../cmtp/identity/proof.ts'
import { DidIdentityProvider } from '../../providers/iam/did.ts'
import { MockIdentityProvider } from '../../providers/iam/mock.ts'
import { anyContext } from '../conformance/iam.ts'
import { failureOf } from '../support/iam.ts'
import { readVectors } from '../support/vectors.ts'

const refusedKeys = readVectors<{ smallOrder: string[] }>('identity/refused-keys.json')

describe('the did provider', () => {
  const provider = new DidIdentityProvider()

  test('gives assurance 1 by a software key', async () => {
    const context = anyContext()
    const identity = KeyPair.generate()
    await expect(provider.verify(context, makeDidProof(context, identity)))
      .resolves.toMatchObject({ sub: identity.did, aal: 1, amr: ['swk'], attributes: [] })
  })

  test('refuses a signature by another key than the one it names', async () => {
    const context = anyContext()
    const proof = { ...makeDidProof(context, KeyPair.generate()), did: KeyPair.generate().did }
    const failure = await failureOf(() => provider.verify(context, proof))
    expect(failure.code).toBe('CMESH_IAM_FORGED')
    expect(failure.message).toBe('The proof is not signed by the key it names.')
  })

  test.each(refusedKeys.smallOrder)('refuses the small-order key %s, for which one signature fits every message', async hex => {
    const did = `did:key:z${base58.encode(Buffer.concat([Buffer.from([0xed, 0x01]), Buffer.from(hex, 'hex')]))}`
    const signature = Buffer.concat([Buffer.from(hex, 'hex'), Buffer.alloc(32)]).toString('base64url')
    const failure = await failureOf(() => provider.verify(anyContext(), { did, signature }))
    expect(failure.code).toBe('CMESH_IAM_HANDSHAKE')
    expect(failure.detail['reason']).toBe('the key of the proof is refused: it is a point of small order')
  })
})

describe('the mock provider', () => {
  test('does not start unless it is enabled', async () => {
    const failure = await failureOf(() => new MockIdentityProvider().start())
    expect(failure.code).toBe('CMESH_IAM_PROVIDER')
    expect(failure.message).toContain('enable it explicitly')
    await expect(new MockIdentityProvider({ enabled: true }).start()).resolves.toBeUndefined()
  })

  test('gives the same call string for the same context, and assurance 0 for the right answer', async () => {
    const provider = new MockIdentityProvider({ enabled: true })
    const context = anyContext()
    const { challenge } = await provider.begin(context)
    expect((await provider.begin({ ...context })).challenge).toBe(challenge)
    expect(challenge).toMatch(/^call [A-Za-z0-9_-]{43}$/)
    const { did } = KeyPair.generate()
    await expect(provider.verify(context, { did, answer: challenge.replace('call', 'answer') }))
      .resolves.toMatchObject({ sub: did, aal: 0, amr: [] })
  })

  test('gives nothing for the call string sent back, or a wrong answer', async () => {
    const provider = new MockIdentityProvider({ enabled: true })
    const context = anyContext()
    const { challenge } = await provider.begin(context)
    const { did } = KeyPair.generate()
    for (const answer of [challenge, 'answer', `answer ${'A'.repeat(43)}`]) {
      const failure = await failureOf(() => provider.verify(context, { did, answer }))
      expect(failure.code).toBe('CMESH_IAM_HANDSHAKE')
      expect(failure.detail['reason']).toBe('the answer does not fit the call string')
    }
  })
})

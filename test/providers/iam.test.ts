import { describe, expect, test } from '@jest/globals'
import { base58 } from '@scure/base'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { makeDidProof } from '../../cmtp/identity/proof.ts'
import { issueCredentials, presentCredential } from '../../cmtp/identity/credential.ts'
import { DidIdentityProvider } from '../../providers/iam/did.ts'
import { MockIdentityProvider } from '../../providers/iam/mock.ts'
import { anyContext, iamConformance } from '../conformance/iam.ts'
import type { IdentityContext } from '../../services/iam/provider.ts'
import { parseIssuers } from '../../services/iam/issuers.ts'
import { NOW_S, VCT } from '../support/credentials.ts'
import { failureOf } from '../support/iam.ts'
import { refusal } from '../support/refusal.ts'
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

const issuer = KeyPair.generate()
const now = (): number => NOW_S * 1_000
const trusting = (...issuers: KeyPair[]): DidIdentityProvider => new DidIdentityProvider({ issuers: issuers.map(({ did }) => did), now })

/** A presentation of one claim for a handshake, by the holder of a fresh credential. */
async function present(context: IdentityContext, holder: KeyPair, claims: Record<string, string | boolean> = { over_18: true }, by = issuer): Promise<string> {
  const [credential = ''] = await issueCredentials({ issuer: by, vct: VCT, claims, holders: [holder.publicKey], lifeS: 60, nowS: NOW_S })
  return await presentCredential(credential, Object.keys(claims), { holder, audience: context.audience, nonce: context.transcript, nowS: NOW_S })
}

iamConformance('did, shown a credential', () => {
  const identity = KeyPair.generate()
  return { provider: trusting(issuer), sub: identity.did, optional: ['presentations'], prove: async context => makeDidProof(context, identity, [await present(context, identity)]) }
})

describe('the did provider shown a credential', () => {
  const identity = KeyPair.generate()

  test('gives assurance 2 and the attribute as its issuer said it, whichever key the credential is bound to', async () => {
    for (const holder of [identity, KeyPair.generate()]) {
      const context = anyContext()
      const proof = makeDidProof(context, identity, [await present(context, holder, { over_18: true, name: 'Ada' })])
      await expect(trusting(issuer).verify(context, proof)).resolves.toMatchObject({
        sub: identity.did, aal: 2, amr: ['swk', 'vc'],
        attributes: [{ id: `${VCT}#over_18`, value: 'true', issuer: issuer.did }, { id: `${VCT}#name`, value: 'Ada', issuer: issuer.did }],
      })
    }
  })

  test('takes several, and one attribute from each of two issuers', async () => {
    const context = anyContext()
    const other = KeyPair.generate()
    const proof = makeDidProof(context, identity, [await present(context, identity), await present(context, identity, { over_18: true }, other)])
    const { attributes } = await trusting(issuer, other).verify(context, proof)
    expect(attributes.map(attribute => attribute.issuer)).toEqual([issuer.did, other.did])
  })

  test.each([
    ['another handshake', { transcript: anyContext().transcript }, 'its key binding answers another challenge'],
    ['another mesh', { audience: anyContext().audience }, 'its key binding is for another audience'],
  ])('refuses one that was made for %s', async (_, field, reason) => {
    const context = anyContext()
    const proof = makeDidProof(context, identity, [await present({ ...context, ...field }, identity)])
    expect(await failureOf(() => trusting(issuer).verify(context, proof))).toMatchObject({ code: 'CMESH_IAM_CREDENTIAL', detail: { reason } })
  })

  test('refuses every one where no issuer is trusted', async () => {
    const context = anyContext()
    const proof = makeDidProof(context, identity, [await present(context, identity)])
    expect(await failureOf(() => new DidIdentityProvider({ now }).verify(context, proof)))
      .toMatchObject({ code: 'CMESH_IAM_CREDENTIAL', detail: { reason: 'its issuer is not one that this mesh trusts' } })
  })

  test('refuses the proof whose DID did not sign, before it looks at any', async () => {
    const context = anyContext()
    const proof = { ...makeDidProof(context, identity, [await present(context, identity)]), did: KeyPair.generate().did }
    expect((await failureOf(() => trusting(issuer).verify(context, proof))).code).toBe('CMESH_IAM_FORGED')
  })

  test('refuses one attribute twice, and one proof twice', async () => {
    const context = anyContext()
    const [one, two] = [await present(context, identity), await present(context, KeyPair.generate(), { over_18: false })]
    expect(await failureOf(() => trusting(issuer).verify(context, makeDidProof(context, identity, [one, two]))))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'the proof presents one attribute twice' } })
    const provider = trusting(issuer)
    await provider.verify(context, makeDidProof(context, identity, [one]))
    expect(await failureOf(() => provider.verify(context, makeDidProof(context, identity, [one]))))
      .toMatchObject({ code: 'CMESH_IAM_CREDENTIAL', detail: { reason: 'it was presented before' } })
  })

  test.each([[[]], [['x', 'x', 'x', 'x', 'x']], [{}], ['x']])('refuses the presentations %j', async presentations => {
    const context = anyContext()
    expect(await failureOf(() => trusting(issuer).verify(context, { ...makeDidProof(context, identity), presentations })))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'the presentations of a proof are a list of 1 to 4' } })
  })
})

describe('the setting of trusted issuers', () => {
  test('is DIDs set apart by a bar', () => {
    const [a, b] = [KeyPair.generate().did, KeyPair.generate().did]
    expect(parseIssuers(` ${a} |${b}|`)).toEqual([a, b])
    expect(parseIssuers('')).toEqual([])
  })

  test('says which of them is none', () => {
    expect(refusal(() => parseIssuers(`${KeyPair.generate().did}|did:web:example.org`)))
      .toMatchObject({ code: 'CMESH_CONFIG_INVALID', detail: { key: 'iam.issuers', reason: 'did:web:example.org is no did:key' } })
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

/**
 * What every identity provider keeps to (services/iam/provider.ts). `create` gives a provider that may start and the client's
 * half of it: `prove` makes what an honest client sends for one challenge, `sub` is the DID that this proves.
 */
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { isDid } from '../../cmtp/identity/did.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { Challenge, IdentityContext, IdentityProvider } from '../../services/iam/provider.ts'
import { failureOf } from '../support/iam.ts'

export interface IamSubject {
  readonly provider: IdentityProvider
  readonly sub: string
  /** Parts of the proof that may be left out. */
  readonly optional?: readonly string[]
  prove(context: IdentityContext, challenge: Challenge): Promise<unknown>
}

const REFUSALS = ['CMESH_IAM_HANDSHAKE', 'CMESH_IAM_FORGED', 'CMESH_IAM_CREDENTIAL']
const random = (bytes: number): string => randomBytes(bytes).toString('base64url')

export function anyContext(): IdentityContext {
  return { handshake: random(16), nonce: random(32), audience: KeyPair.generate().did, transcript: random(32) }
}

export function iamConformance(name: string, create: () => IamSubject | Promise<IamSubject>): void {
  describe(`the identity provider ${name}`, () => {
    let subject: IamSubject
    beforeEach(async () => {
      subject = await create()
      await subject.provider.start()
    })
    afterEach(async () => {
      await subject.provider.stop()
    })

    test('gives a challenge of at most 4 KiB', async () => {
      const { challenge } = await subject.provider.begin(anyContext())
      expect(challenge.length).toBeGreaterThan(0)
      expect(challenge.length).toBeLessThanOrEqual(4_096)
    })

    test('knows who proved what it asked for', async () => {
      const context = anyContext()
      const proof = await subject.prove(context, await subject.provider.begin(context))
      const identity = await subject.provider.verify(context, proof)
      expect(identity.sub).toBe(subject.sub)
      expect(isDid(identity.sub)).toBe(true)
      expect([0, 1, 2]).toContain(identity.aal)
      expect(identity.evidenceHash).toMatch(/^[A-Za-z0-9_-]{43}$/)
      for (const { id, value, issuer } of identity.attributes) expect([typeof id, typeof value, typeof issuer]).toEqual(['string', 'string', 'string'])
      // What an issuer said is what assurance 2 means, and nothing less gives it.
      expect(identity.aal === 2).toBe(identity.attributes.length > 0)
    })

    test('takes a proof that travelled as JSON', async () => {
      const context = anyContext()
      const proof = await subject.prove(context, await subject.provider.begin(context))
      await expect(subject.provider.verify(context, JSON.parse(JSON.stringify(proof))))
        .resolves.toMatchObject({ sub: subject.sub })
    })

    test('hashes other evidence to another hash', async () => {
      const hashes = []
      for (const context of [anyContext(), anyContext()]) {
        const proof = await subject.prove(context, await subject.provider.begin(context))
        hashes.push((await subject.provider.verify(context, proof)).evidenceHash)
      }
      expect(hashes[0]).not.toBe(hashes[1])
    })

    test.each(['handshake', 'nonce', 'audience', 'transcript'] as const)('refuses a proof made for another %s', async field => {
      const context = anyContext()
      const proof = await subject.prove(context, await subject.provider.begin(context))
      const other = { ...context, [field]: anyContext()[field] }
      await subject.provider.begin(other)
      const failure = await failureOf(() => subject.provider.verify(other, proof))
      expect(REFUSALS).toContain(failure.code)
    })

    test('refuses any JSON that is no proof', async () => {
      const context = anyContext()
      await subject.provider.begin(context)
      await fc.assert(fc.asyncProperty(fc.jsonValue(), async proof => {
        const failure = await failureOf(() => subject.provider.verify(context, proof))
        expect(REFUSALS).toContain(failure.code)
      }), { numRuns: 100 })
    })

    test('refuses a proof with a part missing, of another type or added', async () => {
      const context = anyContext()
      const proof = await subject.prove(context, await subject.provider.begin(context)) as Record<string, unknown>
      for (const key of Object.keys(proof)) {
        const { [key]: _, ...rest } = proof
        const missing = subject.optional?.includes(key) === true ? [] : [rest]
        for (const broken of [...missing, { ...proof, [key]: 1 }, { ...proof, [key]: '' }, { ...proof, extra: 'x' }]) {
          const failure = await failureOf(() => subject.provider.verify(context, broken))
          expect(REFUSALS).toContain(failure.code)
        }
      }
    })

    test('starts once, cancels what it does not know, and stops twice', async () => {
      await subject.provider.start()
      await expect(subject.provider.cancel(anyContext())).resolves.toBeUndefined()
      await subject.provider.stop()
      await expect(subject.provider.stop()).resolves.toBeUndefined()
    })
  })
}

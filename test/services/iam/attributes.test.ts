import { describe, expect, test } from '@jest/globals'
import { issueCredentials, presentCredential } from '../../../cmtp/identity/credential.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { refresh, type LoginOptions } from '../../../cmtp/identity/login.ts'
import type { GrantMessage } from '../../../cmtp/identity/messages.ts'
import { decodeToken } from '../../../cmtp/identity/token.ts'
import { DidIdentityProvider } from '../../../providers/iam/did.ts'
import { VCT } from '../../support/credentials.ts'
import { failureOf, startIam, type IamFixture } from '../../support/iam.ts'

const issuer = KeyPair.generate()
const holder = KeyPair.generate()
const attribute = { id: `${VCT}#over_18`, value: 'true', issuer: issuer.did }

/** IAM that trusts the issuer, on the fixture's clock. */
async function start(): Promise<IamFixture> {
  let now = (): number => 0
  const fixture = await startIam({ provider: new DidIdentityProvider({ issuers: [issuer.did], now: () => now() }) })
  now = () => fixture.clock.ms
  return fixture
}

/** Shows one claim of a credential that has two. */
function presenting(clock: { readonly ms: number }, names: readonly string[] = ['over_18']): NonNullable<LoginOptions['present']> {
  return async ({ audience, transcript }) => {
    const nowS = Math.floor(clock.ms / 1_000)
    const [text = ''] = await issueCredentials({
      issuer, vct: VCT, claims: { over_18: true, name: 'Ada', long: 'x'.repeat(1_000), longer: 'y'.repeat(1_000), longest: 'z'.repeat(1_000) },
      holders: [holder.publicKey], lifeS: 3_600, nowS,
    })
    return [await presentCredential(text, names, { holder, audience, nonce: transcript, nowS })]
  }
}

describe('an attribute that was shown', () => {
  test('is in the grant, in the token, in the caller\'s context and in whoami, and nothing else of the credential is', async () => {
    const { open, enter, iam, clock } = await start()
    const granted: GrantMessage[] = []
    const session = await open({ present: presenting(clock), approve: grant => granted.push(grant) > 0 })
    expect(granted).toMatchObject([{ claims: [attribute], aal: 2, amr: ['swk', 'vc'] }])
    expect(decodeToken(session.token).att).toEqual([attribute])
    const auth = await enter(session)
    expect(auth.attributes).toEqual([attribute])
    expect(Object.isFrozen(auth.attributes) && Object.isFrozen(auth.attributes[0])).toBe(true)
    expect(iam.describe('whoami', auth)).toMatchObject({ aal: 2, attributes: [attribute] })
    await iam.stop()
  })

  test('ends with its credential: the session goes on without it, and without the assurance that came of it', async () => {
    const { open, iam, send, clock, enter } = await start()
    const until = clock.ms + 3_600_000
    let session = await open({ present: presenting(clock) })
    while (clock.ms + 240_000 < until) {
      clock.ms += 240_000
      session = await refresh(session, send, clock.ms)
      expect(decodeToken(session.token)).toMatchObject({ att: [attribute], aal: 2, amr: ['swk', 'vc'] })
    }
    clock.ms += 240_000
    expect(clock.ms).toBeGreaterThanOrEqual(until)
    session = await refresh(session, send, clock.ms)
    const { att, atu, aal, amr } = decodeToken(session.token)
    expect({ att, atu, aal, amr }).toEqual({ att: undefined, atu: undefined, aal: 1, amr: ['swk'] })
    expect((await enter(session)).attributes).toEqual([])
    await iam.stop()
  })

  test('stays through renewals, and is gone with the session', async () => {
    const { open, iam, send, clock } = await start()
    let session = await open({ present: presenting(clock) })
    for (let i = 0; i < 3; i++) {
      clock.ms += 240_000
      session = await refresh(session, send, clock.ms)
      expect(decodeToken(session.token)).toMatchObject({ att: [attribute], aal: 2 })
    }
    const next = decodeToken((await open()).token)
    expect([next.aal, next.att]).toEqual([1, undefined])
    await iam.stop()
  })

  test('that was declined is in no session', async () => {
    const { open, iam, clock } = await start()
    expect(await failureOf(() => open({ present: presenting(clock), approve: () => false })))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { step: 'consent', reason: 'the grant was declined' } })
    expect(iam.open).toBe(1)
    await iam.stop()
  })

  test('beside others that fit no token is refused with a reason', async () => {
    const { open, iam, clock } = await start()
    expect(await failureOf(() => open({ present: presenting(clock, ['over_18', 'long', 'longer', 'longest']) })))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { step: 'consent', reason: expect.stringContaining('is longer than 4096 bytes; ask for fewer') } })
    await iam.stop()
  })
})

import { afterEach, describe, expect, jest, test } from '@jest/globals'
import fc from 'fast-check'
import { canonicalBytes } from '../../../cmtp/identity/canonical-json.ts'
import { checkAnswer, makeCall, makeConfirm, makeConsent } from '../../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { readMessage, type AnswerMessage, type CallMessage } from '../../../cmtp/identity/messages.ts'
import { makeDidProof } from '../../../cmtp/identity/proof.ts'
import { DidIdentityProvider } from '../../../providers/iam/did.ts'
import { Burned, Cookies } from '../../../services/iam/cookie.ts'
import { failureOf, startIam, type IamFixture } from '../../support/iam.ts'

const started: IamFixture[] = []
afterEach(async () => {
  for (const { iam } of started.splice(0)) await iam.stop()
})

async function start(parts?: Parameters<typeof startIam>[0]): Promise<IamFixture> {
  const fixture = await startIam(parts)
  started.push(fixture)
  return fixture
}

const identity = KeyPair.generate()
const key = KeyPair.generate()
const UNKNOWN = { code: 'CMESH_IAM_HANDSHAKE', status: 401, detail: { step: 'confirm', reason: 'there is no such handshake, or it is over' } }

interface Opened { readonly call: CallMessage, readonly answer: AnswerMessage }

async function open({ iam }: IamFixture, want: readonly string[] = []): Promise<Opened> {
  const call = makeCall({ sessionKey: key.publicKey, want })
  return { call, answer: readMessage('answer', await iam.handle('call', canonicalBytes(call))) }
}

function confirm({ iam }: IamFixture, { call, answer }: Opened, cookie: string | undefined = answer.cookie): Promise<Uint8Array> {
  const context = checkAnswer(call, answer)
  return iam.handle('confirm', canonicalBytes(makeConfirm(context, makeDidProof(context, identity), key, cookie)))
}

describe('an answer\'s cookie', () => {
  test('is all that a flood of calls leaves behind: IAM keeps none of them', async () => {
    const fixture = await start({ maxHandshakes: 4 })
    const opened = await Promise.all(Array.from({ length: 4 }, () => open(fixture)))
    for (let i = 0; i < 200; i++) opened.push(await open(fixture))
    expect(fixture.iam.open).toBe(0)
    for (const each of opened.slice(0, 3)) readMessage('grant', await confirm(fixture, each))
    expect(fixture.iam.open).toBe(3)
  })

  test('is needed: a confirm without it, with another handshake\'s, or with one byte changed is refused in the same words', async () => {
    const fixture = await start()
    const [one, other] = [await open(fixture), await open(fixture)]
    const cookie = one.answer.cookie as string
    const bytes = Buffer.from(cookie, 'base64url')
    const refusals = new Set<string>()
    const cookies = [other.answer.cookie, 'AAAA', Buffer.alloc(64).toString('base64url'), bytes.subarray(0, -3).toString('base64url')]
    for (const at of [0, 11, 12, bytes.length >> 1, bytes.length - 16, bytes.length - 1]) {
      const changed = Buffer.from(bytes)
      changed[at] = (changed[at] as number) ^ 1
      cookies.push(changed.toString('base64url'))
    }
    const context = checkAnswer(one.call, one.answer)
    const bare = canonicalBytes(makeConfirm(context, makeDidProof(context, identity), key))
    const attempts = [() => fixture.iam.handle('confirm', bare), ...cookies.map(each => () => confirm(fixture, one, each))]
    for (const attempt of attempts) {
      const failure = await failureOf(attempt)
      expect(failure).toMatchObject(UNKNOWN)
      refusals.add(JSON.stringify(failure.toWire()))
    }
    expect(refusals.size).toBe(1)
    // None of that burned it: whoever cannot show the cookie has no say in the handshake.
    expect(readMessage('grant', await confirm(fixture, one))).toMatchObject({ sub: identity.did })
  })

  test('counts once, whatever came of the confirm', async () => {
    const fixture = await start()
    const [good, bad] = [await open(fixture), await open(fixture)]
    await confirm(fixture, good)
    expect(await failureOf(() => confirm(fixture, good))).toMatchObject({ detail: { reason: 'this handshake awaits its consent' } })
    expect(await failureOf(() => confirm(fixture, good))).toMatchObject(UNKNOWN)
    const context = checkAnswer(bad.call, bad.answer)
    const forged = makeConfirm(context, makeDidProof(context, identity), KeyPair.generate(), bad.answer.cookie)
    expect((await failureOf(() => fixture.iam.handle('confirm', canonicalBytes(forged)))).code).toBe('CMESH_IAM_FORGED')
    expect(await failureOf(() => confirm(fixture, bad))).toMatchObject(UNKNOWN)
    expect(fixture.iam.open).toBe(0)
  })

  test('of a confirm that came twice takes the grant down with it', async () => {
    const fixture = await start()
    const opened = await open(fixture)
    const grant = readMessage('grant', await confirm(fixture, opened))
    await failureOf(() => confirm(fixture, opened))
    expect(await failureOf(() => fixture.iam.handle('consent', canonicalBytes(makeConsent(grant, key)))))
      .toMatchObject({ detail: { step: 'consent', reason: 'there is no such handshake, or it is over' } })
  })

  test('does for 60 s, and not across a restart of IAM', async () => {
    const fixture = await start()
    const [late, kept] = [await open(fixture), await open(fixture)]
    fixture.clock.ms += 59_999
    await confirm(fixture, kept)
    fixture.clock.ms += 1
    expect(await failureOf(() => confirm(fixture, late))).toMatchObject({ detail: { step: 'confirm', reason: 'the call has expired' } })
    const again = await start({ signer: fixture.mesh })
    const opened = await open(fixture)
    expect(await failureOf(() => confirm(again, opened))).toMatchObject(UNKNOWN)
  })

  test('tells the client nothing of what it holds', async () => {
    const fixture = await start()
    const { answer } = await open(fixture, ['read 0xS:0x0a1:secret_wish'])
    for (const encoding of ['latin1', 'utf8'] as const) expect(Buffer.from(answer.cookie as string, 'base64url').toString(encoding)).not.toContain('wish')
  })

  test('takes no wishes that no token could hold', async () => {
    const fixture = await start()
    const want = Array.from({ length: 8 }, (_, i) => `read 0xS:0x00${i}:${'f'.repeat(1_000)}`)
    expect(await failureOf(() => open(fixture, want))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { step: 'call', reason: 'it wants more than a token holds' } })
  })

  test('is not given by a provider that keeps its handshakes itself', async () => {
    const provider = Object.defineProperty(new DidIdentityProvider(), 'stateless', { value: false })
    const cancel = jest.spyOn(provider, 'cancel')
    const fixture = await start({ provider })
    const opened = await open(fixture)
    expect([opened.answer.cookie, fixture.iam.open]).toEqual([undefined, 1])
    await confirm(fixture, opened)
    await fixture.iam.stop()
    expect(cancel).toHaveBeenCalledTimes(1)
  })
})

describe('a cookie jar', () => {
  test('opens what it sealed and nothing else, whatever the bytes', () => {
    const cookies = new Cookies()
    const context = { handshake: 'h', nonce: 'n', audience: identity.did, transcript: 't' }
    const sealed = cookies.seal({ context, sessionKey: key.publicKey, want: ['read >'], via: undefined, nkey: undefined, expiresMs: 5 })
    expect(cookies.open(sealed)).toMatchObject({ awaits: 'confirm', context, want: ['read >'], via: undefined, nkey: undefined, expiresMs: 5 })
    expect(cookies.open(sealed)?.sessionKey.did).toBe(key.did)
    expect(new Cookies().open(sealed)).toBeUndefined()
    fc.assert(fc.property(fc.uint8Array({ maxLength: 400 }), bytes => { expect(cookies.open(Buffer.from(bytes).toString('base64url'))).toBeUndefined() }))
  })

  test('remembers what was burned until it expires, and no more than it may', async () => {
    const clock = { ms: 0 }
    const burned = new Burned(() => clock.ms, 2)
    burned.add('a', 60)
    clock.ms = 10
    burned.add('b', 70)
    expect(await failureOf(() => { burned.add('c', 70) })).toMatchObject({ code: 'CMESH_IAM_BUSY', detail: { retryAfterMs: 50 } })
    expect([burned.has('a'), burned.has('c')]).toEqual([true, false])
    clock.ms = 60
    burned.add('c', 120)
    expect([burned.has('a'), burned.has('b'), burned.has('c'), burned.size]).toEqual([false, true, true, 2])
  })
})

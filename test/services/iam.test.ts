import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, jest, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { canonicalBytes, parseCanonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { checkAnswer, makeCall, makeConfirm, makeConsent, makeRenewal, sign } from '../../cmtp/identity/handshake.ts'
import type { CallOptions, HandshakeContext } from '../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { hangup, login, refresh } from '../../cmtp/identity/login.ts'
import type { SendStep, Session } from '../../cmtp/identity/login.ts'
import type {
  AnswerMessage, CallMessage, ConfirmMessage, ConsentMessage, GrantMessage, HandshakeAction, SessionMessage,
} from '../../cmtp/identity/messages.ts'
import { readMessage } from '../../cmtp/identity/messages.ts'
import { makeDidProof } from '../../cmtp/identity/proof.ts'
import { formatPermission, NEWCOMER_READ_SET, OPERATOR_SET, parsePermissions } from '../../cmtp/permission.ts'
import { DidIdentityProvider } from '../../providers/iam/did.ts'
import { MockIdentityProvider } from '../../providers/iam/mock.ts'
import { Guard } from '../../services/iam/guard.ts'
import type { IdentityProvider } from '../../services/iam/provider.ts'
import { IamService } from '../../services/iam/service.ts'
import { selfTestIam } from '../../services/iam/self-test.ts'
import type { IamFixture } from '../support/iam.ts'
import { failureOf, startIam } from '../support/iam.ts'
import { readVectors } from '../support/vectors.ts'

const refusedKeys = readVectors<{ smallOrder: string[] }>('identity/refused-keys.json')
const started: IamFixture[] = []
afterEach(async () => {
  for (const { iam } of started.splice(0)) await iam.stop()
})

async function start(parts?: Parameters<typeof startIam>[0]): Promise<IamFixture> {
  const fixture = await startIam(parts)
  started.push(fixture)
  return fixture
}

/** A client that goes through the handshake by hand, so that a test can do wrong at any step. */
class Hand {
  readonly iam: IamService
  readonly identity = KeyPair.generate()
  readonly key = KeyPair.generate()
  call!: CallMessage
  answer!: AnswerMessage
  context!: HandshakeContext

  constructor({ iam }: IamFixture) {
    this.iam = iam
  }

  send(action: HandshakeAction, message: unknown): Promise<Uint8Array> {
    return this.iam.handle(action, canonicalBytes(message))
  }

  async open(options: Partial<CallOptions> = {}): Promise<void> {
    this.call = makeCall({ sessionKey: this.key.publicKey, ...options })
    this.answer = readMessage('answer', await this.send('call', this.call))
    this.context = checkAnswer(this.call, this.answer)
  }

  confirmation(change: Partial<ConfirmMessage> = {}, signer = this.key): ConfirmMessage {
    const { signature: _, ...confirm } = {
      ...makeConfirm(this.context, makeDidProof(this.context, this.identity), this.key, this.answer.cookie), ...change,
    }
    return sign(confirm, signer)
  }

  async grant(): Promise<GrantMessage> {
    return readMessage('grant', await this.send('confirm', this.confirmation()))
  }

  async session(grant: GrantMessage): Promise<SessionMessage> {
    return readMessage('session', await this.send('consent', makeConsent(grant, this.key)))
  }

  /** Every step that could still be tried on this handshake is refused. */
  async expectBurned(): Promise<void> {
    expect(await failureOf(() => this.send('confirm', this.confirmation())))
      .toMatchObject(refused('confirm', 'there is no such handshake, or it is over'))
    const consent = sign({ step: 'consent' as const, handshake: this.context.handshake, grant: random(32) }, this.key)
    expect(await failureOf(() => this.send('consent', consent)))
      .toMatchObject(refused('consent', 'there is no such handshake, or it is over'))
    expect(this.iam.open).toBe(0)
  }
}

/** The same provider, for an IAM that has to keep its handshakes itself. */
const stateful = (): DidIdentityProvider => Object.defineProperty(new DidIdentityProvider(), 'stateless', { value: false })

const random = (bytes: number): string => randomBytes(bytes).toString('base64url')
const refused = (step: string, reason: string): object => ({ code: 'CMESH_IAM_HANDSHAKE', status: 401, detail: { step, reason } })
const forged = (what: string): object => ({ code: 'CMESH_IAM_FORGED', status: 401, detail: { what } })

/** `send`, with the message of one step changed on its way out. */
const tampering = (send: SendStep, which: HandshakeAction, change: (body: Uint8Array) => Uint8Array): SendStep =>
  async (action, body, node) => send(action, action === which ? change(body) : body, node)

describe('the handshake', () => {
  test('gives a session the guard knows', async () => {
    const fixture = await start()
    const identity = KeyPair.generate()
    const session = await fixture.open({ identity })
    expect(session)
      .toMatchObject({
        sub: identity.did, mesh: fixture.mesh.did, node: 'node-1', perms: ['newcomer'], issued: fixture.clock.ms,
        expires: fixture.clock.ms + 300_000,
      })
    const auth = await fixture.enter(session)
    expect(auth)
      .toMatchObject({ sub: identity.did, sid: session.sid, aal: 1, amr: ['swk'], jkt: session.key.publicKey.thumbprint })
    expect(fixture.guard.authorise(auth, parseFqmn('0xS:0x001:hello_world'))).toBe('0xS:>')
    expect(session.token.length).toBeLessThan(700)
    expect(fixture.iam.open).toBe(0)
  })

  test('shows the exact grant before anything is consented to', async () => {
    const fixture = await start()
    const identity = KeyPair.generate()
    const shown: GrantMessage[] = []
    await fixture.open({ identity, want: ['read 0xS:>', 'write 0xSW:>'], approve: grant => shown.push(grant) === 1 })
    expect(shown[0])
      .toMatchObject({
        sub: identity.did, perms: ['read 0xS:>'], claims: [], purpose: 'a session with this mesh', lifetimeMs: 300_000,
        audience: fixture.mesh.did, aal: 1,
      })
  })

  test('gives no session when the grant is declined', async () => {
    const fixture = await start()
    expect(await failureOf(() => fixture.open({ approve: () => false })))
      .toMatchObject(refused('consent', 'the grant was declined'))
  })

  test('grants what was wanted and is held, never more', async () => {
    const fixture = await start()
    const identity = KeyPair.generate()
    expect((await fixture.open({ identity, want: ['operator'] })).perms).toEqual(['newcomer'])
    fixture.grants.set(identity.did, OPERATOR_SET)
    expect((await fixture.open({ identity })).perms).toEqual(['operator'])
    expect((await fixture.open({ identity, want: ['newcomer'] })).perms).toEqual(['newcomer'])
    expect((await fixture.open({ identity, want: ['read >'] })).perms).toEqual(['read >'])
    expect(await failureOf(() => fixture.open({ want: ['write 0xSW:>'] })))
      .toMatchObject(refused('confirm', 'nothing of what it wants is granted to this identity'))
  })

  test('refuses a wish it cannot read', async () => {
    const fixture = await start()
    expect(await failureOf(() => fixture.open({ want: ['fly 0xS:>'] }))).toMatchObject({ code: 'CMESH_IAM_PERMISSION' })
    expect(fixture.iam.open).toBe(0)
  })

  test('refuses more permissions than a token holds', async () => {
    const fixture = await start()
    const identity = KeyPair.generate()
    fixture.grants.set(
      identity.did,
      Array.from({ length: 120 }, (_, i) => ({ actions: 1, pattern: `0xS:0x${i.toString(16).padStart(64, '0')}:>` })),
    )
    expect(await failureOf(() => fixture.open({ identity })))
      .toMatchObject(refused('consent', 'a token for 120 permissions is longer than 4096 bytes; ask for fewer'))
  })

  test('proves an identity by the mesh\'s provider, and refuses a client that wants another', async () => {
    const fixture = await start({ provider: new MockIdentityProvider({ enabled: true }) })
    const session = await fixture.open()
    expect(await fixture.enter(session)).toMatchObject({ sub: session.sub, aal: 0, amr: [] })
    expect(await failureOf(() => fixture.open({ provider: 'did' })))
      .toMatchObject(refused('call', 'this mesh proves identities by mock'))
  })

  test('of the mock gives nothing for a wrong answer or a wrong consent', async () => {
    const fixture = await start({ provider: new MockIdentityProvider({ enabled: true }) })
    const hand = new Hand(fixture)
    await hand.open()
    expect(hand.answer.challenge).toMatch(/^call /)
    const wrong = hand.confirmation({ proof: { did: hand.identity.did, answer: 'answer me' } })
    expect(await failureOf(() => hand.send('confirm', wrong)))
      .toMatchObject(refused('confirm', 'the answer does not fit the call string'))
    await hand.expectBurned()
  })

  test('is kept by the node that answered, which the answer names under its signature', async () => {
    const fixture = await start()
    const nodes: (string | undefined)[] = []
    const send: SendStep = (action, body, node) => {
      nodes.push(node)
      return fixture.send(action, body, node)
    }
    await login({ identity: KeyPair.generate(), send })
    expect(nodes).toEqual([undefined, 'node-1', 'node-1'])
  })
})

describe('the client refuses', () => {
  test('a forged answer', async () => {
    const fixture = await start()
    const send: SendStep = async (action, body, node) => {
      const reply = await fixture.send(action, body, node)
      if (action !== 'call') return reply
      const { signature: _, ...answer } = readMessage('answer', reply)
      return canonicalBytes(sign(answer, KeyPair.generate()))
    }
    expect(await failureOf(() => fixture.open({ send }))).toMatchObject(forged('answer'))
  })

  test('another mesh than the one it means, on both sides', async () => {
    const fixture = await start()
    const other = KeyPair.generate()
    expect(await failureOf(() => fixture.open({ mesh: other.did })))
      .toMatchObject(refused('call', `it is meant for the mesh ${other.did}`))
    const send: SendStep = async (action, body, node) => {
      if (action !== 'call') return fixture.send(action, body, node)
      const { audience: _, ...call } = readMessage('call', body)
      return fixture.send('call', canonicalBytes(call), node)
    }
    expect(await failureOf(() => fixture.open({ send, mesh: other.did })))
      .toMatchObject(refused('answer', `it comes from the mesh ${fixture.mesh.did}`))
  })

  test('a call that was changed on the way: the wish, the key', async () => {
    const fixture = await start()
    for (const change of [{ want: ['read >'] }, { key: KeyPair.generate().publicKey.text }]) {
      const send = tampering(fixture.send, 'call', body => canonicalBytes({ ...readMessage('call', body), ...change }))
      expect(await failureOf(() => fixture.open({ send }))).toMatchObject(refused('answer', 'it answers another call'))
    }
  })

  test('a grant that was narrowed or widened on the way', async () => {
    const fixture = await start()
    for (const perms of [['read 0xS:>'], ['read,write >']]) {
      const send: SendStep = async (action, body, node) => {
        const reply = await fixture.send(action, body, node)
        return action === 'confirm' ? canonicalBytes({ ...readMessage('grant', reply), perms }) : reply
      }
      expect(await failureOf(() => fixture.open({ send }))).toMatchObject(forged('grant'))
    }
  })

  test('somebody else\'s token', async () => {
    const fixture = await start()
    const other = await fixture.open()
    const send: SendStep = async (action, body, node) => {
      const reply = await fixture.send(action, body, node)
      if (action !== 'consent') return reply
      return canonicalBytes({ ...readMessage('session', reply), token: other.token, sid: other.sid })
    }
    expect(await failureOf(() => fixture.open({ send })))
      .toMatchObject(refused('session', 'its token belongs to another session'))
  })

  test('a proof it cannot make', async () => {
    const provider: IdentityProvider = Object.assign(new DidIdentityProvider(), { name: 'irma' as 'did' })
    const fixture = await start({ provider })
    expect(await failureOf(() => fixture.open()))
      .toMatchObject(refused('answer', 'it wants a proof by irma, which this client cannot make'))
    const identity = KeyPair.generate()
    await expect(fixture.open({ identity, prove: (_, context) => makeDidProof(context, identity) }))
      .resolves.toMatchObject({ sub: identity.did })
  })
})

describe('the node refuses, and burns the handshake for', () => {
  const opened = async (): Promise<Hand> => {
    const hand = new Hand(await start())
    await hand.open()
    return hand
  }

  test('a confirm not signed by the session key', async () => {
    const hand = await opened()
    expect(await failureOf(() => hand.send('confirm', hand.confirmation({}, KeyPair.generate()))))
      .toMatchObject(forged('confirm'))
    await hand.expectBurned()
  })

  test('a proof not signed by the DID', async () => {
    const hand = await opened()
    const proof = { ...makeDidProof(hand.context, KeyPair.generate()), did: hand.identity.did }
    expect(await failureOf(() => hand.send('confirm', hand.confirmation({ proof })))).toMatchObject(forged('proof'))
    await hand.expectBurned()
  })

  test('a proof made for another handshake', async () => {
    const hand = await opened()
    const context = { ...hand.context, handshake: random(16) }
    expect(await failureOf(() => hand.send('confirm', hand.confirmation({ proof: makeDidProof(context, hand.identity) }))))
      .toMatchObject(forged('proof'))
    await hand.expectBurned()
  })

  test('a swapped nonce', async () => {
    const hand = await opened()
    const nonce = random(32)
    const proof = makeDidProof({ ...hand.context, nonce }, hand.identity)
    expect(await failureOf(() => hand.send('confirm', hand.confirmation({ nonce, proof }))))
      .toMatchObject(refused('confirm', 'its nonce is not the one of this handshake'))
    await hand.expectBurned()
  })

  test('a wrong audience', async () => {
    const hand = await opened()
    const audience = KeyPair.generate().did
    const proof = makeDidProof({ ...hand.context, audience }, hand.identity)
    expect(await failureOf(() => hand.send('confirm', hand.confirmation({ audience, proof }))))
      .toMatchObject(refused('confirm', 'it is meant for another mesh'))
    await hand.expectBurned()
  })

  test('a replayed confirm', async () => {
    const hand = await opened()
    const confirm = hand.confirmation()
    await hand.send('confirm', confirm)
    expect(await failureOf(() => hand.send('confirm', confirm)))
      .toMatchObject(refused('confirm', 'this handshake awaits its consent'))
    await hand.expectBurned()
  })

  test('a confirm sent twice at once: one grant at most', async () => {
    const hand = await opened()
    const confirm = hand.confirmation()
    const outcomes = await Promise.allSettled([hand.send('confirm', confirm), hand.send('confirm', confirm)])
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
  })

  test('a confirm of a handshake recorded from another session', async () => {
    const fixture = await start()
    const [victim, thief] = [new Hand(fixture), new Hand(fixture)]
    await victim.open()
    await thief.open()
    const stolen = { ...victim.confirmation({ cookie: thief.answer.cookie as string }), handshake: thief.context.handshake }
    expect(await failureOf(() => thief.send('confirm', stolen)))
      .toMatchObject(refused('confirm', 'its nonce is not the one of this handshake'))
  })

  test('a forged consent', async () => {
    const hand = await opened()
    const grant = await hand.grant()
    expect(await failureOf(() => hand.send('consent', makeConsent(grant, KeyPair.generate())))).toMatchObject(forged('consent'))
    await hand.expectBurned()
  })

  test('a consent to a wider grant', async () => {
    const hand = await opened()
    const grant = await hand.grant()
    const wider = { ...grant, perms: OPERATOR_SET.map(formatPermission) }
    expect(await failureOf(() => hand.send('consent', makeConsent(wider, hand.key))))
      .toMatchObject(refused('consent', 'it agrees to another grant than the one that was shown'))
    await hand.expectBurned()
  })

  test('a replayed consent', async () => {
    const hand = await opened()
    const grant = await hand.grant()
    await hand.session(grant)
    expect(await failureOf(() => hand.session(grant)))
      .toMatchObject(refused('consent', 'there is no such handshake, or it is over'))
    await hand.expectBurned()
  })

  test('a consent before the confirm', async () => {
    const hand = new Hand(await start({ provider: stateful() }))
    await hand.open()
    const consent: ConsentMessage = sign({ step: 'consent', handshake: hand.context.handshake, grant: random(32) }, hand.key)
    expect(await failureOf(() => hand.send('consent', consent)))
      .toMatchObject(refused('consent', 'this handshake awaits its confirm'))
    await hand.expectBurned()
  })

  test('a call that has expired, at either step', async () => {
    const fixture = await start({ provider: stateful() })
    for (const steps of [0, 1]) {
      const hand = new Hand(fixture)
      await hand.open()
      fixture.clock.ms += 59_999
      const grant = steps === 1 ? await hand.grant() : undefined
      fixture.clock.ms += 1
      expect(await failureOf(() => (grant === undefined ? hand.grant() : hand.session(grant))))
        .toMatchObject(refused(grant === undefined ? 'confirm' : 'consent', 'the call has expired'))
      await hand.expectBurned()
    }
  })

  test('a provider that fails, without a word of it to the caller', async () => {
    const provider = new DidIdentityProvider()
    const fixture = await start({ provider })
    jest.spyOn(provider, 'verify').mockRejectedValueOnce(new Error('password of the database: hunter2'))
    const hand = new Hand(fixture)
    await hand.open()
    const failure = await failureOf(() => hand.grant())
    expect(failure).toMatchObject({ code: 'CMESH_INTERNAL', retry: 'bug' })
    expect(JSON.stringify(failure.toWire())).not.toContain('hunter2')
    await hand.expectBurned()
  })

  test('and lets the provider forget it', async () => {
    const provider = new DidIdentityProvider()
    const cancel = jest.spyOn(provider, 'cancel')
    const hand = new Hand(await start({ provider }))
    await hand.open()
    await failureOf(() => hand.send('confirm', hand.confirmation({}, KeyPair.generate())))
    expect(cancel.mock.calls).toEqual([[hand.context]])
  })
})

describe('the node refuses', () => {
  test('an unknown handshake', async () => {
    const hand = new Hand(await start())
    await hand.open()
    const context = { ...hand.context, handshake: random(16) }
    const confirm = makeConfirm(context, makeDidProof(context, hand.identity), hand.key)
    expect(await failureOf(() => hand.send('confirm', confirm)))
      .toMatchObject(refused('confirm', 'there is no such handshake, or it is over'))
    await expect(hand.grant()).resolves.toMatchObject({ sub: hand.identity.did })
  })

  test.each(refusedKeys.smallOrder)('the small-order session key %s', async hex => {
    const hand = new Hand(await start())
    const call = { ...makeCall({ sessionKey: hand.key.publicKey }), key: Buffer.from(hex, 'hex').toString('base64url') }
    expect(await failureOf(() => hand.send('call', call)))
      .toMatchObject({ code: 'CMESH_IAM_KEY', message: 'The key is refused: it is a point of small order.' })
    expect(hand.iam.open).toBe(0)
  })

  test('a body that is too large, not JSON or another step\'s', async () => {
    const { iam } = await start()
    expect(await failureOf(() => iam.handle('call', Buffer.alloc(49_153))))
      .toMatchObject({ code: 'CMESH_FRAME_TOO_LARGE', status: 413 })
    expect(await failureOf(() => iam.handle('call', Buffer.from('{'))))
      .toMatchObject(refused('call', 'its body is not canonical JSON'))
    expect(await failureOf(() => iam.handle('consent', canonicalBytes({ step: 'call' }))))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE' })
    expect(await failureOf(() => iam.handle('grant' as HandshakeAction, Buffer.alloc(0))))
      .toMatchObject({ code: 'CMESH_ROUTER_ACTION', status: 405 })
  })

  test('more handshakes than it keeps, until the oldest has expired', async () => {
    const provider = stateful()
    const cancel = jest.spyOn(provider, 'cancel')
    const fixture = await start({ provider, maxHandshakes: 2 })
    const hands = [new Hand(fixture), new Hand(fixture), new Hand(fixture)] as const
    await hands[0].open()
    fixture.clock.ms += 10_000
    await hands[1].open()
    const failure = await failureOf(() => hands[2].open())
    expect(failure).toMatchObject({ code: 'CMESH_IAM_BUSY', status: 429, retry: 'retry', detail: { retryAfterMs: 50_000 } })
    expect(fixture.iam.open).toBe(2)

    fixture.clock.ms += 50_000
    await hands[2].open()
    expect(cancel.mock.calls).toEqual([[hands[0].context]])
    await expect(hands[1].grant()).resolves.toMatchObject({ sub: hands[1].identity.did })
    expect(fixture.iam.open).toBe(2)
  })

  test('no handshake for those that are being worked on but not yet answered', async () => {
    const provider = stateful()
    let letGo = (): void => {}
    const held = new Promise<void>(resolve => { letGo = resolve })
    jest.spyOn(provider, 'begin').mockImplementation(async context => {
      await held
      return { challenge: context.transcript }
    })
    const fixture = await start({ provider, maxHandshakes: 1 })
    const first = new Hand(fixture).open()
    expect(await failureOf(() => new Hand(fixture).open())).toMatchObject({ code: 'CMESH_IAM_BUSY' })
    letGo()
    await first
    expect(fixture.iam.open).toBe(1)
  })
})

describe('a session', () => {
  const live = async (parts?: Parameters<typeof start>[0]): Promise<{ fixture: IamFixture, session: Session }> => {
    const fixture = await start(parts)
    return { fixture, session: await fixture.open() }
  }

  test('is refreshed by a signature of its key, under the same sid with a new token', async () => {
    const { fixture, session } = await live()
    fixture.clock.ms += 200_000
    const renewed = await refresh(session, fixture.send, fixture.clock.ms)
    expect(renewed)
      .toMatchObject({ sid: session.sid, sub: session.sub, perms: session.perms, expires: fixture.clock.ms + 300_000 })
    expect(renewed.token).not.toBe(session.token)
    await expect(fixture.enter(renewed)).resolves.toMatchObject({ sid: session.sid })
    await expect(fixture.enter(session)).resolves.toMatchObject({ sid: session.sid })
  })

  test('is refreshed up to 60 s after it expired, and not later', async () => {
    const { fixture, session } = await live()
    fixture.clock.ms += 359_000
    const renewed = await refresh(session, fixture.send, fixture.clock.ms)
    fixture.clock.ms += 360_000
    expect(await failureOf(() => refresh(renewed, fixture.send, fixture.clock.ms)))
      .toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the token has expired' } })
  })

  test('is not refreshed once it was revoked, nor when its subject was', async () => {
    for (const by of ['sid', 'sub'] as const) {
      const { fixture, session } = await live()
      fixture.guard.revoke({ [by]: session[by] })
      expect(await failureOf(() => refresh(session, fixture.send, fixture.clock.ms)))
        .toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the session was revoked' } })
    }
  })

  test('is not refreshed by another key, a changed message or a token of another mesh', async () => {
    const { fixture, session } = await live()
    const now = fixture.clock.ms
    const send = (message: unknown): Promise<Uint8Array> => fixture.iam.handle('refresh', canonicalBytes(message))
    expect(await failureOf(() => send(makeRenewal('refresh', session.token, KeyPair.generate(), now))))
      .toMatchObject(refused('refresh', 'its key is not the one of the session'))
    expect(await failureOf(() => send({ ...makeRenewal('refresh', session.token, session.key, now), issued: now + 1 })))
      .toMatchObject(forged('refresh'))
    const other = await live()
    expect(await failureOf(() => refresh(other.session, fixture.send, now))).toMatchObject({ code: 'CMESH_IAM_NO_SESSION' })
  })

  test('is not refreshed by a replay, or by a message far from the node\'s clock', async () => {
    const { fixture, session } = await live()
    const now = fixture.clock.ms
    const send = (issued: number): Promise<Uint8Array> => fixture.iam.handle(
      'refresh', canonicalBytes(makeRenewal('refresh', session.token, session.key, issued)),
    )
    await send(now)
    expect(await failureOf(() => send(now)))
      .toMatchObject(refused('refresh', 'it is not newer than the last one of this session'))
    expect(await failureOf(() => send(now - 1)))
      .toMatchObject(refused('refresh', 'it is not newer than the last one of this session'))
    await send(now + 60_000)
    for (const issued of [now + 60_001, now - 60_001]) {
      expect(await failureOf(() => send(issued)))
        .toMatchObject(refused('refresh', 'its time is more than 60000 ms off this node\'s clock'))
    }
    fixture.clock.ms += 119_999
    expect(await failureOf(() => send(now + 60_000)))
      .toMatchObject(refused('refresh', 'it is not newer than the last one of this session'))
  })

  test('loses by a refresh what is not granted any more, and gains nothing', async () => {
    const fixture = await start()
    const identity = KeyPair.generate()
    fixture.grants.set(identity.did, parsePermissions(['newcomer', 'write 0xSW:0x001:>']))
    const session = await fixture.open({ identity })
    fixture.grants.set(identity.did, NEWCOMER_READ_SET)
    const less = await refresh(session, fixture.send, fixture.clock.ms)
    expect(less.perms).toEqual(['newcomer'])
    fixture.grants.set(identity.did, OPERATOR_SET)
    expect((await refresh(less, fixture.send, fixture.clock.ms + 1)).perms).toEqual(['newcomer'])
    fixture.grants.set(identity.did, [])
    expect(await failureOf(() => refresh(less, fixture.send, fixture.clock.ms + 2)))
      .toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'nothing it may do is granted any more' } })
  })

  test('is not renewed for who is banned, who is told so; nor does who is banned meanwhile get one', async () => {
    const banned = new Map<string, CMeshError>()
    const fixture = await start({ barred: did => banned.get(did) })
    const hand = new Hand(fixture)
    const { identity } = hand
    const session = await fixture.open({ identity })
    await hand.open()
    const grant = await hand.grant()
    const ban = new CMeshError('CMESH_IAM_BANNED', { did: identity.did, operator: fixture.mesh.did })
    banned.set(identity.did, ban)
    fixture.grants.set(identity.did, [])
    expect(await failureOf(() => refresh(session, fixture.send, fixture.clock.ms))).toBe(ban)
    expect(await failureOf(() => hand.session(grant))).toBe(ban)
    expect(await failureOf(() => fixture.open({ identity }))).toBe(ban)
    // One that lost its rights in another way is not told that.
    const other = KeyPair.generate()
    fixture.grants.set(other.did, [])
    expect(await failureOf(() => fixture.open({ identity: other }))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE' })
  })

  test('is over after a hangup by its key', async () => {
    const { fixture, session } = await live()
    const auth = await fixture.enter(session)
    await hangup(session, fixture.send, fixture.clock.ms)
    expect(await failureOf(() => fixture.enter(session))).toMatchObject({ detail: { reason: 'the session was revoked' } })
    expect(await failureOf(() => fixture.guard.authorise(auth, parseFqmn('0xI:whoami'))))
      .toMatchObject({ detail: { reason: 'the session was revoked' } })
    expect(await failureOf(() => refresh(session, fixture.send, fixture.clock.ms)))
      .toMatchObject({ detail: { reason: 'the session was revoked' } })
  })

  test('is over after a hangup over itself, and only itself', async () => {
    const { fixture, session } = await live()
    const other = await fixture.open()
    const reply = await fixture.iam.handle('hangup', Buffer.alloc(0), await fixture.enter(session))
    expect(parseCanonicalJson(reply)).toEqual({ step: 'bye', sid: session.sid })
    expect(await failureOf(() => fixture.enter(session))).toMatchObject({ code: 'CMESH_IAM_NO_SESSION' })
    await expect(fixture.enter(other)).resolves.toMatchObject({ sid: other.sid })
  })

  test('is not ended by somebody who only has its token', async () => {
    const { fixture, session } = await live()
    expect(await failureOf(() => hangup({ ...session, key: KeyPair.generate() }, fixture.send, fixture.clock.ms)))
      .toMatchObject(refused('hangup', 'its key is not the one of the session'))
    expect(await failureOf(() => fixture.iam.handle('hangup', Buffer.alloc(0)))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE' })
    await expect(fixture.enter(session)).resolves.toMatchObject({ sid: session.sid })
  })
})

describe('IAM describes', () => {
  test('who asks, the session, the grants and the mesh\'s key', async () => {
    const fixture = await start()
    const session = await fixture.open({ want: ['read 0xI:>'] })
    const auth = await fixture.enter(session)
    const { iam, mesh } = fixture
    expect(iam.describe('whoami', auth))
      .toEqual({ did: session.sub, aal: 1, amr: ['swk'], sid: session.sid, mesh: mesh.did, provider: 'did' })
    expect(iam.describe('session', auth)).toEqual({
      sid: session.sid, jti: auth.jti, did: session.sub, issued: session.issued, expires: session.expires,
      jkt: session.key.publicKey.thumbprint, perms: ['read 0xI:>'],
    })
    expect(iam.describe('jwks', auth))
      .toEqual({
        keys: [{ kty: 'OKP', crv: 'Ed25519', x: mesh.publicKey.text, kid: mesh.publicKey.thumbprint, alg: 'EdDSA', use: 'sig' }],
      })
    for (const action of ['whoami', 'session', 'keys', 'jwks']) expect(() => canonicalBytes(iam.describe(action, auth)))
      .not.toThrow()
  })

  test('nothing else', async () => {
    const fixture = await start()
    const auth = await fixture.enter(await fixture.open())
    expect(await failureOf(() => fixture.iam.describe('secrets', auth))).toMatchObject({
      code: 'CMESH_ROUTER_ACTION', status: 405, message: 'The IAM service has no action secrets for reading.',
    })
  })
})

describe('the life of IAM', () => {
  test('begins and ends once, and takes no step outside', async () => {
    const provider = new DidIdentityProvider()
    const calls = [jest.spyOn(provider, 'start'), jest.spyOn(provider, 'stop')]
    const mesh = KeyPair.generate()
    const grantsOf = (): typeof NEWCOMER_READ_SET => NEWCOMER_READ_SET
    const iam = new IamService({
      provider, signer: mesh, guard: new Guard({ key: mesh.publicKey, grantsOf }), grantsOf, node: 'node-1',
    })
    const call = canonicalBytes(makeCall({ sessionKey: KeyPair.generate().publicKey }))
    expect(await failureOf(() => iam.handle('call', call))).toMatchObject({ code: 'CMESH_ROUTER_DRAINING', status: 503 })
    await Promise.all([iam.start(), iam.start()])
    await expect(iam.handle('call', call)).resolves.toBeInstanceOf(Uint8Array)
    await Promise.all([iam.stop(), iam.stop()])
    expect(await failureOf(() => iam.handle('call', call))).toMatchObject({ code: 'CMESH_ROUTER_DRAINING' })
    expect(calls.map(({ mock }) => mock.calls.length)).toEqual([1, 1])
  })

  test('cancels at its end what is under way', async () => {
    const provider = stateful()
    const cancel = jest.spyOn(provider, 'cancel')
    const fixture = await start({ provider })
    const hand = new Hand(fixture)
    await hand.open()
    await fixture.iam.stop()
    expect(cancel.mock.calls).toEqual([[hand.context]])
    expect(fixture.iam.open).toBe(0)
  })

  test('does not begin on a provider that may not run', async () => {
    expect(await failureOf(() => startIam({ provider: new MockIdentityProvider() })))
      .toMatchObject({ code: 'CMESH_IAM_PROVIDER' })
  })

  test('refuses a token life that the guard would forget a revocation within', async () => {
    const failure = await failureOf(() => startIam({ sessionTtlMs: 300_001 }))
    expect(failure.message)
      .toBe('The setting sessionTtlMs is not valid: it must lie between 1000 and 300000, which the guard\'s tokenLifeMs allows.')
    const longer = await startIam({ sessionTtlMs: 600_000, tokenLifeMs: 660_000 })
    await longer.iam.stop()
  })
})

describe('the self-test', () => {
  const run = (fixture: IamFixture): Promise<Session> =>
    selfTestIam({ iam: fixture.iam, guard: fixture.guard, identity: KeyPair.generate(), mesh: fixture.mesh.did })

  test('leaves one session behind that works, and no handshake', async () => {
    const fixture = await start({ provider: stateful() })
    const session = await run(fixture)
    await expect(fixture.enter(session)).resolves.toMatchObject({ sid: session.sid })
    expect(fixture.iam.open).toBe(1)
  })

  test('passes with the mock provider and again on a second run', async () => {
    const fixture = await start({ provider: new MockIdentityProvider({ enabled: true }) })
    await run(fixture)
    await expect(run(fixture)).resolves.toMatchObject({ mesh: fixture.mesh.did })
  })

  test('fails on an IAM that takes a forged consent', async () => {
    const fixture = await start()
    const lax = fixture.iam.handle.bind(fixture.iam)
    const honest = await fixture.open()
    jest.spyOn(fixture.iam, 'handle').mockImplementation(async (action, body) => {
      if (action !== 'consent') return lax(action, body)
      const { sid, token, issued, expires } = honest
      return canonicalBytes({ step: 'session', sid, token, issued, expires })
    })
    const failure = await failureOf(() => run(fixture))
    expect(failure.code).toBe('CMESH_BOOT_FAILED')
    expect(failure.message).toMatch(/^Boot stopped at step iam: a forged consent was refused for another reason/)
  })

  test('fails on a guard that takes any token', async () => {
    const fixture = await start()
    const auth = await fixture.enter(await fixture.open())
    jest.spyOn(fixture.guard, 'check').mockReturnValue(auth)
    expect((await failureOf(() => run(fixture))).message).toBe('Boot stopped at step iam: a forged token was accepted')
  })

  test('fails, with the reason, on an IAM that does not work', async () => {
    const fixture = await start()
    jest.spyOn(fixture.guard, 'check').mockImplementation(() => { throw new Error('no such thing') })
    expect((await failureOf(() => run(fixture))).message)
      .toMatch(/^Boot stopped at step iam: a forged token was refused for another reason: no such thing/)
  })
})

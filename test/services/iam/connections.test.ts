/** The connection that a session has of its own: whose nkey it may be, what logs it in, and what ends it. */
import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, test } from '@jest/globals'
import { canonicalBytes } from '../../../cmtp/identity/canonical-json.ts'
import {
  checkAnswer, makeCall, makeConfirm, makeConsent, makeRenewal, sign, type CallOptions, type HandshakeContext,
} from '../../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { readMessage, type AnswerMessage, type CallMessage, type ConfirmMessage, type GrantMessage, type SessionMessage } from '../../../cmtp/identity/messages.ts'
import { Nkey, nkeyText } from '../../../cmtp/identity/nats-keys.ts'
import { makeDidProof } from '../../../cmtp/identity/proof.ts'
import { decodeToken, type TokenClaims } from '../../../cmtp/identity/token.ts'
import { DidIdentityProvider } from '../../../providers/iam/did.ts'
import type { BrokerSessions } from '../../../services/iam/connections.ts'
import { KeyRing } from '../../../services/iam/key-ring.ts'
import { LiveSessions } from '../../../services/iam/live-sessions.ts'
import type { Revocation } from '../../../services/iam/revocations.ts'
import { signToken } from '../../../services/iam/session-token.ts'
import { failureOf, startIam, type IamFixture } from '../../support/iam.ts'

const refused = (step: string, reason: string): object => ({ code: 'CMESH_IAM_HANDSHAKE', status: 401, detail: { step, reason } })
const started: IamFixture[] = []
afterEach(async () => {
  for (const { iam } of started.splice(0)) await iam.stop()
})

/** What IAM asked of the broker, in order. */
class Ledger implements BrokerSessions {
  readonly minted: { readonly nkey: string, readonly sid: string, readonly expiresMs: number }[] = []
  readonly barred: string[] = []

  mint(user: { readonly nkey: string, readonly sid: string, readonly expiresMs: number }): string {
    return `login ${this.minted.push(user)}`
  }

  async bar(nkeys: readonly string[]): Promise<void> {
    this.barred.push(...nkeys)
  }
}

interface Room extends IamFixture { readonly ledger: Ledger }

async function start(parts: Parameters<typeof startIam>[0] = {}): Promise<Room> {
  const ledger = new Ledger()
  const room = { ...await startIam({ connections: ledger, connectionTtlMs: 3_600_000, ...parts }), ledger }
  started.push(room)
  return room
}

/** A client that goes through the handshake by hand, with an nkey unless told otherwise. */
class Hand {
  readonly room: Room
  readonly identity: KeyPair
  readonly key = KeyPair.generate()
  readonly nkey: Nkey | undefined
  call!: CallMessage
  answer!: AnswerMessage
  context!: HandshakeContext

  constructor(room: Room, { identity = KeyPair.generate(), nkey = Nkey.generate('user') }: { readonly identity?: KeyPair, readonly nkey?: Nkey | 'none' } = {}) {
    this.room = room
    this.identity = identity
    this.nkey = nkey === 'none' ? undefined : nkey
  }

  async open(options: Partial<CallOptions> = {}): Promise<this> {
    this.call = makeCall({ sessionKey: this.key.publicKey, ...(this.nkey !== undefined && { nkey: this.nkey.text }), ...options })
    this.answer = readMessage('answer', await this.room.iam.handle('call', canonicalBytes(this.call)))
    this.context = checkAnswer(this.call, this.answer)
    return this
  }

  confirmation(nkey: Pick<Nkey, 'sign'> | undefined = this.nkey): ConfirmMessage {
    return makeConfirm(this.context, makeDidProof(this.context, this.identity), this.key, this.answer.cookie, nkey)
  }

  async confirm(confirm: ConfirmMessage = this.confirmation()): Promise<GrantMessage> {
    return readMessage('grant', await this.room.iam.handle('confirm', canonicalBytes(confirm)))
  }

  async consent(grant: GrantMessage): Promise<SessionMessage> {
    return readMessage('session', await this.room.iam.handle('consent', canonicalBytes(makeConsent(grant, this.key))))
  }

  async session(): Promise<SessionMessage> {
    await this.open()
    return this.consent(await this.confirm())
  }

  async refresh({ token }: Pick<SessionMessage, 'token'>, issued = this.room.clock.ms): Promise<SessionMessage> {
    return readMessage('session', await this.room.iam.handle('refresh', canonicalBytes(makeRenewal('refresh', token, this.key, issued))))
  }

  hangup({ token }: SessionMessage): Promise<Uint8Array> {
    return this.room.iam.handle('hangup', canonicalBytes(makeRenewal('hangup', token, this.key, this.room.clock.ms)))
  }
}

const asNkey = (pair: KeyPair): string => nkeyText('user', pair.publicKey.toBytes())

describe('a session with an nkey', () => {
  test('gets a login for that nkey and its own sid, which its token names', async () => {
    const room = await start()
    const hand = new Hand(room)
    const session = await hand.session()
    expect(decodeToken(session.token).cnf).toEqual({ jkt: hand.key.publicKey.thumbprint, nkey: hand.nkey?.text })
    expect(room.ledger.minted).toEqual([{ nkey: hand.nkey?.text, sid: session.sid, expiresMs: room.clock.ms + 3_600_000 }])
    expect(session.connection).toEqual({ jwt: 'login 1', expires: room.clock.ms + 3_600_000 })
  })

  test('gets another by each refresh, for the same nkey', async () => {
    const room = await start({ connectionTtlMs: 4_500 })
    const hand = new Hand(room)
    const session = await hand.session()
    room.clock.ms += 1_700
    const renewed = await hand.refresh(session)
    expect(renewed.connection).toEqual({ jwt: 'login 2', expires: room.clock.ms - 1_700 + 6_000 })
    expect(room.ledger.minted.map(({ nkey, sid }) => [nkey, sid])).toEqual(Array.from({ length: 2 }, () => [hand.nkey?.text, session.sid]))
    expect(decodeToken(renewed.token).cnf).toEqual(decodeToken(session.token).cnf)
  })

  test('has none where the broker has no accounts, and keeps its nkey all the same', async () => {
    const bare = { ...await startIam(), ledger: new Ledger() }
    started.push(bare)
    const hand = new Hand(bare)
    const session = await hand.session()
    expect(session).not.toHaveProperty('connection')
    expect(decodeToken((await hand.refresh(session)).token).cnf.nkey).toBe(hand.nkey?.text)
  })

  test('and one without have nothing of each other', async () => {
    const room = await start()
    const hand = new Hand(room, { nkey: 'none' })
    const session = await hand.session()
    expect(session).not.toHaveProperty('connection')
    expect(decodeToken(session.token).cnf).toEqual({ jkt: hand.key.publicKey.thumbprint })
    expect(room.ledger.minted).toEqual([])
  })

  test.each([true, false])('has it checked by a provider that keeps its handshakes, or not: stateless %s', async stateless => {
    const room = await start({ provider: Object.defineProperty(new DidIdentityProvider(), 'stateless', { value: stateless }) })
    const hand = await new Hand(room).open()
    expect(await failureOf(() => hand.confirm(hand.confirmation(Nkey.generate('user'))))).toMatchObject({ code: 'CMESH_IAM_FORGED' })
    await expect(new Hand(room).session()).resolves.toHaveProperty('connection')
  })
})

describe('an nkey is refused', () => {
  test('that is no user\'s, misspelt or of small order', async () => {
    const room = await start()
    const good = Nkey.generate('user').text
    const flipped = good.endsWith('A') ? `${good.slice(0, -1)}Q` : `${good.slice(0, -1)}A`
    for (const nkey of [flipped, nkeyText('user', Buffer.alloc(32))]) {
      expect(await failureOf(() => new Hand(room).open({ nkey }))).toMatchObject({ code: 'CMESH_IAM_KEY' })
    }
    for (const nkey of [Nkey.generate('account').text, good.toLowerCase(), `${good}A`, '']) {
      expect(await failureOf(() => new Hand(room).open({ nkey }))).toMatchObject(refused('call', 'the field nkey is not valid'))
    }
    expect(room.iam.open).toBe(0)
  })

  test('that is the key of the session', async () => {
    const room = await start()
    const hand = new Hand(room)
    expect(await failureOf(() => hand.open({ nkey: asNkey(hand.key) }))).toMatchObject(refused('call', 'its nkey is the key of the session'))
  })

  test('that is the mesh\'s own key, the node\'s, or one that signs tokens', async () => {
    const [root, node] = [KeyPair.generate(), KeyPair.generate()]
    const ring = new KeyRing({ root })
    const room = await start({ signer: root, ring, keys: ring, node: node.did })
    for (const pair of [root, node, ring.current]) {
      expect(await failureOf(() => new Hand(room).open({ nkey: asNkey(pair) }))).toMatchObject(refused('call', 'its nkey is a key of the mesh'))
    }
  })

  test('that is the key of the identity', async () => {
    const room = await start()
    const seed = randomBytes(32)
    const hand = await new Hand(room, { identity: KeyPair.fromSeed(seed), nkey: Nkey.fromBytes('user', seed) }).open()
    expect(await failureOf(() => hand.confirm())).toMatchObject(refused('confirm', 'its nkey is the key of the identity'))
    expect(room.iam.open).toBe(0)
  })

  test('of a session that lives, at the call and, where two ask at once, at the consent', async () => {
    const room = await start()
    const nkey = Nkey.generate('user')
    const [first, second] = [new Hand(room, { nkey }), new Hand(room, { nkey })]
    await first.open()
    await second.open()
    const grants = [await first.confirm(), await second.confirm()] as const
    const outcomes = await Promise.allSettled([first.consent(grants[0]), second.consent(grants[1])])
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'rejected'])
    expect(outcomes[1]).toMatchObject({ reason: refused('consent', 'its nkey is the one of a session that lives') })
    expect(await failureOf(() => new Hand(room, { nkey }).open())).toMatchObject(refused('call', 'its nkey is the one of a session that lives'))
    expect(room.ledger.minted).toHaveLength(1)
  })

  test('of a session that was ended, by its own word or a ban', async () => {
    const room = await start()
    const said = refused('call', 'its nkey is the one of a session that was ended; make another')
    const [hand, banned] = [new Hand(room), new Hand(room)]
    await hand.hangup(await hand.session())
    expect(await failureOf(() => new Hand(room, { nkey: hand.nkey as Nkey }).open())).toMatchObject(said)
    await banned.session()
    room.guard.revoke({ sub: banned.identity.did }, room.clock.ms)
    expect(await failureOf(() => new Hand(room, { nkey: banned.nkey as Nkey }).open())).toMatchObject(said)
    await new Hand(room).session()
  })

  test('after a restart too, once the session was seen again', async () => {
    const before = await start()
    const hand = new Hand(before)
    const session = await hand.session()
    const after = await start({ signer: before.mesh })
    await after.guard.check(Buffer.from(session.token), session.sid)
    expect(await failureOf(() => new Hand(after, { nkey: hand.nkey as Nkey }).open()))
      .toMatchObject(refused('call', 'its nkey is the one of a session that lives'))
  })
})

describe('a confirm is refused, and its handshake burned,', () => {
  const burned = async (hand: Hand): Promise<void> => {
    expect(await failureOf(() => hand.confirm())).toMatchObject(refused('confirm', 'there is no such handshake, or it is over'))
    expect(hand.room.ledger.minted).toEqual([])
  }

  test('without a proof of the nkey that the call named', async () => {
    const hand = await new Hand(await start()).open()
    const { possession: _, signature: _signature, ...bare } = hand.confirmation()
    expect(await failureOf(() => hand.confirm(sign(bare, hand.key)))).toMatchObject(refused('confirm', 'it does not prove the nkey of the call'))
    await burned(hand)
  })

  test('with a proof of an nkey where the call named none', async () => {
    const hand = await new Hand(await start(), { nkey: 'none' }).open()
    expect(await failureOf(() => hand.confirm(hand.confirmation(Nkey.generate('user')))))
      .toMatchObject(refused('confirm', 'it proves an nkey that the call did not name'))
    await burned(hand)
  })

  test.each<[string, (hand: Hand) => Pick<Nkey, 'sign'>]>([
    ['by another nkey: the nkey was swapped', () => Nkey.generate('user')],
    ['by the session\'s key', ({ key }) => key],
    ['by the identity', ({ identity }) => identity],
    ['over what a broker has it sign', ({ nkey }) => ({ sign: () => nkey?.sign(Buffer.from('a nonce of a broker')) as Buffer })],
    ['over another handshake', ({ nkey }) => ({ sign: () => nkey?.sign(Buffer.from(`CMesh/1 nkey\n${randomBytes(32).toString('base64url')}`)) as Buffer })],
    ['without its prefix', ({ nkey, context }) => ({ sign: () => nkey?.sign(Buffer.from(context.transcript)) as Buffer })],
    ['of zeros', () => ({ sign: () => Buffer.alloc(64) })],
  ])('with a proof %s', async (_, prover) => {
    const hand = await new Hand(await start()).open()
    expect(await failureOf(() => hand.confirm(hand.confirmation(prover(hand)))))
      .toMatchObject({ code: 'CMESH_IAM_FORGED', status: 401, detail: { what: 'proof of the nkey' } })
    await burned(hand)
  })

  test('when the nkey of the call was changed on the way: the client sees another call answered', async () => {
    const room = await start()
    const hand = new Hand(room)
    const call = makeCall({ sessionKey: hand.key.publicKey, nkey: (hand.nkey as Nkey).text })
    const swapped = { ...call, nkey: Nkey.generate('user').text }
    const answer = readMessage('answer', await room.iam.handle('call', canonicalBytes(swapped)))
    expect(await failureOf(() => checkAnswer(call, answer))).toMatchObject(refused('answer', 'it answers another call'))
  })
})

describe('a connection ends with its session:', () => {
  const opened = async (): Promise<{ readonly room: Room, readonly hand: Hand, readonly session: SessionMessage, readonly other: SessionMessage }> => {
    const room = await start()
    const hand = new Hand(room)
    return { room, hand, session: await hand.session(), other: await new Hand(room).session() }
  }
  const subOf = ({ token }: SessionMessage): string => decodeToken(token).sub

  test('by a hangup of its key, which is written down first, so that the answer still finds it', async () => {
    let writtenDown = (): void => {}
    let begins = (): void => {}
    const begun = new Promise<void>(resolve => { begins = resolve })
    const room: Room = await start({ revoke: revocation => new Promise(resolve => {
      room.guard.revoke(revocation)
      writtenDown = resolve
      begins()
    }) })
    const hand = new Hand(room)
    const session = await hand.session()
    const bye = hand.hangup(session)
    await begun
    expect(await failureOf(() => hand.refresh(session))).toMatchObject({ detail: { reason: 'the session was revoked' } })
    expect(room.ledger.barred).toEqual([])
    writtenDown()
    await bye
    expect(room.ledger.barred).toEqual([hand.nkey?.text])
  })

  test('by a hangup at a node that never saw it', async () => {
    const { room, hand, session } = await opened()
    const elsewhere = await start({ signer: room.mesh })
    await elsewhere.iam.handle('hangup', canonicalBytes(makeRenewal('hangup', session.token, hand.key, room.clock.ms)))
    expect(elsewhere.ledger.barred).toEqual([hand.nkey?.text])
  })

  test('by a hangup over itself', async () => {
    const { room, hand, session } = await opened()
    await room.iam.handle('hangup', Buffer.alloc(0), await room.guard.check(Buffer.from(session.token), session.sid))
    expect(room.ledger.barred).toEqual([hand.nkey?.text])
  })

  test('by a hangup that could not be written down', async () => {
    const revocations: Revocation[] = []
    const room = await start({ revoke: async revocation => {
      revocations.push(revocation)
      throw new Error('the disk is full')
    } })
    const hand = new Hand(room)
    const session = await hand.session()
    await expect(hand.hangup(session)).rejects.toThrow('the disk is full')
    expect(room.ledger.barred).toEqual([hand.nkey?.text])
    expect(revocations).toEqual([{ sid: session.sid, nkey: hand.nkey?.text }])
  })

  test.each<[string, (session: SessionMessage) => Revocation]>([
    ['its sid', ({ sid }) => ({ sid })],
    ['its subject', session => ({ sub: subOf(session) })],
  ])('by a revocation of %s, from wherever it came, and no other does', async (_, revocation) => {
    const { room, hand, session } = await opened()
    room.guard.revoke(revocation(session))
    expect(room.ledger.barred).toEqual([hand.nkey?.text])
    room.guard.revoke(revocation(session))
    expect(room.ledger.barred).toEqual([hand.nkey?.text])
  })

  test('by an entry of another node that names the nkey, though this node never saw the session', async () => {
    const { room, hand, session } = await opened()
    const elsewhere = await start({ signer: room.mesh })
    elsewhere.guard.revoke({ sid: session.sid, nkey: hand.nkey?.text as string })
    expect(elsewhere.ledger.barred).toEqual([hand.nkey?.text])
  })

  test('all of them, where a subject with several is banned; one that began after the ban stays', async () => {
    const room = await start()
    const identity = KeyPair.generate()
    const before = [new Hand(room, { identity }), new Hand(room, { identity })]
    for (const hand of before) await hand.session()
    const bannedMs = room.clock.ms
    room.clock.ms += 2_000
    const after = new Hand(room, { identity })
    await after.session()
    room.guard.revoke({ sub: identity.did }, bannedMs)
    expect(new Set(room.ledger.barred)).toEqual(new Set(before.map(({ nkey }) => nkey?.text)))
  })

  test('by a ban after a restart, once the session was seen again', async () => {
    const { room, hand, session } = await opened()
    const after = await start({ signer: room.mesh })
    await after.guard.check(Buffer.from(session.token), session.sid)
    after.guard.revoke({ sub: subOf(session) })
    expect(after.ledger.barred).toEqual([hand.nkey?.text])
  })

  test('and not by the end of one token', async () => {
    const { room, session } = await opened()
    room.guard.revoke({ jti: decodeToken(session.token).jti })
    expect(room.ledger.barred).toEqual([])
  })

  test('and a revoked session gets no other login', async () => {
    const { room, hand, session } = await opened()
    room.guard.revoke({ sid: session.sid })
    expect(await failureOf(() => hand.refresh(session))).toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the session was revoked' } })
    expect(room.ledger.minted).toHaveLength(2)
  })

  test('nor one whose subject lost everything between the grant and the consent', async () => {
    const room = await start()
    const hand = await new Hand(room).open()
    const grant = await hand.confirm()
    room.grants.set(hand.identity.did, [])
    expect(await failureOf(() => hand.consent(grant))).toMatchObject(refused('consent', 'nothing of it is granted to this identity any more'))
    expect(room.ledger.minted).toEqual([])
  })
})

describe('the token of a session that lives', () => {
  test('with another nkey in it, even signed by the mesh, renews nothing', async () => {
    const room = await start()
    const hand = new Hand(room)
    const session = await hand.session()
    const claims = decodeToken(session.token)
    const swapped = (cnf: TokenClaims['cnf']): { token: string } => ({ token: signToken({ ...claims, cnf }, room.mesh) })
    for (const cnf of [{ ...claims.cnf, nkey: Nkey.generate('user').text }, { jkt: claims.cnf.jkt }]) {
      expect(await failureOf(() => hand.refresh(swapped(cnf))))
        .toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the token is for another connection' } })
    }
    expect(room.ledger.minted).toHaveLength(1)
    await expect(hand.refresh(session)).resolves.toHaveProperty('connection')
  })

  test('of somebody else renews nothing for the nkey of a thief', async () => {
    const room = await start()
    const [victim, thief] = [new Hand(room), new Hand(room)]
    const session = await victim.session()
    await thief.session()
    expect(await failureOf(() => thief.refresh(session))).toMatchObject(refused('refresh', 'its key is not the one of the session'))
    expect(room.ledger.minted).toHaveLength(2)
  })
})

describe('the sessions that are remembered', () => {
  const claims = (n: number, sub = 'did:key:z'): Pick<TokenClaims, 'sid' | 'sub' | 'iat' | 'cnf'> => ({ sid: `sid-${n}`, sub, iat: 10, cnf: { jkt: 'x', nkey: `U${n}` } })

  test('are no more than they may be: those last renewed', () => {
    const live = new LiveSessions(() => 0, 3)
    for (let n = 0; n < 3; n++) live.note(claims(n), 100)
    live.note(claims(0), 100)
    for (let n = 3; n < 5; n++) live.note(claims(n), 100)
    expect([live.size, [0, 1, 2, 3, 4].map(n => live.nkeyOf(`sid-${n}`))]).toEqual([3, ['U0', undefined, undefined, 'U3', 'U4']])
    expect([0, 1, 2, 3, 4].map(n => live.serves(`U${n}`))).toEqual([true, false, false, true, true])
    expect(live.take({ sub: 'did:key:z' }, 10_000)).toHaveLength(3)
    expect([live.size, live.serves('U0')]).toEqual([0, false])
    expect([0, 1, 2, 3, 4].map(n => live.wasEnded(`U${n}`))).toEqual([true, false, false, true, true])
  })

  test('are over when their login is', () => {
    const clock = { ms: 0 }
    const live = new LiveSessions(() => clock.ms)
    live.note(claims(1), 100)
    clock.ms = 99
    expect([live.nkeyOf('sid-1'), live.serves('U1')]).toEqual(['U1', true])
    clock.ms = 100
    expect([live.nkeyOf('sid-1'), live.serves('U1')]).toEqual([undefined, false])
  })
})

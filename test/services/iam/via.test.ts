/** The gateway a session names when it is opened: asked for, shown, consented to, and in every token of the session. */
import { randomBytes } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { canonicalBytes } from '../../../cmtp/identity/canonical-json.ts'
import { sign } from '../../../cmtp/identity/handshake.ts'
import { login, refresh, type SendStep, type Session } from '../../../cmtp/identity/login.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { readMessage, type GrantMessage } from '../../../cmtp/identity/messages.ts'
import { decodeToken, tokenReference } from '../../../cmtp/identity/token.ts'
import { signToken } from '../../../services/iam/session-token.ts'
import { failureOf, startIam, type IamFixture } from '../../support/iam.ts'

const random = (): string => randomBytes(16).toString('base64url')
const refused = (step: string, reason: string): object => ({ code: 'CMESH_IAM_HANDSHAKE', status: 401, detail: { step, reason } })
const reference = ({ token }: Session): Buffer => tokenReference(Buffer.from(token))

let fixture: IamFixture
let gateway: Session
beforeEach(async () => {
  fixture = await startIam()
  gateway = await fixture.open()
})
afterEach(() => fixture.iam.stop())

/** A mesh that signs another grant than it should. */
const granting = (change: (grant: Omit<GrantMessage, 'signature'>) => Omit<GrantMessage, 'signature'>): SendStep => async (action, body, node) => {
  const reply = await fixture.send(action, body, node)
  if (action !== 'confirm') return reply
  const { signature: _, ...grant } = readMessage('grant', reply)
  return canonicalBytes(sign(change(grant), fixture.mesh))
}

/** A mesh that signs a token with another gateway than was consented to, at one step. */
const issuing = (which: 'consent' | 'refresh', via: string | undefined): SendStep => async (action, body, node) => {
  const reply = await fixture.send(action, body, node)
  if (action !== which) return reply
  const session = readMessage('session', reply)
  const { via: _, ...claims } = decodeToken(session.token)
  return canonicalBytes({ ...session, token: signToken({ ...claims, ...(via !== undefined && { via }) }, fixture.mesh) })
}

describe('a session that names a gateway', () => {
  test('shows it in the grant that is consented to, and has it in its token', async () => {
    const shown: GrantMessage[] = []
    const session = await fixture.open({ via: gateway.sid, approve: grant => shown.push(grant) === 1 })
    expect(shown[0]?.via).toBe(gateway.sid)
    expect(session.via).toBe(gateway.sid)
    expect(decodeToken(session.token).via).toBe(gateway.sid)
    const auth = await fixture.enter(session)
    expect(fixture.guard.checkCarried(reference(session), gateway.sid)).toBe(auth)
    expect(auth.sub).toBe(session.sub)
  })

  test('keeps it when it is refreshed', async () => {
    const session = await fixture.open({ via: gateway.sid })
    await fixture.enter(session)
    fixture.clock.ms += 1_000
    const renewed = await refresh(session, fixture.send, fixture.clock.ms)
    expect([renewed.sid, renewed.via, decodeToken(renewed.token).via]).toEqual([session.sid, gateway.sid, gateway.sid])
    const auth = await fixture.enter(renewed)
    expect(fixture.guard.checkCarried(reference(renewed), gateway.sid)).toBe(auth)
    expect(await failureOf(() => fixture.guard.checkCarried(reference(session), gateway.sid))).toMatchObject({ code: 'CMESH_IAM_TOKEN' })
  })

  test('is worth no more than its own grants, and ends by itself', async () => {
    const session = await fixture.open({ via: gateway.sid, want: ['read 0xS:0x001:>'] })
    const auth = await fixture.enter(session)
    expect(auth.permissions).toHaveLength(1)
    fixture.guard.revoke({ sid: gateway.sid })
    // Whether the gateway is good is asked of the gateway's own token; the session it carried lives on.
    expect(fixture.guard.check(reference(session), session.sid)).toBe(auth)
    fixture.guard.revoke({ sid: session.sid })
    expect(await failureOf(() => fixture.guard.checkCarried(reference(session), gateway.sid))).toMatchObject({ code: 'CMESH_IAM_NO_SESSION' })
  })

  test('may name one that there is none of, which carries nothing then', async () => {
    const session = await fixture.open({ via: random() })
    await fixture.enter(session)
    expect(await failureOf(() => fixture.guard.checkCarried(reference(session), gateway.sid))).toMatchObject({ code: 'CMESH_IAM_TOKEN' })
  })

  test.each(['', 'short', 'with a space in its sixteen', 'a'.repeat(65)])('does not name %j, which is no session', async via => {
    expect(await failureOf(() => fixture.open({ via }))).toMatchObject(refused('call', 'the field via is not valid'))
  })
})

test('a session that names none is in no grant, no token and no gateway\'s frame', async () => {
  const shown: GrantMessage[] = []
  const session = await fixture.open({ approve: grant => shown.push(grant) === 1 })
  expect([Object.keys(shown[0] ?? {}), Object.keys(session), Object.keys(decodeToken(session.token))].flat()).not.toContain('via')
  await fixture.enter(session)
  expect(fixture.guard.carried).toBe(0)
})

describe('the client refuses', () => {
  test('a grant that names another gateway than it asked for, or none', async () => {
    const failed = refused('grant', 'it names another gateway')
    expect(await failureOf(() => fixture.open({ via: gateway.sid, send: granting(grant => ({ ...grant, via: random() })) }))).toMatchObject(failed)
    expect(await failureOf(() => fixture.open({ via: gateway.sid, send: granting(({ via: _, ...grant }) => grant) }))).toMatchObject(failed)
    expect(fixture.iam.open).toBe(2)
  })

  test('a grant that names a gateway it did not ask for', async () => {
    expect(await failureOf(() => fixture.open({ send: granting(grant => ({ ...grant, via: gateway.sid })) }))).toMatchObject(refused('grant', 'it names another gateway'))
  })

  test('a grant whose gateway was changed on the way', async () => {
    const send: SendStep = async (action, body, node) => {
      const reply = await fixture.send(action, body, node)
      return action === 'confirm' ? canonicalBytes({ ...readMessage('grant', reply), via: random() }) : reply
    }
    expect(await failureOf(() => fixture.open({ via: gateway.sid, send }))).toMatchObject({ code: 'CMESH_IAM_FORGED', detail: { what: 'grant' } })
  })

  test('a call whose gateway was changed on the way', async () => {
    const send: SendStep = (action, body, node) =>
      fixture.send(action, action === 'call' ? canonicalBytes({ ...readMessage('call', body), via: random() }) : body, node)
    expect(await failureOf(() => fixture.open({ via: gateway.sid, send }))).toMatchObject(refused('answer', 'it answers another call'))
  })

  test('a token that names another gateway than was consented to, or none, or one where none was', async () => {
    const failed = refused('session', 'its token names another gateway')
    for (const via of [random(), undefined]) {
      expect(await failureOf(() => login({ identity: KeyPair.generate(), via: gateway.sid, send: issuing('consent', via) }))).toMatchObject(failed)
    }
    expect(await failureOf(() => fixture.open({ send: issuing('consent', gateway.sid) }))).toMatchObject(failed)
    const session = await fixture.open({ via: gateway.sid })
    for (const via of [random(), undefined]) {
      fixture.clock.ms += 1_000
      expect(await failureOf(() => refresh(session, issuing('refresh', via), fixture.clock.ms))).toMatchObject(failed)
    }
  })
})

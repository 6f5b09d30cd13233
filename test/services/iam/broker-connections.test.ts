/** IAM and a real broker with accounts: what a session's login opens, and that whatever ends the session ends its connection. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { hangup, refresh, type Session } from '../../../cmtp/identity/login.ts'
import { decodeNatsJwt } from '../../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../../cmtp/identity/nats-keys.ts'
import { inboxPrefix, REQUEST_WILDCARD, requestSubject, sessionOfSubject } from '../../../cmtp/subject.ts'
import { connectNats, type NatsBus } from '../../../providers/bus/nats.ts'
import { until } from '../../client/support/until.ts'
import { startBroker, type TestBroker } from '../../support/broker.ts'
import { failureOf, startIam, type IamFixture } from '../../support/iam.ts'

let broker: TestBroker
let iam: IamFixture
/** Sessions whose requests the router's connection heard. */
const heard: (string | undefined)[] = []
const opened: NatsBus[] = []
/** A session that nobody ends. */
let bystander: { readonly session: Session, readonly bus: NatsBus }

beforeAll(async () => {
  broker = await startBroker()
  iam = await startIam({ connections: broker.sessions, now: Date.now })
  broker.mesh.subscribe(REQUEST_WILDCARD, ({ subject }) => { heard.push(sessionOfSubject(subject)) })
  await broker.mesh.flush()
  bystander = await enter()
})
afterAll(async () => {
  await Promise.all(opened.map(bus => bus.close()))
  await iam.iam.stop()
  await broker.stop()
})
beforeEach(() => { heard.length = 0 })

async function enter(identity = KeyPair.generate()): Promise<{ readonly session: Session, readonly bus: NatsBus }> {
  const session = await iam.open({ identity, nkey: Nkey.generate('user') })
  return { session, bus: await over(session) }
}

async function over({ nkey, connection, sid }: Session): Promise<NatsBus> {
  const bus = await connectNats({
    servers: broker.url, name: 'session', nkeySeed: nkey?.exportSeed() as string, jwt: connection?.jwt as string, inboxPrefix: inboxPrefix(sid).slice(0, -1),
    onError: () => {},
  })
  opened.push(bus)
  return bus
}

/** The connection of a session that was ended is cut, and let in no more; the bystander's is what it was. */
async function expectCut({ session, bus }: { readonly session: Session, readonly bus: NatsBus }): Promise<void> {
  await until('the connection is cut', () => bus.status !== 'connected')
  await bus.close()
  expect(await failureOf(() => over(session).then(async again => again.close()))).toMatchObject({ code: expect.stringMatching(/^CMESH_BUS_/) })
  expect(bystander.bus.status).toBe('connected')
  bystander.bus.publish(requestSubject(bystander.session.sid), Buffer.from('still here'))
  await until('the bystander is heard', () => heard.includes(bystander.session.sid))
}

test('a session\'s login opens a connection that speaks as this session, and each refresh brings one that does', async () => {
  const { session, bus } = await enter()
  const renewed = await refresh(session, iam.send, Date.now())
  const { jwt = '', expires = 0 } = renewed.connection ?? {}
  expect(decodeNatsJwt(jwt)).toMatchObject({ name: session.sid, sub: session.nkey?.text, exp: expires / 1_000 })
  const next = await over(renewed)
  for (const each of [bus, next]) {
    heard.length = 0
    each.publish(requestSubject(bystander.session.sid), Buffer.from('not mine'))
    each.publish(requestSubject(session.sid), Buffer.from('mine'))
    await until('it is heard', () => heard.includes(session.sid))
    expect(heard).toEqual([session.sid])
    await each.close()
  }
})

describe('the open connection of a session ends', () => {
  test('by its hangup', async () => {
    const one = await enter()
    await hangup(one.session, iam.send, Date.now())
    await expectCut(one)
  })

  test('by a revocation of the session, as another node or the log tells it', async () => {
    const one = await enter()
    iam.guard.revoke({ sid: one.session.sid })
    await expectCut(one)
  })

  test('by a ban of its subject: all of them', async () => {
    const identity = KeyPair.generate()
    const [one, other] = [await enter(identity), await enter(identity)]
    iam.guard.revoke({ sub: identity.did })
    await expectCut(one)
    await expectCut(other)
  })
})

/**
 * What a client of NATS can try that keeps to nothing, against a real node and its broker, on bare sockets: to get at what is
 * somebody else's, at the services, at JetStream; to log in as what it is not; to have others speak for it. All of it is refused, by
 * the broker or by the mesh, while an honest client asks on and is answered each time. What may be in frames and tokens is `bad-input.test.ts`'s.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type MeshClient } from '../../client/index.ts'
import { encodeReply, encodeRequest, type RequestFields } from '../../cmtp/frame.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import { makeRenewal } from '../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import { GUEST_LIMITS } from '../../cmtp/identity/nats-accounts.ts'
import { decodeNatsJwt, GUEST_ACCOUNT, GUEST_KEY_SEED, guestJwt, natsAuthenticator, scopedUserJwt, userJwt } from '../../cmtp/identity/nats-jwt.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { tokenReference } from '../../cmtp/identity/token.ts'
import { carriedSubject, eventSubject, helloSubject, inboxPrefix, mineSubject, requestSubject, REVOKED_SUBJECT, serviceSubject } from '../../cmtp/subject.ts'
import { until } from '../client/support/until.ts'
import { failureOf } from '../support/iam.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'
import { guestSocket, RawNats, readRaw, sessionSocket } from '../support/raw-nats.ts'
import { RawSocket, type RawLogin } from '../support/raw-socket.ts'

const HELLO = '0xS:0x001:hello_world'
const INCREMENT = '0xSW:0x002:increment'
const COUNT = '0xS:0x002:get'

const room = new NodeRoom()
const operator = KeyPair.generate()
let node: TestNode
let bystander: MeshClient
let asking: Promise<void>
let answered = 0
let failed: unknown
let done = false
/** Who is to be harmed, and who would: each with sockets and a session of its own. */
let victim: { readonly raw: RawNats, readonly session: Session }
let hostile: { readonly raw: RawNats, readonly session: Session }
const raws: { close(): void }[] = []

beforeAll(async () => {
  node = await room.start({ args: ['--operator', operator.did] })
  bystander = await connect({ url: node.url, mesh: node.descriptor.did, identity: KeyPair.generate(), retry: false })
  asking = (async () => {
    for (; !done && failed === undefined; answered++) {
      const reply = await bystander.call(`${HELLO}:["${answered}"]`)
      if (reply.json() !== `Hello, ${answered}`) throw new Error('the answer is another one')
    }
  })().catch((error: unknown) => { failed = error })
})
afterAll(async () => {
  done = true
  await asking
  await bystander.close()
  await room.close()
})

beforeEach(async () => {
  victim = await opened(operator)
  hostile = await opened(KeyPair.generate())
})

afterEach(async () => {
  const before = answered
  await until('the bystander is answered', () => answered > before + 5 || failed !== undefined)
  expect(failed).toBeUndefined()
  expect(victim.raw.unasked).toEqual([])
  expect(await ask(victim)).toMatchObject({ status: 200, json: 'Hello, world' })
  for (const raw of raws.splice(0)) raw.close()
})

async function opened(identity: KeyPair): Promise<typeof victim> {
  const raw = kept(await RawNats.connect(node.url))
  return { raw, session: await raw.login(identity) }
}

function kept<T extends { close(): void }>(raw: T): T {
  raws.push(raw)
  return raw
}

function frame({ raw, session }: typeof victim, fields: Partial<RequestFields> = {}): Buffer {
  return encodeRequest({ id: raw.ids.next(), fqmn: HELLO, token: Buffer.from(session.token), deadlineMs: Date.now() + 10_000, receipt: 'hash', ...fields })
}

const ask = (who: typeof victim, fields: Partial<RequestFields> = {}): ReturnType<RawNats['ask']> => who.raw.ask(requestSubject(who.session.sid), frame(who, fields))

/** Logs in and is refused; resolves with what the broker said. */
async function refusal(login: RawLogin): Promise<string> {
  const errors: string[] = []
  await expect(RawSocket.connect(node.url, { login, errors }).then(kept)).rejects.toThrow()
  return errors.join()
}

const nowS = (): number => Math.floor(Date.now() / 1_000)

/** A newcomer on a socket of its own, and the id of its connection. */
async function newcomer(): Promise<{ readonly socket: RawSocket, readonly cid: string }> {
  const nkey = Nkey.generate('user')
  return { socket: kept(await guestSocket(node.url, nkey)), cid: nkey.text }
}

describe.each<[string, () => Promise<{ readonly socket: RawSocket, readonly cid: string }>]>([
  ['a newcomer', newcomer],
  ['a session', async () => ({ socket: hostile.raw.socket(hostile.session.sid), cid: hostile.session.sid })],
])('%s', (_who, open) => {
  test('publishes nowhere but on its own subjects', async () => {
    const { socket, cid } = await open()
    const { sid } = victim.session
    const foreign = [
      requestSubject(sid), carriedSubject(sid, cid), carriedSubject(sid, sid), helloSubject(sid), helloSubject(sid, node.descriptor.node),
      helloSubject(victim.raw.cid), mineSubject(sid), 'cmesh.v1.mine', 'cmesh.v1.hello', `${requestSubject(cid)}.a.b`,
      `${inboxPrefix(sid)}1`, `${victim.raw.inbox}.1`, `_INBOX.${victim.raw.cid}.x.1`, '_INBOX.x',
      ...['state', 'iam', 'registrar', 'events', 'consensus'].map(service => serviceSubject(service, 'call')), REVOKED_SUBJECT, 'cmesh.v1.ctl.consensus.mock',
      eventSubject('audit'), eventSubject('events.mined'), `${eventSubject('audit')}.stored`, '$JS.API.INFO', '$JS.API.STREAM.NAMES', '$JS.API.STREAM.DELETE.CMESH_MINE',
      '$JS.API.STREAM.PURGE.CMESH_EVENTS', '$JS.API.CONSUMER.MSG.NEXT.CMESH_MINE.miner', '$JS.ACK.CMESH_MINE.miner.1.1.1.1.0', '$SYS.REQ.CLAIMS.UPDATE', '$SYS.REQ.SERVER.PING',
      '$SYS.REQ.USER.INFO', `$SYS.REQ.ACCOUNT.${GUEST_ACCOUNT}.CLAIMS.LOOKUP`, '$SYS.ACCOUNT.x.CONNECT', '_R_.x.y', 'anything', '>',
    ]
    for (const subject of foreign) socket.publish(subject, Buffer.from('noise'), `${socket.inbox}.1`)
    await socket.flush()
    expect(socket.errors).toEqual(foreign.map(subject => `'Permissions Violation for Publish to "${subject}"'`))
    expect(socket.unasked).toEqual([])
  })

  test('hears nothing but its own inbox', async () => {
    const { socket, cid } = await open()
    const { sid } = victim.session
    const foreign = [
      '>', '*', '*.>', '_INBOX.>', '_INBOX.*.>', '_INBOX.*', `${inboxPrefix(sid)}>`, `_INBOX.${victim.raw.cid}.>`, `_INBOX.${cid}*.>`, 'cmesh.>', 'cmesh.v1.>', 'cmesh.v1.req.*', 'cmesh.v1.req.>',
      requestSubject(sid), requestSubject(cid), 'cmesh.v1.hello.*', 'cmesh.v1.hello.>', 'cmesh.v1.mine.*', 'cmesh.v1.mine.>', 'cmesh.v1.svc.>', 'cmesh.v1.ctl.>', REVOKED_SUBJECT, 'cmesh.v1.evt.>',
      '$JS.>', '$JS.API.>', '$SYS.>', '_R_.>',
    ]
    for (const [i, subject] of foreign.entries()) socket.write(`SUB ${subject} ${100 + i}\r\n`)
    // As one of those who share the work.
    socket.write('SUB cmesh.v1.req.* router 1000\r\nSUB cmesh.v1.hello.* iam 1001\r\nSUB cmesh.v1.svc.state.call state 1002\r\n')
    await socket.flush()
    expect(socket.errors.map(error => /"([^"]*)"/.exec(error)?.[1])).toEqual([...foreign, 'cmesh.v1.req.*', 'cmesh.v1.hello.*', 'cmesh.v1.svc.state.call'])
    for (const error of socket.errors) expect(error).toMatch(/^'Permissions Violation for Subscription to /)
    expect(await ask(victim)).toMatchObject({ status: 200 })
    await socket.flush()
    expect(socket.unasked).toEqual([])
  })
})

test('a newcomer has a bounded share of the broker', async () => {
  const many = await newcomer()
  for (let i = 0; i < 50; i++) many.socket.write(`SUB ${many.socket.inbox}.${i} ${100 + i}\r\n`)
  const large = await newcomer()
  large.socket.publish(helloSubject(large.cid), Buffer.alloc(GUEST_LIMITS.payloadBytes + 1), `${large.socket.inbox}.1`)
  await until('both were stopped', () => many.socket.errors.length > 0 && !large.socket.open)
  expect(many.socket.errors.join()).toContain('maximum subscriptions exceeded')
  expect(large.socket.errors.join()).toMatch(/maximum payload/i)
})

describe('a login', () => {
  test('that is none, or one of the old kind, opens nothing', async () => {
    const seed = Nkey.generate('user')
    for (const login of [
      () => ({}), () => ({ user: 'client' }), (nonce?: string) => ({ ...natsAuthenticator(seed, () => guestJwt(seed, nowS()))(nonce), account: 'CORE' }), () => ({ user: 'core', pass: 'core' }), () => ({ auth_token: hostile.session.token }), () => ({ jwt: hostile.session.token }),
      (nonce = '') => ({ nkey: seed.text, sig: seed.sign(Buffer.from(nonce)).toString('base64url') }),
    ]) expect(await refusal(login)).toMatch(/Authorization Violation/i)
  })

  test('that somebody signed who may not is refused: for a session, an account, a wider template', async () => {
    const nkey = Nkey.generate('user')
    const mesh = String(decodeNatsJwt((hostile.session.connection as { jwt: string }).jwt).nats['issuer_account'])
    const guests = Nkey.fromSeed(GUEST_KEY_SEED)
    const own = Nkey.generate('account')
    const user = { nkey: nkey.text, name: victim.session.sid, nowS: nowS() }
    for (const jwt of [
      // Under the sessions' account: by a key of one's own, by the newcomers' key, by the session's own nkey.
      scopedUserJwt(own, { ...user, account: mesh }), userJwt(own, { ...user, account: mesh }), scopedUserJwt(guests, { ...user, account: mesh }),
      scopedUserJwt(hostile.session.nkey as Nkey, { ...user, account: mesh }),
      // An account that nobody knows, and a newcomer with rights of its own.
      userJwt(own, { ...user, account: own.text }), userJwt(guests, { ...user, account: GUEST_ACCOUNT, publish: ['>'], subscribe: ['>'] }),
      userJwt(own, { ...user, account: GUEST_ACCOUNT }), hostile.session.connection?.jwt.slice(0, -4) ?? '', '', 'noise',
    ]) expect(await refusal(natsAuthenticator(nkey, () => jwt))).toMatch(/Authorization Violation|maximum/i)
  })

  test('of another one\'s is worth nothing without its key', async () => {
    const nkey = Nkey.generate('user')
    const { jwt } = victim.session.connection as { jwt: string }
    expect(await refusal(natsAuthenticator(nkey, () => jwt))).toMatch(/Authorization Violation/i)
    expect(await refusal(() => ({ jwt }))).toMatch(/Authorization Violation/i)
    // Nor does a nonce signed for another connection do.
    expect(await refusal(() => ({ jwt, sig: (victim.session.nkey as Nkey).sign(Buffer.from('another nonce')).toString('base64url') }))).toMatch(/Authorization Violation/i)
    expect(await refusal(natsAuthenticator(nkey, () => guestJwt(Nkey.generate('user'), nowS())))).toMatch(/Authorization Violation/i)
  })

  test.each(['>', '*', '*.>', 'a.b', '{{name()}}'])('as a newcomer by the name of %s opens no more than any other', async name => {
    const nkey = Nkey.generate('user')
    const jwt = scopedUserJwt(Nkey.fromSeed(GUEST_KEY_SEED), { nkey: nkey.text, name, account: GUEST_ACCOUNT, nowS: nowS() })
    const login = (nonce?: string): Record<string, unknown> => ({ ...natsAuthenticator(nkey, () => jwt)(nonce), user: 'core', pass: 'core', name })
    const socket = kept(await RawSocket.connect(node.url, { login, inbox: `_INBOX.${nkey.text}.x` }))
    socket.write('SUB > 5\r\nSUB _INBOX.> 6\r\n')
    socket.publish(helloSubject(name), Buffer.from('noise'))
    await socket.flush()
    expect(socket.errors).toHaveLength(3)
    for (const error of socket.errors) expect(error).toContain('Permissions Violation')
  })
})

describe('credentials that are over', () => {
  test('end the connection they opened, and open none again: a session that was ended', async () => {
    const { raw, session } = hostile
    await raw.step('hangup', canonicalBytes(makeRenewal('hangup', session.token, session.key, Date.now())), undefined)
    const socket = raw.socket(session.sid)
    await until('the broker hung up', () => !socket.open)
    expect(socket.errors.join()).toMatch(/Authentication Revoked/i)
    expect(await refusal(natsAuthenticator(session.nkey as Nkey, () => session.connection?.jwt ?? ''))).toMatch(/Authorization Violation/i)
    // Neither is there a new login for it.
    const renewal = makeRenewal('refresh', session.token, session.key, Date.now() + 1)
    expect(await failureOf(() => raw.step('refresh', canonicalBytes(renewal), undefined))).toMatchObject({ status: 401 })
  })

  test('end the connection they opened, and open none again: a login that has expired', async () => {
    const short = await room.start({ args: ['--operator', operator.did], set: { 'iam.connectionTtlMs': 2_000 } })
    const raw = kept(await RawNats.connect(short.url))
    const session = await raw.login(KeyPair.generate())
    const socket = raw.socket(session.sid)
    await until('the broker hung up', () => !socket.open)
    expect(socket.errors.join()).toMatch(/Authentication Expired/i)
    // In its last second the broker may yet take it, and ends it at once.
    await until('the login is refused', () => sessionSocket(short.url, session).then(() => false, (error: unknown) => /Authentication Expired|Authorization Violation/i.test(String(error))))
    await short.stop()
  })
})

describe('another\'s session', () => {
  test('token is worth nothing on an own connection, whole or as a reference, asked, carried or mined', async () => {
    const before = (await ask(victim, { fqmn: COUNT })).json
    const { sid } = hostile.session
    const stolen = Buffer.from(victim.session.token)
    for (const token of [stolen, tokenReference(stolen)]) {
      for (const subject of [requestSubject(sid), carriedSubject(sid, victim.session.sid), carriedSubject(sid, sid)]) {
        expect(await hostile.raw.ask(subject, frame(victim, { fqmn: INCREMENT, token }))).toMatchObject({ status: 401 })
      }
    }
    const mined = async (): Promise<number> => metric(await node.metrics(), 'cmesh_mined_total', { source: 'stream', outcome: 'done' }) ?? 0
    const done = await mined()
    await hostile.raw.request(mineSubject(sid), frame(victim, { fqmn: INCREMENT }))
    await until('it was mined', async () => await mined() > done)
    expect((await ask(victim, { fqmn: COUNT })).json).toBe(before)
  })

  test('answers cannot be forged, by whoever knows where they go', async () => {
    const { subject, message } = victim.raw.expect()
    const request = frame(victim)
    for (const socket of [hostile.raw.socket(hostile.session.sid), (await newcomer()).socket]) {
      socket.publish(subject, encodeReply({ id: request.subarray(16, 32), status: 200, receipt: 'none', body: Buffer.from('"forged"') }))
      await socket.flush()
      expect(socket.errors).toEqual([`'Permissions Violation for Publish to "${subject}"'`])
    }
    victim.raw.publish(requestSubject(victim.session.sid), request, subject)
    expect(readRaw(await message)).toMatchObject({ status: 200, json: 'Hello, world' })
  })
})

describe('to have the mesh speak for one', () => {
  const places = (): readonly string[] => [
    `${victim.raw.inbox}.1`, `${inboxPrefix(victim.session.sid)}x`, `_INBOX.${victim.raw.cid}.x`, `_INBOX.${hostile.session.sid}`, `_INBOX.${hostile.session.sid}.`,
    `_INBOX.${hostile.session.sid}${victim.session.sid}.x`, '_INBOX.>', requestSubject(victim.session.sid), serviceSubject('state', 'call'), mineSubject('x'), mineSubject(victim.session.sid),
    helloSubject(victim.raw.cid), REVOKED_SUBJECT, eventSubject('audit'), '$JS.API.STREAM.NAMES', '$JS.API.STREAM.DELETE.CMESH_MINE', '$SYS.REQ.CLAIMS.UPDATE', 'anything', '>',
  ]

  test('is refused to who wants an answer anywhere but on an inbox of its own: nothing is done, nothing is said', async () => {
    const { raw, session } = hostile
    const dropped = async (): Promise<readonly number[]> => {
      const metrics = await node.metrics()
      return ['router', 'iam', 'miner'].map(at => metric(metrics, 'cmesh_messages_dropped_total', { at }) ?? 0)
    }
    const before = (await ask(victim, { fqmn: COUNT })).json
    const mined = async (): Promise<readonly unknown[]> => {
      const metrics = await node.metrics()
      return ['done', 'garbage'].map(outcome => metric(metrics, 'cmesh_mined_total', { source: 'stream', outcome }))
    }
    const [minedBefore, [routers = 0, doors = 0, miners = 0]] = [await mined(), await dropped()]
    const replies = places()
    for (const reply of replies) {
      for (const subject of [requestSubject(session.sid), carriedSubject(session.sid, 'carried')]) raw.publish(subject, frame(hostile, { fqmn: INCREMENT }), reply)
      for (const cid of [session.sid, raw.cid]) raw.publish(helloSubject(cid), Buffer.from('noise'), reply)
      raw.publish(mineSubject(session.sid), frame(hostile, { fqmn: INCREMENT }), reply)
    }
    await raw.flush()
    await until('all were dropped', async () => String(await dropped()) === String([routers + 2 * replies.length, doors + 2 * replies.length, miners + replies.length]))
    expect(raw.errors).toEqual([])
    expect((await ask(victim, { fqmn: COUNT })).json).toBe(before)
    expect(await mined()).toEqual(minedBefore)
    // The way that is meant goes on.
    expect(JSON.parse((await raw.request(mineSubject(session.sid), frame(hostile))).data.toString())).toMatchObject({ stream: 'CMESH_MINE' })
  })

  test('on an inbox of one\'s own that is none, or a pattern, harms nobody', async () => {
    const { raw, session } = hostile
    const own = inboxPrefix(session.sid)
    for (const reply of [`${own}>`, `${own}*`, `${own}*.>`, `${own}.x`, `${own}x.`, `${own}x..y`, `${own}${'x'.repeat(1_000)}`]) {
      raw.publish(requestSubject(session.sid), frame(hostile), reply)
      raw.publish(helloSubject(session.sid), Buffer.from('noise'), reply)
      raw.publish(mineSubject(session.sid), frame(hostile), reply)
    }
    for (const token of ['*', '>', '*.*']) raw.publish(`${requestSubject(session.sid)}.${token}`, frame(hostile), `${own}x`)
    await raw.flush()
    expect(await ask(hostile)).toMatchObject({ status: 200 })
    expect(JSON.parse((await raw.request(mineSubject(session.sid), frame(hostile))).data.toString())).toMatchObject({ stream: 'CMESH_MINE' })
  })

  test('is refused to who wants events there', async () => {
    for (const inbox of places()) {
      expect(await ask(hostile, { fqmn: '0xE:audible:tail', body: Buffer.from(JSON.stringify({ inbox })) })).toMatchObject({ status: 403, code: 'CMESH_EVENTS_TAIL' })
    }
  })
})

test('a flood of newcomers beyond the limit is refused, sessions do not notice, and newcomers get in again when it is over', async () => {
  const sockets: RawSocket[] = []
  const errors: string[] = []
  const flood = async (): Promise<void> => {
    const some = await Promise.allSettled(Array.from({ length: 64 }, () => guestSocket(node.url, Nkey.generate('user'), { errors })))
    sockets.push(...some.flatMap(each => (each.status === 'fulfilled' ? [kept(each.value)] : [])))
  }
  while (errors.length === 0) await flood()
  await flood()
  expect(sockets.length).toBeLessThanOrEqual(GUEST_LIMITS.connections)
  expect(sockets.length).toBeGreaterThan(GUEST_LIMITS.connections - 128)
  expect(new Set(errors)).toEqual(new Set(['\'maximum account active connections exceeded\'']))
  await expect(RawNats.connect(node.url)).rejects.toThrow(/connections exceeded/)
  const before = answered
  await until('the bystander is answered', () => answered > before + 5 || failed !== undefined)
  // A session that is open renews itself meanwhile, on its own connection.
  const { raw, session } = victim
  const renewal = encodeRequest({
    id: raw.ids.next(), fqmn: '0xIW:refresh', token: Buffer.alloc(0), deadlineMs: Date.now() + 10_000, receipt: 'none',
    body: canonicalBytes(makeRenewal('refresh', session.token, session.key, Date.now())),
  })
  const renewed = await raw.ask(helloSubject(session.sid), renewal)
  expect(renewed).toMatchObject({ status: 200, json: { sid: session.sid } })
  victim = { raw, session: { ...session, token: (renewed.json as { token: string }).token } }
  for (const socket of sockets) socket.close()
  await until('a newcomer gets in', () => RawNats.connect(node.url).then(again => kept(again).open, () => false))
})

import { mkdir, mkdtemp, readdir, readFile, rm, rmdir, stat, writeFile, appendFile, chmod } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals'
import fc from 'fast-check'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import { canonicalBytes, canonicalJson, parseCanonicalJson } from '../../../cmtp/identity/canonical-json.ts'
import { issueCertificate } from '../../../cmtp/identity/certificate.ts'
import { checkAnswer, makeCall, makeConfirm, makeConsent, makeRenewal } from '../../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { readMessage } from '../../../cmtp/identity/messages.ts'
import { makeDidProof } from '../../../cmtp/identity/proof.ts'
import { Nkey } from '../../../cmtp/identity/nats-keys.ts'
import { REVOKED_ASK_SUBJECT, REVOKED_SUBJECT } from '../../../cmtp/subject.ts'
import { FileKeyStore } from '../../../node/key-store.ts'
import { RevocationFile } from '../../../node/revocation-file.ts'
import { readFeed, writeFeed } from '../../../services/iam/feed-message.ts'
import { Feed } from '../../../services/iam/feed.ts'
import { KeyRing } from '../../../services/iam/key-ring.ts'
import type { RevocationEntry } from '../../../services/iam/revocation-log.ts'
import { HandBus } from '../../support/hand-bus.ts'
import { failureOf, startIam, type IamFixture } from '../../support/iam.ts'
import { keptLog } from '../../support/mesh.ts'

const root = KeyPair.fromSeed(Buffer.alloc(32, 9))
const START = 1_800_000_000_000
const READ = parseFqmn('0xI:whoami')

class MemoryLog {
  readonly entries: RevocationEntry[] = []
  load(): readonly RevocationEntry[] { return this.entries }
  async append(entry: RevocationEntry): Promise<void> { this.entries.push(entry) }
}

/** A broker that brings every message back at once, unless it is told not to. */
class EchoBus extends HandBus {
  deaf = false
  override publish(subject: string, data: Uint8Array): void {
    super.publish(subject, data)
    if (!this.deaf) this.bring(subject, { subject, data, reply: '' })
  }
}

interface Room { readonly fixture: IamFixture, readonly feed: Feed, readonly bus: EchoBus, readonly log: MemoryLog }
const started: Room[] = []

beforeEach(() => { jest.useFakeTimers() })
afterEach(async () => {
  jest.useRealTimers()
  for (const { feed, fixture } of started.splice(0)) {
    feed.stop()
    await fixture.iam.stop()
  }
})

async function start(log = new MemoryLog(), parts: Parameters<typeof startIam>[0] = {}): Promise<Room> {
  const clock = { ms: START }
  const bus = new EchoBus()
  const feed: Feed = new Feed({
    bus, signer: root, revocations: log, log: keptLog(), now: () => clock.ms, onEntry: ({ atMs, ...entry }) => { fixture.guard.revoke(entry, atMs) },
  })
  const iam = await startIam({ signer: root, now: () => clock.ms, heardMs: feed.heardMs, revoke: entry => feed.publish(entry), ...parts })
  const fixture: IamFixture = { ...iam, clock }
  await feed.start()
  const room = { fixture, feed, bus, log }
  started.push(room)
  return room
}

/** Time passes: the clock and the timers. */
async function pass(room: Room, ms: number): Promise<void> {
  for (let left = ms; left > 0; left -= 1_000) {
    room.fixture.clock.ms += Math.min(left, 1_000)
    await jest.advanceTimersByTimeAsync(Math.min(left, 1_000))
  }
}

describe('a feed that is heard', () => {
  test('lets everybody pass, for as long as its heart beats', async () => {
    const room = await start()
    const session = await room.fixture.open()
    const auth = await room.fixture.enter(session)
    await pass(room, 60_000)
    expect(room.fixture.guard.authorise(auth, READ)).toBe('0xI:>')
    // One that asked what was missed, and one when it began.
    expect(room.bus.published.length).toBe(62)
    expect(room.feed.heardMs()).toBe(room.fixture.clock.ms)
  })

  test('carries a hangup to the other nodes, and answers it when it is on disk', async () => {
    const room = await start()
    const { fixture, log, bus } = room
    const session = await fixture.open()
    const auth = await fixture.enter(session)
    await fixture.iam.handle('hangup', Buffer.alloc(0), auth)
    expect(log.entries).toEqual([{ sid: session.sid, atMs: START }])
    expect(readFeed(bus.published.at(-1)?.data)).toMatchObject({ entries: [{ sid: session.sid, atMs: START }] })
    expect(await failureOf(() => fixture.enter(session))).toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the session was revoked' } })
  })

  test('carries the nkey of the connection with it: told to the others, on disk, and barred again by a node that starts anew', async () => {
    const barred: string[] = []
    const connections = { mint: () => 'a login', bar: async (nkeys: readonly string[]) => { barred.push(...nkeys) } }
    const { fixture, feed, log, bus } = await start(new MemoryLog(), { connections })
    const nkey = Nkey.generate('user')
    const key = KeyPair.generate()
    const call = makeCall({ sessionKey: key.publicKey, nkey: nkey.text })
    const answer = readMessage('answer', await fixture.iam.handle('call', canonicalBytes(call)))
    const context = checkAnswer(call, answer)
    const confirm = makeConfirm(context, makeDidProof(context, KeyPair.generate()), key, answer.cookie, nkey)
    const grant = readMessage('grant', await fixture.iam.handle('confirm', canonicalBytes(confirm)))
    const session = readMessage('session', await fixture.iam.handle('consent', canonicalBytes(makeConsent(grant, key))))
    await fixture.iam.handle('hangup', canonicalBytes(makeRenewal('hangup', session.token, key, START)))
    const entry = { sid: session.sid, nkey: nkey.text, atMs: START }
    expect([log.entries, barred]).toEqual([[entry], [nkey.text]])
    expect(readFeed(bus.published.at(-1)?.data)).toMatchObject({ entries: [entry] })
    feed.stop()
    await start(log, { connections })
    expect(barred).toEqual([nkey.text, nkey.text])
  })

  test('puts in force what another node of the mesh revoked', async () => {
    const one = await start()
    const session = await one.fixture.open()
    await one.fixture.enter(session)
    const other = await start()
    await other.feed.publish({ sid: session.sid })
    const { data } = other.bus.published.at(-1) as { data: Uint8Array }
    one.bus.bring(REVOKED_SUBJECT, { subject: REVOKED_SUBJECT, data, reply: '' })
    expect(await failureOf(() => one.fixture.enter(session))).toMatchObject({ detail: { reason: 'the session was revoked' } })
  })

  test('takes nothing that the mesh did not sign, whatever it says', async () => {
    const { fixture, bus } = await start()
    const session = await fixture.open()
    await fixture.enter(session)
    const { signature, ...own } = parseCanonicalJson(bus.published.at(-1)?.data) as Record<string, unknown>
    const stranger = KeyPair.generate()
    const said = { ...own, boot: 'another', entries: [{ sid: session.sid, atMs: START }] }
    const by = (key: KeyPair, message: object): object => (
      { ...message, signature: key.sign(Buffer.from(`CMesh/1 revoked\n${canonicalJson(message)}`)).toString('base64url') })
    const bring = (message: object): void => { bus.bring(REVOKED_SUBJECT, { subject: REVOKED_SUBJECT, data: canonicalBytes(message), reply: '' }) }
    const theirs = { ...said, mesh: stranger.did }
    const forgeries = [{ ...said, signature }, by(stranger, said), by(stranger, theirs), { ...by(stranger, theirs), mesh: root.did }]
    for (const forgery of forgeries) bring(forgery)
    await expect(fixture.enter(session)).resolves.toMatchObject({ sid: session.sid })
    // The same by the mesh's own key counts.
    bring(by(root, said))
    expect(await failureOf(() => fixture.enter(session))).toMatchObject({ detail: { reason: 'the session was revoked' } })
  })

  test('asks nobody anew because words of a node\'s earlier run are sent once more', async () => {
    const room = await start()
    const node = KeyPair.generate()
    const speaker = { signer: node, certificate: issueCertificate(node.did, root, START) }
    const asks = (): number => room.bus.published.filter(({ subject }) => subject === REVOKED_ASK_SUBJECT).length
    const say = async (boot: string, n: number, timeMs: number): Promise<void> => {
      room.bus.bring(REVOKED_SUBJECT, { subject: REVOKED_SUBJECT, reply: '', data: writeFeed({ boot, n, timeMs, entries: [] }, speaker) })
      await pass(room, 1_000)
    }
    await say('now', 1, START)
    const before = asks()
    await say('before', 9, START - 60_000)
    await say('now', 2, START + 1_000)
    expect(asks()).toBe(before)
    // One that was started again is believed, and asked for what was missed.
    await say('next', 3, START + 2_000)
    expect(asks()).toBe(before + 1)
    expect(room.feed.present).toEqual([node.did])
  })

  test('is read whole or not at all, whatever the bytes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), bytes => { expect(readFeed(bytes)).toBeUndefined() }))
    const entry = { v: 1, mesh: 'm', boot: 'b', n: 1, timeMs: 1, entries: [{ sid: 's', atMs: 1 }], signature: 'x' }
    expect(readFeed(canonicalBytes(entry))).toEqual(entry)
    const [nkey, entries] = [Nkey.generate('user').text, (nkey: unknown): object => ({ entries: [{ sid: 's', nkey, atMs: 1 }] })]
    expect(readFeed(canonicalBytes({ ...entry, ...entries(nkey) }))).toMatchObject(entries(nkey))
    for (const change of [{ v: 2 }, { n: -1 }, { timeMs: 0.5 }, { entries: [{}] }, { entries: [{ atMs: 1 }] }, { entries: [{ sid: 1, atMs: 1 }] }, { entries: [{ sid: 's', atMs: 1, admin: 'x' }] }, { more: 1 },
      entries(nkey.slice(1)), entries(Nkey.generate('account').text), entries(7), { entries: [{ nkey, atMs: 1 }] }]) {
      expect(readFeed(canonicalBytes({ ...entry, ...change }))).toBeUndefined()
    }
  })
})

describe('a feed that is silent', () => {
  test('for more than 5 s lets nobody pass: 503, and never a 401 that would start a handshake', async () => {
    const room = await start()
    const { fixture, bus } = room
    const session = await fixture.open()
    const auth = await fixture.enter(session)
    bus.deaf = true
    await pass(room, 5_000)
    await expect(fixture.enter(session)).resolves.toBe(auth)
    await pass(room, 1)
    const stale = { code: 'CMESH_IAM_STALE', status: 503, retry: 'retry', detail: { silentMs: 5_001, retryAfterMs: 500 } }
    for (const use of [
      () => fixture.enter(session), () => fixture.guard.authorise(auth, READ), () => { fixture.guard.confirm(auth) }, () => fixture.open(),
      () => fixture.guard.check(Buffer.from('not a token at all'), session.sid), () => fixture.guard.checkCarried(Buffer.alloc(16), session.sid),
    ]) {
      const failure = await failureOf(use)
      expect(failure).toMatchObject(stale)
      expect(failure.toWire().prompt).toBeUndefined()
    }
  })

  test('is forgiven with the next message that comes back, and nobody has lost a session', async () => {
    const room = await start()
    const session = await room.fixture.open()
    room.bus.deaf = true
    await pass(room, 10_000)
    expect((await failureOf(() => room.fixture.enter(session))).code).toBe('CMESH_IAM_STALE')
    room.bus.deaf = false
    await pass(room, 1_000)
    await expect(room.fixture.enter(session)).resolves.toMatchObject({ sid: session.sid })
  })

  test('is not made to look alive by its own messages of before', async () => {
    const room = await start()
    await pass(room, 3_000)
    const recorded = room.bus.published.map(({ data }) => data)
    // Nor dead: an old one does not turn back what was heard since.
    room.bus.bring(REVOKED_SUBJECT, { subject: REVOKED_SUBJECT, data: recorded[0] as Uint8Array, reply: '' })
    expect(room.feed.heardMs()).toBe(room.fixture.clock.ms)
    room.bus.deaf = true
    await pass(room, 6_000)
    for (const data of recorded) room.bus.bring(REVOKED_SUBJECT, { subject: REVOKED_SUBJECT, data, reply: '' })
    expect((await failureOf(() => room.fixture.open())).code).toBe('CMESH_IAM_STALE')
  })

  test('at its start keeps the node from opening', async () => {
    const bus = new EchoBus()
    bus.deaf = true
    const feed = new Feed({ bus, signer: root, revocations: new MemoryLog(), log: keptLog(), now: () => START, onEntry: () => {} })
    const failure = failureOf(() => feed.start())
    await jest.advanceTimersByTimeAsync(3_000)
    expect(await failure).toMatchObject({ code: 'CMESH_IAM_STALE' })
    expect(bus.subscriptions.map(({ open }) => open)).toEqual([false, false])
  })
})

describe('what was revoked', () => {
  let dir: string
  beforeEach(async () => {
    jest.useRealTimers()
    dir = await mkdtemp(path.join(tmpdir(), 'cmesh-revoked-'))
  })
  afterEach(() => rm(dir, { recursive: true, force: true }))

  test('counts after a restart, for the moment it was revoked at and no later one', async () => {
    const log = new MemoryLog()
    const before = await start(log)
    const identity = KeyPair.generate()
    const session = await before.fixture.open({ identity })
    await before.feed.publish({ sub: session.sub })
    const after = await start(log)
    expect(await failureOf(() => after.fixture.enter(session))).toMatchObject({ detail: { reason: 'the session was revoked' } })
    after.fixture.clock.ms += 1_000
    await expect(after.fixture.open({ identity }).then(after.fixture.enter)).resolves.toMatchObject({ sub: session.sub })
  })

  test('is kept in a file that nobody else can read, without what is too old to match and lines that were torn', async () => {
    const inner = path.join(dir, 'iam')
    const file = new RevocationFile(inner, 360_000, () => START)
    expect(file.load()).toEqual([])
    const fresh = Array.from({ length: 50 }, (_, i): RevocationEntry => ({ sid: `session-${i}`, atMs: START - i }))
    await Promise.all([...fresh, { jti: 'old', atMs: START - 360_001 }].map(entry => file.append(entry)))
    await appendFile(path.join(inner, 'revoked.jsonl'), '{"sid":"torn')
    expect(new RevocationFile(inner, 360_000, () => START).load()).toEqual(fresh)
    const text = await readFile(path.join(inner, 'revoked.jsonl'), 'utf8')
    expect(text.split('\n')).toHaveLength(51)
    expect((await stat(path.join(inner, 'revoked.jsonl'))).mode & 0o077).toBe(0)
  })

  test('goes on on a line of its own behind an append that failed half-way', async () => {
    const file = new RevocationFile(dir, 360_000, () => START)
    file.load()
    const at = path.join(dir, 'revoked.jsonl')
    await rm(at, { force: true })
    await mkdir(at)
    await expect(file.append({ sid: 'session-b', atMs: START })).rejects.toThrow()
    await rmdir(at)
    await writeFile(at, '{"sid":"half')
    await file.append({ sid: 'session-c', atMs: START })
    expect(new RevocationFile(dir, 360_000, () => START).load()).toEqual([{ sid: 'session-c', atMs: START }])
  })

  test('goes on behind a line that was torn', async () => {
    const file = new RevocationFile(dir, 360_000, () => START)
    await writeFile(path.join(dir, 'revoked.jsonl'), '{"sid":"torn')
    expect(file.load()).toEqual([])
    await file.append({ sid: 'session-one', atMs: START })
    expect(file.load()).toEqual([{ sid: 'session-one', atMs: START }])
  })

  test('of keys, and the keys themselves, come back from a file that nobody else can read', async () => {
    const store = new FileKeyStore(path.join(dir, 'iam'))
    expect(store.load()).toBeUndefined()
    const ring = new KeyRing({ root, store, now: () => START })
    const dropped = ring.current.publicKey.thumbprint
    ring.drop(dropped)
    const again = new KeyRing({ root, store, now: () => START })
    expect([again.current.did, again.verifierOf(dropped)]).toEqual([ring.current.did, undefined])
    const file = path.join(dir, 'iam', 'keys.json')
    expect((await stat(file)).mode & 0o077).toBe(0)
    // Of a kill between writing and renaming.
    await writeFile(`${file}.4711`, '{}')
    store.load()
    expect(await readdir(path.join(dir, 'iam'))).toEqual(['keys.json'])
    await chmod(file, 0o644)
    expect(await failureOf(() => store.load())).toMatchObject({ code: 'CMESH_IAM_KEY', message: `The key is refused: ${file} can be read by others; run chmod 600 on it.` })
    await chmod(file, 0o600)
    for (const text of ['', '{', '{}', '{"version":1,"epoch":1,"keys":[]}', '{"version":1,"epoch":1,"keys":[{"seed":"AA","notAfter":0}]}']) {
      await writeFile(file, text)
      expect(await failureOf(() => store.load())).toMatchObject({ code: 'CMESH_IAM_KEY' })
    }
  })
})

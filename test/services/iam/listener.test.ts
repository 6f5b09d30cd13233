import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { encodeRequest } from '../../../cmtp/frame.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { login, type SendStep } from '../../../cmtp/identity/login.ts'
import { decodeLayers } from '../../../cmtp/layer.ts'
import { verifyReceipt } from '../../../cmtp/receipt/verify.ts'
import { HELLO_WILDCARD, helloNodeSubject, helloSubject } from '../../../cmtp/subject.ts'
import type { ReceiptLevel } from '../../../cmtp/wire.ts'
import { MockAuditLog } from '../../../providers/audit/mock.ts'
import { Batcher } from '../../../services/audit/batcher.ts'
import { ReceiptWriter } from '../../../services/audit/receipts.ts'
import { IamListener, type IamListenerParts } from '../../../services/iam/listener.ts'
import { HandBus } from '../../support/hand-bus.ts'
import { startIam, type IamFixture } from '../../support/iam.ts'
import { keptLog, readAnswer, testClock, type Answer } from '../../support/mesh.ts'
import { recomputedHash } from '../../support/receipts.ts'

const NODE = 'did:key:z6MkNode'
const ID = Buffer.alloc(16, 2)
/** The connection of a newcomer, and where it listens. */
const CID = 'UNEWCOMER'
const REPLY = `_INBOX.${CID}.1`

let iam: IamFixture
beforeAll(async () => { iam = await startIam({ node: NODE }) })
afterAll(() => iam.iam.stop())

interface Listening {
  readonly bus: HandBus
  readonly listener: IamListener
  /** On the subject of any node, or of the one named. */
  bring(data: Uint8Array, node?: string, reply?: string): void
  ask(data: Uint8Array, node?: string): Promise<Answer>
}

async function listening(parts: Partial<IamListenerParts> = {}): Promise<Listening> {
  const bus = new HandBus()
  const listener = new IamListener({ buses: [bus], iam: iam.iam, node: NODE, clock: testClock(iam.clock), log: keptLog(), ...parts })
  await listener.start()
  const bring = (data: Uint8Array, node?: string, reply = REPLY): void => {
    bus.bring(node === undefined ? HELLO_WILDCARD : helloNodeSubject(node), { subject: helloSubject(CID, node), reply, data })
  }
  return {
    bus, listener, bring,
    ask: async (data, node) => {
      const before = bus.published.length
      const published = new Promise<Uint8Array>(resolve => { bus.onPublish = (_, frame) => { resolve(frame) } })
      bring(data, node)
      const answer = readAnswer(await published)
      expect(bus.published.length).toBe(before + 1)
      return answer
    },
  }
}

function step(fqmn: string, body: Uint8Array = Buffer.alloc(0), receipt: ReceiptLevel = 'hash'): Buffer {
  return encodeRequest({ id: ID, fqmn, token: Buffer.alloc(0), deadlineMs: 1, receipt, body })
}

describe('the door for newcomers', () => {
  test('is a subject for each connection, shared by the nodes, and one of this node alone; among newcomers and among sessions', async () => {
    const [guests, sessions] = [new HandBus(), new HandBus()]
    await listening({ buses: [guests, sessions] })
    for (const bus of [guests, sessions]) {
      expect(bus.subscriptions.map(({ subject, queue }) => [subject, queue])).toEqual([['cmesh.v1.hello.*', 'iam'], ['cmesh.v1.hello.*.did=3akey=3az6MkNode', undefined]])
      expect(bus.flushes).toHaveLength(1)
    }
    // Where the broker has no accounts both are one connection, which must hear each step once.
    const both = new HandBus()
    await listening({ buses: [both, both] })
    expect(both.subscriptions).toHaveLength(2)
  })

  test('gives out no sessions while the node\'s clock is not that of the others, since it could not say for how long they hold', async () => {
    let apart: CMeshError | undefined = new CMeshError('CMESH_STATE_CLOCK', { reason: 'it is 3600 s behind that of the other members' })
    let asked = 0
    const { ask } = await listening({ clockApart: () => apart, iam: { handle: async () => { asked++; return Buffer.from('{}') } } })
    expect(await ask(step('0xIW:call'))).toMatchObject({ status: 503, code: 'CMESH_STATE_CLOCK' })
    expect(asked).toBe(0)
    apart = undefined
    expect(await ask(step('0xIW:call'))).toMatchObject({ status: 200 })
  })

  test('answers over the connection that a step came in on', async () => {
    const [guests, sessions] = [new HandBus(), new HandBus()]
    const { listener } = await listening({ buses: [guests, sessions], iam: { handle: async () => Buffer.from('{}') } })
    for (const [bus, cid] of [[guests, CID], [sessions, 'session-1']] as const) {
      bus.bring(HELLO_WILDCARD, { subject: helloSubject(cid), reply: `_INBOX.${cid}.1`, data: step('0xIW:call') })
    }
    await listener.drain()
    expect([guests, sessions].map(bus => bus.published.map(({ subject }) => subject))).toEqual([[REPLY], ['_INBOX.session-1.1']])
  })

  test('leads through the whole handshake to a session that the guard knows', async () => {
    const { ask } = await listening()
    const send: SendStep = async (action, body, node) => (await ask(step(`0xIW:${action}`, body), node)).frame.body
    const identity = KeyPair.generate()
    const session = await login({ identity, send, mesh: iam.mesh.did })
    expect(await iam.guard.check(Buffer.from(session.token), session.sid)).toMatchObject({ sub: identity.did })
  })

  test.each([
    '0xS:0x001:hello_world', '0xSW:0x002:increment', '0xI:whoami', '0xI:jwks', '0xR:resolve:x.mcom', '0xE:chan', '0xC:status', '0xRW:register:x.mcom:0xS:0x001',
  ])('leads nowhere else: %s is 401 with the prompt', async fqmn => {
    const { ask } = await listening()
    const answer = await ask(step(fqmn))
    expect(answer).toMatchObject({ status: 401, code: 'CMESH_IAM_NO_SESSION', value: { prompt: 'identity' } })
    expect(answer.message).toContain('only the steps of the handshake are answered without one')
  })

  test('knows the steps and no other action', async () => {
    const { ask } = await listening()
    for (const action of ['grant', 'revoke', 'constructor', '__proto__', 'handle']) {
      expect(await ask(step(`0xIW:${action}`))).toMatchObject({ status: 405, code: 'CMESH_ROUTER_ACTION' })
    }
  })

  test.each<[string, () => Buffer, number, string]>([
    ['noise', () => Buffer.from('noise'), 400, 'CMESH_FRAME_MALFORMED'],
    ['a frame cut short', () => step('0xIW:call').subarray(0, 40), 400, 'CMESH_FRAME_MALFORMED'],
    ['no address', () => step('hello'), 400, 'CMESH_FQMN_OPCODE'],
    ['a step whose body is none', () => step('0xIW:call', Buffer.from('noise')), 401, 'CMESH_IAM_HANDSHAKE'],
    ['a step too large', () => step('0xIW:call', Buffer.alloc(100_000)), 413, 'CMESH_FRAME_TOO_LARGE'],
  ])('answers %s with a coded error', async (_what, frame, status, code) => {
    const { ask } = await listening()
    const answer = await ask(frame())
    expect({ status: answer.status, code: answer.code }).toEqual({ status, code })
  })

  test('seals its answer at the level that was asked for, with its own layer last', async () => {
    const { ask } = await listening()
    const body = Buffer.from('{}')
    const full = await ask(step('0xIW:call', body, 'full'))
    expect(full.layers.map(({ hop, node, fqmn, status }) => ({ hop, node, fqmn, status }))).toEqual([{ hop: 'iam', node: NODE, fqmn: '0xIW:call', status: full.status }])
    expect(full.frame.finalHash.toString('hex')).toBe(recomputedHash(full.frame, { id: ID, sid: '', sub: '', requestBody: body }))
    expect((await ask(step('0xIW:call', body))).frame).toMatchObject({ receipt: 'hash', finalHash: expect.objectContaining({ length: 32 }) })
    expect((await ask(step('0xIW:call', body, 'none'))).frame).toMatchObject({ receipt: 'none', finalHash: expect.objectContaining({ length: 0 }) })
  })

  test('records each step with whom it proved, and what came of it: the answer at full has the receipt', async () => {
    const log = new MockAuditLog({ maxBytes: 1024 ** 3, maxAgeMs: 86_400_000 })
    const batcher = new Batcher({
      log, mesh: iam.mesh.did, node: iam.mesh.did, certificate: undefined, sign: data => iam.mesh.sign(data), clock: testClock(iam.clock),
      onRoot: () => undefined, onFailed: error => { throw error },
    })
    await batcher.start()
    const receipts = new ReceiptWriter({ log, certificate: undefined, guard: iam.guard, evidence: { of: () => undefined, bytes: 0 } })
    const { ask } = await listening({ audit: { batcher, receipts } })
    const told: unknown[] = []
    const send: SendStep = async (action, body, node) => {
      const { frame } = await ask(step(`0xIW:${action}`, body, 'full'), node)
      const verdict = verifyReceipt(decodeLayers(frame.layers).receipt, iam.mesh.did)
      if (!verdict.valid) throw verdict.error
      const { receipt: { sub, sid }, layers: [layer] } = verdict
      told.push([action, layer?.hop, layer?.fqmn, layer?.decision, layer?.status, sub, sid])
      return frame.body
    }
    const identity = KeyPair.generate()
    const { sid } = await login({ identity, send, mesh: iam.mesh.did })
    await send('call', Buffer.from('noise'), undefined)
    expect(told).toEqual([
      ['call', 'iam', '0xIW:call', 'allowed', 200, '', ''], ['confirm', 'iam', '0xIW:confirm', 'allowed', 200, identity.did, ''],
      ['consent', 'iam', '0xIW:consent', 'allowed', 200, identity.did, sid], ['call', 'iam', '0xIW:call', 'denied', 401, '', ''],
    ])
    // At the other levels, and what could not be read but said its id; what does not is not, and promises nothing.
    for (const data of [step('0xIW:call'), step('0xIW:call', undefined, 'none'), step('hello'), step('0xIW:call').subarray(0, 40), Buffer.from('noise')]) await ask(data)
    await batcher.flush()
    expect(batcher.stats.requests).toBe(4 + 4)
    expect((await ask(Buffer.from('noise'))).frame).toMatchObject({ receipt: 'none', status: 400 })
    await batcher.stop()
    expect(await ask(step('0xIW:call'))).toMatchObject({ status: 507, code: 'CMESH_AUDIT_FULL', frame: { receipt: 'none' } })
  })

  test.each([
    '', 'cmesh.v1.mine.x', 'cmesh.v1.req.x', '$JS.API.INFO', '_INBOX.somebody.1', `_INBOX.${CID}`, `_INBOX.${CID}.`, `_INBOX.${CID}X.1`, '_INBOX.>',
  ])('drops and counts what wants the answer at "%s"', async reply => {
    let steps = 0
    const { bus, bring, listener } = await listening({ iam: { handle: async () => { steps++; return Buffer.alloc(0) } } })
    bring(step('0xIW:call'), undefined, reply)
    bring(step('0xIW:confirm'), NODE, reply)
    await listener.drain()
    expect({ steps, published: bus.published.length, dropped: listener.dropped }).toEqual({ steps: 0, published: 0, dropped: 2 })
  })

  test('takes 64 steps at once and refuses one more with when to come back, whatever it is', async () => {
    const release: (() => void)[] = []
    const { bus, bring, listener } = await listening({ iam: { handle: () => new Promise(resolve => { release.push(() => { resolve(Buffer.from('{}')) }) }) } })
    for (let i = 0; i < 64; i++) bring(step('0xIW:call'))
    expect(bus.published).toEqual([])
    const refused = new Promise<Uint8Array>(resolve => { bus.onPublish = (_, frame) => { resolve(frame) } })
    bring(step('0xIW:call'))
    expect(readAnswer(await refused)).toMatchObject({ status: 429, code: 'CMESH_IAM_BUSY', message: 'Too much of it is open at once; try again in 100 ms.' })
    expect(release).toHaveLength(64)

    // A drain answers what was taken, and takes nothing more.
    let drained = false
    const draining = listener.drain().then(() => { drained = true })
    for (let i = 0; i < 10; i++) await Promise.resolve()
    expect({ drained, open: bus.subscriptions.map(each => each.open) }).toEqual({ drained: false, open: [false, false] })
    for (const each of release) each()
    await draining
    expect(bus.published).toHaveLength(65)
  })

  test('has places for sessions that newcomers cannot take', async () => {
    const [guests, sessions] = [new HandBus(), new HandBus()]
    const release: (() => void)[] = []
    const { listener } = await listening({
      buses: [guests, sessions], iam: { handle: () => new Promise(resolve => { release.push(() => { resolve(Buffer.from('{}')) }) }) },
    })
    for (let i = 0; i < 1_000; i++) guests.bring(HELLO_WILDCARD, { subject: helloSubject(CID), reply: REPLY, data: step('0xIW:refresh') })
    expect(release).toHaveLength(160)
    sessions.bring(HELLO_WILDCARD, { subject: helloSubject('session-1'), reply: '_INBOX.session-1.1', data: step('0xIW:refresh') })
    expect(release).toHaveLength(161)
    release[160]?.()
    const renewed = new Promise<Uint8Array>(resolve => { sessions.onPublish = (_, frame) => { resolve(frame) } })
    expect(readAnswer(await renewed)).toMatchObject({ status: 200 })
    expect(new Set(guests.published.map(({ data }) => readAnswer(data).code))).toEqual(new Set(['CMESH_IAM_BUSY']))
    expect(guests.published).toHaveLength(840)
    for (const each of release) each()
    await listener.drain()
  })

  test('looks into nothing there is no place for, and promises nothing for it', async () => {
    const release: (() => void)[] = []
    const { bus, bring, listener } = await listening({ iam: { handle: () => new Promise(resolve => { release.push(() => { resolve(Buffer.from('{}')) }) }) } })
    for (let i = 0; i < 160; i++) bring(step('0xIW:refresh'))
    const none = Buffer.alloc(0)
    for (const data of [Buffer.from('noise'), none, step('0xS:0x001:hello_world'), step('0xIW:call', none, 'none'), step('0xIW:call', none, 'full')]) bring(data)
    const answers = bus.published.map(({ data }) => readAnswer(data))
    expect(answers.map(({ status, code, frame: { receipt } }) => [status, code, receipt])).toEqual([
      [429, 'CMESH_IAM_BUSY', 'none'], [429, 'CMESH_IAM_BUSY', 'none'], [429, 'CMESH_IAM_BUSY', 'none'], [429, 'CMESH_IAM_BUSY', 'none'], [429, 'CMESH_IAM_BUSY', 'none'],
    ])
    expect(answers.map(({ frame: { id } }) => id)).toEqual([Buffer.alloc(16), Buffer.alloc(16), ID, ID, ID])
    for (const each of release) each()
    await listener.drain()
  })

  test('keeps places free of the steps that wait for the provider', async () => {
    const release: (() => void)[] = []
    const taken: string[] = []
    const { bus, bring, listener } = await listening({
      iam: { handle: action => new Promise(resolve => { taken.push(action); release.push(() => { resolve(Buffer.from('{}')) }) }) },
    })
    for (const action of ['call', 'confirm', 'refresh', 'consent', 'hangup']) {
      for (let i = 0; i < 65; i++) if (i === 0 || action.startsWith('c')) bring(step(`0xIW:${action}`))
      // What was refused has left.
      await new Promise(resolve => { setImmediate(resolve) })
    }
    const count = (action: string): number => taken.filter(each => each === action).length
    expect(['call', 'confirm', 'refresh', 'consent', 'hangup'].map(count)).toEqual([64, 64, 1, 31, 0])
    for (const each of release.splice(0)) each()
    await listener.drain()
    const statuses = bus.published.map(({ data }) => readAnswer(data).status)
    expect([200, 429].map(status => statuses.filter(each => each === status).length)).toEqual([160, 37])
    // Each gives its place back, whatever became of it.
    const again = await listening({ iam: { handle: () => Promise.reject(new CMeshError('CMESH_IAM_FORGED', { what: 'proof' })) } })
    for (let i = 0; i < 65; i++) expect(await again.ask(step('0xIW:confirm'))).toMatchObject({ code: 'CMESH_IAM_FORGED' })
  })

  test('drops an answer that nobody can get any more', async () => {
    const { bus, bring, listener } = await listening()
    bring(step('0xIW:call'))
    await bus.close()
    await listener.drain()
    expect(bus.published).toEqual([])
  })

  test('lets no failure of IAM out as one of its own', async () => {
    const { ask } = await listening({ iam: { handle: () => Promise.reject(new TypeError('secret')) } })
    const answer = await ask(step('0xIW:call'))
    expect(answer).toMatchObject({ status: 500, code: 'CMESH_INTERNAL' })
    expect(JSON.stringify(answer.value)).not.toContain('secret')
    const coded = await listening({ iam: { handle: () => Promise.reject(new CMeshError('CMESH_IAM_FORGED', { what: 'proof' })) } })
    expect(await coded.ask(step('0xIW:confirm'))).toMatchObject({ status: 401, code: 'CMESH_IAM_FORGED' })
  })
})

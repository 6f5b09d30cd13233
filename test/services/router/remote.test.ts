import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { assembleBatch, BATCH_ID_AT, encodeBatchEntry } from '../../../cmtp/batch.ts'
import { decodeBatchReply } from '../../../cmtp/batch-reply.ts'
import { CMeshError, type ErrorCode } from '../../../cmtp/errors.ts'
import { encodeReply, encodeRequest, RequestFrame } from '../../../cmtp/frame.ts'
import { decodeHeaders, encodeHeaders, type HeaderList } from '../../../cmtp/headers.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { tokenReference } from '../../../cmtp/identity/token.ts'
import { argumentsHash, encodeLayer, encodeLayers, layerSite } from '../../../cmtp/layer.ts'
import { LIMITS } from '../../../cmtp/limits.ts'
import { serviceSubject } from '../../../cmtp/subject.ts'
import { layerSpanId } from '../../../cmtp/trace-context.ts'
import { connectNats, type NatsBus } from '../../../providers/bus/nats.ts'
import { MockTraces } from '../../../providers/traces/mock.ts'
import { jsonReply, type Call } from '../../../services/call.ts'
import type { ServiceName } from '../../../services/router/dispatcher.ts'
import { RemoteCalls, ServiceListener } from '../../../services/router/remote.ts'
import { SILENT_LOG } from '../../../services/log.ts'
import { callersTrace } from '../../../services/traces/trace.ts'
import { Tracer } from '../../../services/traces/tracer.ts'
import { startBroker, type TestBroker } from '../../support/broker.ts'
import { testCall } from '../../support/calls.ts'
import { HandBus } from '../../support/hand-bus.ts'
import { readAnswer, startMesh, testClock, type Answer, type TestMesh } from '../../support/mesh.ts'
import { expectedArgumentsHash, recomputedHash } from '../../support/receipts.ts'

const ELSEWHERE: readonly ServiceName[] = ['state', 'registrar', 'events', 'consensus']
const ID = Buffer.alloc(16, 9)
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'

describe('two nodes over one broker, one a router, the other with the services', () => {
  let broker: TestBroker
  let otherCore: NatsBus
  let door: TestMesh
  let back: TestMesh
  let listeners: ServiceListener[]
  let session: Session
  /** What the services' node was asked, as its endpoints saw it. */
  const seen: Call[] = []
  const exporter = new MockTraces()
  const tracer = new Tracer({ exporter, log: SILENT_LOG, oneIn: 0 })

  beforeAll(async () => {
    broker = await startBroker()
    otherCore = await connectNats({ servers: broker.url, name: 'other-core', ...broker.broker.core })
    const key = KeyPair.generate()
    door = await startMesh({
      key, nodeKey: KeyPair.generate(), absent: ELSEWHERE, traces: tracer,
      remote: ({ guard, time }) => new RemoteCalls({ bus: broker.core, clock: time, tokenOf: auth => guard.tokenOf(auth) }).call,
    })
    back = await startMesh({ key, nodeKey: KeyPair.generate() })
    back.grants.set(door.operator.did, back.grants.get(back.operator.did) ?? [])
    listeners = ELSEWHERE.map(service => new ServiceListener({
      bus: otherCore, clock: back.time, log: back.log, service,
      handler: call => {
        seen.push(call)
        return back.endpoints[service].call(call)
      },
    }))
    for (const listener of listeners) listener.start()
    await otherCore.flush()
    session = await door.open()
  })
  afterAll(async () => {
    await Promise.all(listeners.map(listener => listener.drain()))
    await door.stop()
    await back.stop()
    await otherCore.close()
    await broker.stop()
  })

  test.each<[fqmn: string, status: number, value: unknown, hops: readonly string[]]>([
    ['0xS:0x001:hello_world:["Dexter"]', 200, 'Hello, Dexter', ['state allowed', 'router none']],
    ['0xE:events.state.contracts.0x001.blah_blah:read', 200, expect.objectContaining({ seq: 1 }), ['events allowed', 'router none']],
    ['0xR:resolve:nobody.mcom', 404, expect.objectContaining({ code: 'CMESH_REGISTRAR_NOT_FOUND' }), ['registrar allowed', 'router none']],
    ['0xC:leader', 200, expect.objectContaining({ term: expect.any(Number) }), ['consensus allowed', 'router none']],
    ['0xS:0xfff:x', 404, expect.objectContaining({ code: 'CMESH_STATE_NO_CONTRACT' }), ['state allowed', 'router none']],
    ['0xSW:0x002:increment', 403, expect.objectContaining({ code: 'CMESH_IAM_DENIED' }), ['state denied', 'router none']],
  ])('%s is answered there with %i, and its receipt names both nodes', async (fqmn, status, value, hops) => {
    const answer = await door.ask(session, fqmn, { id: ID, receipt: 'full' })
    expect(answer).toMatchObject({ status, value })
    expect(answer.layers.map(layer => `${layer.hop} ${layer.decision}`)).toEqual(hops)
    expect(answer.layers.map(layer => layer.node)).toEqual([back.node, door.node])
    expect(answer.frame.finalHash.toString('hex')).toBe(recomputedHash(answer.frame, { id: ID, sid: session.sid, sub: session.sub }))
  })

  test('a caller\'s trace goes on there behind this node\'s own span, and each node\'s layer is a span of its own', async () => {
    const { layers } = await door.ask(session, '0xS:0x001:hello_world', {
      id: ID, receipt: 'full', headers: encodeHeaders([['tracestate', 'a=1'], ['traceparent', `00-${TRACE}-${PARENT}-01`]]),
    })
    const span = layerSpanId(ID, layers.at(-1)?.startUs ?? 0, 0)
    expect(decodeHeaders(seen.at(-1)?.headers ?? ID)).toEqual([['tracestate', 'a=1'], ['traceparent', `00-${TRACE}-${span}-01`]])
    await tracer.flush()
    expect(exporter.spans.map(({ node, kind, parentId }) => [node, kind, parentId])).toEqual([[back.node, 'server', span], [door.node, 'server', PARENT]])
  })

  test('a write is done there, and the receipt says what it moved', async () => {
    const { seq } = back.state.head
    const answer = await door.ask(door.root, '0xSW:0x002:increment:[5]', { receipt: 'full' })
    expect(answer).toMatchObject({ status: 200, value: 5 })
    expect(answer.headers).toContainEqual(['x-cmesh-sequence', String(seq + 1)])
    expect(answer.layers[0]).toMatchObject({ hop: 'state', before: { seq }, after: { seq: seq + 1 } })
    expect(await door.ask(session, '0xS:0x002:get')).toMatchObject({ value: 5 })
  })

  test('the arguments of all layers are hidden behind the one salt of the request', async () => {
    const answer = await door.ask(session, '0xS:0x001:hello_world:["Dexter"]', { receipt: 'full' })
    const expected = expectedArgumentsHash(answer.frame, '["Dexter"]')
    expect(answer.layers.map(layer => layer.argumentsHash)).toEqual([expected, expected])
  })

  test('a name is resolved here and called there; the router\'s layer lasts until that is answered', async () => {
    door.dispatcher.attach('registrar', door.endpoints.registrar.call)
    expect(await door.register(door.root, door.operator, 'far.mcom', '0xS:0x001')).toMatchObject({ status: 200 })
    door.dispatcher.detach('registrar')
    const { layers, frame, value } = await door.ask(session, '0xR:far.mcom:hello_world:["Dexter"]', { receipt: 'full' })
    expect(value).toBe('Hello, Dexter')
    expect(layers.map(layer => [layer.hop, layer.node])).toEqual([['registrar', door.node], ['state', back.node], ['router', door.node]])
    const expected = expectedArgumentsHash(frame, '["Dexter"]')
    expect(layers.map(layer => layer.argumentsHash)).toEqual([expected, expected, expected])
    expect(layers[2]?.durationUs).toBeGreaterThan(layers[0]?.durationUs ?? 0)
  })

  test('the other node gets the whole token, where this one was only given its reference', async () => {
    await door.ask(session, '0xC:status')
    const fresh = await startMesh({ key: door.mesh, nodeKey: KeyPair.generate() })
    const listener = new ServiceListener({ bus: otherCore, clock: fresh.time, log: SILENT_LOG, service: 'iam', handler: fresh.endpoints.iam.call })
    listener.start()
    await otherCore.flush()
    door.dispatcher.detach('iam')
    const answer = await door.ask(session, '0xI:whoami', { token: tokenReference(Buffer.from(session.token)) })
    door.dispatcher.attach('iam', door.endpoints.iam.call)
    expect(answer).toMatchObject({ status: 200, value: { did: session.sub, sid: session.sid } })
    await listener.drain()
    await fresh.stop()
  })

  test('an entry that a gateway carries is asked there under its own session, not the gateway\'s', async () => {
    const gateway = await door.open()
    const carried = await Promise.all([door.open({ via: gateway.sid }), door.open({ via: gateway.sid })])
    for (const each of [gateway, ...carried]) await door.enter(each)
    const entries = carried.map(() => encodeBatchEntry({ fqmn: '0xS:0x001:hello_world' }))
    const references = carried.map(({ token }) => tokenReference(Buffer.from(token)))
    const frame = assembleBatch({ token: Buffer.from(gateway.token), deadlineMs: door.time.ms + 5_000, receipt: 'full' }, entries, references)
    frame.set(ID, BATCH_ID_AT)
    seen.length = 0
    const answer = await new Promise<Buffer>(resolve => { door.frontDoor.handle(frame, { sid: gateway.sid, replySubject: '_INBOX.own.1' }, resolve) })
    expect(decodeBatchReply(answer).entries.map(({ status, body }) => [status, body.toString()])).toEqual([[200, '"Hello, world"'], [200, '"Hello, world"']])
    expect(seen.map(({ sid, token }) => [sid, Buffer.from(token).toString()])).toEqual(carried.map(({ sid, token }) => [sid, token]))
  })

  test('the other node checks by itself: what it revoked is refused there', async () => {
    const gone = await door.open()
    back.guard.revoke({ sid: gone.sid })
    const answer = await door.ask(gone, '0xS:0x001:hello_world', { receipt: 'full' })
    expect(answer).toMatchObject({ status: 401, code: 'CMESH_IAM_NO_SESSION', value: { prompt: 'identity' } })
    expect(answer.layers.map(layer => [layer.hop, layer.decision, layer.node])).toEqual([['state', 'denied', back.node], ['router', 'none', door.node]])
  })

  test('what only nodes tell each other no caller can say: session and inbox are those of its own request', async () => {
    const victim = await door.open()
    const headers = encodeHeaders([
      ['x-cmesh-session', victim.sid], ['accept', 'text/plain'], ['x-cmesh-reply', '_INBOX.victim.1'], ['x-mine', 'kept'],
    ])
    seen.length = 0
    const tail = await door.ask(session, '0xE:chan:tail', { headers, replySubject: '_INBOX.own.1', body: '{"inbox":"_INBOX.victim.2"}' })
    expect(tail).toMatchObject({ status: 403, code: 'CMESH_EVENTS_TAIL' })
    const [call] = seen
    expect({ sid: call?.sid, replySubject: call?.replySubject }).toEqual({ sid: session.sid, replySubject: '_INBOX.own.1' })
    expect(decodeHeaders(call?.headers ?? Buffer.alloc(0))).toEqual([['accept', 'text/plain'], ['x-mine', 'kept']])
    const opened = await door.ask(session, '0xE:chan:tail', { headers, replySubject: '_INBOX.own.1', body: '{"inbox":"_INBOX.own.2"}' })
    expect(opened).toMatchObject({ status: 200, value: { leaseMs: 30_000 } })
    back.tails.stop()
  })

  test('each node on the way is one hop more', async () => {
    seen.length = 0
    await door.ask(session, '0xS:0x001:hello_world', { hops: 4 })
    expect(seen.map(call => call.hops)).toEqual([5])
    expect(await door.ask(session, '0xS:0x001:hello_world', { hops: 16 })).toMatchObject({ status: 508, code: 'CMESH_FRAME_HOPS' })
    expect(seen).toHaveLength(1)
  })

  test('a service that nobody runs is 503, to be tried again', async () => {
    door.dispatcher.detach('iam')
    expect(await door.ask(session, '0xI:whoami')).toMatchObject({
      status: 503, code: 'CMESH_ROUTER_NO_SERVICE', message: 'No iam service answers in this mesh right now.', value: { retry: 'retry' },
    })
    door.dispatcher.attach('iam', door.endpoints.iam.call)
  })

  describe('whoever speaks to the services directly', () => {
    const send = async (service: ServiceName, data: Uint8Array): Promise<Answer> => readAnswer(await broker.core.request(serviceSubject(service, 'call'), data))
    const frame = (fqmn: string, token: string, headers: HeaderList = []): Buffer => encodeRequest({
      id: ID, fqmn, token: Buffer.from(token), deadlineMs: back.time.ms + 5_000, receipt: 'full', headers: encodeHeaders(headers),
    })

    test('reaches nothing without a token, or with one of another session', async () => {
      const other = await door.open()
      const { head } = back.state
      for (const [token, headers] of [
        ['', []],
        ['', [['x-cmesh-session', door.root.sid]]],
        [door.root.token, []],
        [door.root.token, [['x-cmesh-session', other.sid]]],
        [`${door.root.token.slice(0, -6)}AAAAAA`, [['x-cmesh-session', door.root.sid]]],
      ] satisfies [string, HeaderList][]) {
        for (const fqmn of ['0xS:0x001:hello_world', '0xSW:0x002:increment']) {
          const answer = await send('state', frame(fqmn, token, headers))
          expect({ token, headers, status: answer.status, value: answer.value }).toMatchObject({ status: 401, value: { prompt: 'identity' } })
          expect(answer.layers.map(layer => layer.decision)).toEqual(['denied'])
        }
      }
      expect(back.state.head).toBe(head)
      expect(await send('state', frame('0xS:0x001:hello_world', door.root.token, [['x-cmesh-session', door.root.sid]]))).toMatchObject({ status: 200 })
    })

    test('cannot have one service take another\'s address for its own', async () => {
      const headers: HeaderList = [['x-cmesh-session', session.sid]]
      // The caller may read all of 0xC, but not the channel that is called audit.
      for (const fqmn of ['0xC:audit', '0xI:audit', '0xP:peer:0xE:audit', '0xA:1:0x001:x']) {
        expect(await send('events', frame(fqmn, session.token, headers))).toMatchObject({
          status: 405, code: 'CMESH_ROUTER_INTERNAL_ONLY', message: `${fqmn} is for services only and cannot be called from outside.`,
        })
      }
    })

    test('gets a coded error for what is no request', async () => {
      expect(await send('state', Buffer.from('noise'))).toMatchObject({ status: 400, code: 'CMESH_FRAME_MALFORMED' })
      expect(await send('state', frame('0xZ', session.token))).toMatchObject({ status: 400, code: 'CMESH_FQMN_OPCODE' })
      const bad = frame('0xS:0x001', '', [['accept', 'x']])
      bad[bad.length - 4] = 0xff
      expect(await send('state', bad)).toMatchObject({ status: 400, code: 'CMESH_FRAME_MALFORMED' })
    })
  })
})

describe('a listener', () => {
  function listening(handler: ConstructorParameters<typeof ServiceListener>[0]['handler']): { bus: HandBus, listener: ServiceListener, bring(reply?: string): void } {
    const bus = new HandBus()
    const listener = new ServiceListener({ bus, clock: testClock(), log: SILENT_LOG, service: 'consensus', handler })
    listener.start()
    listener.start()
    const data = encodeRequest({ id: ID, fqmn: '0xC:status', token: Buffer.alloc(0), deadlineMs: 1, receipt: 'full' })
    return { bus, listener, bring: (reply = '_INBOX.a.1') => { bus.bring('cmesh.v1.svc.consensus.call', { subject: 'cmesh.v1.svc.consensus.call', reply, data }) } }
  }

  test('is one of a queue group, and subscribes once', () => {
    const { bus } = listening(() => jsonReply(1))
    expect(bus.subscriptions.map(({ subject, queue }) => [subject, queue])).toEqual([['cmesh.v1.svc.consensus.call', 'consensus']])
  })

  test('answers what it took before it is drained', async () => {
    let finish: () => void = () => undefined
    const { bus, listener, bring } = listening(() => new Promise(resolve => { finish = () => { resolve(jsonReply('done')) } }))
    bring()
    let drained = false
    const draining = listener.drain().then(() => { drained = true })
    for (let i = 0; i < 20; i++) await Promise.resolve()
    expect({ drained, open: bus.subscriptions[0]?.open }).toEqual({ drained: false, open: false })
    finish()
    await draining
    expect(bus.published.map(({ subject, data }) => [subject, readAnswer(data).value])).toEqual([['_INBOX.a.1', 'done']])
  })

  test('does nothing for who waits nowhere, and drops an answer that nobody can get', async () => {
    let calls = 0
    const { bus, listener, bring } = listening(async () => {
      calls++
      return jsonReply(1)
    })
    bring('')
    bring('cmesh.v1.mine')
    expect(calls).toBe(0)
    bring()
    await bus.close()
    await listener.drain()
    expect({ calls, published: bus.published.length }).toEqual({ calls: 1, published: 0 })
  })
})

describe('a call to another node', () => {
  const clock = testClock()
  const remote = (bus: HandBus): RemoteCalls => new RemoteCalls({ bus, clock, tokenOf: () => Buffer.from('whole token') })
  const failingWith = (code: ErrorCode): HandBus => {
    const bus = new HandBus()
    bus.onRequest = () => Promise.reject(new CMeshError(code, { subject: 'cmesh.v1.svc.state.call', timeoutMs: 5, limit: 5 }))
    return bus
  }

  test.each<[what: string, fqmn: string, service: ServiceName, thrown: ErrorCode, code: ErrorCode, proposed: boolean]>([
    ['a transaction that nobody answered', '0xSW:0x002:increment', 'state', 'CMESH_BUS_TIMEOUT', 'CMESH_ROUTER_UNKNOWN_OUTCOME', true],
    ['a transaction on whose way the broker went', '0xSW:0x002:increment', 'state', 'CMESH_BUS_DISCONNECTED', 'CMESH_ROUTER_UNKNOWN_OUTCOME', true],
    ['a name that nobody answered for', '0xRW:renew:x.mcom', 'registrar', 'CMESH_BUS_TIMEOUT', 'CMESH_ROUTER_UNKNOWN_OUTCOME', true],
    ['a transaction that nobody took', '0xSW:0x002:increment', 'state', 'CMESH_BUS_NO_RESPONDERS', 'CMESH_ROUTER_NO_SERVICE', false],
    ['a transaction that never left', '0xSW:0x002:increment', 'state', 'CMESH_BUS_BUSY', 'CMESH_BUS_BUSY', false],
    ['a read that nobody answered', '0xS:0x001:hello_world', 'state', 'CMESH_BUS_TIMEOUT', 'CMESH_ROUTER_TIMEOUT', false],
    ['a read on whose way the broker went', '0xS:0x001:hello_world', 'state', 'CMESH_BUS_DISCONNECTED', 'CMESH_BUS_DISCONNECTED', false],
    ['an event that nobody answered for', '0xEW:chan:x', 'events', 'CMESH_BUS_TIMEOUT', 'CMESH_ROUTER_TIMEOUT', false],
  ])('says of %s whether it may have been done', async (_what, fqmn, service, thrown, code, proposed) => {
    const call = testCall(fqmn)
    await expect(remote(failingWith(thrown)).call(service, call)).rejects.toMatchObject({ code })
    expect(call.proposed).toBe(proposed)
  })

  test('is taken for proposed while it is under way, when it is a transaction', async () => {
    const bus = new HandBus()
    const under: boolean[] = []
    for (const fqmn of ['0xSW:0x002:increment', '0xS:0x001', '0xEW:chan:x']) {
      const call = testCall(fqmn)
      bus.onRequest = async () => {
        under.push(call.proposed)
        return encodeReply({ id: call.id, status: 200, receipt: 'full', finalHash: '\0'.repeat(32), layers: encodeLayers(Buffer.alloc(16), []) })
      }
      await remote(bus).call(fqmn.startsWith('0xE') ? 'events' : 'state', call)
    }
    expect(under).toEqual([true, false, false])
  })

  test.each<[what: string, recorded: boolean, headers: HeaderList, passed: (span: string) => HeaderList]>([
    ['a trace that begins here', true, [['accept', '*/*']], span => [['accept', '*/*'], ['traceparent', `00-${ID.toString('hex')}-${span}-01`]]],
    ['a trace that begins here, for nonsense, without its state', true, [['traceparent', 'nonsense'], ['tracestate', 'a=1']], span => [['traceparent', `00-${ID.toString('hex')}-${span}-01`]]],
    ['a caller\'s that nobody here records', false, [['traceparent', `00-${TRACE}-${PARENT}-01`], ['tracestate', 'a=1']], span => [['tracestate', 'a=1'], ['traceparent', `00-${TRACE}-${span}-00`]]],
    ['nonsense as it came, where nothing is traced', false, [['traceparent', 'nonsense'], ['tracestate', 'a=1']], () => [['traceparent', 'nonsense'], ['tracestate', 'a=1']]],
  ])('passes on %s', async (_what, recorded, given, passed) => {
    const headers = encodeHeaders(given)
    const tracer = new Tracer({ exporter: new MockTraces(), log: SILENT_LOG, oneIn: 1 })
    const trace = recorded ? tracer.begin(ID, headers, 5) : callersTrace(ID, headers, 5, false)
    const bus = failingWith('CMESH_BUS_TIMEOUT')
    await expect(remote(bus).call('state', testCall('0xS:0x001', { id: ID, headers, trace }))).rejects.toMatchObject({ code: 'CMESH_ROUTER_TIMEOUT' })
    const sent = decodeHeaders(RequestFrame.decode(bus.requests[0]?.data ?? ID).headers)
    expect(sent.slice(0, -2)).toEqual(passed(layerSpanId(ID, 5, 0)))
  })

  test('waits until its own deadline, carries the caller\'s own token, and asks for the layers', async () => {
    const bus = failingWith('CMESH_BUS_TIMEOUT')
    const call = testCall('0xS:0x001', { token: Buffer.from('its token'), deadlineMs: clock.ms + 1_234, sid: 's', replySubject: '_INBOX.a.b' })
    await expect(remote(bus).call('state', call)).rejects.toMatchObject({ code: 'CMESH_ROUTER_TIMEOUT' })
    const [{ subject, data, options }] = bus.requests as [HandBus['requests'][0]]
    expect({ subject, options }).toEqual({ subject: 'cmesh.v1.svc.state.call', options: { timeoutMs: 1_234 } })
    const frame = RequestFrame.decode(data)
    expect({ token: frame.token.toString(), receipt: frame.receipt, hops: frame.hops }).toEqual({ token: 'its token', receipt: 'full', hops: 1 })
    expect(decodeHeaders(frame.headers)).toEqual([['x-cmesh-session', 's'], ['x-cmesh-reply', '_INBOX.a.b']])
  })

  test('refuses headers that leave no room for what nodes tell each other', async () => {
    const headers = encodeHeaders(Array.from({ length: LIMITS.headerCount }, (_, i) => [`x-${i}`, ''] as const))
    await expect(remote(new HandBus()).call('state', testCall('0xS:0x001', { headers }))).rejects.toMatchObject({ code: 'CMESH_FRAME_TOO_LARGE', status: 413 })
  })

  const layer = (n: number): Buffer => encodeLayer({
    site: layerSite('state', `node ${n}`, '0xS:0x001'), decision: 'allowed', grant: '', status: 200, startUs: 1, durationUs: 1, gas: 0n,
    before: undefined, after: undefined, argumentsHash: argumentsHash(Buffer.alloc(16), Buffer.from('[1]')),
  })

  test.each<[string, () => Uint8Array]>([
    ['noise', () => Buffer.from('noise')],
    ['a frame without layers', () => encodeReply({ id: ID, status: 200, receipt: 'hash', finalHash: '\0'.repeat(32) })],
    ['more layers than a message may have', () => encodeReply({
      id: ID, status: 200, receipt: 'full', finalHash: '\0'.repeat(32), layers: encodeLayers(Buffer.alloc(16), Array.from({ length: 32 }, (_, i) => layer(i))),
    })],
  ])('that is answered with %s fails as a failure of the mesh, not of the request', async (_what, answer) => {
    const bus = new HandBus()
    bus.onRequest = async () => answer()
    const call = testCall('0xS:0x001')
    await expect(remote(bus).call('state', call)).rejects.toMatchObject({ code: 'CMESH_INTERNAL', status: 500 })
    expect(call.layers).toEqual([])
  })
})

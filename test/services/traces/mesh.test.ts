/** Traces of what the real front door answers: in by `traceparent`, out by it, and each layer a span under the ids of its receipt. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { encodeBatch } from '../../../cmtp/batch.ts'
import { decodeBatchReply } from '../../../cmtp/batch-reply.ts'
import { RequestFrame } from '../../../cmtp/frame.ts'
import { decodeHeaders, encodeHeaders, headerValue, type HeaderList } from '../../../cmtp/headers.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { entryId, formatMessageId } from '../../../cmtp/message-id.ts'
import { layerSpanId } from '../../../cmtp/trace-context.ts'
import { MockTraces } from '../../../providers/traces/mock.ts'
import { SILENT_LOG } from '../../../services/log.ts'
import type { TraceSpan } from '../../../services/traces/provider.ts'
import { traceparentOf } from '../../../services/traces/trace.ts'
import { Tracer } from '../../../services/traces/tracer.ts'
import { readAnswer, startMesh, type Answer, type AskFields, type TestMesh } from '../../support/mesh.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'
const TRACEPARENT = `00-${TRACE}-${PARENT}-01`

const exporter = new MockTraces()
const tracer = new Tracer({ exporter, log: SILENT_LOG, oneIn: 1 })
let mesh: TestMesh
let untraced: TestMesh
let session: Session
beforeAll(async () => {
  mesh = await startMesh({ traces: tracer })
  untraced = await startMesh()
  session = await mesh.open()
  await mesh.register(mesh.root, mesh.operator, 'hello.mcom', '0xS:0x001:hello_world')
})
afterAll(async () => {
  await mesh.stop()
  await untraced.stop()
})
beforeEach(async () => {
  await tracer.flush()
  exporter.spans.length = 0
})

interface Traced extends Answer {
  readonly id: Buffer
  readonly spans: readonly TraceSpan[]
}

async function ask(who: Session | undefined, fqmn: string, headers: HeaderList = [], fields: AskFields = {}): Promise<Traced> {
  const bytes = mesh.frame(who, fqmn, { receipt: 'full', headers: encodeHeaders(headers), ...fields })
  const origin = { sid: fields.sid ?? who?.sid ?? '', via: undefined, replySubject: '' }
  const answer = readAnswer(await new Promise<Buffer>(resolve => { mesh.frontDoor.handle(bytes, origin, resolve) }))
  await tracer.flush()
  return { ...answer, id: Buffer.from(RequestFrame.decode(bytes).id), spans: exporter.spans.splice(0) }
}

describe('each layer of a reply is a span', () => {
  test.each<[what: string, who: () => Session | undefined, fqmn: string, spans: readonly [name: string, kind: string, failed: boolean, status: number][]]>([
    ['a view', () => session, '0xS:0x001:hello_world:["Dexter"]', [
      ['state 0xS:0x001:hello_world', 'internal', false, 200], ['router 0xS:0x001:hello_world', 'server', false, 200],
    ]],
    ['a view by its name', () => session, '0xR:hello.mcom:["Dexter"]', [
      ['registrar 0xR:hello.mcom', 'internal', false, 200], ['state 0xS:0x001:hello_world', 'internal', false, 200], ['router 0xR:hello.mcom', 'server', false, 200],
    ]],
    ['a write', () => mesh.root, '0xSW:0x002:increment:[1]', [['state 0xSW:0x002:increment', 'internal', false, 200], ['router 0xSW:0x002:increment', 'server', false, 200]]],
    ['a denial', () => session, '0xSW:0x002:increment', [['state 0xSW:0x002:increment', 'internal', false, 403], ['router 0xSW:0x002:increment', 'server', false, 403]]],
    ['no session', () => undefined, '0xC:leader', [['router 0xC:leader', 'server', false, 401]]],
    ['no address', () => session, '0xZ:what', [['router', 'server', false, 400]]],
    ['an event', () => mesh.root, '0xEW:news:secret', [['events 0xEW:news', 'internal', false, 200], ['router 0xEW:news', 'server', false, 200]]],
  ])('%s', async (_, who, fqmn, expected) => {
    const { id, frame, layers, spans } = await ask(who(), fqmn)
    expect(spans.map(({ name, kind, failed, attributes }) => [name, kind, failed, attributes['cmesh.status']])).toEqual(expected)
    const root = spans.at(-1)
    const start = layers.at(-1)?.startUs ?? 0
    expect(spans.map(({ spanId }) => spanId)).toEqual(layers.map((_layer, i) => layerSpanId(id, start, i === layers.length - 1 ? 0 : i + 1)))
    expect(spans.map(({ parentId }) => parentId)).toEqual(layers.map((_layer, i) => (i === layers.length - 1 ? undefined : root?.spanId)))
    const times = layers.map(({ startUs, durationUs, node }) => [startUs, startUs + durationUs, node])
    expect(spans.map(({ startUs, endUs, node }) => [startUs, endUs, node])).toEqual(times)
    expect(new Set(spans.map(({ traceId }) => traceId))).toEqual(new Set([formatMessageId(id)]))
    expect(root?.attributes).toMatchObject({ 'cmesh.message.id': formatMessageId(id), 'cmesh.receipt.final': frame.finalHash.toString('hex') })
    // Nothing of what was asked with, nor of who asked.
    expect(JSON.stringify(spans)).not.toMatch(/Dexter|secret|\[1\]/)
    expect(JSON.stringify(spans)).not.toContain(session.sub)
  })

  test('what a hop did stands on its span: the grant, the gas, where state stood', async () => {
    const { layers, spans } = await ask(mesh.root, '0xSW:0x002:increment:[2]')
    const [layer] = layers
    expect(layer?.after?.seq).toBeGreaterThan(0)
    expect(spans[0]?.attributes).toMatchObject({
      'cmesh.hop': 'state', 'cmesh.decision': 'allowed', 'cmesh.grant': layer?.grant, 'cmesh.gas': Number(layer?.gas), 'cmesh.state.seq': layer?.after?.seq,
      'cmesh.state.seq.before': layer?.before?.seq, 'cmesh.state.chain': Buffer.from(layer?.after?.chain ?? []).toString('hex'),
    })
  })

  test('each entry of a batch has a trace of its own, repetitions and one that does not fit too', async () => {
    const id = Buffer.alloc(16, 3)
    const entries = [
      { fqmn: '0xS:0x001:hello_world' }, { fqmn: '0xS:0x001:hello_world' }, { fqmn: '0xR:nobody.mcom' },
      { fqmn: '0xS:0x001:hello_world', headers: encodeHeaders([['traceparent', TRACEPARENT]]) }, { fqmn: '0xS:0x001:hello_world' },
    ]
    const frame = encodeBatch({ id, token: Buffer.from(session.token), deadlineMs: mesh.time.ms + 5_000, receipt: 'hash', entries })
    const reply = decodeBatchReply(await mesh.frontDoor.route(frame, session.sid))
    await tracer.flush()
    const roots = exporter.spans.filter(({ attributes }) => attributes['cmesh.hop'] === 'router')
    expect(roots.map(({ attributes }) => [attributes['cmesh.message.id'], attributes['cmesh.receipt.final'], attributes['cmesh.status']])).toEqual(
      reply.entries.map((entry, i) => [formatMessageId(entryId(id, i)), entry.finalHash.toString('hex'), entry.status]))
    expect(roots.map(({ traceId }) => traceId)).toEqual(entries.map((_, i) => (i === 3 ? TRACE : formatMessageId(entryId(id, i)))))
    expect(new Set(exporter.spans.map(({ spanId }) => spanId)).size).toBe(10)
    expect(mesh.frontDoor.stats.repeated).toBeGreaterThan(0)
    expect(reply.entries.map(({ headers }) => headerValue(decodeHeaders(headers), 'traceparent'))).toEqual([undefined, undefined, undefined, `00-${TRACE}-${roots[3]?.spanId}-01`, undefined])
  })

  test('what was sent too late, or malformed with an id, has one as well', async () => {
    const late = await ask(session, '0xC:leader', [['traceparent', TRACEPARENT]], { deadlineMs: mesh.time.ms - 1 })
    expect(late.spans.map(({ name, parentId, attributes }) => [name, parentId, attributes['cmesh.status']])).toEqual([['router 0xC:leader', PARENT, 408]])
    const bytes = mesh.frame(session, '0xC:leader').subarray(0, 40)
    await mesh.frontDoor.route(bytes, session.sid)
    await tracer.flush()
    expect(exporter.spans.map(({ traceId, attributes }) => [traceId, attributes['cmesh.status']])).toEqual([[bytes.toString('hex', 16, 32), 400]])
  })
})

describe('traceparent', () => {
  test('makes the caller\'s span the parent, and comes back with the span that answered', async () => {
    const { headers, spans, id, layers } = await ask(session, '0xS:0x001:hello_world', [['traceparent', TRACEPARENT], ['tracestate', 'rojo=1']])
    const root = spans.at(-1)
    expect(root).toMatchObject({ traceId: TRACE, parentId: PARENT, remoteParent: true, state: 'rojo=1', spanId: layerSpanId(id, layers.at(-1)?.startUs ?? 0, 0) })
    expect(spans[0]).toMatchObject({ traceId: TRACE, parentId: root?.spanId, remoteParent: false })
    expect(headerValue(headers, 'traceparent')).toBe(`00-${TRACE}-${root?.spanId}-01`)
    expect(headerValue(headers, 'content-type')).toBe('application/json')
  })

  test('goes with an event that is published, to whoever reads it', async () => {
    const { spans } = await ask(mesh.root, '0xEW:traced:x', [['traceparent', TRACEPARENT]])
    const traceparent = `00-${TRACE}-${spans.at(-1)?.spanId}-01`
    expect((await mesh.ask(mesh.root, '0xE:traced:read')).value).toMatchObject({ data: 'x', traceparent })
    expect((await mesh.ask(mesh.root, '0xE:traced:range')).value).toMatchObject([{ data: 'x', traceparent }])
    await mesh.ask(mesh.root, '0xEW:traced:readers:open', { body: '{"from":"first"}' })
    expect((await mesh.ask(mesh.root, '0xEW:traced:readers:pull', { body: '{}' })).value).toMatchObject([{ data: 'x', traceparent, attempt: 1 }])
    // Where another node's front door took the request the header alone says so.
    expect(traceparentOf({ trace: undefined, headers: encodeHeaders([['traceparent', TRACEPARENT]]) })).toBe(TRACEPARENT)
    const own = await untraced.open({ identity: untraced.operator })
    await untraced.ask(own, '0xEW:plain:x')
    expect((await untraced.ask(own, '0xE:plain:read')).value).not.toHaveProperty('traceparent')
  })

  test('that says nothing was recorded is passed on, and nothing is exported', async () => {
    const { headers, spans } = await ask(session, '0xS:0x001:hello_world', [['traceparent', `00-${TRACE}-${PARENT}-00`]])
    expect(spans).toEqual([])
    expect(headerValue(headers, 'traceparent')).toMatch(new RegExp(`^00-${TRACE}-(?!${PARENT})[0-9a-f]{16}-00$`))
  })

  test('that is malformed is ignored: a new trace begins, and the caller is told nothing', async () => {
    const { headers, spans, id } = await ask(session, '0xS:0x001:hello_world', [['traceparent', `00-${'0'.repeat(32)}-${PARENT}-01`], ['tracestate', 'rojo=1']])
    expect(spans.map(({ traceId, state }) => [traceId, state])).toEqual([[formatMessageId(id), undefined], [formatMessageId(id), undefined]])
    expect(headerValue(headers, 'traceparent')).toBeUndefined()
  })

  test('comes back from a mesh that exports nothing too, which says that it did not record it', async () => {
    const own = await untraced.open()
    const asked = untraced.frame(own, '0xS:0x001:hello_world', { receipt: 'full', headers: encodeHeaders([['traceparent', TRACEPARENT]]) })
    const { headers, layers } = readAnswer(await untraced.frontDoor.route(asked, own.sid))
    expect(headerValue(headers, 'traceparent')).toBe(`00-${TRACE}-${layerSpanId(RequestFrame.decode(asked).id, layers.at(-1)?.startUs ?? 0, 0)}-00`)
    expect((await untraced.ask(own, '0xS:0x001:hello_world', { headers: encodeHeaders([['accept', '*/*']]) })).headers.map(([name]) => name)).not.toContain('traceparent')
  })

  test('does not change what a view gives or whether it is kept', async () => {
    const before = mesh.state.stats.viewHits
    const plain = await ask(session, '0xS:0x001:hello_world')
    const traced = await ask(session, '0xS:0x001:hello_world', [['traceparent', TRACEPARENT]])
    expect(traced.value).toEqual(plain.value)
    expect(mesh.state.stats.viewHits).toBe(before + 2)
  })
})

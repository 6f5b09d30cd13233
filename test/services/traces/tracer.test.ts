/** What is traced, what waits and what is dropped. */
import { describe, expect, test } from '@jest/globals'
import { encodeHeaders, type HeaderList } from '../../../cmtp/headers.ts'
import { layerSite, type Layer } from '../../../cmtp/layer.ts'
import { layerSpanId } from '../../../cmtp/trace-context.ts'
import { MockTraces } from '../../../providers/traces/mock.ts'
import type { TraceExporter, TraceSpan } from '../../../services/traces/provider.ts'
import { Tracer } from '../../../services/traces/tracer.ts'
import { until } from '../../client/support/until.ts'
import { keptLog, type KeptLog } from '../../support/mesh.ts'

const START = 1_800_000_000_000_000
const NONE = Buffer.alloc(0)
const FINAL = 'f'.repeat(32)
const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'

interface Rig { readonly tracer: Tracer, readonly exporter: MockTraces, readonly log: KeptLog }

function rig(oneIn = 1, changes: (exporter: MockTraces) => TraceExporter = exporter => exporter): Rig {
  const [exporter, log] = [new MockTraces(), keptLog()]
  return { tracer: new Tracer({ exporter: changes(exporter), log, oneIn, delayMs: 2, stopMs: 20 }), exporter, log }
}

function idOf(index: number): Buffer {
  const id = Buffer.alloc(16, 7)
  id.writeUInt32BE(index, 12)
  return id
}

function layerOf(hop: 'router' | 'state' | 'peer', fields: Partial<Layer> = {}, node = 'did:key:z6MkNode'): Layer {
  return {
    site: layerSite(hop, node, '0xS:0x001:hello_world'), decision: 'none', grant: '', status: 200, startUs: START, durationUs: 10, gas: 0n,
    before: undefined, after: undefined, argumentsHash: undefined, ...fields,
  }
}

/** Traces so many requests, numbered from `first`. */
function trace({ tracer }: Rig, count: number, { first = 0, headers = NONE, layers = [layerOf('router')] }: { first?: number, headers?: Buffer, layers?: Layer[] } = {}): void {
  for (let i = first; i < first + count; i++) {
    const begun = tracer.begin(idOf(i), headers, START)
    if (begun !== undefined) tracer.add(idOf(i), FINAL, layers, begun)
  }
}

const asked = (...headers: HeaderList): Buffer => encodeHeaders(headers)

describe('which requests are traced', () => {
  test('a trace that begins here is named by the message and answers the same wherever it is asked', async () => {
    const few = rig(10)
    const kept = Array.from({ length: 2_000 }, (_, i) => few.tracer.begin(idOf(i), NONE, START)?.traceId)
    expect(kept.filter(id => id !== undefined).length).toBeGreaterThan(100)
    expect(kept.filter(id => id !== undefined).length).toBeLessThan(400)
    expect(kept).toEqual(Array.from({ length: 2_000 }, (_, i) => rig(10).tracer.begin(idOf(i), NONE, START)?.traceId))
    expect(kept.every((id, i) => id === undefined || id === idOf(i).toString('hex'))).toBe(true)
    expect(rig(1).tracer.begin(idOf(1), NONE, START)).toMatchObject({ sampled: true, parentId: undefined, flags: 1 })
    expect(rig(0).tracer.begin(idOf(1), NONE, START)).toBeUndefined()
    expect(rig(1).tracer.begin(Buffer.alloc(16), NONE, START)).toBeUndefined()
  })

  test.each([
    ['01', true, 1], ['00', false, 0], ['03', true, 3],
  ])('a caller that says %s is followed, whatever the share', async (flags, sampled, out) => {
    for (const oneIn of [0, 1, 1_000_000]) {
      const begun = rig(oneIn).tracer.begin(idOf(1), asked(['traceparent', `00-${TRACE}-${PARENT}-${flags}`], ['tracestate', 'a=1']), START)
      expect(begun).toMatchObject({ traceId: TRACE, parentId: PARENT, sampled, flags: out, state: 'a=1' })
      expect(begun?.traceparent).toBe(`00-${TRACE}-${layerSpanId(idOf(1), START, 0)}-0${out}`)
    }
  })

  test('a caller that says nonsense is not: its trace begins here, without its state', () => {
    const begun = rig().tracer.begin(idOf(1), asked(['traceparent', `00-${TRACE}-${PARENT}`], ['tracestate', 'a=1']), START)
    expect(begun).toMatchObject({ traceId: idOf(1).toString('hex'), parentId: undefined, state: undefined })
  })

  test('what is not sampled is not exported', async () => {
    const quiet = rig()
    trace(quiet, 3, { headers: asked(['traceparent', `00-${TRACE}-${PARENT}-00`]) })
    await quiet.tracer.flush()
    expect({ spans: quiet.exporter.spans, ...quiet.tracer.stats }).toEqual({ spans: [], exported: 0, overflowed: 0, failed: 0 })
  })
})

describe('a request as spans', () => {
  test('its last layer is the root, the others are its children; kinds, nodes and failures are as they were', async () => {
    const one = rig()
    const chain = Buffer.alloc(32, 0xab)
    const layers = [
      layerOf('state', {
        decision: 'allowed', grant: 'write 0xS:>', gas: 42n, startUs: START + 3, durationUs: 4, before: { epoch: 1, seq: 6, chain }, after: { epoch: 1, seq: 7, chain },
      }),
      layerOf('peer', { status: 404 }), layerOf('state', { status: 503 }, 'did:key:z6MkOther'), layerOf('router', { status: 503 }),
    ]
    trace(one, 1, { layers })
    // A hop that the deadline overtook.
    layers.push(layerOf('state'))
    await one.tracer.flush()
    const traceId = idOf(0).toString('hex')
    const root = layerSpanId(idOf(0), START, 0)
    const said = ({ name, spanId, parentId, kind, failed, node, remoteParent }: TraceSpan): unknown[] =>
      [name, spanId, parentId, kind, failed, node, remoteParent]
    expect(one.exporter.spans.map(said)).toEqual([
      ['state 0xS:0x001:hello_world', layerSpanId(idOf(0), START, 1), root, 'internal', false, 'did:key:z6MkNode', false],
      ['peer 0xS:0x001:hello_world', layerSpanId(idOf(0), START, 2), root, 'client', false, 'did:key:z6MkNode', false],
      ['state 0xS:0x001:hello_world', layerSpanId(idOf(0), START, 3), root, 'server', true, 'did:key:z6MkOther', true],
      ['router 0xS:0x001:hello_world', root, undefined, 'server', true, 'did:key:z6MkNode', false],
    ])
    expect(one.exporter.spans[0]).toMatchObject({ traceId, startUs: START + 3, endUs: START + 7, flags: 1 })
    expect(one.exporter.spans[0]?.attributes).toEqual({
      'cmesh.hop': 'state', 'cmesh.fqmn': '0xS:0x001:hello_world', 'cmesh.decision': 'allowed', 'cmesh.grant': 'write 0xS:>', 'cmesh.status': 200, 'cmesh.gas': 42,
      'cmesh.state.epoch': 1, 'cmesh.state.seq': 7, 'cmesh.state.chain': 'ab'.repeat(32), 'cmesh.state.seq.before': 6,
    })
    expect(one.exporter.spans[3]?.attributes).toEqual({
      'cmesh.message.id': traceId, 'cmesh.receipt.final': Buffer.from(FINAL).toString('hex'), 'cmesh.hop': 'router', 'cmesh.fqmn': '0xS:0x001:hello_world',
      'cmesh.decision': 'none', 'cmesh.status': 503, 'error.type': '503',
    })
  })

  test.each([
    ['0xEW:news:hello', '0xEW:news'], ['0xEW:news', '0xEW:news'], ['0xEW:news:readers:pull', '0xEW:news:readers:pull'], ['0xE:news:range', '0xE:news:range'], ['', ''],
  ])('of %s the address shows as %s: a payload in it is nobody\'s business', async (fqmn, shown) => {
    const one = rig()
    trace(one, 1, { layers: [layerOf('router', { site: layerSite('router', 'did:key:z6MkNode', fqmn, fqmn) })] })
    await one.tracer.flush()
    expect(one.exporter.spans[0]).toMatchObject({ name: `router ${shown}`.trimEnd(), attributes: { 'cmesh.fqmn': shown, 'cmesh.fqmn.out': shown } })
  })
})

describe('what waits', () => {
  test('goes out together, once there is enough of it, without being asked for', async () => {
    const busy = rig()
    trace(busy, 127)
    expect(busy.tracer.pending).toBe(127)
    trace(busy, 1, { first: 127 })
    await until('the first batch is exported', () => busy.tracer.stats.exported === 128)
    expect(busy.exporter.spans).toHaveLength(128)
  })

  test('goes out a moment later where there is little of it', async () => {
    const quiet = rig()
    trace(quiet, 1)
    await until('it is exported', () => quiet.tracer.stats.exported === 1)
    expect(quiet.tracer.pending).toBe(0)
  })

  test('is bounded while the receiver takes its time: the rest is dropped and counted, and said once', async () => {
    let release = (): void => undefined
    const held = new Promise<void>(resolve => { release = resolve })
    const slow = rig(1, exporter => ({
      open: () => exporter.open(), close: () => exporter.close(),
      export: async spans => { await held; return exporter.export(spans) },
    }))
    trace(slow, 128 + 8_192 + 100)
    expect({ pending: slow.tracer.pending, ...slow.tracer.stats }).toEqual({ pending: 8_192, exported: 0, overflowed: 100, failed: 0 })
    expect(slow.log.lines).toEqual([{
      level: 'warn', fields: { dropped: 1, reason: '8192 requests wait already' }, message: 'spans were dropped; this is said once until some are taken again',
    }])
    release()
    await slow.tracer.flush()
    expect({ pending: slow.tracer.pending, ...slow.tracer.stats }).toEqual({ pending: 0, exported: 8_320, overflowed: 100, failed: 0 })
    expect(slow.exporter.spans).toHaveLength(8_320)
  })

  test('is dropped where it is not taken: counted, said once, and once more after some was taken', async () => {
    const down = rig()
    down.exporter.failure = 'connect ECONNREFUSED'
    trace(down, 300)
    await down.tracer.flush()
    expect(down.tracer.stats).toEqual({ exported: 0, overflowed: 0, failed: 300 })
    expect(down.log.lines.map(({ fields }) => fields)).toEqual([{ dropped: 128, reason: 'connect ECONNREFUSED' }])
    down.exporter.failure = undefined
    trace(down, 1)
    await down.tracer.flush()
    down.exporter.failure = 'Internal Server Error (500)'
    trace(down, 1)
    await down.tracer.flush()
    expect(down.tracer.stats).toEqual({ exported: 1, overflowed: 0, failed: 301 })
    expect(down.log.lines.map(({ fields }) => fields['reason'])).toEqual(['connect ECONNREFUSED', 'Internal Server Error (500)'])
  })

  test('is exported when the node stops, and nothing is taken after that', async () => {
    const stopping = rig()
    trace(stopping, 5)
    await stopping.tracer.stop()
    expect({ spans: stopping.exporter.spans.length, exported: stopping.tracer.stats.exported }).toEqual({ spans: 5, exported: 5 })
    trace(stopping, 1)
    expect(stopping.tracer.stats).toEqual({ exported: 5, overflowed: 1, failed: 0 })
    expect(await stopping.exporter.export([])).toBe('the exporter is closed')
  })

  test('does not hold a stop: what a receiver that says nothing has not taken by then is dropped and counted', async () => {
    const stuck = rig(1, exporter => ({ open: () => exporter.open(), close: () => exporter.close(), export: () => new Promise(() => undefined) }))
    trace(stuck, 200)
    await stuck.tracer.stop()
    expect({ pending: stuck.tracer.pending, ...stuck.tracer.stats }).toEqual({ pending: 0, exported: 0, overflowed: 0, failed: 72 })
  })
})

/** Spans to a receiver of OTLP over HTTP, and what becomes of them where that is down, slow, or has enough. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { OtlpTraces } from '../../providers/traces/otlp.ts'
import { parseEndpoint, parseHeaders } from '../../providers/traces/otlp-settings.ts'
import type { TraceSpan } from '../../services/traces/provider.ts'
import { answering, Collector } from '../support/collector.ts'
import { refusal } from '../support/refusal.ts'

const SPAN: TraceSpan = {
  traceId: '5b8efff798038103d269b633813fc60c', spanId: 'eee19b7ec3c1b174', parentId: 'eee19b7ec3c1b173', remoteParent: true, flags: 1, state: 'a=1', name: 'router 0xC:leader',
  kind: 'server', startUs: 1_544_712_660_300_001, endUs: 1_544_712_661_300_000, attributes: { 'cmesh.hop': 'router', 'cmesh.status': 503 }, failed: true, node: 'did:key:z6MkNode',
}

let collector: Collector
beforeAll(async () => { collector = await Collector.start() })
afterAll(() => collector.stop())
beforeEach(() => {
  collector.requests.length = 0
  collector.answers.length = 0
})

async function opened(options: { readonly endpoint?: string, readonly headers?: string, readonly timeoutMs?: number } = {}): Promise<OtlpTraces> {
  const exporter = new OtlpTraces({ endpoint: collector.url, version: '1.2.3', ...options })
  await exporter.open()
  return exporter
}

test('a span is what the definition of the protocol says, byte for byte as JSON', async () => {
  const exporter = await opened({ headers: 'authorization=Bearer%20x,X-Tenant=me' })
  expect(await exporter.export([SPAN])).toBeUndefined()
  const [request] = collector.requests
  expect(request).toMatchObject({ method: 'POST', path: '/v1/traces', headers: { 'content-type': 'application/json', 'authorization': 'Bearer x', 'x-tenant': 'me' } })
  expect(request?.body).toEqual({
    resourceSpans: [{
      resource: {
        attributes: [
          { key: 'service.name', value: { stringValue: 'cmesh' } }, { key: 'service.version', value: { stringValue: '1.2.3' } },
          { key: 'service.instance.id', value: { stringValue: 'did:key:z6MkNode' } },
        ],
        droppedAttributesCount: 0,
      },
      scopeSpans: [{
        scope: { name: 'cmesh', version: '1.2.3' },
        spans: [{
          traceId: '5b8efff798038103d269b633813fc60c', spanId: 'eee19b7ec3c1b174', parentSpanId: 'eee19b7ec3c1b173', traceState: 'a=1', name: 'router 0xC:leader', kind: 2,
          startTimeUnixNano: '1544712660300001000', endTimeUnixNano: '1544712661300000000',
          attributes: [{ key: 'cmesh.hop', value: { stringValue: 'router' } }, { key: 'cmesh.status', value: { intValue: 503 } }],
          droppedAttributesCount: 0, events: [], droppedEventsCount: 0, status: { code: 2 }, links: [], droppedLinksCount: 0, flags: 0x301,
        }],
      }],
    }],
  })
})

test.each([429, 502, 503, 504])('a receiver that answers %i is asked again when it says, and what it takes then was taken', async status => {
  const exporter = await opened()
  collector.answers.push(answering(status, { 'retry-after': '0' }), answering(status, { 'retry-after': '0' }))
  expect(await exporter.export([SPAN])).toBeUndefined()
  expect({ left: collector.answers.length, spans: collector.spans }).toEqual({ left: 0, spans: [SPAN] })
})

test('one that wants more time than there is is given up at once', async () => {
  const exporter = await opened({ timeoutMs: 2_000 })
  collector.answers.push(answering(429, { 'retry-after': '60' }))
  expect(await exporter.export([SPAN])).toBe('Export failed with retryable status')
  expect(collector.requests).toEqual([])
})

test.each([[500, 'Internal Server Error (500)'], [404, 'Not Found (404)'], [401, 'Unauthorized (401)']])('%i is final', async (status, reason) => {
  const exporter = await opened()
  collector.answers.push(answering(status))
  expect(await exporter.export([SPAN])).toBe(reason)
  expect(collector.requests).toEqual([])
})

test('one that says nothing costs its time-out and no more', async () => {
  const exporter = await opened({ timeoutMs: 50 })
  collector.answers.push(() => undefined)
  expect(await exporter.export([SPAN])).toBe('Request timed out')
  // Less than what stands for an export unless it is told otherwise.
}, 8_000)

test('one that is not there is said to be so', async () => {
  const gone = await Collector.start()
  const exporter = await opened({ endpoint: gone.url, timeoutMs: 50 })
  await gone.stop()
  expect(await exporter.export([SPAN])).toMatch(/ECONNREFUSED/)
})

describe('its settings', () => {
  test.each([
    ['ftp://collector/v1/traces', 'it is an http or https URL'], ['collector:4318', 'it is an http or https URL'], ['nonsense', 'it is an http or https URL'],
    ['http://me:secret@collector/v1/traces', 'it holds no credentials; they go into traces.headers'],
  ])('%s is no endpoint', (text, reason) => {
    expect(refusal(() => parseEndpoint(text))).toMatchObject({ code: 'CMESH_CONFIG_INVALID', message: `The setting traces.endpoint is not valid: ${reason}.` })
  })

  test.each(['authorization', '=x', 'a b=c', 'a=%zz', 'a=%0d%0ab', 'a='])('%s are no headers', text => {
    expect(refusal(() => parseHeaders(text))).toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: 'The setting traces.headers is not valid: it is name=value,name=value with percent-encoded values.',
    })
  })

  test('headers are read as OpenTelemetry writes them', () => {
    expect(parseHeaders(' Api-Key = s3cr%3Dt , x-tenant=a b,')).toEqual({ 'api-key': 's3cr=t', 'x-tenant': 'a b' })
  })

  test('without an endpoint it does not open', async () => {
    await expect(new OtlpTraces({}).open()).rejects.toMatchObject({ code: 'CMESH_CONFIG_INVALID', message: 'The setting traces.endpoint is not valid: the exporter otlp needs it.' })
  })
})

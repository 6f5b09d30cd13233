/** What every exporter of spans promises, as tests. `registry.test.ts` calls this with a way to make one, and to see what arrived. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import type { TraceExporter, TraceSpan } from '../../services/traces/provider.ts'

export interface TracesSubject {
  readonly exporter: TraceExporter
  readonly received: () => readonly TraceSpan[]
  /** From here on what comes is refused. */
  readonly refuse: () => void
  readonly dispose: () => Promise<void>
}

const ROOT: TraceSpan = {
  traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', parentId: '00f067aa0ba902b7', remoteParent: true, flags: 1, state: 'rojo=1,congo=2',
  name: 'router 0xS:0x001:hello_world', kind: 'server', startUs: 1_800_000_000_123_456, endUs: 1_800_000_000_123_999,
  attributes: { 'cmesh.hop': 'router', 'cmesh.status': 503, 'cmesh.gas': 4_294_967_296 }, failed: true, node: 'did:key:z6MkOne',
}
const SPANS: readonly TraceSpan[] = [
  ROOT,
  { ...ROOT, spanId: '1111111111111111', parentId: ROOT.spanId, remoteParent: false, name: 'state 0xS', kind: 'internal', failed: false, attributes: {} },
  { ...ROOT, spanId: '2222222222222222', parentId: undefined, remoteParent: false, flags: 3, state: undefined, kind: 'client', failed: false },
  { ...ROOT, spanId: '3333333333333333', node: 'did:key:z6MkTwo', endUs: ROOT.startUs },
]
const bySpan = (spans: readonly TraceSpan[]): TraceSpan[] => [...spans].sort((a, b) => (a.spanId < b.spanId ? -1 : 1))

export function tracesConformance(name: string, make: () => Promise<TracesSubject>): void {
  describe(`exporter of spans ${name}`, () => {
    let subject: TracesSubject
    beforeEach(async () => {
      subject = await make()
      await subject.exporter.open()
    })
    afterEach(async () => {
      await subject.exporter.close()
      await subject.dispose()
    })

    test('what it says was taken has arrived as it was given, ids, parents, times, attributes and nodes', async () => {
      expect(await subject.exporter.export(SPANS)).toBeUndefined()
      expect(bySpan(subject.received())).toEqual(bySpan(SPANS))
      expect(await subject.exporter.export(SPANS.slice(0, 1))).toBeUndefined()
      expect(subject.received()).toHaveLength(SPANS.length + 1)
    })

    test('open is memoised', async () => {
      await subject.exporter.open()
      expect(await subject.exporter.export(SPANS)).toBeUndefined()
      expect(subject.received()).toHaveLength(SPANS.length)
    })

    test('what is refused is said to be, with a reason, and nothing is thrown', async () => {
      subject.refuse()
      expect(await subject.exporter.export(SPANS)).toMatch(/\S/)
      expect(subject.received()).toEqual([])
    })

    test('after close nothing is sent', async () => {
      await subject.exporter.close()
      await subject.exporter.close()
      expect(await subject.exporter.export(SPANS)).toBe('the exporter is closed')
      expect(subject.received()).toEqual([])
    })
  })
}

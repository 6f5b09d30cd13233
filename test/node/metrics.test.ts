import { afterEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { Metrics } from '../../node/metrics.ts'
import { metric, metricsOf } from '../support/prometheus.ts'

let open: Metrics[] = []
function make(): Metrics {
  const metrics = new Metrics()
  open.push(metrics)
  return metrics
}
afterEach(() => {
  for (const metrics of open) metrics.close()
  open = []
})

describe('metrics as Prometheus text', () => {
  test('the process tells of its memory, its CPU time and its event loop', () => {
    const families = metricsOf(make().text())
    expect([...families].map(([name, { type }]) => [name, type])).toEqual([
      ['process_resident_memory_bytes', 'gauge'], ['process_cpu_seconds_total', 'counter'], ['nodejs_eventloop_delay_p99_seconds', 'gauge'],
    ])
    expect(metric(families, 'process_resident_memory_bytes')).toBeGreaterThan(10_000_000)
    expect(metric(families, 'process_cpu_seconds_total')).toBeGreaterThan(0)
  })

  test('samples are read at each scrape, with their labels', () => {
    const metrics = make()
    let value = 1
    metrics.add({ name: 'cmesh_tries_total', type: 'counter', help: 'Tries.', samples: () => [{ labels: { of: 'a' }, value: value++ }, { labels: { of: 'b', by: 'c' }, value: 0.5 }] })
    metrics.add({ name: 'cmesh_none', type: 'gauge', help: 'None.', samples: () => [] })
    expect(metricsOf(metrics.text()).get('cmesh_tries_total')).toEqual({
      type: 'counter', help: 'Tries.', samples: [{ labels: { of: 'a' }, value: 1 }, { labels: { of: 'b', by: 'c' }, value: 0.5 }],
    })
    expect(metric(metricsOf(metrics.text()), 'cmesh_tries_total', { of: 'a' })).toBe(2)
    expect(metricsOf(metrics.text()).get('cmesh_none')?.samples).toEqual([])
  })

  test('any label and any number comes out as it went in', () => {
    const metrics = make()
    let sample = { labels: { l: '' }, value: 0 }
    metrics.add({ name: 'cmesh_any', type: 'gauge', help: 'Any.', samples: () => [sample] })
    const numbers = fc.oneof(fc.double({ noNaN: true }), fc.maxSafeInteger(), fc.constantFrom(1e21, 1e-9, Infinity, -Infinity))
    fc.assert(fc.property(fc.string({ unit: 'binary' }), numbers, (l, value) => {
      sample = { labels: { l }, value }
      expect(metricsOf(metrics.text()).get('cmesh_any')?.samples).toEqual([{ labels: { l }, value: value === 0 ? 0 : value }])
    }), { numRuns: 200, examples: [['a"b\\c\nd,e="f"', 1], ['\\n', 1], ['}', 2]] })
  })
})

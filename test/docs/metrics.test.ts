/** `docs/metrics.md` says of each metric what the node exposes. */
import { expect, test } from '@jest/globals'
import { meshMetrics } from '../../node/mesh-metrics.ts'
import type { Mesh } from '../../node/mesh.ts'
import type { Mining } from '../../node/mining.ts'
import { cell, docTable } from '../support/doc-table.ts'

/** As much of a mesh as its metrics read. */
const MESH = {
  batcher: { stats: { requests: 1, batches: 1, refused: 0 }, pending: 0 },
  roots: { pending: 0, leftOut: 0 },
  auditLog: { noteBytes: 0 },
  frontDoor: { stats: { requests: 1, batches: 1, statuses: new Map([[200, 1]]) } },
  router: { inFlight: 1, dropped: 1 },
  hello: { dropped: 1 },
  state: { stats: {}, head: {}, courier: { stats: { delivered: 1, failed: 1 } } },
  endpoints: { state: { stats: {} } },
  consensus: { status: () => ({}) },
  iam: {}, guard: {}, outbox: {}, tails: {},
} as unknown as Mesh
const MINING = { dropped: 1, counts: () => [{ source: 'stream', outcome: 'mined', value: 1 }] } as unknown as Mining

test('docs/metrics.md lists every metric with its type, labels and meaning', async () => {
  const metrics = meshMetrics(MESH, MINING)
  try {
    const rows = exposed(metrics.text()).map(({ name, type, labels, help }) => [`\`${name}\``, type, labels.map(label => `\`${label}\``).join(', '), cell(help)])
    expect(rows.length).toBeGreaterThan(10)
    const { written, expected } = await docTable('metrics.md', 'metrics', ['metric', 'type', 'labels', 'meaning'], rows)
    expect(written).toBe(expected)
  } finally {
    metrics.close()
  }
})

interface Exposed { readonly name: string, readonly type: string, readonly help: string, readonly labels: readonly string[] }

/** What a scraper sees, by metric. */
function exposed(text: string): Exposed[] {
  return text.split('# HELP ').slice(1).map(block => {
    const [first = '', second = '', sample = ''] = block.split('\n')
    const space = first.indexOf(' ')
    const labels = [.../\{(.*)\}/.exec(sample)?.[1]?.matchAll(/(\w+)="/g) ?? []].map(([, label = '']) => label)
    return { name: first.slice(0, space), help: first.slice(space + 1), type: second.split(' ')[3] ?? '', labels }
  })
}

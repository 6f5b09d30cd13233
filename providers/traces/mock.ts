/** Spans kept in memory, for tests. */
import type { TraceExporter, TraceSpan } from '../../services/traces/provider.ts'

export class MockTraces implements TraceExporter {
  /** What was exported, in its order. */
  readonly spans: TraceSpan[] = []
  /** Why nothing is taken just now. */
  failure: string | undefined
  #closed = false

  async open(): Promise<void> {
    this.#closed = false
  }

  async export(spans: readonly TraceSpan[]): Promise<string | undefined> {
    if (this.#closed) return 'the exporter is closed'
    if (this.failure === undefined) this.spans.push(...spans)
    return this.failure
  }

  async close(): Promise<void> {
    this.#closed = true
  }
}

/**
 * Where spans go. A provider hands them to whoever collects them and keeps none of them longer than that takes.
 *
 * Invariants a provider keeps, proven by `test/conformance/traces.ts`:
 * 1. `export` says once what became of what it was given: that it was taken, whole, or why not. It never rejects, and never takes longer than
 *    its own time-out, attempts and pauses together.
 * 2. What was handed over arrives as it was given: ids, parents, times to the µs, attributes with their types.
 * 3. After `close` nothing is sent, and nothing keeps the process.
 */

export interface TraceSpan {
  /** 32 and 16 lower-case hex digits. */
  readonly traceId: string
  readonly spanId: string
  /** `undefined` for the first of its trace. */
  readonly parentId: string | undefined
  /** The parent is of another process, which said so by `traceparent`. */
  readonly remoteParent: boolean
  readonly flags: number
  readonly state: string | undefined
  readonly name: string
  readonly kind: 'server' | 'internal' | 'client'
  /** µs since 1970. */
  readonly startUs: number
  readonly endUs: number
  readonly attributes: Readonly<Record<string, string | number>>
  /** The node failed, as against the request. */
  readonly failed: boolean
  /** DID of the node that added the layer. */
  readonly node: string
}

export interface TraceExporter {
  /** Loads what it needs. Memoised. Rejects with `CMESH_CONFIG_INVALID` where it cannot be used as it is configured. */
  open(): Promise<void>
  /** Resolves with `undefined` once they were taken, else with why not. */
  export(spans: readonly TraceSpan[]): Promise<string | undefined>
  /** Idempotent. What is under way may still end, and is not waited for. */
  close(): Promise<void>
}

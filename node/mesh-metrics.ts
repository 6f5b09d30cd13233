/** What a node tells of itself: the metrics of its services, listed in `docs/metrics.md`. */
import type { Mesh } from './mesh.ts'
import { Metrics, type Sample } from './metrics.ts'
import type { Mining } from './mining.ts'

export function meshMetrics(mesh: Mesh, mining: Mining): Metrics {
  const { frontDoor, router, hello, state, endpoints, iam, guard, outbox, tails, batcher, roots, auditLog, tracer } = mesh
  const metrics = new Metrics()
  const one = (value: () => number) => (): Sample[] => [{ value: value() }]
  const byService = (value: (endpoint: Mesh['endpoints'][keyof Mesh['endpoints']]) => number) => (): Sample[] =>
    Object.entries(endpoints).map(([service, endpoint]) => ({ labels: { service }, value: value(endpoint) }))

  metrics.add({ name: 'cmesh_requests_total', type: 'counter', help: 'Requests taken, entries of batches included.', samples: one(() => frontDoor.stats.requests) })
  metrics.add({ name: 'cmesh_batches_total', type: 'counter', help: 'Batch frames taken.', samples: one(() => frontDoor.stats.batches) })
  metrics.add({
    name: 'cmesh_requests_repeated_total', type: 'counter', help: 'Entries of batches that were answered with what the same caller was told earlier in the batch.',
    samples: one(() => frontDoor.stats.repeated),
  })
  metrics.add({
    name: 'cmesh_replies_total', type: 'counter', help: 'Replies by status.',
    samples: () => [...frontDoor.stats.statuses.entries()]
      .filter(([, value]) => value > 0)
      .map(([status, value]) => ({ labels: { status: String(status) }, value })),
  })
  metrics.add({
    name: 'cmesh_messages_dropped_total', type: 'counter', help: 'Messages that want their answer where their sender does not listen.',
    samples: () => Object.entries({ router: router.dropped, iam: hello.dropped, miner: mining.dropped }).map(([at, value]) => ({ labels: { at }, value })),
  })
  metrics.add({ name: 'cmesh_requests_in_flight', type: 'gauge', help: 'Messages taken and not answered yet.', samples: one(() => router.inFlight) })
  metrics.add({ name: 'cmesh_audit_requests_total', type: 'counter', help: 'Requests recorded for the audit log.', samples: one(() => batcher.stats.requests) })
  metrics.add({ name: 'cmesh_audit_batches_total', type: 'counter', help: 'Batches on the audit log since the start.', samples: one(() => batcher.stats.batches) })
  metrics.add({ name: 'cmesh_audit_refused_total', type: 'counter', help: 'Messages refused because they could not have been recorded.', samples: one(() => batcher.stats.refused) })
  metrics.add({ name: 'cmesh_audit_pending', type: 'gauge', help: 'Requests that wait for the next batch.', samples: one(() => batcher.pending) })
  metrics.add({ name: 'cmesh_audit_layer_bytes', type: 'gauge', help: 'Bytes of layers kept beside the audit log.', samples: one(() => auditLog.noteBytes) })
  metrics.add({ name: 'cmesh_audit_roots_pending', type: 'gauge', help: 'Roots that wait for the audit channel.', samples: one(() => roots.pending) })
  metrics.add({ name: 'cmesh_audit_roots_left_out_total', type: 'counter', help: 'Roots that the audit channel was never told.', samples: one(() => roots.leftOut) })
  metrics.add({ name: 'cmesh_traces_exported_total', type: 'counter', help: 'Requests whose spans were taken by the receiver of traces.', samples: one(() => tracer?.stats.exported ?? 0) })
  metrics.add({
    name: 'cmesh_traces_dropped_total', type: 'counter', help: 'Requests whose spans were dropped: too many waited, or the receiver did not take them.',
    samples: () => (['overflowed', 'failed'] as const).map(reason => ({ labels: { reason }, value: tracer?.stats[reason] ?? 0 })),
  })
  metrics.add({ name: 'cmesh_traces_pending', type: 'gauge', help: 'Requests whose spans wait to be exported.', samples: one(() => tracer?.pending ?? 0) })
  metrics.add({ name: 'cmesh_service_requests_total', type: 'counter', help: 'Calls of each service.', samples: byService(endpoint => endpoint.stats.requests) })
  metrics.add({ name: 'cmesh_service_failed_total', type: 'counter', help: 'Calls of each service that ended with a status of 400 and above.', samples: byService(endpoint => endpoint.stats.failed) })
  metrics.add({ name: 'cmesh_service_denied_total', type: 'counter', help: 'Calls of each service that lacked a permission.', samples: byService(endpoint => endpoint.stats.denied) })
  metrics.add({ name: 'cmesh_service_seconds_total', type: 'counter', help: 'Time from call to reply, summed, of each service.', samples: byService(endpoint => endpoint.stats.busyUs / 1e6) })
  metrics.add({ name: 'cmesh_views_total', type: 'counter', help: 'Views asked for.', samples: one(() => state.stats.views) })
  metrics.add({ name: 'cmesh_view_hits_total', type: 'counter', help: 'Views answered from the cache.', samples: one(() => state.stats.viewHits) })
  const checks = (): NonNullable<Mesh['state']['readChecks']>['stats'] | undefined => state.readChecks?.stats
  metrics.add({
    name: 'cmesh_read_checks_total', type: 'counter', help: 'Reads of this node that other members were to check, by outcome.',
    samples: () => (['agreed', 'outvoted', 'open', 'busy'] as const).map(outcome => ({ labels: { outcome }, value: checks()?.[outcome] ?? 0 })),
  })
  metrics.add({ name: 'cmesh_read_mismatches_total', type: 'counter', help: 'Reads to which two members gave different results.', samples: one(() => checks()?.mismatches ?? 0) })
  metrics.add({
    name: 'cmesh_read_answers_total', type: 'counter', help: 'Reads of other nodes that this one was to check, by outcome.',
    samples: () => (['answered', 'refused'] as const).map(outcome => ({ labels: { outcome }, value: checks()?.[outcome] ?? 0 })),
  })
  metrics.add({ name: 'cmesh_read_answer_gas_total', type: 'counter', help: 'Gas of the views that other nodes asked for.', samples: one(() => checks()?.gas ?? 0) })
  metrics.add({ name: 'cmesh_transactions_total', type: 'counter', help: 'Transactions answered.', samples: one(() => state.stats.transactions) })
  metrics.add({ name: 'cmesh_transactions_pending', type: 'gauge', help: 'Transactions that wait for their outcome.', samples: one(() => state.pendingWrites) })
  metrics.add({ name: 'cmesh_blocks_total', type: 'counter', help: 'Blocks applied since the start.', samples: one(() => state.stats.blocks) })
  metrics.add({ name: 'cmesh_log_sequence', type: 'gauge', help: 'Sequence of the last applied block.', samples: one(() => state.head.seq) })
  metrics.add({ name: 'cmesh_log_time_seconds', type: 'gauge', help: 'Log time, seconds since 1970.', samples: one(() => state.head.timeMs / 1000) })
  metrics.add({ name: 'cmesh_outbox_blocks', type: 'gauge', help: 'Blocks whose events are not published yet.', samples: one(() => outbox.pending) })
  metrics.add({ name: 'cmesh_contracts', type: 'gauge', help: 'Contracts deployed, proxies included.', samples: one(() => state.stats.contracts) })
  metrics.add({
    name: 'cmesh_contract_gas_total', type: 'counter', help: 'Gas that contracts used, by kind; views from the cache use none.',
    samples: () => [{ labels: { kind: 'view' }, value: state.stats.viewGas }, { labels: { kind: 'transaction' }, value: state.stats.transactionGas }],
  })
  metrics.add({ name: 'cmesh_contract_failures_total', type: 'counter', help: 'Views and transactions that a contract failed.', samples: one(() => state.stats.contractFailures) })
  metrics.add({
    name: 'cmesh_contract_messages_total', type: 'counter', help: 'Messages of contracts that were answered, by outcome.',
    samples: () => Object.entries(state.courier.stats).map(([outcome, value]) => ({ labels: { outcome }, value })),
  })
  metrics.add({ name: 'cmesh_contract_messages_pending', type: 'gauge', help: 'Messages of contracts that have no answer yet.', samples: one(() => state.courier.pending) })
  metrics.add({ name: 'cmesh_sessions_known', type: 'gauge', help: 'Sessions whose token is remembered.', samples: one(() => guard.size) })
  metrics.add({ name: 'cmesh_sessions_carried', type: 'gauge', help: 'Those among them that may be in frames of a gateway.', samples: one(() => guard.carried) })
  metrics.add({ name: 'cmesh_handshakes_open', type: 'gauge', help: 'Handshakes under way.', samples: one(() => iam.open) })
  metrics.add({ name: 'cmesh_tails_open', type: 'gauge', help: 'Live tails of events.', samples: one(() => tails.size) })
  metrics.add({
    name: 'cmesh_mined_total', type: 'counter', help: 'Entries of the request sources, by source and outcome.',
    samples: () => mining.counts().map(({ source, outcome, value }) => ({ labels: { source, outcome }, value })),
  })
  return metrics
}

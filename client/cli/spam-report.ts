/** The outcome of a load, for a person. */
import type { SpamReport } from '../spam/spam.ts'
import { grouped } from '../grouped.ts'
import { table } from './table.ts'
import type { Terminal } from './terminal.ts'

export function spamLines(terminal: Terminal, report: SpamReport): string[] {
  const { rawPerSecond, ratio } = report
  const rows: string[][] = [
    ['requests', grouped(report.requests)],
    ['ok', terminal.style('green', grouped(report.ok))],
    ['failed', report.failed === 0 ? '0' : terminal.style('red', grouped(report.failed))],
    ...Object.entries(report.failures).map(([code, count]) => [`  ${code}`, grouped(count)]),
    ['with final hash', grouped(report.hashes)],
    ['mesh, requests/s', terminal.style('bold', grouped(report.perSecond))],
    ...(rawPerSecond === null || ratio === null ? [] : [
      ['bare NATS, requests/s', grouped(rawPerSecond)],
      ['ratio', terminal.style('bold', ratio.toFixed(2))],
    ]),
    ['p50', `${report.p50Ms.toFixed(2)} ms`],
    ['p99', `${report.p99Ms.toFixed(2)} ms`],
  ]
  const messages = report.batch === 1 ? 'requests' : `batches of ${report.batch}`
  const sharing = report.batch === 1 && report.coalesce ? ', reads of one turn in one frame' : ''
  const inFlight = `${report.concurrency} ${messages} in flight${sharing}; medians of ${report.rounds} rounds`
  return [...table(rows, { boxes: terminal.resultsAreSeen, right: [1] }), terminal.style('dim', inFlight)]
}

/** The outcome of a load, for a person. */
import type { SpamReport } from '../spam/spam.ts'
import { table } from './table.ts'
import type { Terminal } from './terminal.ts'

const NUMBER = new Intl.NumberFormat('en-US', { maximumFractionDigits: 0 })

export function spamLines(terminal: Terminal, report: SpamReport): string[] {
  const { rawPerSecond, ratio } = report
  const rows: string[][] = [
    ['requests', NUMBER.format(report.requests)],
    ['ok', terminal.style('green', NUMBER.format(report.ok))],
    ['failed', report.failed === 0 ? '0' : terminal.style('red', NUMBER.format(report.failed))],
    ...Object.entries(report.failures).map(([code, count]) => [`  ${code}`, NUMBER.format(count)]),
    ['with final hash', NUMBER.format(report.hashes)],
    ['mesh, requests/s', terminal.style('bold', NUMBER.format(report.perSecond))],
    ...(rawPerSecond === null || ratio === null ? [] : [
      ['bare NATS, requests/s', NUMBER.format(rawPerSecond)],
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

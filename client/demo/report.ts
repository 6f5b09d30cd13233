/** The demo's outcome: as the JSON document that is promised, and as tables for a person. */
import { table } from '../cli/table.ts'
import type { Terminal } from '../cli/terminal.ts'
import type { SpamReport } from '../spam/spam.ts'
import { grouped } from '../grouped.ts'
import type { Ledger } from './ledger.ts'
import type { CallOutcome, EventsOutcome, NameOutcome, ReceiptsOutcome } from './steps.ts'

export interface DemoOutcome {
  readonly spam: SpamReport
  readonly names: readonly NameOutcome[]
  readonly contract: { readonly address: string, readonly calls: readonly CallOutcome[], readonly survivedRestart: boolean }
  readonly events: EventsOutcome
  readonly receipts: ReceiptsOutcome
  readonly durationMs: number
}

/** Exactly the promised fields. */
export function demoDocument({ spam, names, contract, events, durationMs }: DemoOutcome): object {
  const { requests, ok, failed, perSecond, rawPerSecond, ratio, p50Ms, p99Ms } = spam
  return { spam: { requests, ok, failed, perSecond, rawPerSecond, ratio, p50Ms, p99Ms }, names, contract, events, durationMs }
}

export function demoLines(terminal: Terminal, outcome: DemoOutcome, ledger: Ledger): string[] {
  const { spam, names, contract, events, receipts } = outcome
  const boxes = terminal.resultsAreSeen
  const bold = (text: string): string => terminal.style('bold', text)
  const status = (code: number): string => terminal.style(code < 400 ? 'green' : 'yellow', String(code))
  const nameRows = names.map(({ name, fqmn, status: code }) => [name, fqmn, status(code), meaning(code)])
  const callRows = contract.calls.map(({ fqmn, status: code, result }) =>
    [fqmn.replace(contract.address, short(contract.address)), status(code), JSON.stringify(result)])
  return [
    ...table([
      ['mesh', bold(grouped(spam.perSecond)), `${grouped(spam.ok)} ok, ${grouped(spam.failed)} failed; reads of one turn share a frame`],
      ['bare NATS', grouped(spam.rawPerSecond ?? 0), '200 bytes each way, no session, no receipt'],
      ['ratio', bold((spam.ratio ?? 0).toFixed(2)), `p50 ${spam.p50Ms.toFixed(1)} ms, p99 ${spam.p99Ms.toFixed(1)} ms, ${spam.concurrency} in flight`],
    ], { boxes, title: bold(`${grouped(spam.requests)} requests`), head: ['', 'per second', ''], right: [1] }),
    '',
    ...table(nameRows, { boxes, title: bold('Names'), head: ['name', 'address', 'status', ''] }),
    '',
    ...table(callRows, { boxes, title: `${bold('Contract guestbook')} at ${contract.address}`, head: ['call', 'status', 'result'] }),
    contract.survivedRestart
      ? 'The last one was asked after the node had been stopped and started again.'
      : terminal.style('red', 'State did not survive the restart.'),
    '',
    ...table([
      ['events published, read back', `${events.published}, ${events.read}`],
      ['replies with their final hash', `${grouped(ledger.hashes)} of ${grouped(ledger.replies)}`],
      ['receipts that hold without the mesh', `${receipts.held} of ${receipts.asked}`],
      ['expectations met', `${ledger.expected - ledger.failures.length} of ${ledger.expected}`],
      ['took', `${(outcome.durationMs / 1_000).toFixed(1)} s`],
    ], { boxes, title: bold('And'), right: [1] }),
    ...(ledger.failures.length === 0
      ? [terminal.style('green', 'Everything was as expected.')]
      : [terminal.style('red', 'Not as expected:'), ...ledger.failures.map((failure) => `  ${failure}`)]),
  ]
}

function short(address: string): string {
  return `${address.slice(0, 10)}…`
}

function meaning(status: number): string {
  switch (status) {
    case 200: return 'registered'
    case 404: return 'not registered'
    case 409: return 'taken'
    default: return ''
  }
}

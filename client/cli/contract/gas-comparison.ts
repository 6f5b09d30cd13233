/** What calls cost now beside what they cost before: computed, and as a table. */
import { table } from '../table.ts'
import type { Terminal } from '../terminal.ts'
import { grouped } from '../../grouped.ts'
import type { FunctionGas, GasReport } from './kit-process.ts'

/** `same`: nothing changed by more than the threshold. */
export type Verdict = 'same' | 'more' | 'less' | 'new' | 'gone'

export interface GasChange {
  readonly contract: string
  readonly function: string
  readonly before: FunctionGas | null
  readonly now: FunctionGas | null
  /** Of the median, in percent; null where one of the two is missing. */
  readonly percent: number | null
  readonly verdict: Verdict
}

/** `threshold`: most percent by which min, median and max may each change and count as the same. */
export function compareGas(before: GasReport | undefined, now: GasReport, threshold: number): GasChange[] {
  const contracts = union(before?.contracts ?? {}, now.contracts)
  return contracts.flatMap((contract) => {
    const [was, is] = [before?.contracts[contract]?.functions ?? {}, now.contracts[contract]?.functions ?? {}]
    return union(was, is).map((name) => {
      const [then, today] = [was[name] ?? null, is[name] ?? null]
      // Without anything to compare with, nothing has changed.
      const verdict = before === undefined ? 'same' : verdictOf(then, today, threshold)
      const by = then === null || today === null ? null : percent(then.median, today.median)
      return { contract, function: name, before: then, now: today, percent: by, verdict }
    })
  })
}

function verdictOf(before: FunctionGas | null, now: FunctionGas | null, threshold: number): Verdict {
  if (before === null) return 'new'
  if (now === null) return 'gone'
  const changes = (['min', 'median', 'max'] as const).map((key) => percent(before[key], now[key]))
  const largest = changes.reduce((most, each) => (Math.abs(each) > Math.abs(most) ? each : most), 0)
  if (Math.abs(largest) <= threshold) return 'same'
  return largest > 0 ? 'more' : 'less'
}

function percent(before: number, now: number): number {
  return before === 0 ? (now === 0 ? 0 : 100) : ((now - before) / before) * 100
}

function union(a: object, b: object): string[] {
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].sort()
}

export function gasLines(terminal: Terminal, changes: readonly GasChange[]): string[] {
  const several = new Set(changes.map(({ contract }) => contract)).size > 1
  const rows = changes.map((change) => {
    const { calls, min, median, max } = change.now ?? { calls: 0, min: 0, median: 0, max: 0 }
    const name = several ? `${change.contract}.${change.function}` : change.function
    return [name, ...[calls, min, median, max].map(grouped), changeText(terminal, change)]
  })
  return table(rows, { boxes: terminal.resultsAreSeen, head: ['function', 'calls', 'min', 'median', 'max', 'change'], right: [1, 2, 3, 4] })
}

function changeText(terminal: Terminal, { verdict, before, percent: by }: GasChange): string {
  switch (verdict) {
    case 'same': return ''
    case 'new': return terminal.style('yellow', 'new')
    case 'gone': return terminal.style('yellow', `gone, was ${grouped(before?.median ?? 0)}`)
    case 'more': case 'less': {
      const text = `${(by ?? 0) > 0 ? '+' : ''}${(by ?? 0).toFixed(1)} %, was ${grouped(before?.median ?? 0)}`
      return terminal.style(verdict === 'more' ? 'red' : 'green', text)
    }
  }
}

/** What a benchmark found, as text for a person and as JSON for a program. Pure: it neither measures nor writes. */
import type { BenchResult, Figure, Ratio } from './harness.ts'
import type { Machine } from './machine.ts'

/** One element of what `--json` writes; the file holds the element itself when one benchmark ran, else an array of them. */
export interface BenchReport {
  readonly bench: string
  readonly machine: Machine
  readonly rounds: number
  readonly figures: readonly Figure[]
  readonly ratios: readonly Ratio[]
}

export function reportOf(bench: string, machine: Machine, { rounds, figures, ratios }: BenchResult): BenchReport {
  return {
    bench,
    machine,
    rounds,
    figures: figures.map(({ name, value, unit }) => ({ name, value, unit })),
    ratios: ratios.map(({ name, value, goal, met }) => ({ name, value, goal, met })),
  }
}

export function jsonText(reports: readonly BenchReport[]): string {
  return `${JSON.stringify(reports.length === 1 ? reports[0] : reports, null, 2)}\n`
}

export function machineLine({ cores, model, memoryMb, platform, node, natsServer, load }: Machine): string {
  return `${cores} × ${model}, ${memoryMb} MB, ${platform}, Node.js ${node}, nats-server ${natsServer}, load ${load.join(' ')}`
}

/** The lines of one benchmark's result. */
export function resultLines({ rounds, figures, ratios, leftOut }: BenchResult): string[] {
  return [
    ...columns(figures.map(({ name, value, unit }) => [name, formatted(value), unit])),
    ...(ratios.length === 0 ? [] : ['']),
    ...columns(ratios.map(({ name, value, goal, met }) => [name, formatted(value), `goal ${formatted(goal)}`, met ? '✓' : '✗'])),
    '',
    rounds === 1 ? '1 round' : `medians of ${rounds} rounds`,
    ...leftOut.map(text => `left out: ${text}`),
  ].map(line => (line === '' ? '' : `  ${line}`))
}

/** Three digits at least, and every digit of what is larger. */
export function formatted(value: number): string {
  if (!Number.isFinite(value)) return String(value)
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : 2
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
}

/** Texts to the left in the first column, numbers to the right in the second. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = [0, 1, 2].map(column => Math.max(0, ...rows.map(row => (row[column] ?? '').length)))
  return rows.map(row => row.map((cell, i) => (i === 1 ? cell.padStart(widths[i] ?? 0) : cell.padEnd(widths[i] ?? 0))).join('  ').trimEnd())
}

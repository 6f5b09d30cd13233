/**
 * Entry point of `npm run bench`: runs the benchmarks that the command line names, one after another, and prints what they
 * found; as smoke, which measures nothing, two beside each other, since each waits for its processes much of the time. A missed goal is a finding, a benchmark that fails is a failure: it is reported, the others still run, the status is 1.
 */
import { writeFile } from 'node:fs/promises'
import { BENCHES } from './catalogue.ts'
import { readCommandLine, type Asked } from './command-line.ts'
import { Scope, type Bench } from './harness.ts'
import { describeMachine } from './machine.ts'
import { jsonText, machineLine, reportOf, resultLines, type BenchReport } from './report.ts'

/** Each process that a benchmark starts is ended with this one, which listens for that. */
const MOST_PROCESSES = 128

/** Benchmarks that run beside each other as smoke. */
const SMOKE_AT_ONCE = 2

const STATUS_OF_SIGNAL = { SIGINT: 130, SIGTERM: 143 } as const

const asked = readCommandLine(process.argv.slice(2), BENCHES)
if ('text' in asked) {
  ;(asked.status === 0 ? process.stdout : process.stderr).write(asked.text)
  process.exitCode = asked.status
} else {
  process.exitCode = await runAll(asked)
}

async function runAll({ benches, smoke, json }: Asked): Promise<number> {
  const scopes = new Set<Scope>()
  process.setMaxListeners(MOST_PROCESSES)
  for (const signal of ['SIGINT', 'SIGTERM'] as const) {
    process.once(signal, () => { void Promise.all([...scopes].map(scope => scope.close())).finally(() => process.exit(STATUS_OF_SIGNAL[signal])) })
  }
  const log = (line: string): void => { process.stderr.write(`  ${line}\n`) }
  const reports: BenchReport[] = []
  let failed = 0
  const runOne = async (bench: Bench): Promise<void> => {
    const machine = await describeMachine()
    const head = `${bench.name}: ${bench.what}${smoke ? ' (smoke: too small to measure)' : ''}\n  ${machineLine(machine)}\n`
    // Beside another one its lines come together, at its end.
    if (!smoke) process.stdout.write(head)
    const scope = new Scope()
    scopes.add(scope)
    const startedMs = performance.now()
    try {
      const result = await bench.run({ smoke, log, scope }).finally(() => scope.close())
      process.stdout.write(`${smoke ? head : ''}${resultLines(result).join('\n')}\n  took ${((performance.now() - startedMs) / 1_000).toFixed(1)} s\n\n`)
      reports.push(reportOf(bench.name, machine, result))
    } catch (error) {
      failed++
      process.stderr.write(`${bench.name} failed: ${error instanceof Error ? error.stack ?? error.message : String(error)}\n\n`)
    } finally {
      scopes.delete(scope)
    }
  }
  const left = [...benches]
  const inTurn = async (): Promise<void> => {
    for (let bench = left.shift(); bench !== undefined; bench = left.shift()) await runOne(bench)
  }
  await Promise.all(Array.from({ length: smoke ? SMOKE_AT_ONCE : 1 }, inTurn))
  if (json !== undefined && reports.length > 0) await writeFile(json, jsonText(reports))
  if (failed > 0) process.stderr.write(`${failed} of ${benches.length} benchmarks failed\n`)
  return failed === 0 ? 0 : 1
}

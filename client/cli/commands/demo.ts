/** `cmesh demo`: the whole system at work on a mesh of its own, which is gone afterwards. */
import { writeFile } from 'node:fs/promises'
import type { Command } from 'commander'
import { runDemo } from '../../demo/demo.ts'
import { demoDocument, demoLines } from '../../demo/report.ts'
import { usage } from '../../options.ts'
import { examples, integerFrom } from '../command.ts'
import { EXIT, Reported } from '../exit-codes.ts'
import type { Terminal } from '../terminal.ts'

interface DemoOptions {
  /** A file, or `true` for standard output. */
  readonly json?: string | true
  readonly count: number
}

export function demo(program: Command, terminal: Terminal): void {
  program.command('demo').description('see the whole system at work, on a mesh that is removed afterwards')
    .option('--json [file]', 'write the outcome as one JSON document to a file, or print it instead of the tables')
    .option('--count <n>', 'requests of the load', integerFrom(1, 100_000_000), 30_000)
    .addHelpText('after', examples(
      ['cmesh demo', 'boot, names, load, contract, events, restart'],
      ['cmesh demo --json demo.json', 'and the outcome in a file'],
    ))
    .action(async (options: DemoOptions) => {
      const { outcome, ledger } = await runDemo(terminal, options.count)
      if (typeof options.json === 'string') await save(options.json, demoDocument(outcome))
      if (options.json === true) terminal.printJson(demoDocument(outcome))
      else for (const line of ['', ...demoLines(terminal, outcome, ledger)]) terminal.print(line)
      if (ledger.failures.length > 0) throw new Reported(EXIT.refused)
    })
}

async function save(file: string, value: object): Promise<void> {
  try {
    await writeFile(file, `${JSON.stringify(value, undefined, 2)}\n`)
  } catch (cause) {
    throw usage(`The outcome cannot be written to ${file}: ${cause instanceof Error ? cause.message : String(cause)}.`)
  }
}

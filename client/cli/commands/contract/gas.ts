/** `cmesh contract gas`: what a contract's calls cost, kept in a file that a change is compared with. */
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Command } from 'commander'
import { usage } from '../../../options.ts'
import { examples, integerFrom, withJson, type JsonOption } from '../../command.ts'
import { buildProject } from '../../contract/build.ts'
import { compareGas, gasLines } from '../../contract/gas-comparison.ts'
import { askKit, type GasReport } from '../../contract/kit-process.ts'
import { findProject, isFile } from '../../contract/project.ts'
import { EXIT, Reported } from '../../exit-codes.ts'
import { withProgress } from '../../progress.ts'
import type { Terminal } from '../../terminal.ts'

interface GasOptions extends JsonOption {
  readonly update?: boolean
  readonly threshold: number
  readonly build: boolean
}

const SCENARIO = 'gas.mjs'
const SNAPSHOT = 'gas.json'

export function gas(group: Command, terminal: Terminal): void {
  withJson(group.command('gas').description('measure what a contract\'s calls cost, and compare with gas.json'))
    .argument('[path]', 'a project\'s directory', '.')
    .option('--update', 'write gas.json anew')
    .option('--threshold <percent>', 'take a change of up to so many percent for none', integerFrom(0, 1_000), 0)
    .option('--no-build', 'measure what was built before')
    .addHelpText('after', examples(
      ['cmesh contract gas', 'exit code 1 when something costs another amount than gas.json says'],
      ['cmesh contract gas --update', 'take what it costs now for right'],
      ['cmesh contract gas --threshold 5', 'only what changed by more than 5 %'],
    ))
    .addHelpText('after', `\nThe calls are those of ${SCENARIO} in the project: a module whose default export takes { sandbox, deploy }.`)
    .action(async (path: string, options: GasOptions) => {
      const project = await findProject(path)
      const scenario = join(project.directory, SCENARIO)
      if (!await isFile(scenario)) throw usage(`There is no ${SCENARIO} in ${path === '.' ? 'this directory' : path}: a module whose default export takes { sandbox, deploy } and makes calls.`)
      if (options.build) await buildProject(terminal, project)
      const code = join(project.build, `${project.name}.cmpk`)
      const now = await withProgress(terminal, `measuring ${project.name}`, () => askKit(terminal, 'gas', { scenario, code }))
      const file = join(project.directory, SNAPSHOT)
      const before = await readSnapshot(file)
      const write = before === undefined || options.update === true
      if (write) await writeFile(file, `${JSON.stringify(now, null, 2)}\n`)
      const comparison = compareGas(before, now, options.threshold)
      const changed = !write && comparison.some(({ verdict }) => verdict !== 'same')
      if (options.json === true) terminal.printJson({ ...now, changed, changes: comparison.filter(({ verdict }) => verdict !== 'same'), written: write ? file : null })
      else for (const line of gasLines(terminal, comparison)) terminal.print(line)
      if (write) terminal.note(`${SNAPSHOT} ${before === undefined ? 'is written; keep it beside the source' : 'is written anew'}`)
      if (!changed) return
      terminal.note(`${terminal.styleNote('red', 'changed')} ${SNAPSHOT} says otherwise; --update takes what it costs now for right`)
      throw new Reported(EXIT.refused)
    })
}

async function readSnapshot(file: string): Promise<GasReport | undefined> {
  const text = await readFile(file, 'utf8').catch(() => undefined)
  if (text === undefined) return undefined
  try {
    return JSON.parse(text) as GasReport
  } catch {
    throw usage(`${file} is not JSON; --update writes it anew.`)
  }
}

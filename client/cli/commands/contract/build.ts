/** `cmesh contract build`: compiles a contract and writes what there is to deploy and to call it by. */
import { relative } from 'node:path'
import type { Command } from 'commander'
import { examples, fields, printResult, withJson, type JsonOption } from '../../command.ts'
import { buildProject } from '../../contract/build.ts'
import { findProject } from '../../contract/project.ts'
import { functionRows, kilobytes } from '../../contract/report.ts'
import type { Terminal } from '../../terminal.ts'

interface BuildOptions extends JsonOption {
  readonly out?: string
}

export function build(group: Command, terminal: Terminal): void {
  withJson(group.command('build').description('compile a contract to module, package, ABI and typed client'))
    .argument('[path]', 'a project\'s directory or an AssemblyScript file', '.')
    .option('--out <dir>', 'where to write (default: build/ in the project)')
    .addHelpText('after', examples(
      ['cmesh contract build', 'the contract in this directory, to build/'],
      ['cmesh contract build contracts/token --out dist', 'elsewhere'],
    ))
    .action(async (path: string, options: BuildOptions) => {
      const project = await findProject(path)
      const built = await buildProject(terminal, project, options.out)
      printResult(terminal, options, built, () => [
        ...fields(terminal, [
          ['contract', `${terminal.style('bold', built.name)} ${built.version}`],
          ['size', kilobytes(built.bytes)],
          ['code hash', built.codeHash],
          ['source hash', built.sourceHash],
          ...functionRows(built.functions),
          ...built.files.map((file, i): [string, string] => [i === 0 ? 'files' : '', relative(process.cwd(), file)]),
        ]),
      ])
    })
}

/** `cmesh contract test`: builds a contract and runs its tests with Node's test runner, on the real engine in process. */
import { join, relative } from 'node:path'
import type { Command } from 'commander'
import { examples, withJson, type JsonOption } from '../../command.ts'
import { buildProject } from '../../contract/build.ts'
import { findProject } from '../../contract/project.ts'
import { findTests, runTests } from '../../contract/test-run.ts'
import { usage } from '../../../options.ts'
import { EXIT, Reported } from '../../exit-codes.ts'
import type { Terminal } from '../../terminal.ts'

interface TestOptions extends JsonOption {
  readonly name?: string
  readonly build: boolean
}

export function test(group: Command, terminal: Terminal): void {
  withJson(group.command('test').description('build a contract and run its tests on the real engine'))
    .argument('[path]', 'a project\'s directory', '.')
    .option('--name <pattern>', 'only tests whose name fits')
    .option('--no-build', 'test what was built before')
    .addHelpText('after', examples(
      ['cmesh contract test', 'every test/**/*.test.js of the project in this directory'],
      ['cmesh contract test --name transfer', 'some of them'],
    ))
    .addHelpText('after', '\nTests import the sandbox from \'cmesh/testing\'. Exit code 1 when one fails.')
    .action(async (path: string, options: TestOptions) => {
      const project = await findProject(path)
      const files = await findTests(project.directory)
      if (files.length === 0) throw usage(`There is no test in ${relative(process.cwd(), join(project.directory, 'test')) || 'test'}: a test is a file *.test.js or *.test.mjs.`)
      if (options.build) await buildProject(terminal, project)
      const module = join(project.build, `${project.name}.wasm`)
      const run = await runTests(terminal, { directory: project.directory, files, module, pattern: options.name, quiet: options.json === true })
      if (options.name !== undefined && run.exit === 0 && run.passed + run.failed === 0) throw usage(`No test has run: there is none whose name fits ${options.name}, or it is skipped.`)
      if (options.json === true) terminal.printJson(run)
      if (run.failed > 0 || run.exit !== 0) throw new Reported(EXIT.refused)
    })
}

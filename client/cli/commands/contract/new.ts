/** `cmesh contract new`: a project with a contract, its test and its gas scenario, ready to build. Never overwrites. */
import { resolve } from 'node:path'
import type { Command } from 'commander'
import { scaffold } from '../../contract/scaffold.ts'
import { examples, printResult, withJson, type JsonOption } from '../../command.ts'
import type { Terminal } from '../../terminal.ts'

interface NewOptions extends JsonOption {
  readonly dir?: string
}

export function make(group: Command, terminal: Terminal): void {
  withJson(group.command('new').description('make a contract\'s project: source, test, gas scenario'))
    .argument('<name>', 'what it is called: lower-case letters, digits and -, 64 at most')
    .option('--dir <dir>', 'where to put it (default: a directory of its name)')
    .addHelpText('after', examples(
      ['cmesh contract new counter', 'in ./counter'],
      ['cmesh contract new counter --dir contracts/counter', 'elsewhere'],
    ))
    .action(async (name: string, options: NewOptions) => {
      const directory = options.dir ?? name
      const files = await scaffold(name, directory)
      printResult(terminal, options, { name, directory: resolve(directory), files }, () => [
        `${terminal.style('green', 'made')} ${terminal.style('bold', name)} in ${directory}`,
        ...files.map((file) => `  ${file}`),
        `Try it: ${terminal.style('cyan', `cd ${directory} && cmesh contract test`)}`,
      ])
    })
}

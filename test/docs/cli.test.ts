/** `docs/cli.md`: its tables name what there is, and every `$ cmesh` line of its session is run and says what the page says. */
import { execFile } from 'node:child_process'
import { chmod, mkdir, readFile, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import type { Command } from 'commander'
import { EXIT } from '../../client/cli/exit-codes.ts'
import { buildProgram } from '../../client/cli/program.ts'
import { capture } from '../client/support/capture.ts'
import { CliHome } from '../client/support/cli-process.ts'
import { ROOT } from '../support/sources.ts'

const page = await readFile(join(ROOT, 'docs', 'cli.md'), 'utf8')

describe('docs/cli.md', () => {
  test('lists every command and no other', async () => {
    const leaves = (command: Command): string[] => (command.commands.length === 0
      ? [[...(command.parent?.name() === 'cmesh' ? [] : [command.parent?.name()]), command.name()].join(' ')]
      : command.commands.flatMap(leaves))
    const section = page.slice(page.indexOf('\n## Commands'), page.indexOf('\n## Which mesh'))
    expect([...section.matchAll(/^\| `([a-z -]+)` \|/gm)].map(([, name]) => name).sort()).toEqual(leaves(await buildProgram(capture().terminal)).sort())
  })

  test('lists every exit code', () => {
    const section = page.slice(page.indexOf('| exit code |'))
    expect([...section.matchAll(/^\| (\d+) \|/gm)].map(([, code]) => Number(code))).toEqual(Object.values(EXIT))
  })
})

interface Step {
  readonly line: string
  readonly expected: string[]
}

/** The lines behind `$` in the page's session, each with what it is shown to print. */
function session(): Step[] {
  const steps: Step[] = []
  for (const [, block = ''] of page.matchAll(/```console\n([\s\S]*?)```/g)) {
    for (const line of block.trimEnd().split('\n')) {
      if (line.startsWith('$ ')) steps.push({ line: line.slice(2), expected: [] })
      else steps.at(-1)?.expected.push(line)
    }
  }
  return steps
}

/** `…` stands for anything within a line; alone on one, for any lines. */
function pattern(lines: readonly string[]): RegExp {
  const escaped = lines.map((line) => (line === '…' ? '[^]*' : line.split('…').map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&')).join('.*')))
  return new RegExp(`^${escaped.join('\n')}$`)
}

describe('the session of docs/cli.md', () => {
  let home: CliHome
  let bin: string
  beforeAll(async () => {
    home = await CliHome.make()
    bin = join(home.directory, 'bin')
    await mkdir(bin)
    await writeFile(join(bin, 'cmesh'), `#!/bin/sh\nexec "${process.execPath}" "${join(ROOT, 'dist/client/cli/main.js')}" "$@"\n`)
    await chmod(join(bin, 'cmesh'), 0o755)
    await home.start(['up']).printed('Ctrl-C drains')
    await home.json('register', 'helloWorldExample.mcom', '0xS:0x001:hello_world')
  })
  afterAll(() => home.close())

  test.each(session().map(({ line, expected }) => [line, expected] as const))('%s', async (line, expected) => {
    const env = { ...home.env, PATH: `${bin}${delimiter}${process.env['PATH'] ?? ''}` }
    const done = await promisify(execFile)('sh', ['-c', `${line} 2>&1`], { cwd: ROOT, env }).then(
      ({ stdout }) => ({ stdout, code: 0 }), (error: unknown) => error as { stdout: string, code: number },
    )
    home.wrote(line, done.stdout)
    const said = done.stdout.split('\n').filter((each) => !/ \(\d+ s\)$/.test(each)).join('\n').trimEnd()
    expect(done.code === 0 ? said : `${said}\n[exit ${done.code}]`).toMatch(pattern(expected))
  })
})

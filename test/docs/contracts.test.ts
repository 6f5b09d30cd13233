/** `docs/contracts.md`: its commands are run in order, in one shell, as its reader would, and print what the page shows. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { clean, equals } from '../../.ci/output.mjs'
import { Shell } from '../../.ci/shell.mjs'
import { until } from '../client/support/until.ts'
import { ROOT } from '../support/sources.ts'

// The commands compile contracts.
jest.setTimeout(180_000)

const page = await readFile(join(ROOT, 'docs', 'contracts.md'), 'utf8')

interface Step {
  readonly command: string
  readonly expected: string
}

/** Commands stand behind `$ `, their further lines behind `> `; what follows is their output. */
function session(): Step[] {
  const steps: { command: string, expected: string }[] = []
  for (const [, block = ''] of page.matchAll(/```console\n([\s\S]*?)```/g)) {
    for (const line of block.trimEnd().split('\n')) {
      const last = steps.at(-1)
      if (line.startsWith('$ ')) steps.push({ command: line.slice(2), expected: '' })
      else if (last !== undefined && line.startsWith('> ') && last.expected === '') last.command += `\n${line.slice(2)}`
      else if (last !== undefined) last.expected += `${line}\n`
    }
  }
  return steps.map(({ command, expected }) => ({ command, expected: clean(expected) }))
}

describe('docs/contracts.md', () => {
  let home: string
  let shell: Shell
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'cmesh-docs-contracts-'))
    shell = new Shell(home)
    await shell.run(`export TMPDIR="${home}"`)
    await shell.run(`node "${ROOT}dist/client/cli/main.js" up > "${home}/up.log" 2>&1 & mesh=$!`)
    await until('a mesh is up', async () => (await readFile(join(home, 'up.log'), 'utf8').catch(() => '')).includes('Ctrl-C drains'), 40_000)
  })
  afterAll(async () => {
    await shell.run('kill -INT $mesh; wait $mesh')
    await shell.close()
    await rm(home, { recursive: true, force: true, maxRetries: 5 })
  })

  test.each(session().map(({ command, expected }) => [command, expected] as const))('%s', async (command, expected) => {
    const { output, status } = await shell.run(command)
    const said = status === 0 ? clean(output) : `${clean(output)}\n[exit ${status}]`
    if (!equals(expected, said)) expect(said).toBe(expected)
  })

  test('its test is one that passes', async () => {
    const [, code = ''] = /```js\n([\s\S]*?)```/.exec(page) ?? []
    await writeFile(join(home, 'page.test.js'), code)
    const { output, status } = await shell.run(`cp "${home}/page.test.js" test/ && cmesh contract test --name 'what a sandbox can do'`)
    expect([status, clean(output)]).toEqual([0, expect.stringContaining('✔ what a sandbox can do')])
  })
})

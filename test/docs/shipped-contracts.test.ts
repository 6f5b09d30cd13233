/** The pages of the contracts that ship: their commands are run in order, in one shell, on one mesh, and print what the pages show. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { clean, equals } from '../../.ci/output.mjs'
import { Shell } from '../../.ci/shell.mjs'
import { until } from '../client/support/until.ts'
import { beside, SHIPPED } from '../contracts/support/compiled.ts'
import { ROOT } from '../support/sources.ts'

// The commands compile contracts.
jest.setTimeout(180_000)

const pages = await Promise.all(SHIPPED.map(async (name) => ({ name, text: await readFile(beside(name, 'README.md'), 'utf8') })))
const index = await readFile(join(ROOT, 'contracts', 'README.md'), 'utf8')

/** Commands stand behind `$ `; what follows is their output. */
function session(text: string): [command: string, expected: string][] {
  return [...text.matchAll(/```console\n([\s\S]*?)```/g)].flatMap(([, block = '']) => (
    block.split(/^\$ /m).slice(1).map((step): [string, string] => [step.slice(0, step.indexOf('\n')), clean(step.slice(step.indexOf('\n') + 1))])))
}

describe('the pages of the contracts that ship', () => {
  let home: string
  let shell: Shell
  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'cmesh-shipped-contracts-'))
    shell = new Shell(home)
    await shell.run(`export TMPDIR="${home}" CMESH_DATA_DIR="${home}/data"; cmesh() { node "${ROOT}dist/client/cli/main.js" "$@"; }`)
    await mesh('')
    const { output } = await shell.run('cmesh whoami --identity bob --json')
    await shell.run('kill -INT $mesh; wait $mesh')
    const { did } = JSON.parse(output) as { did: string }
    await mesh(`--set "iam.grants=${did}=write 0xSW:>"`)
    await shell.run('cmesh login --yes --identity bob')
  })
  afterAll(async () => {
    await shell.run('kill -INT $mesh; wait $mesh')
    await shell.close()
    await rm(home, { recursive: true, force: true, maxRetries: 5 })
  })

  async function mesh(options: string): Promise<void> {
    await shell.run(`rm -f "${home}/up.log"; node "${ROOT}dist/client/cli/main.js" up ${options} > "${home}/up.log" 2>&1 & mesh=$!`)
    await until('a mesh is up', async () => (await readFile(join(home, 'up.log'), 'utf8').catch(() => '')).includes('Ctrl-C drains'), 40_000)
  }

  describe.each(pages)('$name', ({ text }) => {
    test.each(session(text))('%s', async (command, expected) => {
      const { output, status } = await shell.run(command.replace('contracts/', `${ROOT}contracts/`).replaceAll('deployed', `"${home}/deployed"`))
      const said = status === 0 ? clean(output) : `${clean(output)}\n[exit ${status}]`
      if (!equals(expected, said)) expect(said).toBe(expected)
    })
  })
})

describe('the index of contracts', () => {
  test.each(SHIPPED)('says of %s what its gas.json says', async (name) => {
    const { contracts } = JSON.parse(await readFile(beside(name, 'gas.json'), 'utf8')) as {
      contracts: Record<string, { bytes: number, functions: Record<string, { median: number }> }>
    }
    const { bytes = 0, functions = {} } = contracts[name] ?? {}
    const row = index.split('\n').find((line) => line.startsWith(`| [${name}](`)) ?? ''
    expect(row).toContain(` | ${bytes.toLocaleString('en-US')} |`)
    const shown = [...row.matchAll(/`(\w+)` (\d[\d,]*\d)/g)].map(([, of = '', gas = '']) => [of, gas])
    expect(shown.length).toBeGreaterThanOrEqual(2)
    expect(shown).toEqual(shown.map(([of = '']) => [of, (functions[of]?.median ?? 0).toLocaleString('en-US')]))
  })
})

/** What the shipped contracts' calls cost is what stands beside their sources, measured and compared as `cmesh contract gas` does. */
import { readFile } from 'node:fs/promises'
import { pathToFileURL } from 'node:url'
import { describe, expect, test } from '@jest/globals'
import { ofCompiled } from '../../client/cli/contract/code.ts'
import { compareGas } from '../../client/cli/contract/gas-comparison.ts'
import type { GasReport } from '../../client/cli/contract/kit-process.ts'
import { findProject } from '../../client/cli/contract/project.ts'
import { compileContract } from '../../client/contract/compile.ts'
import { encodePackage } from '../../cmtp/package.ts'
import { runScenario } from '../../node/kit/scenario.ts'
import { beside, SHIPPED } from './support/compiled.ts'

describe.each(SHIPPED)('%s', (name) => {
  test('costs what its gas.json says (`cmesh contract gas --update` writes it), and says so of every function', async () => {
    const project = await findProject(beside(name, 'index.ts'))
    const { abi, ...code } = ofCompiled(project, await compileContract(project.entry))
    const kept = JSON.parse(await readFile(beside(name, 'gas.json'), 'utf8')) as GasReport
    const now = await runScenario(pathToFileURL(beside(name, 'gas.mjs')).href,
      encodePackage({ ...code, salt: Buffer.alloc(16), strategy: 'immutable', init: Buffer.alloc(0) }))
    expect(compareGas(kept, now, 0).filter(({ verdict }) => verdict !== 'same')).toEqual([])
    expect(now).toEqual(kept)
    const measured = Object.keys(now.contracts[name]?.functions ?? {})
    expect(measured).toEqual(expect.arrayContaining(abi.functions.filter(({ mode }) => mode !== 'init').map((each) => each.name)))
  })
})

/** A gas scenario, as `cmesh contract gas` runs it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { compileContract } from '../../../client/contract/compile.ts'
import { encodePackage, packageManifest } from '../../../cmtp/package.ts'
import { checkModule, inspectModule } from '../../../node/kit/modules.ts'
import { runScenario } from '../../../node/kit/scenario.ts'
import { refusal } from '../../support/refusal.ts'

const SOURCE = `
import { Cell, require } from 'cmesh/sdk'
const value = new Cell<u64>('value')
@init export function init(start: u64): void { value.set(start) }
export function add(by: u64, note: string, twice: bool, also: u64[]): void { require(by > 0, 'nothing to add'); value.set(value.get() + by) }
export function reset(): void { value.set(0) }
@view export function get(more: u64 = 3): u64 { return value.get() + more }
`

let dir: string
let module: Uint8Array
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cmesh-scenario-'))
  await writeFile(join(dir, 'index.ts'), SOURCE)
  module = (await compileContract(dir)).wasm
})
afterAll(() => rm(dir, { recursive: true, force: true }))

async function scenario(name: string, text: string): Promise<string> {
  const file = join(dir, name)
  await writeFile(file, text)
  return pathToFileURL(file).href
}

const packaged = (): Uint8Array => encodePackage({
  salt: Buffer.alloc(16), strategy: 'immutable', init: Buffer.from('[7]'), module, manifest: packageManifest({ name: 'adder', version: '1.0.0' }),
})

describe('a scenario', () => {
  test('is given a sandbox and its contract, and what it calls is the report', async () => {
    const url = await scenario('a.mjs', 'export default async ({ sandbox, deploy }) => { const c = deploy({ init: [1] }); await null; c.view("get"); c.call("reset", [], { as: sandbox.identity("a") }) }')
    const { contracts } = await runScenario(url, packaged())
    expect(Object.keys(contracts['adder']?.functions ?? {})).toEqual(['(deployment)', 'get', 'reset'])
    expect(contracts['adder']?.bytes).toBe(module.length)
  })

  test('that exports no function is refused, and what it throws comes through', async () => {
    const none = await scenario('c.mjs', 'export const scenario = () => {}')
    await expect(runScenario(none, module)).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID', message: `The setting ${none} is not valid: a gas scenario exports a function as its default.`,
    })
    await expect(runScenario(await scenario('d.mjs', 'export default () => { throw new RangeError("mine") }'), module)).rejects.toThrow('mine')
  })
})

describe('a module', () => {
  test('is tried with nothing for every argument, on the state that init leaves', () => {
    const { hints, codeHash, abi } = inspectModule(module)
    expect(codeHash).toMatch(/^[0-9a-f]{64}$/)
    expect(abi.functions.map(({ name }) => name)).toEqual(['init', 'add', 'reset', 'get'])
    expect(hints).toEqual({
      add: { gas: expect.any(Number), failed: 'CMESH_CONTRACT_REVERT' }, reset: { gas: expect.any(Number) }, get: { gas: expect.any(Number) },
    })
  })

  test('that no mesh takes is refused as a mesh does', () => {
    expect(refusal(() => checkModule(Buffer.from('no module')))).toMatchObject({ code: 'CMESH_DEPLOY_MAGIC' })
    expect(checkModule(module)).toMatchObject({ bytes: module.length, meteredBytes: expect.any(Number) })
  })
})

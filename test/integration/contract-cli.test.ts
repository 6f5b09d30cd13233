/**
 * `cmesh contract` on a real node: what each command says as a document, and how each says no. The way from an empty directory to a
 * replaced contract as a reader goes it is in `test/docs/contracts.test.ts`.
 */
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals'
import { CliHome, type CliResult } from '../client/support/cli-process.ts'

// Each compiles a contract or several, in processes of their own.
jest.setTimeout(240_000)

const HEX = /^[0-9a-f]{64}$/
const ADDRESS = /^0x[0-9a-f]{64}$/

let home: CliHome
let project: string
beforeAll(async () => {
  home = await CliHome.make()
  await home.start(['up']).printed('Ctrl-C drains')
  project = join(home.directory, 'cheers')
  await home.json('contract', 'new', 'cheers', '--dir', project)
  await home.json('contract', 'build', project)
})
afterAll(() => home.close())

const contract = (...args: readonly string[]): Promise<CliResult> => home.run(['contract', ...args])
const document = (...args: readonly string[]): Promise<Record<string, unknown>> => home.json('contract', ...args) as Promise<Record<string, unknown>>

/** A copy of the project with its source changed. */
async function changed(name: string, change: (source: string) => string): Promise<string> {
  const copy = join(home.directory, name)
  await cp(project, copy, { recursive: true })
  await writeFile(join(copy, 'index.ts'), change(await readFile(join(copy, 'index.ts'), 'utf8')))
  return copy
}

describe('cmesh contract build', () => {
  test('writes module, package, ABI and client, the same every time', async () => {
    const first = await document('build', project)
    expect(first).toMatchObject({ name: 'cheers', version: '0.1.0', bytes: expect.any(Number), codeHash: expect.stringMatching(HEX), sourceHash: expect.stringMatching(HEX) })
    expect(first['files']).toEqual(['wasm', 'cmpk', 'abi.json', 'client.ts'].map((extension) => join(project, 'build', `cheers.${extension}`)))
    const contents = await Promise.all((first['files'] as string[]).map((file) => readFile(file)))
    const elsewhere = await document('build', project, '--out', join(home.directory, 'out'))
    expect(await Promise.all((elsewhere['files'] as string[]).map((file) => readFile(file)))).toEqual(contents)
    expect(JSON.parse((contents[2] as Buffer).toString())).toMatchObject({ abi: 1, functions: first['functions'] })
    expect((contents[3] as Buffer).toString()).toContain('class CheersContract')
  })

  test('says where a source is wrong', async () => {
    const wrong = await changed('wrong', (source) => source.replace('const count = checked', 'const count: string = checked'))
    const { code, stderr, stdout } = await contract('build', wrong)
    expect([code, stdout]).toEqual([1, ''])
    expect(stderr).toMatch(/^error CMESH_CLIENT_COMPILE: The contract \S+index\.ts does not compile: ERROR TS2322/m)
    expect(stderr).toContain('in index.ts(17,')
  })
})

describe('cmesh contract check', () => {
  test('of a source, a module and a package says what a mesh would', async () => {
    for (const path of [project, join(project, 'build', 'cheers.wasm'), join(project, 'build', 'cheers.cmpk')]) {
      const checked = await document('check', path)
      expect(checked).toMatchObject({ name: 'cheers', ok: true, diagnostics: [], report: { functions: expect.any(Number), imports: expect.arrayContaining(['cmesh.get']) } })
    }
  })

  test('of a source that does not compile ends with 1, every error with its place', async () => {
    const wrong = await changed('two-errors', (source) => `${source}\nexport function a(): u64 { return 'x' }\nexport function b(x: f64): void {}\n`)
    const { code, stdout } = await contract('check', wrong, '--json')
    const { ok, diagnostics } = JSON.parse(stdout) as { ok: boolean, diagnostics: { severity: string, file: string, line: number }[] }
    expect([code, ok]).toEqual([1, false])
    const lines = diagnostics.filter(({ severity }) => severity === 'error').map(({ file, line }) => `${file}:${line}`)
    expect(lines).toContain('index.ts:37')
    const text = await contract('check', wrong)
    expect([text.code, text.stdout]).toEqual([1, ''])
    expect(text.stderr).toContain('in index.ts(37,')
  })

  test('of a module that no mesh takes ends with 1 and says why', async () => {
    const file = join(home.directory, 'broken.wasm')
    const module = await readFile(join(project, 'build', 'cheers.wasm'))
    await writeFile(file, module.subarray(0, 4))
    const { code, stdout, stderr } = await contract('check', file, '--json')
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({ ok: false, error: { code: expect.stringMatching(/^CMESH_DEPLOY_/), status: 400 } })
    expect(stderr).toMatch(/^error CMESH_DEPLOY_\w+: /m)
  })
})

describe('cmesh contract test', () => {
  test('counts what passed', async () => {
    expect(await document('test', project)).toMatchObject({ tests: 2, passed: 2, failed: 0, skipped: 0, exit: 0 })
    expect(await document('test', project, '--name', 'nobody')).toMatchObject({ passed: 1, failed: 0 })
  })

  test('ends with 2 where no name fits, since nothing was tested', async () => {
    const { code, stderr } = await contract('test', project, '--no-build', '--name', 'no such thing')
    expect([code, stderr]).toEqual([2, expect.stringContaining('error CMESH_CLIENT_USAGE: No test has run: there is none whose name fits no such thing, or it is skipped.')])
    const json = await contract('test', project, '--no-build', '--name', 'no such thing', '--json')
    expect([json.code, JSON.parse(json.stdout)]).toMatchObject([2, { error: { code: 'CMESH_CLIENT_USAGE' } }])
  })

  test('ends with 1 when a test fails, and shows it', async () => {
    const failing = await changed('failing', (source) => source.replace('checked.add(cheers.get(whom), 1)', 'checked.add(cheers.get(whom), 2)'))
    const { code, stdout } = await contract('test', failing)
    expect(code).toBe(1)
    expect(stdout).toContain('✖ a cheer is counted, and the world is told')
    expect(stdout).toContain('✔ a cheer for nobody is refused and changes nothing')
    const json = await contract('test', failing, '--json', '--no-build')
    expect([json.code, JSON.parse(json.stdout)]).toMatchObject([1, { tests: 2, passed: 1, failed: 1 }])
  })

  test('has the module compiled before the first test, once for all sandboxes; a broken one is for the tests to find', async () => {
    const counted = await changed('counted', (source) => source)
    await writeFile(join(counted, 'test', 'contract.test.js'), `
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Sandbox } from 'cmesh/testing'
let compiled = 0
WebAssembly.Module = class extends WebAssembly.Module { constructor(bytes) { super(bytes); compiled++ } }
const file = \`\${import.meta.dirname}/../build/cheers.wasm\`
for (const name of ['first', 'second']) test(name, () => {
  new Sandbox().deploy(file).call('cheer', ['Dexter'])
  assert.equal(compiled, 0)
})
`)
    expect(await document('test', counted)).toMatchObject({ tests: 2, passed: 2, failed: 0 })
    await writeFile(join(counted, 'build', 'cheers.wasm'), 'no module')
    const { code, stdout } = await contract('test', counted, '--no-build')
    expect(code).toBe(1)
    expect(stdout).toContain('CMESH_DEPLOY_MAGIC')
  })

  test('without a test is a wrong command line', async () => {
    const untested = await changed('untested', (source) => source)
    await rm(join(untested, 'test'), { recursive: true })
    expect(await contract('test', untested)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringMatching(/^error CMESH_CLIENT_USAGE: There is no test in /) })
  })
})

describe('cmesh contract gas', () => {
  test('is written once, then compared; a change ends with 1 until it is taken for right', async () => {
    const measured = await changed('measured', (source) => source)
    const first = await document('gas', measured)
    expect(first).toMatchObject({ changed: false, written: join(measured, 'gas.json'), contracts: { cheers: { functions: { cheer: { calls: 3 } } } } })
    const kept = JSON.parse(await readFile(join(measured, 'gas.json'), 'utf8')) as object
    expect(first).toMatchObject(kept)
    expect(await document('gas', measured, '--no-build')).toMatchObject({ changed: false, changes: [], written: null })

    await writeFile(join(measured, 'index.ts'), (await readFile(join(measured, 'index.ts'), 'utf8')).replace('cheers.set(whom, count)', 'cheers.set(whom, count)\n  cheers.set(whom, count)'))
    const { code, stdout, stderr } = await contract('gas', measured)
    expect(code).toBe(1)
    expect(stdout).toMatch(/^ {2}cheer +3 .* \+\d+\.\d %, was [\d,]+$/m)
    expect(stderr).toContain('changed gas.json says otherwise; --update takes what it costs now for right')
    const json = await contract('gas', measured, '--json', '--no-build')
    expect([json.code, JSON.parse(json.stdout)]).toMatchObject([1, { changed: true, written: null }])
    expect(await document('gas', measured, '--threshold', '900', '--no-build')).toMatchObject({ changed: false, changes: [] })
    expect(await document('gas', measured, '--update', '--no-build')).toMatchObject({ changed: false, written: join(measured, 'gas.json') })
    expect((await contract('gas', measured, '--no-build')).code).toBe(0)
  })

  test.each<[string, string, RegExp, number]>([
    ['throws', 'export default () => { throw new TypeError(\'oops\') }', /TypeError: oops/, 3],
    ['is none', 'export const scenario = 1', /CMESH_CONFIG_INVALID: .*a gas scenario exports a function as its default/, 2],
    ['makes a call that fails', 'export default ({ deploy }) => { deploy().call(\'cheer\', [\'\']) }', /CMESH_CONTRACT_REVERT: .* refused: say whom/, 1],
  ])('of a scenario that %s says so', async (name, text, message, exit) => {
    const wrong = await changed(`scenario-${name.replaceAll(' ', '-')}`, (source) => source)
    await writeFile(join(wrong, 'gas.mjs'), text)
    const { code, stderr } = await contract('gas', wrong, '--no-build')
    expect(stderr).toMatch(message)
    expect(code).toBe(exit)
  })

  test('what a scenario prints is no part of the document', async () => {
    const chatty = await changed('chatty', (source) => source)
    await writeFile(join(chatty, 'gas.mjs'), 'export default ({ deploy }) => { console.log(\'hello\'); deploy() }')
    const { code, stdout, stderr } = await contract('gas', chatty, '--json', '--no-build')
    expect([code, stderr]).toEqual([0, expect.stringContaining('hello')])
    expect(JSON.parse(stdout)).toMatchObject({ contracts: { cheers: expect.anything() } })
  })
})

describe('a contract on a mesh', () => {
  let address: string
  beforeAll(async () => {
    const deployed = await document('deploy', project, '--replaceable')
    expect(deployed).toMatchObject({ name: 'cheers', version: 1, address: expect.stringMatching(ADDRESS), codeHash: expect.stringMatching(HEX) })
    address = deployed['address'] as string
    await home.json('register', 'contractCli.mcom', `0xS:${address}`)
  })

  test('is called by address and by name, with a number of any size', async () => {
    expect(await document('call', address, 'cheer', 'Dexter')).toEqual({
      address, function: 'cheer', mode: 'write', value: 1, gas: expect.any(Number), transaction: expect.stringMatching(/^[0-9a-f]{32}$/),
    })
    expect(await document('call', 'contractCli.mcom', 'cheersFor', '--args', '["Dexter"]')).toMatchObject({ mode: 'view', value: 1, transaction: null })
    expect(await document('call', `0xS:${address}`, 'count')).toMatchObject({ value: 1 })
  })

  test.each<[readonly string[], number, RegExp]>([
    [['nope'], 1, /^error CMESH_STATE_NO_FUNCTION: /m],
    [['cheer'], 2, /^error CMESH_CLIENT_USAGE: cheer\(whom: string\): u64 takes 1 argument, not 0\./m],
    [['cheer', ''], 1, /^error CMESH_CONTRACT_REVERT: .* refused: say whom you cheer for/m],
  ])('refuses %j', async (args, exit, message) => {
    const { code, stderr } = await contract('call', address, ...args)
    expect(stderr).toMatch(message)
    expect(code).toBe(exit)
  })

  test.each([
    ['0xE:news:read', 2, 'CMESH_CLIENT_USAGE'], ['0xS:nobody', 1, 'CMESH_FQMN_SYNTAX'], ['nobody.mcom', 1, 'CMESH_REGISTRAR_NOT_FOUND'], [`0x${'0'.repeat(64)}`, 1, 'CMESH_STATE_NO_CONTRACT'],
  ])('%s is found to be none', async (given, exit, error) => {
    const { code, stderr } = await contract('call', given, 'count')
    expect([code, stderr]).toEqual([exit, expect.stringMatching(new RegExp(`^error ${error}: `, 'm'))])
  })

  test('is verified by its source, and by no other', async () => {
    expect(await document('verify', address, '--source', project)).toMatchObject({ address, version: 1, same: true, manifest: [], difference: null })
    const other = await changed('other', (source) => source.replace('in 1 to 64 characters', 'in 1 to 99 characters'))
    const { code, stdout } = await contract('verify', address, '--source', other, '--json')
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({
      same: false, manifest: [{ fact: 'sourceHash' }], difference: { parts: [{ part: 'section data' }], at: 'section data', offset: expect.any(Number) },
    })
    const commented = await changed('commented', (source) => `// The same code, another source.\n${source}`)
    const facts = await contract('verify', address, '--source', commented)
    expect(facts.code).toBe(1)
    expect(facts.stdout).toMatch(/^differs version 1 of \S+ has this code, but its manifest says otherwise$/m)
    expect(facts.stdout).toMatch(/^sourceHash +[0-9a-f]{64} on the mesh, [0-9a-f]{64} from this source$/m)
    expect(await contract('verify', address, '--source', project, '--version', '9')).toMatchObject({ code: 2, stderr: expect.stringContaining(`${address} has no version 9; it has 1.`) })
  })

  test('is inspected, as its file is', async () => {
    const onMesh = await document('inspect', address)
    expect(onMesh).toMatchObject({ address, strategy: 'replaceable', manifest: { name: 'cheers', version: '0.1.0' }, versions: [{ version: 1 }], hints: { count: { gas: expect.any(Number) } } })
    const inFile = await document('inspect', join(project, 'build', 'cheers.cmpk'))
    for (const part of ['codeHash', 'abi', 'imports', 'hints', 'manifest']) expect([part, inFile[part]]).toEqual([part, onMesh[part]])
    expect(await document('inspect', '0x001')).toMatchObject({ address: '0x001', manifest: { name: 'hello' } })
  })

  test('has a typed client, from the mesh as from its file', async () => {
    const { source } = await document('client', address)
    expect(source).toBe(await readFile(join(project, 'build', 'cheers.client.ts'), 'utf8'))
    const file = join(home.directory, 'client.ts')
    expect(await document('client', join(project, 'build', 'cheers.wasm'), '--out', file)).toEqual({ name: 'cheers', file })
    expect(await readFile(file, 'utf8')).toBe(source)
  })

  test('is tried, replaced, and followed by its proxy', async () => {
    const proxy = await document('proxy', 'contractCli.mcom')
    expect(proxy).toMatchObject({ target: address, address: expect.stringMatching(ADDRESS) })
    const next = await changed('next', (source) => `${source.replace('return total.get()', 'return total.get() + 1')}
@migrate
export function migrate(from: string): void { require(from == '0.1.0', 'no way from ' + from) }
`)
    const calls = join(home.directory, 'calls.json')
    await writeFile(calls, '[{"function": "cheersFor", "args": ["Dexter"]}, {"function": "count"}]')
    const tried = await contract('dry-run', address, next, '--calls', calls, '--version', '0.2.0', '--json')
    expect(tried.code).toBe(1)
    expect(JSON.parse(tried.stdout)).toMatchObject({
      version: 2, migrate: { status: 200 }, calls: [{ same: true }, { same: false }], firstDifference: { call: 1, function: 'count', part: 'output' },
    })
    expect(await document('dry-run', address, project, '--calls', calls)).toMatchObject({ firstDifference: null, migrate: null })
    // Calls that are none are not compared: it must not look as if they were.
    for (const [name, text] of [['empty.log', ''], ['no-calls', '[]'], ['of-another', '0xS:0x001:hello_world\n']] as const) {
      const none = join(home.directory, name)
      await writeFile(none, text)
      expect(await contract('dry-run', address, project, '--calls', none)).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining(`${none} has no call of ${address} to compare;`) })
    }
    expect(await document('call', address, 'count')).toMatchObject({ value: 1 })

    expect(await document('replace', address, next, '--version', '0.2.0')).toMatchObject({ address, version: 2, name: 'cheers', replaced: expect.stringMatching(HEX) })
    expect(await document('call', address, 'count')).toMatchObject({ value: 2 })
    expect(await document('call', proxy['address'] as string, 'count')).toMatchObject({ value: 1 })
    const again = await contract('replace', address, next, '--version', '0.3.0')
    expect([again.code, again.stderr]).toEqual([1, expect.stringMatching(/^error CMESH_CONTRACT_REVERT: .* refused: no way from 0\.2\.0/m)])
    expect(await document('verify', address, '--source', project, '--version', '1')).toMatchObject({ same: true })
    expect(await document('inspect', proxy['address'] as string)).toMatchObject({ proxyOf: address, versions: [{ version: 1 }, { version: 2 }] })
  })

  test('deployed by a stranger is refused with a hint, and nobody else may replace it', async () => {
    const stranger = await contract('deploy', join(project, 'build', 'cheers.cmpk'), '--identity', 'stranger')
    expect([stranger.code, stranger.stderr]).toEqual([1, expect.stringMatching(/^error CMESH_IAM_DENIED: [^\n]+\nhint .*iam\.grants/m)])
    const other = await contract('replace', address, join(project, 'build', 'cheers.cmpk'), '--identity', 'stranger')
    expect([other.code, other.stderr]).toEqual([1, expect.stringMatching(/^error CMESH_IAM_DENIED: /m)])
  })

  test('deployed for good cannot be replaced, and tried first changes nothing', async () => {
    const salt = '0123456789abcdef0123456789abcdef'
    const module = join(project, 'build', 'cheers.wasm')
    const dry = await document('deploy', module, '--salt', salt, '--dry-run')
    expect(dry).toMatchObject({ address: expect.stringMatching(ADDRESS), deployGas: expect.any(Number), init: null })
    expect((await contract('inspect', dry['address'] as string)).code).toBe(1)
    const deployed = await document('deploy', module, '--salt', salt)
    expect(deployed['address']).toBe(dry['address'])
    const { code, stderr } = await contract('replace', deployed['address'] as string, module)
    expect([code, stderr]).toEqual([1, expect.stringMatching(/^error CMESH_DEPLOY_IMMUTABLE: [^\n]+\nhint Only what was deployed with --replaceable/m)])
    expect((await contract('deploy', module, '--salt', salt)).stderr).toMatch(/^error CMESH_DEPLOY_EXISTS: [^\n]+\nhint .*--salt/m)
  })
})

test('without a mesh what needs one ends with 3', async () => {
  const empty = join(home.directory, 'empty')
  await mkdir(empty)
  for (const args of [['inspect', '0x001'], ['call', '0x001', 'hello_world'], ['proxy', '0x001'], ['client', '0x001']]) {
    expect(await home.run(['contract', ...args, '--data', empty])).toMatchObject({ code: 3, stdout: '', stderr: expect.stringContaining('error CMESH_CLIENT_NO_MESH: ') })
  }
})

/** Options that a command refuses before it does anything: that would count for nothing, that were mistyped, that would write over a file. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { EXIT } from '../../../client/cli/exit-codes.ts'
import { nearest } from '../../../client/cli/nearest.ts'
import { run } from '../../../client/cli/program.ts'
import { capture } from '../support/capture.ts'

let dir: string
beforeAll(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-cli-')) })
afterAll(() => rm(dir, { recursive: true, force: true }))
/** No mesh, no identity of the person who runs the tests. */
const nowhere = (): NodeJS.ProcessEnv => ({ CMESH_DATA_DIR: join(dir, 'none'), CMESH_CONFIG_DIR: join(dir, 'config') })

describe('an option that would count for nothing is refused, and by itself it is not', () => {
  const DID = 'did:key:z6MkiugQtT9bVdTVJHkUuC7CBxwk8Dbd5TUj58YGf9jZYugp'
  const wasm = fileURLToPath(new URL('../../../dist/contracts/hello.wasm', import.meta.url))
  test.each<[readonly string[], RegExp]>([
    [['whoami', '--url', 'nats://127.0.0.1:1', '--data', 'x'], /--url and --data each say which mesh: give one of them\./],
    [['identity', 'show', '--url', 'nats://127.0.0.1:1', '--timeout', '9'], /--url and --timeout would count for nothing: no mesh is asked without --mesh\./],
    [['contract', 'inspect', wasm, '--url', 'x'], /--url would count for nothing: a contract in a file asks no mesh\./],
    [['contract', 'client', wasm, '--identity', 'me', '--data', 'x'], /--data and --identity would count for nothing: a contract in a file asks no mesh\./],
    [['contract', 'dry-run', '0x002', wasm, '--receipts', 'x', '--url', 'y'], /--url would count for nothing: receipts are run on the log of --data/],
    [['contract', 'dry-run', '0x002', wasm, '--view-gas', '5'], /--view-gas would count for nothing: it goes with --receipts\./],
    [['spam', '--receipts', 'x', '--receipt', 'none'], /--receipt would count for nothing: --receipts asks for each receipt/],
    [['spam', '--batch', '10', '--no-coalesce'], /--no-coalesce would count for nothing: with --batch it is said what shares a message\./],
    [['audit', 'verify', '--offline', '--url', 'x', '--identity', 'me'], /--url and --identity would count for nothing: with --offline no mesh is asked\./],
    [['audit', 'verify', 'dir', '--offline', '--data', 'x'], /--data would count for nothing: with --offline/],
    [['receipt', 'verify', 'x', '--mesh', DID, '--data', 'y'], /--data would count for nothing: --mesh says which mesh/],
    [['mesh', 'certify', DID, '--key', 'x', '--data', 'y'], /--data would count for nothing: --key is the key that certifies\./],
    [['up', '--operator', DID, '--identity', 'me'], /--identity would count for nothing: --operator says who holds every right/],
    [['up', '--operator', DID, '--nats-url', 'nats://127.0.0.1:1', '--port', '1'], /--port would count for nothing: with --nats-url no nats-server is started\./],
    [['consensus', 'migrate', '--dry-run', '--nats-url', 'x', '--set', 'bus.url=y'], /--nats-url and --set bus\.url say the same: give one of them\./],
    ...['0xR:a.mcom', '0xE:news', '0xEW:news', '0xI:whoami', '0xC:status'].map((fqmn): [readonly string[], RegExp] => [['call', fqmn, '--if-match', '0'.repeat(64)], /--if-match goes with a write/]),
  ])('%j', async (args, says) => {
    const { terminal, out, err } = capture({ env: nowhere() })
    expect([await run(args, terminal), out()]).toEqual([EXIT.usage, ''])
    expect(err()).toMatch(says)
  })

  test.each<[readonly string[], RegExp]>([
    [['whoami', '--url', 'nats://127.0.0.1:1'], /CMESH_CLIENT_NO_MESH/],
    [['whoami', '--data', 'x'], /CMESH_CLIENT_NO_MESH/],
    [['identity', 'show', '--mesh', '--url', 'nats://127.0.0.1:1'], /There is no identity default|CMESH_CLIENT_NO_MESH/],
    [['contract', 'inspect', '0x001', '--url', 'nats://127.0.0.1:1'], /CMESH_CLIENT_NO_MESH/],
    [['call', '0xRW:a.mcom', '--if-match', '0'.repeat(64)], /CMESH_CLIENT_NO_MESH/],
  ])('%j', async (args, says) => {
    const { terminal, err } = capture({ env: nowhere() })
    await run(args, terminal)
    expect(err()).not.toContain('would count for nothing')
    expect(err()).toMatch(says)
  })
})

describe('a mistyped word', () => {
  test.each([
    ['ful', 'full'], ['fulll', 'full'], ['fuull', 'full'], ['fukl', 'full'], ['fll', 'full'], ['uful', undefined], ['ufll', 'full'], ['FULL', 'full'], ['Hash', 'hash'], ['hsah', 'hash'],
    ['full', undefined], ['hello.receipt', undefined], ['./ful', undefined], ['', undefined], ['nothing', undefined],
  ])('%j may have meant %j', (typed, meant) => {
    expect(nearest(typed, ['none', 'hash', 'full'])).toBe(meant)
  })
})

describe('the receipt of a call', () => {
  const calling = async (...args: readonly string[]): Promise<{ code: number, out: string, err: string }> => {
    const { terminal, out, err } = capture({ env: { ...nowhere(), CMESH_URL: 'nats://127.0.0.1:1' } })
    return { code: await run(['call', '0xSW:0x001:say', ...args], terminal), out: out(), err: err() }
  }

  // There is no mesh: whether its files can be written is known before one is asked.
  test.each([
    ['the receipt', 'there', (file: string): string[] => ['--receipt', file]],
    ['the witness beside it', 'there.witness', (file: string): string[] => ['--receipt', file.replace('.witness', '')]],
    ['the witness elsewhere', 'elsewhere', (file: string): string[] => ['--receipt', `${file}.receipt`, '--witness', file]],
  ])('never takes the place of a file, and then no call is made: %s', async (_, name, args) => {
    const place = await mkdtemp(join(dir, 'call-'))
    const file = join(place, name)
    await writeFile(file, 'mine')
    expect(await calling(...args(file))).toEqual({ code: EXIT.usage, out: '', err: `error CMESH_CLIENT_USAGE: ${file} is there already and is not written over: give another name, or move it away first.\n` })
    expect(await readdir(place)).toEqual([name])
    expect(await readFile(file, 'utf8')).toBe('mine')
  })

  test('says so where the file is one that a call left when it was killed', async () => {
    const file = join(await mkdtemp(join(dir, 'call-')), 'r')
    await writeFile(file, '')
    expect(await calling('--receipt', file)).toEqual({
      code: EXIT.usage, out: '', err: `error CMESH_CLIENT_USAGE: ${file} is there already, and empty: a command that was killed may have left it. Remove it, or give another name.\n`,
    })
  })

  test('leaves no empty file where nobody answers', async () => {
    const place = await mkdtemp(join(dir, 'call-'))
    expect(await calling('--receipt', join(place, 'r'))).toMatchObject({ code: EXIT.unreachable })
    expect(await readdir(place)).toEqual([])
  })

  test('must have a directory to go to before the call is made', async () => {
    expect(await calling('--receipt', join(dir, 'no', 'r'))).toMatchObject({ code: EXIT.usage, err: expect.stringContaining(`${join(dir, 'no', 'r')} cannot be written: `) })
  })
})

describe('a path that cannot be used is named, and is no failure of cmesh', () => {
  const counter = fileURLToPath(new URL('../../../contracts/counter/index.ts', import.meta.url))
  test.each<[string, (file: string) => readonly string[], RegExp]>([
    ['a client in a directory that is none', file => ['contract', 'client', counter, '--out', join(file, 'x.ts')], /x\.ts cannot be used: not a directory \(ENOTDIR\)\.$/],
    ['a client in a directory that is not there', file => ['contract', 'client', counter, '--out', `${file}-none/x.ts`], /-none\/x\.ts cannot be used: no such file or directory \(ENOENT\)\.$/],
    ['a client in the place of a directory', () => ['contract', 'client', counter, '--out', dir], /cannot be used: illegal operation on a directory \(EISDIR\)\.$/],
    ['what a build makes', file => ['contract', 'build', counter, '--out', join(file, 'out')], /out cannot be used: not a directory \(ENOTDIR\)\.$/],
    ['receipts of a load', file => ['spam', '--receipts', join(file, 'r')], /r cannot be used: not a directory \(ENOTDIR\)\.$/],
  ])('%s', async (_, args, says) => {
    const file = join(await mkdtemp(join(dir, 'path-')), 'file')
    await writeFile(file, 'mine')
    const { terminal, out, err } = capture({ env: nowhere() })
    expect([await run(args(file), terminal), out()]).toEqual([EXIT.usage, ''])
    expect(err().trim()).toMatch(says)
  })
})

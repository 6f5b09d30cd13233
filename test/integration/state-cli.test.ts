import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { run } from '../../client/cli/program.ts'
import { capture } from '../client/support/capture.ts'
import { CliHome, type CliResult, type CliRun } from '../client/support/cli-process.ts'
import { contractModule } from '../support/contract-module.ts'
import { ROOT } from '../support/sources.ts'

let home: CliHome
let up: CliRun
/** DID of the mesh, and of its operator. */
let mesh: string
let operator: string

beforeAll(async () => {
  home = await CliHome.make()
  up = home.start(['up'])
  await up.printed('Ctrl-C drains')
  mesh = /^mesh +(\S+)$/m.exec(up.stdout)?.[1] ?? ''
  operator = (await json('whoami') as { did: string }).did
})
afterAll(() => home.close())

/** One command line of the home, in this process. */
async function cmesh(...args: readonly string[]): Promise<CliResult> {
  const { terminal, out, err } = capture({ env: home.env })
  const code = await run(args, terminal)
  home.wrote(`cmesh ${args.join(' ')}`, out() + err())
  return { code, stdout: out(), stderr: err() }
}

async function json(...args: readonly string[]): Promise<unknown> {
  const { code, stdout, stderr } = await cmesh(...args, '--json')
  expect([code, stderr]).toEqual([0, ''])
  return JSON.parse(stdout)
}

/** The counter's value as it stands: the node's own test of itself has counted one. */
const counted = (by: number): string => `hex:${Buffer.from([by + 1, 0, 0, 0, 0, 0, 0, 0]).toString('hex')}`

const file = (name: string): string => join(home.directory, name)
const state = (...args: readonly string[]): Promise<unknown> => json('state', ...args)
const increment = async (by: number): Promise<number> => {
  const { code, stderr } = await cmesh('call', `0xSW:0x002:increment:["${by}"]`)
  expect([code, stderr]).toEqual([0, ''])
  return (await json('status') as { consensus: { head: { seq: number } } }).consensus.head.seq
}

describe('cmesh state', () => {
  test('shows a value now, as it was, and what changed; a key is text, hex or JSON', async () => {
    const first = await increment(5)
    const second = await increment(7)
    expect(await state('get', '0x002', 'value')).toEqual({ contract: '0x002', key: 'value', value: counted(12), seq: second })
    expect(await state('get', '0x002', 'hex:76616c7565', '--at', String(first))).toEqual({
      contract: '0x002', key: 'value', value: counted(5), seq: first, written: first,
    })
    expect(await state('get', '0x002', 'json:"no such\\u0000"')).toMatchObject({ key: 'hex:6e6f207375636800', value: null })
    expect(await state('get', '0x002', 'text:hex:61', '--at', '0')).toEqual({ contract: '0x002', key: 'hex:6865783a3631', value: null, seq: 0, written: 0 })
    expect(await state('diff', String(first), String(second))).toEqual({
      from: first, to: second, changes: [{ contract: '0x002', key: 'value', seq: second, value: counted(12) }], hidden: 0,
    })
    const all = await state('diff', '0', String(first), '--contract', '0x000') as { changes: readonly { key: string, seq: number, bytes?: number }[] }
    expect(all.changes.find(({ key }) => key === 'genesis')?.seq).toBe(1)
    expect(all.changes.find(({ key }) => key.startsWith('code/'))?.bytes).toBeGreaterThan(256)
  })

  test.each([
    [['get', '0x002', 'value', '--at', '999999'], 1, 'CMESH_STATE_SEQUENCE: The sequence 999999 cannot be asked for: the log ends at '],
    [['diff', '0', '1', '--contract', '0x777'], 1, 'CMESH_STATE_NO_CONTRACT: There is no contract 0x777.'],
    [['diff', '2', '1'], 1, 'CMESH_STATE_SEQUENCE: The sequence 2 cannot be asked for: it is after 1.'],
    [['get', `0x${'0'.repeat(64)}`, 'a'], 1, 'CMESH_STATE_NO_CONTRACT: '],
    [['get', '0x002', 'hex:0'], 2, 'CMESH_CLIENT_USAGE: "hex:0" is not an even number of hex digits behind hex:.'],
    [['get', '0x002', 'json:1'], 2, 'CMESH_CLIENT_USAGE: "json:1" is not a JSON string behind json:.'],
    [['get', '0x002', 'a', '--at', '1', '--proof'], 2, 'CMESH_CLIENT_USAGE: --proof is of the newest checkpoint'],
    [['get', '0x002', 'a', '--out', 'x'], 2, 'CMESH_CLIENT_USAGE: --out belongs to --proof.'],
    [['verify', '/nowhere', '--mesh', 'x'], 2, 'It must be a DID'],
  ])('%j ends with %i', async (args, code, says) => {
    const done = await cmesh('state', ...args)
    expect([done.code, done.stderr]).toEqual([code, expect.stringContaining(says)])
  })

  test('proves a value, a name, a grant and an absence; what is proven is that of the last checkpoint', async () => {
    await increment(30)
    expect((await cmesh('register', 'proven.mcom', '0xS:0x002')).code).toBe(0)
    const someone = 'did:key:z6MkjchhfUsD6mmvni8mCdXHw216Xrm9bQe2mBH1P5RDjVJG'
    expect((await cmesh('authz', 'grant', someone, 'write 0xSW:0x002:>')).code).toBe(0)
    const { seq } = await state('checkpoint') as { seq: number }
    await increment(1)
    const proofs = [
      ['0x002', 'value', counted(42)], ['0x000', 'name/proven.mcom', expect.stringContaining('"target":"0xS:0x002"')],
      ['0x000', `grants/${someone}`, expect.stringContaining('"perm":"write 0xSW:0x002:>"')], ['0x000', 'name/free.mcom', null],
    ] as const
    for (const [i, [contract, key, value]] of proofs.entries()) {
      const proven = await state('get', contract, key, '--proof', '--out', file(`${i}.json`))
      expect(proven).toMatchObject({ mesh, contract, key, value, seq, signers: [{ node: mesh }] })
      expect(await state('verify', file(`${i}.json`), '--mesh', mesh)).toEqual(proven)
    }
    const { stdout } = await cmesh('state', 'get', '0x002', 'value', '--proof')
    expect((await home.run(['state', 'verify', '-', '--mesh', mesh], stdout)).stdout).toMatch(/^value +hex:2b0{14}$/m)
  })

  test('keys of a contract take a right of their own, those that anybody may read otherwise do not', async () => {
    const asOther = ['--identity', 'other'] as const
    const { did } = await json('whoami', ...asOther) as { did: string }
    const denied = async (...args: readonly string[]): Promise<void> => {
      const { code, stderr } = await cmesh('state', ...args, ...asOther)
      expect([code, stderr]).toEqual([1, expect.stringMatching(/CMESH_IAM_DENIED: Permission read on 0xSW:0x00[02]:~state is missing\./)])
    }
    for (const more of [[], ['--proof'], ['--at', '1']]) await denied('get', '0x002', 'value', ...more)
    await denied('get', '0x000', `grants/${operator}`)
    await denied('diff', '0', '1', '--contract', '0x002')
    expect(await state('diff', '0', '1', ...asOther)).toMatchObject({ changes: [], hidden: expect.any(Number) })
    expect(await state('get', '0x000', 'name/proven.mcom', '--proof', '--out', file('name.json'), ...asOther)).toMatchObject({ key: 'name/proven.mcom' })
    expect(await state('get', '0x000', `grants/${did}`, ...asOther)).toMatchObject({ value: null })
    expect((await cmesh('state', 'checkpoint', ...asOther)).stderr).toContain('CMESH_IAM_DENIED: Permission write on 0xSW:0x000:checkpoint is missing.')

    expect((await cmesh('authz', 'grant', did, 'read 0xSW:0x002:~state')).code).toBe(0)
    expect((await cmesh('login', '--yes', ...asOther)).code).toBe(0)
    expect(await state('get', '0x002', 'value', ...asOther)).toMatchObject({ value: counted(43) })
  })

  test('receipts of a load replay while the node runs; the witness is for whoever asked alone', async () => {
    const mix = ['0xSW:0x002:increment:["2"]', '0xS:0x002:get', '0xS:0x001:hello_world:["you"]', '0xR:proven.mcom']
    const spam = await cmesh('spam', '--timeout', '60000', '--count', '1000', '--rounds', '1', '--warm-up', '0', '--no-raw', '--json', '--receipts', file('receipts'), '--mix', ...mix)
    expect(JSON.parse(spam.stdout)).toMatchObject({ ok: 1_000 })
    const names = await readdir(file('receipts'))
    expect(names).toHaveLength(2_000)
    for (const name of names.slice(0, 4)) expect((await stat(join(file('receipts'), name))).mode & 0o777).toBe(0o600)
    expect((await cmesh('call', '0xS:0x001:hello_world:["Dexter"]', '--receipt', file('a.receipt'))).code).toBe(0)
    expect((await cmesh('call', '0xS:0x001:hello_world', '--receipt', file('b.receipt'), '--no-witness')).code).toBe(0)
    expect((await cmesh('call', '0xS:0x001:hello_world', '--receipt', file('c.receipt'), '--witness', file('given'))).code).toBe(0)
    expect((await readdir(home.directory)).filter(name => name.endsWith('.witness'))).toEqual(['a.receipt.witness'])
    expect((await stat(file('given'))).mode & 0o777).toBe(0o600)
    // Of several, what is wrong is said once for all that it is wrong with.
    const all = await home.run(['receipt', 'replay', file('receipts'), file('b.receipt'), file('c.receipt'), file('a.receipt')])
    expect([all.code, all.stdout]).toEqual([2, expect.stringMatching(
      /^\S+\/b\.receipt and 1 more: not replayed: CMESH_RECEIPT_NOT_REPLAYABLE: .* a read is made of its arguments, which only its witness has.*\n1,003 receipts: 1,001 identical, 0 differ, 2 cannot be replayed\n$/,
    )])
    const one = await home.run(['receipt', 'replay', file('c.receipt'), '--witness', file('given')])
    expect([one.code, one.stdout]).toEqual([0, expect.stringMatching(
      /^message +[0-9a-f]{32}\nreplayed +at block \d+\n +hop +address +replay\n +router +0xS:0x001:hello_world +verified\n +└─ state +0xS:0x001:hello_world +same\nidentical\n$/,
    )])
    expect(await cmesh('receipt', 'replay', file('a.receipt'), file('b.receipt'), '--witness', file('given'))).toMatchObject({ code: 2, stderr: expect.stringContaining('--witness is that of one receipt') })
  })

  // The last: it stops the node.
  test('a proof holds with no node running, of its own mesh alone and as it was made', async () => {
    up.child.kill('SIGINT')
    expect((await up.result).code).toBe(0)
    const alone = await home.run(['state', 'verify', file('0.json'), '--mesh', mesh])
    expect([alone.code, alone.stdout]).toEqual([0, expect.stringMatching(/^value +hex:2b0{14}$/m)])
    const other = await cmesh('state', 'verify', file('0.json'), '--mesh', operator)
    expect([other.code, other.stderr]).toEqual([1, 'error CMESH_STATE_PROOF: The proof of state is refused: it is of another mesh.\n'])
    const proof = JSON.parse(await readFile(file('0.json'), 'utf8')) as Record<string, unknown>
    await writeFile(file('other.json'), JSON.stringify({ ...proof, value: Buffer.from('1000').toString('base64url') }))
    const changed = await cmesh('state', 'verify', file('other.json'), '--mesh', mesh)
    expect([changed.code, changed.stderr]).toEqual([1, 'error CMESH_STATE_PROOF: The proof of state is refused: the value is another.\n'])

    // Nor does a replay need one. A contract that was changed differs where it ran, and nowhere else.
    await writeFile(file('counter.wasm'), contractModule('(func (export "call_increment")) (func (export "call_get"))'))
    const replaced = await home.run(['contract', 'dry-run', '0x002', file('counter.wasm'), '--receipts', file('receipts')])
    expect([replaced.code, replaced.stdout]).toEqual([1, expect.stringMatching(
      /\.receipt: layer 0 \(state\) differs: gas \d+ recorded, \d+ replayed; result \d+ recorded, .*\nreceipts +1,000\nas before +250, of which 0 for other gas\notherwise +750\nnot run +0\ngas /s,
    )])
    const unchanged = join(ROOT, 'dist', 'contracts', 'counter.wasm')
    const same = await home.run(['contract', 'dry-run', unchanged, '--receipts', file('receipts')])
    expect([same.code, same.stdout]).toEqual([0, 'receipts   1,000\nas before  1,000, of which 0 for other gas\notherwise  0\nnot run    0\ngas        the same\n'])
  })
})

/** `cmesh backup`, `restore` and `verify` as a user runs them: on a node that takes writes, and on data of an older version. */
import { appendFile, readFile, readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { CliHome, type CliRun } from '../client/support/cli-process.ts'
import { DataLock } from '../../node/data-lock.ts'
import { OLD_DATA, writeOldNodeKey } from '../support/old-data.ts'

interface Facts {
  readonly mesh: string
  readonly seq: number
  readonly chain: string
  readonly root: string
}

let home: CliHome
beforeAll(async () => { home = await CliHome.make() })
afterAll(() => home.close())

async function up(dir: string): Promise<CliRun> {
  const run = home.start(['up', '--data', dir])
  await run.printed('Ctrl-C drains')
  return run
}

async function down(run: CliRun): Promise<void> {
  run.child.kill('SIGINT')
  expect((await run.result).code).toBe(0)
}

const counter = (dir: string): Promise<number> => home.json('call', '0xS:0x002:get', '--data', dir).then(reply => (reply as { body: number }).body)

describe('a node that takes writes', () => {
  test('is backed up meanwhile, and what was acknowledged before is in the restored one, which serves', async () => {
    const dir = join(home.directory, 'mesh')
    const node = await up(dir)
    // Writes go on from before the backup until after it.
    const load = home.start(['spam', '--data', dir, '--count', '2000', '--rounds', '1', '--warm-up', '100', '--no-raw', '--mix', '0xSW:0x002:increment'])
    const before = await counter(dir)
    const file = join(home.directory, 'a.backup')
    const made = await home.json('backup', file, '--with-keys', '--data', dir) as Facts
    expect(made).toMatchObject({ file, keys: true, blocks: made.seq })
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    await load.result
    const all = await home.json('verify', '--data', dir) as Facts
    expect(all.seq).toBeGreaterThanOrEqual(made.seq)
    await down(node)

    const other = join(home.directory, 'other')
    const { code, stdout, stderr } = await home.run(['restore', file, '--data', other, '--verify'])
    expect([code, stderr]).toEqual([0, expect.stringContaining(`Next: cmesh up --data ${other}`)])
    expect(stdout).toMatch(new RegExp(`^restored {2}${other}\nmesh {6}${made.mesh}\nhead {6}block ${made.seq} of epoch 0, ${made.seq} blocks\n[^]*chain {5}${made.chain}\nroot {6}${made.root}\nkeys {6}the node's: it goes on as itself\nverified {2}read back from the disk\n$`))
    const again = await up(other)
    expect(await counter(other)).toBeGreaterThanOrEqual(before)
    expect(await home.json('status', '--data', other)).toMatchObject({ mesh: made.mesh })
    await down(again)
  })
})

describe('data of an older version', () => {
  test('is restored, verified and served from: names, contracts, grants and the counter', async () => {
    const dir = join(home.directory, 'old')
    const { code, stdout: restored, stderr } = await home.run(['restore', OLD_DATA.backup, '--data', dir])
    expect([code, stderr]).toEqual([0, expect.stringContaining(`Next: put the node.key of the node that it was made of into ${dir}, mode 0600; the backup has no keys.`)])
    expect(restored).toMatch(/^keys {6}none\. With another node\.key than before it is another node: the mesh's key has to certify it, /m)
    // No other key is made in its place.
    const without = await home.start(['up', '--data', dir]).result
    expect([without.code, without.stderr]).toEqual([1, expect.stringContaining(`error CMESH_IAM_KEY: Boot stopped at step data: The key is refused: ${join(dir, 'node.key')} is missing, `)])
    await writeOldNodeKey(dir)
    const node = await up(dir)
    expect(await home.json('status', '--data', dir)).toMatchObject({ mesh: OLD_DATA.mesh })
    expect(await counter(dir)).toBeGreaterThanOrEqual(OLD_DATA.count)
    expect(await home.json('resolve', 'hello.mcom', '--data', dir)).toMatchObject({ target: '0xS:0x001:hello_world' })
    expect((await home.run(['call', `0xS:${OLD_DATA.guestbook}:last`, '--data', dir])).stdout).toContain('line 6')
    // Who holds every right is recorded in the log, and is not who starts the node here.
    const denied = await home.run(['call', '0xSW:0x002:increment', '--data', dir])
    expect([denied.code, denied.stderr]).toEqual([1, expect.stringContaining('error CMESH_IAM_DENIED')])
    await down(node)
    const { stdout } = await home.run(['verify', '--data', dir])
    expect(stdout).toMatch(new RegExp(`^log {11}${dir} is whole\nmesh {10}${OLD_DATA.mesh}\nhead {10}block \\d+ of epoch 0, `))
  })

  test('that is damaged is named by path and block, with an exit code of its own', async () => {
    const dir = join(home.directory, 'damaged')
    await home.json('restore', OLD_DATA.backup, '--data', dir)
    const db = join(dir, 'state', 'log', 'db')
    await rm(join(db, 'CURRENT'))
    const { code, stderr } = await home.run(['verify', '--data', dir])
    expect([code, stderr]).toEqual([3, expect.stringContaining(`error CMESH_STATE_CORRUPT: The state log in ${join(dir, 'state', 'log')} is damaged at block 0: its file CURRENT is missing.`)])
  })
})

test('a backup that was changed, or a place that is taken, is refused with exit code 1 and says so to a script as well', async () => {
  const file = join(home.directory, 'changed.backup')
  await appendFile(file, await readFile(OLD_DATA.backup))
  await appendFile(file, 'x')
  const dir = join(home.directory, 'never')
  const { code, stdout } = await home.run(['restore', file, '--data', dir, '--json'])
  expect([code, JSON.parse(stdout)]).toEqual([1, { error: expect.objectContaining({ code: 'CMESH_BACKUP_FILE', detail: { path: file, reason: 'something comes behind its end' } }) }])
  expect(await readdir(home.directory)).not.toContain('never')
  expect((await home.run(['restore', OLD_DATA.backup, '--data', join(home.directory, 'config')])).code).toBe(1)
  expect((await home.run(['verify', '--data', dir])).code).toBe(1)
})

test('a verification that cannot look does not end as one that found damage', async () => {
  const dir = join(home.directory, 'held')
  await home.json('restore', OLD_DATA.backup, '--data', dir)
  const lock = new DataLock(join(dir, 'checkpoint'))
  await lock.acquire()
  const { code, stdout, stderr } = await home.run(['verify', '--data', dir, '--json'])
  expect([code, JSON.parse(stdout), stderr]).toEqual([1, { error: expect.objectContaining({ code: 'CMESH_BOOT_DATA_IN_USE' }) }, expect.stringContaining('error CMESH_BOOT_DATA_IN_USE: ')])
  await lock.release()
  expect((await home.run(['verify', '--data', dir])).code).toBe(0)
})

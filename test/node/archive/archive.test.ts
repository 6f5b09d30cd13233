/** Backup, restore and verification of data directories, on real logs and files; and data of an older CMesh. */
import { existsSync } from 'node:fs'
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { createHash } from 'node:crypto'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import Hypercore from 'hypercore'
import { keyPair } from 'hypercore-crypto'
import { canonicalJson } from '../../../cmtp/identity/canonical-json.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { acceptLoss } from '../../../node/archive/accept-loss.ts'
import { makeBackup } from '../../../node/archive/backup.ts'
import type { BackupHeader } from '../../../node/archive/format.ts'
import { migrate } from '../../../node/archive/migrate.ts'
import { restoreBackup } from '../../../node/archive/restore.ts'
import { verifyLog } from '../../../node/archive/verify.ts'
import { DataLock } from '../../../node/data-lock.ts'
import { readClaim, writeClaim } from '../../../node/last-claim.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import { HypercoreLog } from '../../../providers/state/log.ts'
import { decodeBlock, encodeBlock } from '../../../services/state/block.ts'
import { OLD_DATA, unpackOldData, writeOldNodeKey } from '../../support/old-data.ts'

let dir: string
beforeEach(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-archive-')) })
afterEach(() => rm(dir, { recursive: true, force: true }))

const silent = (): void => {}
const facts = { mesh: OLD_DATA.mesh, blocks: OLD_DATA.blocks, seq: OLD_DATA.blocks, epoch: 0, chain: OLD_DATA.chain, root: OLD_DATA.root }
const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o777).toString(8)

async function restored(name = 'restored', verify = false): Promise<string> {
  await restoreBackup({ file: OLD_DATA.backup, dir: join(dir, name), verify }, silent)
  return join(dir, name)
}

/** The blocks of a data directory's log. */
async function blocksOf(data: string): Promise<Uint8Array[]> {
  const log = await HypercoreLog.open({ dir: join(data, 'state'), durability: 'os', keyPair: undefined })
  const blocks: Uint8Array[] = []
  await log.read(bytes => blocks.push(bytes)).finally(() => log.close())
  return blocks
}

describe('data of an older version', () => {
  test('is verified: its log by its files, as they were left', async () => {
    await unpackOldData(join(dir, 'old'))
    expect(await verifyLog(join(dir, 'old'), silent)).toMatchObject({ ...facts, transactions: 31, logKey: Buffer.from(keyPair(Buffer.alloc(32, 0x22)).publicKey).toString('hex') })
    expect((await readdir(join(dir, 'old'))).sort()).toEqual(['node.key', 'state'])
  })

  test('opens in a store, which goes on behind it', async () => {
    await unpackOldData(join(dir, 'old'))
    const store = new HypercoreStateStore({ dir: join(dir, 'old', 'state') })
    const { head } = await store.open(silent)
    expect({ seq: head.seq, chain: Buffer.from(head.chain).toString('hex') }).toEqual({ seq: OLD_DATA.blocks, chain: OLD_DATA.chain })
    await store.commit({ epoch: 0, seq: head.seq + 1, timeMs: head.timeMs, message: new Uint8Array(0), transactions: [] })
    await store.close()
    expect(await verifyLog(join(dir, 'old'), silent)).toMatchObject({ blocks: OLD_DATA.blocks + 1, transactions: 31 })
  })

  test('is restored from a backup, and read back', async () => {
    const data = join(dir, 'restored')
    expect(await restoreBackup({ file: OLD_DATA.backup, dir: data, verify: true }, silent)).toMatchObject({ ...facts, keys: false, verified: true })
    expect(await verifyLog(data, silent)).toMatchObject(facts)
    expect((await readdir(data)).sort()).toEqual(['claim.json', 'state'])
    expect(readClaim(data)).toMatchObject({ epoch: 0, seq: OLD_DATA.blocks, chain: OLD_DATA.chain })
    expect(await modeOf(data)).toBe('700')
    expect(await modeOf(join(data, 'state', 'key'))).toBe('600')
  })
})

describe('a backup', () => {
  test('of a data directory says where its log stands, and gives the same log again', async () => {
    const data = await restored()
    const file = join(dir, 'a.backup')
    const header = await makeBackup({ dir: data, file, keys: false }, 1_800_000_000_000, silent)
    const { logKey } = await verifyLog(data, silent)
    expect(header).toMatchObject({ v: 1, ...facts, keys: false, logKey, createdMs: 1_800_000_000_000, version: expect.stringMatching(/^\d+\.\d+\.\d+/) })
    expect(await modeOf(file)).toBe('600')
    await restoreBackup({ file, dir: join(dir, 'again'), verify: true }, silent)
    expect(await blocksOf(join(dir, 'again'))).toEqual(await blocksOf(data))
    expect((await readdir(dir)).sort()).toEqual(['a.backup', 'again', 'restored'])
  })

  test('has the secrets of the node only when asked, and restores them for their owner alone', async () => {
    const data = await restored()
    await writeOldNodeKey(data)
    await mkdir(join(data, 'iam'))
    await writeFile(join(data, 'iam', 'keys.json'), 'the key ring')
    await mkdir(join(data, 'operator'))
    await writeFile(join(data, 'operator', 'accounts.json'), 'the accounts')
    const secrets = ['the key ring', 'the accounts', await readFile(join(data, 'node.key'), 'utf8'), await readFile(join(data, 'state', 'key'), 'utf8')]
    for (const keys of [false, true]) {
      const file = join(dir, `${String(keys)}.backup`)
      await makeBackup({ dir: data, file, keys }, 0, silent)
      const bytes = await readFile(file)
      expect(secrets.map(secret => bytes.includes(secret))).toEqual(secrets.map(() => keys))
    }
    const again = join(dir, 'again')
    expect(await restoreBackup({ file: join(dir, 'true.backup'), dir: again, verify: true }, silent)).toMatchObject({ keys: true })
    for (const name of ['node.key', 'state/key', 'iam/keys.json', 'operator/accounts.json']) {
      expect(await readFile(join(again, name))).toEqual(await readFile(join(data, name)))
      expect(await modeOf(join(again, name))).toBe('600')
    }
    // The same key signs the same tree.
    expect((await verifyLog(again, silent)).logKey).toBe((await verifyLog(data, silent)).logKey)
  })

  test('that another one takes the place of is no success, and leaves the other\'s file alone', async () => {
    const data = await restored()
    const file = join(dir, 'a.backup')
    let other: Promise<number> | undefined
    // What another process does that begins there now: it clears what was left, and makes its own.
    const made = makeBackup({ dir: data, file, keys: false }, 0, done => {
      if (existsSync(`${file}.part`) && done > 0) other ??= rm(`${file}.part`).then(() => writeFile(`${file}.part`, 'another\'s')).then(() => 1)
    })
    await expect(made).rejects.toMatchObject({ code: 'CMESH_BACKUP_TARGET', detail: { path: file, reason: 'another backup is being written there' } })
    expect([await other, existsSync(file), await readFile(`${file}.part`, 'utf8')]).toEqual([1, false, 'another\'s'])
  })

  test('is never written over a file, nor left half-written', async () => {
    const data = await restored()
    const file = join(dir, 'a.backup')
    await writeFile(file, 'something else')
    await expect(makeBackup({ dir: data, file, keys: false }, 0, silent)).rejects.toMatchObject({
      code: 'CMESH_BACKUP_TARGET', message: `${file} cannot be written to: it is there already. Nothing that is there was changed; name another place.`,
    })
    expect(await readFile(file, 'utf8')).toBe('something else')
    await expect(makeBackup({ dir: data, file: join(dir, 'no', 'such', 'place'), keys: false }, 0, silent)).rejects.toMatchObject({
      code: 'CMESH_BACKUP_TARGET', message: expect.stringContaining('ENOENT'),
    })
  })

  test('of a directory without a log is refused, and makes nothing there', async () => {
    for (const where of [join(dir, 'nowhere'), dir]) {
      await expect(makeBackup({ dir: where, file: join(dir, 'a'), keys: false }, 0, silent)).rejects.toMatchObject({
        code: 'CMESH_STATE_NO_LOG', message: expect.stringContaining(`There is no state log in ${where}`),
      })
    }
    expect(await readdir(dir)).toEqual([])
  })

  test('of a cluster is refused, with the directories of its nodes', async () => {
    const nodes = ['node-1', 'node-2'].map(name => join(dir, 'cluster', name))
    for (const node of nodes) await mkdir(join(node, 'state', 'log'), { recursive: true })
    for (const name of ['broker-1', 'node-3', 'node-x/state/log']) await mkdir(join(dir, 'cluster', name), { recursive: true })
    const message = `There is no state log in ${dir}: it is of a cluster, whose nodes have one each: ${nodes.join(', ')}. Say which data directory by --data or CMESH_DATA_DIR.`
    for (const ask of [() => makeBackup({ dir, file: join(dir, 'a'), keys: false }, 0, silent), () => verifyLog(dir, silent), () => acceptLoss({ dir, alone: false }, 0, silent), () => migrate({ dir, settings: {}, dryRun: true }, {}, silent)]) {
      await expect(ask()).rejects.toMatchObject({ code: 'CMESH_STATE_NO_LOG', message })
    }
    expect(await readdir(dir)).toEqual(['cluster'])
  })

  test('holds what is durable while a store is open and writes, whenever RocksDB changes its files', async () => {
    const data = await restored()
    const store = new HypercoreStateStore({ dir: join(data, 'state') })
    await store.open(silent)
    const from = store.head.seq
    const last = from + 90
    let durable = from
    const commit = (seq: number): Promise<void> => (
      store.commit({ epoch: 0, seq, timeMs: 2e12 + seq, message: new Uint8Array(1024 * 1024).fill(seq), transactions: [] })
    )
    const writing = (async () => {
      for (let seq = from + 1; seq <= last; seq++) {
        await commit(seq)
        durable = seq
      }
    })()
    const seen: number[] = []
    while (durable < last) {
      const before = durable
      const { blocks } = await verifyLog(data, silent)
      expect(blocks).toBeGreaterThanOrEqual(before)
      seen.push(blocks)
    }
    await writing
    await store.close()
    expect(seen.length).toBeGreaterThan(1)
    expect((await verifyLog(data, silent)).blocks).toBe(last)
  })
})

describe('a restore', () => {
  const refusal = async (bytes: Uint8Array, name = 'bad'): Promise<CMeshError> => {
    const file = join(dir, `${name}.backup`)
    await writeFile(file, bytes)
    const thrown: unknown = await restoreBackup({ file, dir: join(dir, name), verify: false }, silent).then(() => 'it was restored', (error: unknown) => error)
    if (!(thrown instanceof CMeshError)) throw new Error(`expected a CMeshError: ${String(thrown)}`)
    expect(existsSync(join(dir, name))).toBe(false)
    expect(existsSync(join(dir, `${name}.restore`))).toBe(false)
    return thrown
  }

  /** The backup with other words in its header, or other files, and a hash that is right. */
  async function forged(change: Partial<BackupHeader>, files: readonly (readonly [string, string])[] = []): Promise<Buffer> {
    const bytes = await readFile(OLD_DATA.backup)
    const length = bytes.readUInt32LE(8)
    const header = Buffer.from(canonicalJson({ ...JSON.parse(bytes.subarray(12, 12 + length).toString()) as object, ...change }))
    const u32 = (value: number): Buffer => { const four = Buffer.alloc(4); four.writeUInt32LE(value); return four }
    const pieces = files.flatMap(each => each.flatMap(text => [u32(Buffer.byteLength(text)), Buffer.from(text)]))
    const body = Buffer.concat([bytes.subarray(0, 8), u32(header.length), header, u32(files.length), ...pieces, bytes.subarray(12 + length + 4, -32)])
    return Buffer.concat([body, createHash('sha256').update(body).digest()])
  }

  test('takes a forgery that changes nothing', async () => {
    await writeFile(join(dir, 'a'), await forged({}))
    expect(await restoreBackup({ file: join(dir, 'a'), dir: join(dir, 'b'), verify: false }, silent)).toMatchObject(facts)
  })

  test.each<[keyof BackupHeader, string | number, string]>([
    ['chain', 'ab'.repeat(32), `its blocks give chain ${OLD_DATA.chain}, and it says ${'ab'.repeat(32)}`],
    ['root', 'cd'.repeat(32), `its blocks give root ${OLD_DATA.root}, and it says ${'cd'.repeat(32)}`],
    ['seq', 32, 'its blocks give seq 31, and it says 32'],
    ['epoch', 1, 'its blocks give epoch 0, and it says 1'],
    ['mesh', 'did:key:z6Mk', `its blocks give mesh ${OLD_DATA.mesh}, and it says did:key:z6Mk`],
    ['blocks', 30, 'its blocks give seq 30, and it says 31'],
    ['blocks', 32, 'the length of block 31 is out of bounds'],
    ['v', 2, 'its header is not one of version 1 or 2'],
    ['blocks', -1, 'its header is not one of version 1 or 2'],
    ['audits', 1, 'its header is not one of version 1 or 2'],
  ])('is refused where the header says another %s (%s)', async (name, value, reason) => {
    expect(await refusal(await forged({ [name]: value }))).toMatchObject({
      code: 'CMESH_BACKUP_FILE',
      message: `The backup ${join(dir, 'bad.backup')} cannot be used: ${reason}. Nothing was restored from it; take another backup file.`,
    })
  })

  test.each(['../node.key', '/etc/passwd', 'operator/../../x', 'operator/a/b', 'state/log', 'mesh.json', 'operator/.ssh', ''])('never writes the file %j', async name => {
    expect(await refusal(await forged({ keys: true }, [[name, 'x']]))).toMatchObject({
      code: 'CMESH_BACKUP_FILE', message: expect.stringContaining(`it holds the file ${JSON.stringify(name)}, which no backup does`),
    })
  })

  test('is refused wherever the file is cut, and where any byte is another', async () => {
    const whole = await readFile(OLD_DATA.backup)
    const places = fc.double({ min: 0, max: 0.9999, noNaN: true }).map(where => Math.floor(where * whole.length))
    await fc.assert(fc.asyncProperty(places, fc.integer({ min: 1, max: 255 }), fc.boolean(), async (at, change, cut) => {
      const bytes = cut ? whole.subarray(0, at) : Buffer.from(whole)
      if (!cut) bytes[at] = (bytes[at] as number) ^ change
      expect(['CMESH_BACKUP_FILE', 'CMESH_STATE_CORRUPT']).toContain((await refusal(bytes)).code)
    }), { numRuns: 12, examples: [[0, 1, false], [10, 255, false], [whole.length - 1, 1, false], [whole.length - 1, 1, true], [0, 1, true]] })
    expect(await refusal(Buffer.concat([whole, Buffer.alloc(1)]))).toMatchObject({ message: expect.stringContaining('something comes behind its end') })
  }, 120_000)

  test('is refused into a directory that holds anything, which stays as it is', async () => {
    await writeFile(join(dir, 'mine'), 'x')
    await expect(restoreBackup({ file: OLD_DATA.backup, dir, verify: false }, silent)).rejects.toMatchObject({
      code: 'CMESH_BACKUP_TARGET', message: `${dir} cannot be written to: it is not empty. Nothing that is there was changed; name another place.`,
    })
    expect(await readdir(dir)).toEqual(['mine'])
  })

  test('fills an empty directory where it stands, as where a volume is mounted or a link leads', async () => {
    const [data, link] = [join(dir, 'd'), join(dir, 'l')]
    await mkdir(data)
    await symlink(data, link)
    const { ino } = await stat(data)
    await restoreBackup({ file: OLD_DATA.backup, dir: link, verify: true }, silent)
    expect([(await stat(data)).ino, (await readdir(data)).sort()]).toEqual([ino, ['claim.json', 'state']])
    expect(await verifyLog(data, silent)).toMatchObject(facts)
    expect(readClaim(data)).toMatchObject({ seq: facts.seq })
  })

  test('leaves a directory that was there as empty as it was, where it fails', async () => {
    const data = join(dir, 'd')
    await mkdir(data)
    const bytes = await readFile(OLD_DATA.backup)
    await writeFile(join(dir, 'cut'), bytes.subarray(0, bytes.length - 1))
    await expect(restoreBackup({ file: join(dir, 'cut'), dir: data, verify: false }, silent)).rejects.toMatchObject({ code: 'CMESH_BACKUP_FILE' })
    expect(await readdir(data)).toEqual([])
  })

  test('takes a volume with what its file system keeps there for empty, and leaves that alone', async () => {
    const data = join(dir, 'd')
    await mkdir(join(data, 'lost+found'), { recursive: true })
    await writeFile(join(dir, 'cut'), (await readFile(OLD_DATA.backup)).subarray(0, -1))
    await expect(restoreBackup({ file: join(dir, 'cut'), dir: data, verify: false }, silent)).rejects.toMatchObject({ code: 'CMESH_BACKUP_FILE' })
    expect(await readdir(data)).toEqual(['lost+found'])
    await restoreBackup({ file: OLD_DATA.backup, dir: data, verify: false }, silent)
    expect((await readdir(data)).sort()).toEqual(['claim.json', 'lost+found', 'state'])
  })

  test('that was interrupted within a directory keeps nodes, other restores and who reads logs out of it', async () => {
    const data = join(dir, 'd')
    await mkdir(data)
    const others: Promise<unknown>[] = []
    await restoreBackup({ file: OLD_DATA.backup, dir: data, verify: true }, () => {
      others.push(new DataLock(data).acquire(), restoreBackup({ file: OLD_DATA.backup, dir: data, verify: false }, silent), verifyLog(data, silent))
    }).finally(() => Promise.allSettled(others))
    expect(others.length).toBeGreaterThan(0)
    const reasons = (await Promise.allSettled(others)).map(each => each.status === 'rejected' ? (each.reason as CMeshError) : undefined)
    expect(new Set(reasons.map(error => error?.code))).toEqual(new Set(['CMESH_BOOT_DATA_DIR', 'CMESH_BACKUP_TARGET', 'CMESH_STATE_NO_LOG']))
    for (const error of reasons) expect(error?.detail).toMatchObject({ path: data, reason: expect.stringMatching(/^a restore into it is under way or was interrupted; if none runs, /) })
    expect(await verifyLog(data, silent)).toMatchObject(facts)
    await new DataLock(data).acquire()
  })

  test.each([
    ['a file in the place of the directory', OLD_DATA.backup, 'f', 'CMESH_BACKUP_TARGET', 'it is no directory'],
    ['a directory in the place of the file', tmpdir(), 'd', 'CMESH_BACKUP_FILE', 'it is a directory'],
  ])('of %s is refused by what is wrong', async (_, file, name, code, reason) => {
    await writeFile(join(dir, 'f'), '')
    await expect(restoreBackup({ file, dir: join(dir, name), verify: false }, silent)).rejects.toMatchObject({ code, detail: { reason } })
    expect(await readdir(dir)).toEqual(['f'])
  })

  test('beside a directory of that name touches it only where a restore that was interrupted left it', async () => {
    const [file, data, beside] = [OLD_DATA.backup, join(dir, 'd'), join(dir, 'd.restore')]
    await mkdir(beside)
    await writeFile(join(beside, 'mine'), 'x')
    await expect(restoreBackup({ file, dir: data, verify: false }, silent)).rejects.toMatchObject({
      code: 'CMESH_BACKUP_TARGET',
      message: `${beside} cannot be written to: it is there already, and no restore that was interrupted left it, so move it away. Nothing that is there was changed; name another place.`,
    })
    expect(await readdir(beside)).toEqual(['mine'])
    await mkdir(join(beside, 'restoring'))
    await writeFile(join(beside, 'restoring', 'node.lock'), `${process.pid} \n`)
    await restoreBackup({ file, dir: data, verify: false }, silent)
    expect((await readdir(data)).sort()).toEqual(['claim.json', 'state'])
    expect(existsSync(beside)).toBe(false)
  })

  test('is refused while another one makes the same directory', async () => {
    const [file, data] = [OLD_DATA.backup, join(dir, 'd')]
    const made: unknown[] = []
    await restoreBackup({ file, dir: data, verify: true }, () => {
      made.push(restoreBackup({ file, dir: data, verify: false }, silent).then(() => 'restored', (error: unknown) => (error as CMeshError).code))
    })
    expect(made.length).toBeGreaterThan(0)
    expect(new Set(await Promise.all(made))).toEqual(new Set(['CMESH_BOOT_DATA_IN_USE']))
    expect(await verifyLog(data, silent)).toMatchObject(facts)
  })

  test('of a file that is not there is refused', async () => {
    await expect(restoreBackup({ file: join(dir, 'none'), dir: join(dir, 'd'), verify: false }, silent)).rejects.toMatchObject({
      code: 'CMESH_BACKUP_FILE', message: expect.stringContaining('ENOENT'),
    })
  })
})

describe('a verification', () => {
  const damaged = (block: number, reason: string): object => ({ code: 'CMESH_STATE_CORRUPT', detail: { path: expect.stringMatching(/state\/log$/), block, reason } })

  /** A data directory with a log of these blocks, signed as a log is. */
  async function logOf(blocks: readonly Uint8Array[]): Promise<string> {
    const data = await mkdtemp(join(dir, 'log-'))
    const log = await HypercoreLog.open({ dir: join(data, 'state'), durability: 'os', keyPair: undefined })
    await log.append(blocks)
    await log.close()
    return data
  }

  test('names the block whose batch no member signed', async () => {
    const blocks = await blocksOf(await restored())
    const block = decodeBlock(blocks[9] as Uint8Array)
    const message = new Uint8Array(block.message)
    message[message.length - 1] = (message.at(-1)) ^ 1
    blocks[9] = encodeBlock({ ...block, message })
    await expect(verifyLog(await logOf(blocks), silent)).rejects.toMatchObject(damaged(9, 'no member of the mesh signed its batch'))
    // One that changes nothing may be anybody's.
    blocks[9] = encodeBlock({ ...block, message, transactions: [] })
    expect(await verifyLog(await logOf(blocks), silent)).toMatchObject({ blocks: 31, transactions: 30 })
  })

  test('finds a block that is not the one whose hash was signed', async () => {
    const data = await restored()
    const block = decodeBlock((await blocksOf(data))[20] as Uint8Array)
    const storage = Hypercore.defaultStorage(join(data, 'state', 'log'), { allowBackup: true })
    const core = new Hypercore(storage, { createIfMissing: false })
    await core.ready()
    const raw = core.state.storage as unknown as { write(): { putBlock(index: number, bytes: Uint8Array): void, flush(): Promise<boolean> } }
    const tx = raw.write()
    tx.putBlock(20, encodeBlock({ ...block, timeMs: block.timeMs + 1 }))
    await tx.flush()
    await core.close()
    await expect(verifyLog(data, silent)).rejects.toMatchObject(damaged(30, 'the tree that the log has noted is not that of its blocks'))
  })

  test('says how far it is, and leaves nothing behind, also where it fails', async () => {
    const data = await restored()
    const told: [number, number][] = []
    await verifyLog(data, (done, of) => { told.push([done, of]) })
    expect(told[0]).toEqual([0, 31])
    const broken = await logOf([Buffer.from('no block')])
    await expect(verifyLog(broken, silent)).rejects.toMatchObject(damaged(0, 'byte 0 is not the start of a block'))
    expect(await readdir(broken)).toEqual(['state'])
  })

  test('holds the log against the last claim of its node', async () => {
    const data = await restored()
    const claim = readClaim(data)
    if (claim === undefined) throw new Error('there is no claim')
    await writeClaim(join(data, 'claim.json'), { ...claim, seq: 20, chain: '00'.repeat(32) })
    await expect(verifyLog(data, silent)).rejects.toMatchObject({ code: 'CMESH_STATE_FORKED', detail: { seq: 20, claimed: '0'.repeat(16) } })
    await writeClaim(join(data, 'claim.json'), { ...claim, seq: 32 })
    await expect(verifyLog(data, silent)).rejects.toMatchObject({ code: 'CMESH_STATE_BEHIND', detail: { head: 31, claimed: 32 } })
  })

  test('takes up after one that was killed', async () => {
    const data = await restored()
    await cp(join(data, 'state', 'log'), join(data, 'checkpoint', 'log'), { recursive: true })
    await writeFile(join(data, 'checkpoint', 'node.lock'), '999999999 1\n')
    expect(await verifyLog(data, silent)).toMatchObject(facts)
    expect((await readdir(data)).sort()).toEqual(['claim.json', 'state'])
  })

  test('is refused while another one is under way', async () => {
    const data = await restored()
    const another = new DataLock(join(data, 'checkpoint'))
    await another.acquire()
    await expect(verifyLog(data, silent)).rejects.toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE', detail: { path: join(data, 'checkpoint'), pid: process.pid } })
    await another.release()
    expect(await verifyLog(data, silent)).toMatchObject(facts)
  })

  test('of a directory that cannot be written to says so', async () => {
    const data = await restored()
    await writeFile(join(data, 'checkpoint'), '')
    await expect(verifyLog(data, silent)).rejects.toMatchObject({
      code: 'CMESH_BOOT_DATA_DIR', message: expect.stringContaining(`The data directory ${join(data, 'checkpoint')} cannot be used: EEXIST`),
    })
  })
})

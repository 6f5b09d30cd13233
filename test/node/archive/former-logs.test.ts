/** Audit logs in backups, on logs that the real provider wrote: what is taken along, what is made of it, and what no backup can give. */
import { createHash } from 'node:crypto'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { leafHashes, merkleRoot } from '../../../cmtp/receipt/merkle.ts'
import { encodeRootRecord, rootRecordHash } from '../../../cmtp/receipt/root.ts'
import { verifyAuditLogs } from '../../../node/archive/audit-log.ts'
import { makeBackup } from '../../../node/archive/backup.ts'
import { restoreBackup } from '../../../node/archive/restore.ts'
import { verifyLog } from '../../../node/archive/verify.ts'
import { HypercoreAuditLog } from '../../../providers/audit/hypercore.ts'
import { OLD_DATA } from '../../support/old-data.ts'

const mesh = KeyPair.generate()
const silent = (): void => {}
let dir: string
let data: string
let file: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'cmesh-former-'))
  ;[data, file] = [join(dir, 'mesh'), join(dir, 'a.backup')]
  await restoreBackup({ file: OLD_DATA.backup, dir: data, verify: false }, silent)
})
afterEach(() => rm(dir, { recursive: true, force: true }))

/** Appends to the audit log of a data directory, `use`s it, closes it. */
async function append(at: string, batches: number, use: (log: HypercoreAuditLog) => Promise<void> = async () => undefined): Promise<void> {
  const log = new HypercoreAuditLog({ dir: join(at, 'audit'), durability: 'os', maxBytes: 1024 ** 3, maxAgeMs: 1e9 })
  const { length, last } = await log.open()
  let previous: Uint8Array = last === undefined ? Buffer.alloc(32) : rootRecordHash(last.subarray(0, 253))
  for (let batch = length; batch < length + batches; batch++) {
    const leaves = Buffer.alloc(48 * 2, batch + 1)
    const place = { mesh: mesh.did, node: mesh.did, log: log.id, batch, first: batch * 2, count: 2 }
    const root = { ...place, merkleRoot: merkleRoot(leafHashes(leaves)), previous, timeUs: batch }
    const record = encodeRootRecord(root, bytes => mesh.sign(bytes))
    previous = rootRecordHash(record)
    await log.append({ number: batch, block: Buffer.concat([record, leaves]), notes: new Uint8Array(0), apart: batch === length })
  }
  await use(log)
  await log.close()
}

const factsOf = async (at: string): Promise<object> => {
  const { log, batches, head } = await verifyAuditLogs({ dirs: [at] }, silent)
  return { log, batches, head }
}
/** Every file below a directory, by its content. */
const filesOf = async (at: string): Promise<string[]> => (await readdir(at, { recursive: true, withFileTypes: true }))
  .filter(entry => entry.isFile()).map(entry => join(entry.parentPath, entry.name).slice(at.length + 1)).sort()

test('the audit log is taken along when asked, while its node writes it, and put aside where nobody goes on with it', async () => {
  await append(data, 5, async () => { await makeBackup({ dir: data, file, keys: true, audit: true }, 0, silent) })
  const key = await readFile(join(data, 'audit', 'key'))
  expect((await readFile(file)).includes(key)).toBe(false)
  const again = join(dir, 'again')
  expect(await restoreBackup({ file, dir: again, verify: true }, silent)).toMatchObject({ audits: 1, seq: OLD_DATA.blocks })
  expect((await readdir(again)).sort()).toEqual(['claim.json', 'former', 'state'])
  const former = join(again, 'former', '1')
  expect(await factsOf(former)).toEqual(await factsOf(data))
  expect(await verifyAuditLogs({ dirs: [data, former] }, silent)).toMatchObject({ copies: [5] })
  expect(await readFile(join(former, 'audit', 'layers', '00000000.seg'))).toEqual(await readFile(join(data, 'audit', 'layers', '00000000.seg')))
  expect(await filesOf(former)).not.toContain('audit/key')
  expect(await verifyLog(again, silent)).toMatchObject({ seq: OLD_DATA.blocks })
})

test('what was put aside goes into the next backup with the log that its node has begun since, each under its own key', async () => {
  await append(data, 3)
  await makeBackup({ dir: data, file, keys: false, audit: true }, 0, silent)
  const [second, third] = [join(dir, 'second'), join(dir, 'third')]
  await restoreBackup({ file, dir: second, verify: false }, silent)
  await append(second, 2)
  await makeBackup({ dir: second, file: `${file}2`, keys: false, audit: true }, 0, silent)
  expect(await restoreBackup({ file: `${file}2`, dir: third, verify: false }, silent)).toMatchObject({ audits: 2 })
  const found = [await factsOf(join(third, 'former', '1')), await factsOf(join(third, 'former', '2'))]
  expect(found).toEqual([await factsOf(data), await factsOf(second)])
  expect(found).toMatchObject([{ batches: 3 }, { batches: 2 }])
})

test('without being asked, or where there is no audit log, a backup is of the form that every version reads', async () => {
  expect(await makeBackup({ dir: data, file: `${file}1`, keys: false, audit: true }, 0, silent)).toMatchObject({ v: 1 })
  await append(data, 1)
  const header = await makeBackup({ dir: data, file, keys: false }, 0, silent)
  expect(header).toMatchObject({ v: 1 })
  expect(header).not.toHaveProperty('audits')
  expect(await restoreBackup({ file, dir: join(dir, 'again'), verify: false }, silent)).toMatchObject({ audits: 0 })
})

test('a damaged audit log gives no backup, and one that was put into it gives no directory', async () => {
  await append(data, 3)
  await makeBackup({ dir: data, file, keys: false, audit: true }, 0, silent)
  const whole = await readFile(file)
  const forge = async (from: string, to: string): Promise<void> => {
    const bytes = Buffer.from(whole.subarray(0, -32).toString('latin1').replace(from, to), 'latin1')
    await writeFile(file, Buffer.concat([bytes, createHash('sha256').update(bytes).digest()]))
  }
  const refused = (): Promise<unknown> => restoreBackup({ file, dir: join(dir, 'again'), verify: false }, silent).catch((error: unknown) => error)
  await forge('layers/00000000.seg', '../../../../evi.seg')
  expect(await refused()).toMatchObject({ code: 'CMESH_BACKUP_FILE', message: expect.stringContaining('an audit log in it has the file "../../../../evi.seg", which none has') })
  await forge('log/db/CURRENT', 'log/db/IDENTITY')
  expect(await refused()).toMatchObject({ code: expect.stringMatching(/^CMESH_/) })
  expect((await readdir(dir)).sort()).toEqual(['a.backup', 'mesh'])
  await cp(join(data, 'audit'), join(dir, 'kept'), { recursive: true })
  await rm(join(data, 'audit', 'log', 'db', 'CURRENT'))
  await expect(makeBackup({ dir: data, file: `${file}2`, keys: false, audit: true }, 0, silent)).rejects.toMatchObject({ code: 'CMESH_STATE_CORRUPT' })
  expect((await readdir(dir)).sort()).toEqual(['a.backup', 'kept', 'mesh'])
})

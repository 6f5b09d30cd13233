import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { acceptLoss } from '../../node/archive/accept-loss.ts'
import { DataLock } from '../../node/data-lock.ts'
import { FileLastClaim, readClaim } from '../../node/last-claim.ts'
import { ClaimCheck, type ClaimedPosition } from '../../services/state/last-claim.ts'
import { OLD_DATA, unpackOldData } from '../support/old-data.ts'

let dir: string
beforeEach(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-claim-')) })
afterEach(() => rm(dir, { recursive: true, force: true }))

const claimOf = (seq: number, epoch = 0): ClaimedPosition => ({ epoch, seq, chain: 'ab'.repeat(32), timeMs: 1_800_000_000_000 + seq })
const fail = (error: unknown): never => { throw error }

describe('the last claim in a file', () => {
  test('is there again after a close, the newest alone, for its owner only', async () => {
    const claims = new FileLastClaim(dir, fail)
    expect(claims.read()).toBeUndefined()
    for (let seq = 1; seq <= 100; seq++) claims.write(claimOf(seq))
    expect(claims.read()).toEqual(claimOf(100))
    await claims.close()
    await claims.close()
    expect(new FileLastClaim(dir, fail).read()).toEqual(claimOf(100))
    expect(await readFile(join(dir, 'claim.json'), 'utf8')).toBe(`{"v":1,"epoch":0,"seq":100,"chain":"${'ab'.repeat(32)}","timeMs":1800000000100}\n`)
    expect((await stat(join(dir, 'claim.json'))).mode & 0o777).toBe(0o600)
    expect(await readdir(dir)).toEqual(['claim.json'])
  })

  test('that was taken back stays so, whatever is still written of the log it was of', async () => {
    const claims = new FileLastClaim(dir, fail)
    claims.write(claimOf(1))
    const forgotten = claims.forget()
    claims.write(claimOf(2))
    await forgotten
    claims.write(claimOf(3))
    await claims.close()
    expect([claims.read(), readClaim(dir), await readdir(dir)]).toEqual([undefined, undefined, []])
  })

  test('that cannot be written is told, and tried again with the next one', async () => {
    const place = join(dir, 'later')
    const failures: unknown[] = []
    const claims = new FileLastClaim(place, error => failures.push(error))
    claims.write(claimOf(1))
    await claims.close()
    expect(failures).toEqual([expect.objectContaining({ code: 'ENOENT' })])
  })

  test.each(['', 'x', '{}', '{"v":2,"epoch":0,"seq":1,"chain":"00","timeMs":0}', `{"v":1,"epoch":0,"seq":-1,"chain":"${'0'.repeat(64)}","timeMs":0}`, 'null'])('that is %j is refused, never taken for none', async text => {
    await writeFile(join(dir, 'claim.json'), text)
    expect(() => readClaim(dir)).toThrow(expect.objectContaining({
      code: 'CMESH_STATE_CLAIM', message: expect.stringContaining(`cannot be read in ${join(dir, 'claim.json')}: it holds no claim. The log may be whole. Move that file aside`),
    }))
  })
})

describe('a log held against the last claim', () => {
  const headOf = (seq: number, digits = 'ab', epoch = 0): { epoch: number, seq: number, timeMs: number, chain: Uint8Array } =>
    ({ epoch, seq, timeMs: 0, chain: Buffer.from(digits.repeat(32), 'hex') })

  test('goes on where there was no claim, where it reaches it and where it goes further', () => {
    const none = new ClaimCheck(undefined)
    expect([none.claimed, none.epochBehind(headOf(0))]).toEqual([0, 0])
    expect(() => none.check(0)).not.toThrow()
    const check = new ClaimCheck(claimOf(5))
    for (let seq = 1; seq <= 9; seq++) check.see(headOf(seq, seq === 5 ? 'ab' : '0c'))
    expect(() => check.check(9)).not.toThrow()
  })

  test('is refused where it ends before, and the error says what to do', () => {
    const check = new ClaimCheck(claimOf(5))
    check.see(headOf(4))
    expect(() => check.checkChain()).not.toThrow()
    expect(() => check.check(4)).toThrow(expect.objectContaining({
      code: 'CMESH_STATE_BEHIND', detail: { head: 4, claimed: 5 },
      message: expect.stringMatching(/ends at 4, .* up to 5: .* cmesh restore FILE --data DIR\. .* cmesh consensus accept-loss --data DIR goes on from 4 in a new epoch\.$/),
    }))
  })

  test('is refused where it is another at that place, however far it goes', () => {
    const check = new ClaimCheck(claimOf(5))
    for (let seq = 1; seq <= 9; seq++) check.see(headOf(seq, 'cd'))
    const forked = expect.objectContaining({ code: 'CMESH_STATE_FORKED', detail: { seq: 5, chain: 'cd'.repeat(8), claimed: 'ab'.repeat(8) } })
    expect(() => check.checkChain()).toThrow(forked)
    expect(() => check.check(9)).toThrow(forked)
  })

  test('goes on in the epoch of the claim where that is later', () => {
    expect(new ClaimCheck(claimOf(5, 3)).epochBehind(headOf(5))).toBe(3)
    expect(new ClaimCheck(claimOf(5, 3)).epochBehind(headOf(9, 'ab', 4))).toBe(4)
  })
})

describe('a loss that is accepted', () => {
  test('begins an epoch that was never used, behind the log, and stands in the record', async () => {
    await unpackOldData(dir)
    const claims = new FileLastClaim(dir, fail)
    claims.write(claimOf(40, 2))
    await claims.close()
    const done = await acceptLoss({ dir, alone: false }, 1_900_000_000_000, () => {})
    expect(done).toMatchObject({ seq: 31, epoch: 0, newEpoch: 3, lost: 9, claimed: claimOf(40, 2) })
    expect(readClaim(dir)).toMatchObject({ epoch: 3, seq: 31, chain: OLD_DATA.chain })
    const again = await acceptLoss({ dir, alone: false }, 1_900_000_000_001, () => {})
    expect(again).toMatchObject({ newEpoch: 4, lost: 0 })
    expect((await readFile(join(dir, 'losses.jsonl'), 'utf8')).trim().split('\n').map(line => JSON.parse(line) as unknown)).toEqual([
      { acceptedMs: 1_900_000_000_000, from: { epoch: 0, seq: 31, chain: OLD_DATA.chain }, newEpoch: 3, claimed: claimOf(40, 2) },
      expect.objectContaining({ acceptedMs: 1_900_000_000_001, newEpoch: 4, claimed: expect.objectContaining({ epoch: 3, seq: 31 }) }),
    ])
  })

  test('is refused while the directory is in use, and where there is no log', async () => {
    await unpackOldData(dir)
    await new DataLock(dir).acquire()
    await expect(acceptLoss({ dir, alone: false }, 0, () => {})).rejects.toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE' })
    expect(readClaim(dir)).toBeUndefined()
    await expect(acceptLoss({ dir: join(dir, 'none'), alone: false }, 0, () => {})).rejects.toMatchObject({ code: 'CMESH_STATE_NO_LOG' })
  })
})

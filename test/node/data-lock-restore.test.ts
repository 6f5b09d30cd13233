import { mkdirSync } from 'node:fs'
import { mkdtemp, readdir, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, expect, jest, test } from '@jest/globals'

/** What another process does while the lock is taken. */
let meanwhile: () => void
jest.unstable_mockModule('fs-native-extensions', () => ({
  tryLock: () => {
    meanwhile()
    return true
  },
}))
const { DataLock, RESTORING } = await import('../../node/data-lock.ts')

let dir: string
beforeEach(async () => { dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-lock-')) })
afterEach(() => rm(dir, { recursive: true, force: true }))

test('a restore that marks the directory while a node takes its lock has it alone', async () => {
  meanwhile = () => { mkdirSync(path.join(dir, RESTORING)) }
  await expect(new DataLock(dir).acquire()).rejects.toMatchObject({ code: 'CMESH_BOOT_DATA_DIR', message: expect.stringContaining('a restore into it is under way') })
  expect(await readdir(dir)).toEqual([RESTORING])
})

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { DataLock } from '../../node/data-lock.ts'

const HOOKS = new URL('../typescript-hooks.mjs', import.meta.url).href
/** A process that holds the directory named by its argument until it is ended. */
const HOLDER = `
  const { DataLock } = await import(${JSON.stringify(new URL('../../node/data-lock.ts', import.meta.url).href)})
  await new DataLock(process.argv[1]).acquire()
  process.stdout.write('held')
  setInterval(() => {}, 1_000_000)
`

let root: string
let dir: string
beforeEach(async () => {
  root = await mkdtemp(path.join(os.tmpdir(), 'cmesh-lock-'))
  dir = path.join(root, 'made', 'by it')
})
afterEach(() => rm(root, { recursive: true, force: true }))

const file = (): string => path.join(dir, 'node.lock')

describe('the lock of a data directory', () => {
  test('makes the directory for its user alone, holds it, and leaves no trace when released', async () => {
    const lock = new DataLock(dir)
    await lock.acquire()
    expect((await stat(dir)).mode & 0o777).toBe(0o700)
    expect(await readFile(file(), 'utf8')).toBe(`${process.pid}\n`)
    await lock.acquire()
    await lock.release()
    await lock.release()
    expect(await readdir(dir)).toEqual([])
  })

  test('is refused while its holder lives, with the holder; releasing what one never held changes nothing', async () => {
    const first = new DataLock(dir)
    await first.acquire()
    const second = new DataLock(dir)
    await expect(second.acquire()).rejects.toMatchObject({
      code: 'CMESH_BOOT_DATA_IN_USE', message: `The data directory ${dir} is in use by process ${process.pid}. Stop that process first, or take another directory (--data, data.dir).`,
    })
    await second.release()
    await expect(new DataLock(dir).acquire()).rejects.toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE' })
    await first.release()
    await second.acquire()
    await second.release()
  })

  test('of a process that was killed is taken over, and is not while that lives', async () => {
    const child = spawn(process.execPath, ['--import', HOOKS, '--input-type=module', '-e', HOLDER, dir], { stdio: ['ignore', 'pipe', 'inherit'] })
    const [said] = await once(child.stdout, 'data') as [Buffer]
    const lock = new DataLock(dir)
    try {
      expect(said.toString()).toBe('held')
      expect(await readFile(file(), 'utf8')).toBe(`${child.pid}\n`)
      await expect(lock.acquire()).rejects.toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE', detail: { pid: child.pid } })
    } finally {
      child.kill('SIGKILL')
      await once(child, 'exit')
    }
    await lock.acquire()
    expect(await readFile(file(), 'utf8')).toBe(`${process.pid}\n`)
    await lock.release()
  })

  test('is held by one of many who come at once, whether nobody held it or somebody who is gone', async () => {
    for (const found of [undefined, '', '999999999 1\n']) {
      await mkdir(dir, { recursive: true })
      if (found !== undefined) await writeFile(file(), found)
      const locks = Array.from({ length: 20 }, () => new DataLock(dir))
      const came = await Promise.allSettled(locks.map(lock => lock.acquire()))
      expect(came.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      for (const one of came) if (one.status === 'rejected') expect(one.reason).toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE' })
      expect(await readdir(dir)).toEqual(['node.lock'])
      for (const lock of locks) await lock.release()
    }
  })

  test('holds whatever the file says of its holder: in another container its process id is nobody here', async () => {
    const first = new DataLock(dir)
    await first.acquire()
    await writeFile(file(), '1\n')
    await expect(new DataLock(dir).acquire()).rejects.toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE', detail: { pid: 1 } })
    await writeFile(file(), '')
    await expect(new DataLock(dir).acquire()).rejects.toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE', detail: { pid: 0 } })
    await first.release()
  })

  test('that is released leaves the next one\'s alone', async () => {
    const [first, second] = [new DataLock(dir), new DataLock(dir)]
    await first.acquire()
    await rm(dir, { recursive: true })
    await second.acquire()
    await first.release()
    await expect(new DataLock(dir).acquire()).rejects.toMatchObject({ code: 'CMESH_BOOT_DATA_IN_USE' })
    await second.release()
    expect(await readdir(dir)).toEqual([])
  })

  test.each(['', 'noise', '-1 2', '0 0', '99999999999999999999 1'])('that says %j is nobody\'s and is taken over', async text => {
    const lock = new DataLock(dir)
    await lock.acquire()
    await lock.release()
    await writeFile(file(), text)
    await lock.acquire()
    await lock.release()
  })
})

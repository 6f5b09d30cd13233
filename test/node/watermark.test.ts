import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterEach, beforeEach, describe, expect, jest, test } from '@jest/globals'
import { FileWatermark } from '../../node/watermark.ts'

let dir: string
let file: string
let failures: unknown[]
const open = (at: string): FileWatermark => new FileWatermark(at, error => { failures.push(error) })

beforeEach(async () => {
  dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-watermark-'))
  file = path.join(dir, 'outbox')
  failures = []
  jest.useFakeTimers()
})
afterEach(async () => {
  jest.useRealTimers()
  await rm(dir, { recursive: true, force: true })
})

describe('the watermark', () => {
  test('is 0 where there is none, and what was written last from then on', async () => {
    const watermark = open(file)
    expect(watermark.read()).toBe(0)
    watermark.write(5)
    watermark.write(9)
    expect(watermark.read()).toBe(9)
    watermark.close()
    expect(open(file).read()).toBe(9)
    expect((await stat(file)).mode & 0o777).toBe(0o600)
    expect(await readdir(dir)).toEqual(['outbox'])
  })

  test('is on disk a second after it moved, and no more often than that', async () => {
    const watermark = open(file)
    watermark.write(1)
    jest.advanceTimersByTime(999)
    watermark.write(2)
    expect(await readdir(dir)).toEqual([])
    jest.advanceTimersByTime(1)
    expect(await readFile(file, 'utf8')).toBe('2\n')
    jest.advanceTimersByTime(10_000)
    watermark.write(3)
    expect(await readFile(file, 'utf8')).toBe('2\n')
    watermark.close()
    expect(await readFile(file, 'utf8')).toBe('3\n')
    watermark.close()
    expect(jest.getTimerCount()).toBe(0)
  })

  test.each(['', 'noise', '-3', '1.5', '99999999999999999999', '7 8'])('in a file that says %j is 0: what is out is offered again', async text => {
    await writeFile(file, text)
    expect(open(file).read()).toBe(0)
  })

  test('that cannot be written stays behind, says so, and is written the next time', async () => {
    const watermark = open(path.join(dir, 'later', 'outbox'))
    watermark.write(4)
    jest.advanceTimersByTime(1_000)
    expect(failures).toEqual([expect.objectContaining({ code: 'ENOENT' })])
    expect(watermark.read()).toBe(4)
    await mkdir(path.join(dir, 'later'))
    watermark.write(5)
    watermark.close()
    expect(open(path.join(dir, 'later', 'outbox')).read()).toBe(5)
  })
})

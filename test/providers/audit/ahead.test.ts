/** What is written ahead of the audit log: put onto it when it opens, after a kill at any moment and whatever became of the file's end. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { Ahead, aheadIn, aheadOf, type AheadRow } from '../../../providers/audit/ahead.ts'
import { HypercoreAuditLog } from '../../../providers/audit/hypercore.ts'
import { NOTE_OF_REQUEST, NOTE_OF_TEXT } from '../../../services/audit/messages.ts'
import { batchOf, note, TEXT_KEY } from '../../support/audit-batches.ts'

const WRITER = ['--import', new URL('../../typescript-hooks.mjs', import.meta.url).href, fileURLToPath(new URL('../../support/audit-writer.ts', import.meta.url))]

let room: string
/** A log of three batches, closed. */
let three: string
const open: HypercoreAuditLog[] = []
const idOf = (n: number): Buffer => {
  const id = Buffer.alloc(16)
  id.writeUInt32BE(n)
  return id
}
const made = (n: number, apart = false): ReturnType<typeof batchOf> => (
  batchOf(n, [...apart ? [note(NOTE_OF_TEXT, n, 0, TEXT_KEY, 'a text')] : [], note(NOTE_OF_REQUEST, n, 0, idOf(n), `request ${n}`)], apart)
)
const logOf = (dir: string, durability: 'os' | 'disk' = 'os'): HypercoreAuditLog => {
  const log = new HypercoreAuditLog({ dir, durability, maxBytes: 1024 ** 3, maxAgeMs: 1e9 })
  open.push(log)
  return log
}

beforeAll(async () => {
  room = await mkdtemp(path.join(os.tmpdir(), 'cmesh-ahead-'))
  three = path.join(room, 'three')
  const log = logOf(three)
  await log.open()
  for (let n = 0; n < 3; n++) await log.append(made(n, n === 0))
  await log.close()
})
afterEach(async () => { for (const log of open.splice(0)) await log.close() })
afterAll(() => rm(room, { recursive: true, force: true }))

/** Writes batches ahead of a copy of the log of three, as a node does that is killed then. */
async function killed(name: string, numbers: readonly number[], before: Uint8Array = Buffer.from('block 2')): Promise<string> {
  const dir = path.join(room, name)
  await cp(three, dir, { recursive: true })
  const ahead = await Ahead.open(dir, false, before)
  for (const number of numbers) await ahead.write(made(number))
  await ahead.close(false)
  return dir
}

/** How many batches it has, and of which of them the request is found with its text. */
async function state(dir: string): Promise<{ readonly length: number, readonly found: readonly number[] }> {
  const log = logOf(dir)
  const { length } = await log.open()
  const found: number[] = []
  for (let n = 0; n < length; n++) {
    expect(Buffer.from(await log.read(n)).toString()).toBe(`block ${n}`)
    const [entry, ...more] = await log.find(idOf(n))
    if (more.length === 0 && Buffer.from(await entry?.textOf(TEXT_KEY) ?? []).toString() === 'a text') found.push(n)
  }
  return { length, found }
}

test('a log that was closed leaves nothing ahead', async () => {
  expect((await readdir(three)).sort()).toEqual(['key', 'layers', 'log'])
})

test('what is damaged before the last of it is not passed over: the node does not begin there anew', async () => {
  const dir = await killed('damaged', [3, 4, 5])
  const file = path.join(dir, 'ahead-0')
  const bytes = await readFile(file)
  for (const [nth, at] of [0, bytes.lastIndexOf('CMAH') - 1].entries()) {
    const other = path.join(room, `damaged-${nth}`)
    await cp(dir, other, { recursive: true })
    const flipped = Buffer.from(bytes)
    flipped.writeUInt8(flipped.readUInt8(at) ^ 1, at)
    await writeFile(path.join(other, 'ahead-0'), flipped)
    await expect(logOf(other).open()).rejects.toMatchObject({ code: 'CMESH_AUDIT_BEHIND' })
  }
  expect(await state(dir)).toEqual({ length: 6, found: [0, 1, 2, 3, 4, 5] })
})

test('what is ahead is on the log when it opens, with its notes, once', async () => {
  const dir = await killed('ahead', [3, 4, 5])
  expect(await state(dir)).toEqual({ length: 6, found: [0, 1, 2, 3, 4, 5] })
  const log = open.at(-1)
  await log?.append(made(6, true))
  await log?.close()
  expect(await state(dir)).toEqual({ length: 7, found: [0, 1, 2, 3, 4, 5, 6] })
})

test('what the log has already is not put onto it again', async () => {
  expect(await state(await killed('twice', [1, 2, 3], Buffer.from('block 0')))).toEqual({ length: 4, found: [0, 1, 2, 3] })
})

test('what follows on another block than the last of the log is never put onto it: the start says so, again and again', async () => {
  const dir = await killed('forked', [3, 4], Buffer.from('block 2 of another log'))
  for (let i = 0; i < 2; i++) await expect(logOf(dir).open()).rejects.toMatchObject({ code: 'CMESH_AUDIT_BEHIND', detail: { path: dir, length: 3, noted: 4 } })
  expect((await aheadIn(dir)).size).toBe(2)
})

test('a start leaves nothing ahead that a later one could take for its own', async () => {
  const dir = await killed('emptied', [3, 4, 5])
  const log = logOf(dir)
  await log.open()
  expect((await aheadIn(dir)).size).toBe(0)
})

test('what does not follow on the log stops it: it has lost blocks', async () => {
  await expect(logOf(await killed('gap', [5, 6])).open()).rejects.toMatchObject({ code: 'CMESH_AUDIT_BEHIND', detail: { length: 3, noted: 6 } })
})

describe('the end of the file', () => {
  test('that was torn anywhere, or turned at any byte, gives whole batches in a row and no other', async () => {
    const dir = await killed('torn', [3, 4])
    const file = path.join(dir, 'ahead-0')
    const whole = await readFile(file)
    const frame = whole.length / 2
    const numbers = async (bytes: Uint8Array): Promise<number[]> => {
      await writeFile(file, bytes)
      return aheadOf(await aheadIn(dir), 3, Buffer.from('block 2')).batches.map(({ number, block }) => {
        expect(Buffer.from(block).toString()).toBe(`block ${number}`)
        return number
      })
    }
    expect(await numbers(whole)).toEqual([3, 4])
    for (let length = 0; length < whole.length; length++) expect(await numbers(whole.subarray(0, length))).toEqual(length < frame ? [] : [3])
    for (let byte = 0; byte < whole.length; byte++) {
      const turned = Buffer.from(whole)
      turned[byte] = (turned[byte] as number) ^ (1 << (byte % 8))
      expect(await numbers(turned)).toEqual(byte < frame ? [] : [3])
    }
  })

  test('that an earlier, longer use left there is not taken for what follows, and is there for a log that lost it', async () => {
    const dir = path.join(room, 'again')
    await cp(three, dir, { recursive: true })
    const ahead = await Ahead.open(dir, false, Buffer.from('block 2'))
    for (let n = 3; n < 8; n++) await ahead.write(made(n))
    const done = ahead.turn()
    await ahead.write(made(8))
    await done(false)
    const doneToo = ahead.turn()
    await ahead.write(made(9))
    await doneToo(false)
    await ahead.close(false)
    const found = await aheadIn(dir)
    const behind = (length: number): AheadRow => aheadOf(found, length, Buffer.from(`block ${length - 1}`))
    const numbers = (length: number): number[] => behind(length).batches.map(({ number }) => number)
    // 9 was written over 3; 4 to 7 stand behind it.
    expect([numbers(8), numbers(9), numbers(10)]).toEqual([[8, 9], [9], []])
    expect([behind(8), behind(10)]).toMatchObject([{ beyond: undefined }, { beyond: undefined }])
    expect(numbers(4)).toEqual([4, 5, 6, 7, 8, 9])
    expect(behind(3)).toEqual({ batches: [], beyond: 4 })
  })
})

test.each(['os', 'disk'] as const)('a process that is killed with SIGKILL loses no batch that it acknowledged, nor its notes (%s)', async durability => {
  const dir = path.join(room, `killed ${durability}`)
  let acknowledged = -1
  for (const after of [1, 60 + Math.floor(Math.random() * 200)]) {
    const child = spawn(process.execPath, [...WRITER, dir, durability], { stdio: ['ignore', 'pipe', 'inherit'] })
    const exited = once(child, 'exit')
    let acks = 0
    for await (const line of createInterface({ input: child.stdout })) {
      acknowledged = Number(line.slice(4))
      if (++acks === after) child.kill('SIGKILL')
    }
    await exited
    expect(child.signalCode).toBe('SIGKILL')
    const { length, found } = await state(dir)
    expect(length).toBeGreaterThan(acknowledged)
    expect(found).toEqual(Array.from({ length }, (_, n) => n))
    await open.pop()?.close()
  }
})

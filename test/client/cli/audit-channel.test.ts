/** Roots that others hold of a log, as `cmesh audit verify` gathers them. */
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { keptRecords, writeRoots } from '../../../client/cli/audit-channel.ts'
import type { MeshClient } from '../../../client/mesh-client.ts'
import type { ChannelEvent } from '../../../client/subscription.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { decodeReceipt } from '../../../cmtp/receipt/receipt.ts'

const record = (n: number): Buffer => Buffer.alloc(253, n)
const event = (seq: number, data: unknown): ChannelEvent => ({ channel: 'audit', seq, timeMs: 1, data: typeof data === 'string' ? data : JSON.stringify(data) })
const roots = (...records: Buffer[]): object => ({ node: 'x', roots: records.map((each) => ({ batch: 1, record: each.toString('base64url') })) })
/** Roots, and what else may come over the channel. */
const EVENTS: readonly ChannelEvent[] = [
  event(3, roots(record(1), record(2))), event(4, { kind: 'consensus.reads' }), event(7, 'text'), { ...event(8, ''), data: { base64: '/w==' } },
  event(9, { roots: [{ record: 5 }, {}] }), event(12, roots(record(3))),
]
const EXPECTED = Buffer.concat([record(1), record(2), record(3)])

let dir: string
beforeAll(async () => { dir = await mkdtemp(join(tmpdir(), 'cmesh-channel-')) })
afterAll(() => rm(dir, { recursive: true, force: true }))

test('all that were on the channel when it was asked are read, page by page, and nothing that comes meanwhile', async () => {
  const asked: unknown[] = []
  const later = event(13, roots(record(9)))
  const client = {
    latest: () => Promise.resolve(EVENTS.at(-1)),
    range: (_: string, range: { from: number, to: number }) => {
      asked.push(range)
      return Promise.resolve([...EVENTS, later].filter(({ seq }) => seq >= range.from && seq <= range.to).slice(0, 2))
    },
  } as unknown as MeshClient
  const progress: number[][] = []
  await writeRoots(client, join(dir, 'roots'), new AbortController().signal, (...done) => { progress.push(done) })
  expect(await readFile(join(dir, 'roots'))).toEqual(EXPECTED)
  expect(asked).toEqual([1, 5, 9].map((from) => ({ from, to: 12, limit: 1_000 })))
  expect(progress).toEqual([[4, 12], [8, 12], [12, 12]])
})

test('a channel on which nothing ever was has none; any other trouble is told', async () => {
  const failing = (error: CMeshError): MeshClient => ({ latest: () => Promise.reject(error) }) as unknown as MeshClient
  await writeRoots(failing(new CMeshError('CMESH_EVENTS_NO_CHANNEL', { channel: 'audit' })), join(dir, 'none'), new AbortController().signal, () => undefined)
  expect(await readFile(join(dir, 'none'))).toEqual(Buffer.alloc(0))
  const denied = new CMeshError('CMESH_IAM_DENIED', { permission: 'read', fqmn: '0xE:audit:read' })
  await expect(writeRoots(failing(denied), join(dir, 'none'), new AbortController().signal, () => undefined)).rejects.toBe(denied)
})

test('a receipt has one, and events are read as they were printed, one a line or in a list', async () => {
  const receipt = await readFile(new URL('../../vectors/receipts/a-view-read.receipt', import.meta.url))
  expect(keptRecords(receipt, 'f')).toEqual(Buffer.from(decodeReceipt(receipt).root))
  expect(keptRecords(Buffer.from(EVENTS.map((each) => `${JSON.stringify(each)}\n`).join('')), 'f')).toEqual(EXPECTED)
  expect(keptRecords(Buffer.from(JSON.stringify(EVENTS)), 'f')).toEqual(EXPECTED)
  expect(() => keptRecords(Buffer.from('noise'), 'notes.txt')).toThrow(expect.objectContaining({
    code: 'CMESH_CLIENT_USAGE', message: expect.stringContaining('notes.txt is neither a receipt nor events as cmesh events tail audit --json prints them: '),
  }))
})

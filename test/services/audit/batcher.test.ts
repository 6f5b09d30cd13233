import { afterEach, describe, expect, jest, test } from '@jest/globals'
import type { CMeshError } from '../../../cmtp/errors.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { LEAF_BYTES } from '../../../cmtp/receipt/merkle.ts'
import { decodeRootRecord } from '../../../cmtp/receipt/root.ts'
import { MockAuditLog } from '../../../providers/audit/mock.ts'
import type { AuditBatch } from '../../../services/audit/provider.ts'
import { Batcher, type Rooted } from '../../../services/audit/batcher.ts'
import type { Noted } from '../../../services/audit/recording.ts'
import { until } from '../../client/support/until.ts'
import { testClock } from '../../support/mesh.ts'

const key = KeyPair.generate()
const NOTHING: Noted = { recordBytes: 0, recordTo: (_, at) => at }
const FINAL = '\0'.repeat(32)
const RETENTION = { maxBytes: 1_000_000, maxAgeMs: 1_000_000 }

async function begun(log = new MockAuditLog(RETENTION)): Promise<{ readonly batcher: Batcher, readonly counts: number[] }> {
  const counts: number[] = []
  const batcher = new Batcher({
    log, mesh: key.did, node: key.did, certificate: undefined,
    sign: bytes => key.sign(bytes), clock: testClock(), onRoot: record => { counts.push(decodeRootRecord(record).count) },
    onFailed: error => { throw error },
  })
  await batcher.start()
  return { batcher, counts }
}

const id = (n: number): Buffer => Buffer.alloc(LEAF_BYTES - 32, n)
const rooted = (batcher: Batcher, n: number): Promise<Rooted | CMeshError> =>
  new Promise(resolve => { batcher.add(id(n), FINAL, NOTHING, [], undefined, resolve) })

describe('a request that comes while an append ends', () => {
  const turns = Array.from({ length: 12 }, (_, i) => i)

  test.each(turns)('is told its root when it waits for it, %d turns after the one before was told', async after => {
    const { batcher } = await begun()
    await rooted(batcher, 1)
    for (let i = 0; i < after; i++) await Promise.resolve()
    let told: Rooted | CMeshError | undefined
    void rooted(batcher, 2).then(root => { told = root })
    await until('it is told', () => told !== undefined)
    expect(told).toMatchObject({ index: 0, tree: { root: expect.any(Buffer) } })
    await batcher.stop()
  })

  test.each(turns)('is on the log soon when it waits for nothing, %d turns after', async after => {
    const { batcher, counts } = await begun()
    await rooted(batcher, 1)
    for (let i = 0; i < after; i++) await Promise.resolve()
    batcher.add(id(2), FINAL, NOTHING, [])
    await until('it has its root', () => counts.length === 2)
    expect(counts).toEqual([1, 1])
    await batcher.stop()
  })
})

describe('of those that wait while an append is under way', () => {
  /** Adds some while the first batch is appended. */
  class BusyLog extends MockAuditLog {
    meanwhile: (() => void) | undefined

    override async append(batch: AuditBatch): Promise<void> {
      await Promise.resolve()
      this.meanwhile?.()
      this.meanwhile = undefined
      await super.append(batch)
    }
  }
  const turns = async (): Promise<void> => { for (let i = 0; i < 5; i++) await new Promise(resolve => { setImmediate(resolve) }) }
  const behindAnAppend = async (count: number): Promise<Awaited<ReturnType<typeof begun>>> => {
    jest.useFakeTimers({ doNotFake: ['setImmediate', 'clearImmediate', 'nextTick', 'queueMicrotask', 'hrtime', 'performance', 'Date'] })
    const log = new BusyLog(RETENTION)
    const made = await begun(log)
    log.meanwhile = () => { for (let i = 0; i < count; i++) void rooted(made.batcher, i) }
    await rooted(made.batcher, 1)
    await turns()
    return made
  }
  afterEach(() => { jest.useRealTimers() })

  test('a few are the next batch at once', async () => {
    const { batcher, counts } = await behindAnAppend(31)
    expect(counts).toEqual([1, 31])
    await batcher.stop()
  })

  test('many are the next batch with what comes within a millisecond', async () => {
    const { batcher, counts } = await behindAnAppend(32)
    void rooted(batcher, 99)
    await turns()
    expect(counts).toEqual([1])
    jest.advanceTimersByTime(1)
    await turns()
    expect(counts).toEqual([1, 33])
    await rooted(batcher, 100)
    expect(counts).toEqual([1, 33, 1])
    await batcher.stop()
  })
})

import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
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
const rooted = (batcher: Batcher, n: number): Promise<Rooted | CMeshError> => {
  batcher.add(id(n), FINAL, NOTHING, [])
  return new Promise(resolve => { batcher.wait(resolve) })
}

describe('a request that comes while an append ends', () => {
  const turns = Array.from({ length: 12 }, (_, i) => i)

  test.each(turns)('is told its root when it waits for it, %d turns after the one before was told', async after => {
    const { batcher } = await begun()
    await rooted(batcher, 1)
    for (let i = 0; i < after; i++) await Promise.resolve()
    let told: Rooted | CMeshError | undefined
    void rooted(batcher, 2).then(root => { told = root })
    await until('it is told', () => told !== undefined)
    expect(told).toMatchObject({ tree: { count: 1 }, record: expect.any(Buffer) })
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

test('what comes while an append is under way is the next batch, and on its way before those that waited are told', async () => {
  const events: string[] = []
  let meanwhile = (): void => undefined
  class BusyLog extends MockAuditLog {
    override async append(batch: AuditBatch): Promise<void> {
      events.push(`append ${batch.number}`)
      await Promise.resolve()
      meanwhile()
      meanwhile = () => undefined
      await super.append(batch)
    }
  }
  const { batcher, counts } = await begun(new BusyLog(RETENTION))
  const told = (n: number): Promise<unknown> => rooted(batcher, n).then(() => events.push(`told ${n}`))
  const later: Promise<unknown>[] = []
  meanwhile = () => { for (let n = 2; n < 5; n++) later.push(told(n)) }
  await told(1)
  await Promise.all(later)
  expect(counts).toEqual([1, 3])
  expect(events).toEqual(['append 0', 'append 1', 'told 1', 'told 2', 'told 3', 'told 4'])
  await batcher.stop()
})

test('notes go together by how many there are: repetitions of which many are one note fill no segment', async () => {
  const apart: boolean[] = []
  const log = new class extends MockAuditLog {
    override append(batch: AuditBatch): Promise<void> {
      apart.push(batch.apart)
      return super.append(batch)
    }
  }(RETENTION)
  const { batcher } = await begun(log)
  const requests = async (repeats: number): Promise<void> => {
    const frame = Buffer.alloc(16)
    batcher.add(frame, FINAL, NOTHING, [])
    if (repeats > 0) batcher.repeat(frame, 1, Buffer.alloc(32 * repeats), Array<Buffer>(repeats).fill(frame))
    await batcher.flush()
  }
  for (let i = 0; i < 70; i++) await requests(1_023)
  expect(apart.filter(Boolean)).toHaveLength(1)
  for (let i = 0; i < 16; i++) {
    for (let n = 0; n < 4_095; n++) batcher.add(id(n % 256), FINAL, NOTHING, [])
    await requests(0)
  }
  expect(apart.filter(Boolean)).toHaveLength(1)
  await requests(0)
  expect(apart.filter(Boolean)).toHaveLength(2)
  expect(apart.at(-1)).toBe(true)
})

test('a log that fails after it took a batch is told of by whoever asks next, and once to the node', async () => {
  class FailingLog extends MockAuditLog {
    override failure: CMeshError | undefined = undefined

    override async append(batch: AuditBatch): Promise<void> {
      await Promise.resolve()
      if (this.failure !== undefined) throw this.failure
      await super.append(batch)
    }
  }
  const log = new FailingLog(RETENTION)
  const failures: CMeshError[] = []
  const batcher = new Batcher({
    log, mesh: key.did, node: key.did, certificate: undefined, sign: bytes => key.sign(bytes), clock: testClock(), onRoot: () => undefined,
    onFailed: error => { failures.push(error) },
  })
  await batcher.start()
  await rooted(batcher, 1)
  expect(batcher.refusal).toBeUndefined()
  const underWay = rooted(batcher, 2)
  log.failure = new CMeshError('CMESH_AUDIT_FULL', { reason: 'no space left' })
  expect([batcher.refusal, batcher.refusal]).toEqual([log.failure, log.failure])
  expect(await underWay).toBe(log.failure)
  await batcher.flush()
  expect(failures).toEqual([log.failure])
})

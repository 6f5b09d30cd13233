import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import { STEP_MS, timeBehind } from '../../../services/state/log-time.ts'
import { Ticks } from '../../../services/state/ticks.ts'
import { SILENT_LOG } from '../../../services/log.ts'
import { until } from '../../client/support/until.ts'
import { startMesh, type TestMesh } from '../../support/mesh.ts'
import { batchOf, genesisTransaction, MEMBER, moveTo, replica, START_MS, transactionOf } from '../../support/replica.ts'

const DAY_MS = 86_400_000
const increment = (deadlineMs: number): ReturnType<typeof transactionOf> => transactionOf('0xSW:0x001:none', { deadlineMs })

/** The same batch as a node of before version 3 would have signed it. */
function asVersion2(message: Uint8Array): Uint8Array {
  const bytes = Buffer.from(message)
  bytes[11] = 2
  MEMBER.sign(bytes.subarray(0, -64)).copy(bytes, bytes.length - 64)
  return bytes
}

describe('log time', () => {
  test('never goes back, never ahead of the proposer\'s clock, and by more than a minute only where it did before', () => {
    const clocks = fc.array(fc.nat({ max: 400 * DAY_MS }), { maxLength: 40 })
    fc.assert(fc.property(clocks, proposed => {
      let [beforeMs, stepMs] = [START_MS, 0]
      for (const ms of proposed) {
        const timeMs = timeBehind({ beforeMs, stepMs, proposedMs: START_MS + ms })
        expect(timeMs).toBeGreaterThanOrEqual(beforeMs)
        expect(timeMs).toBeLessThanOrEqual(Math.max(beforeMs, START_MS + ms))
        expect(timeMs - beforeMs).toBeLessThanOrEqual(Math.max(STEP_MS, 2 * stepMs))
        ;[beforeMs, stepMs] = [timeMs, timeMs - beforeMs]
      }
    }))
  })

  test('is moved by one batch of a wrong clock by a minute, and what is asked for after that is in time', async () => {
    const { next, store } = await replica()
    next(batchOf([genesisTransaction()]))
    next(batchOf([], { proposedMs: START_MS + 365 * DAY_MS }))
    expect(store.head.timeMs).toBe(START_MS + STEP_MS)
    const [record, late] = next(batchOf([increment(START_MS + 20_000), increment(START_MS + 9_999)], { proposedMs: START_MS + 10_000 }))
    expect(store.head.timeMs).toBe(START_MS + STEP_MS)
    expect([record?.status, late?.status]).toEqual([404, 408])
  })

  test('of batches of before there were steps is what they say, and so are their deadlines', async () => {
    const { next, store } = await replica()
    next(asVersion2(batchOf([genesisTransaction()])))
    next(asVersion2(batchOf([], { proposedMs: START_MS + 30 * DAY_MS })))
    expect(store.head.timeMs).toBe(START_MS + 30 * DAY_MS)
    const [late] = next(asVersion2(batchOf([increment(START_MS + 20_000)], { proposedMs: START_MS + 10_000 })))
    expect(late?.status).toBe(408)
  })

  test('goes on after a restart in the midst of steps as it would have without one', async () => {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-time-'))
    const genesis = batchOf([genesisTransaction()])
    const [all, kept] = [await replica(), await replica({ store: new HypercoreStateStore({ dir }) })]
    const far = batchOf([], { proposedMs: START_MS + DAY_MS })
    for (const message of [genesis, far, far, far]) for (const each of [all, kept]) each.next(message)
    await kept.store.close()
    const again = await replica({ store: new HypercoreStateStore({ dir }) })
    for (const each of [all, again]) each.next(far)
    expect(again.store.head).toEqual(all.store.head)
    expect(again.store.head.timeMs).toBe(START_MS + 15 * STEP_MS)
    await again.store.close()
    await rm(dir, { recursive: true, force: true })
  })

  test('follows the last step of the log that a node starts on', async () => {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-time-'))
    const key = KeyPair.generate()
    let aheadMs = 0
    const clock = { nowMs: () => START_MS + aheadMs, nowUs: () => START_MS * 1_000 }
    const start = (): Promise<TestMesh> => startMesh({ key, state: { store: new HypercoreStateStore({ dir }), clock } })
    const first = await start()
    aheadMs = DAY_MS
    const { seq } = first.state.head
    for (let i = 0; i < 2; i++) await first.state.orderOwn('0xIW:grant', { did: key.did, permission: 'read 0xS:>' }).catch(() => undefined)
    await first.stop()
    const again = await start()
    await until('the log is back in its time', () => again.state.head.timeMs === START_MS + DAY_MS)
    await again.stop()
    const store = new HypercoreStateStore({ dir })
    const minutes: number[] = []
    await store.open(block => { if (block.seq > seq) minutes.push((block.timeMs - START_MS) / STEP_MS) })
    await store.close()
    await rm(dir, { recursive: true, force: true })
    expect(minutes.slice(0, 4)).toEqual([1, 3, 7, 15])
  })

  test('of a mesh that stood still for a month is back after sixteen empty batches, which are ordered at the start', async () => {
    const made = await replica()
    made.next(batchOf([genesisTransaction()]))
    const nowMs = START_MS + 30 * DAY_MS
    let [ordered, failing] = [0, true]
    const back = new Promise<void>(resolve => {
      const ticks: Ticks = new Ticks({
        head: () => made.store.head, onDuty: () => true, clock: { nowMs: () => nowMs }, log: SILENT_LOG, tickMs: 20,
        order: (): Promise<void> => {
          // One that cannot be ordered is tried again at the next look.
          if (failing) {
            failing = false
            return Promise.reject(new Error('no broker'))
          }
          made.next(batchOf([], { proposedMs: nowMs }))
          ordered++
          if (made.store.head.timeMs === nowMs) {
            ticks.stop()
            resolve()
          }
          return Promise.resolve()
        },
      })
      ticks.start()
    })
    await back
    expect(ordered).toBe(16)
    moveTo(made, nowMs + 365 * DAY_MS)
    expect(made.store.head.seq).toBeLessThan(17 + 24)
  })
})

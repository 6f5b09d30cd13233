import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { caughtUp } from '../../providers/consensus/behind.ts'
import { describeOrder } from '../../providers/consensus/ordered-stream.ts'
import type { CatchUpLog, LogHead } from '../../services/consensus/provider.ts'
import type { StreamReport } from '../../providers/jetstream/stream-api.ts'
import { keptLog } from '../support/mesh.ts'

const log = keptLog()
/** A stream behind position 10 that holds messages `first` to `last`. */
const stream = (first: number, last: number): StreamReport => ({
  config: { description: describeOrder({ epoch: 3, base: 10 }) }, state: { first_seq: first, last_seq: last },
}) as StreamReport
const at = (seq: number): LogHead => ({ epoch: 3, seq, data: Buffer.from('newest') })
const none: CatchUpLog = () => Promise.reject(new CMeshError('CMESH_STATE_CATCH_UP', { reason: 'nobody is there' }))

describe('a log that is to go on with a stream', () => {
  test.each([
    ['is where the stream begins', 1, 500, 10],
    ['is in the midst of it', 400, 500, 420],
    ['is a little behind its end', 1, 1_000, 11],
  ])('that %s needs nobody', async (_, first, last, seq) => {
    const from = at(seq)
    expect(await caughtUp(stream(first, last), from, () => { throw new Error('somebody was asked') }, log)).toBe(from)
  })

  test.each([
    ['ends before the stream begins', 401, 500, 409, 410],
    ['is far behind its end', 1, 1_000, 10, 10],
    ['is empty', 401, 402, 0, 410],
  ])('that %s is brought up by others first', async (_, first, last, seq, wanted) => {
    const asked: number[] = []
    const head = await caughtUp(stream(first, last), at(seq), upTo => {
      asked.push(upTo)
      return Promise.resolve(at(900))
    }, log)
    expect(head).toEqual(at(900))
    expect(asked).toEqual([wanted])
  })

  test('goes on from the stream where nobody can help and it has everything, and says so', async () => {
    const from = at(10)
    expect(await caughtUp(stream(1, 1_000), from, none, log)).toBe(from)
    expect(log.lines.at(-1)).toMatchObject({ level: 'info', message: expect.stringContaining('it executes the entries again') })
    await expect(caughtUp(stream(2, 1_000), from, none, log)).rejects.toMatchObject({ code: 'CMESH_STATE_CATCH_UP' })
  })

  test('stops for any other reason, and asks nobody about a stream of somebody else', async () => {
    const failing: CatchUpLog = () => Promise.reject(new CMeshError('CMESH_STATE_DIVERGED', { seq: 7, members: 'a' }))
    await expect(caughtUp(stream(1, 1_000), at(10), failing, log)).rejects.toMatchObject({ code: 'CMESH_STATE_DIVERGED' })
    const moved: CatchUpLog = () => Promise.reject(new CMeshError('CMESH_STATE_UNVOUCHED', { seq: 5_000 }))
    await expect(caughtUp(stream(1, 1_000), at(10), moved, log)).rejects.toMatchObject({ code: 'CMESH_STATE_UNVOUCHED' })
    const foreign = { ...stream(401, 500), config: { description: 'mine' } } as StreamReport
    const from = at(0)
    expect(await caughtUp(foreign, from, none, log)).toBe(from)
  })

  test.each([
    ['of an epoch before is told what the order begins behind', 1, { epoch: 2, seq: 7 }, { seq: 10, chain: Buffer.alloc(32, 0xab) }],
    ['is not, where the order has lost its beginning', 2, { epoch: 2, seq: 7 }, undefined],
    ['is not, where it is of that epoch itself', 1, { epoch: 3, seq: 7 }, undefined],
    ['is not, where it lacks nothing of that', 1, { epoch: 2, seq: 10 }, undefined],
  ])('that %s', async (_, first, from, told) => {
    const named = { config: { description: describeOrder({ epoch: 3, base: 10, chain: 'ab'.repeat(32) }) }, state: { first_seq: first, last_seq: 2_000 } } as StreamReport
    const asked: unknown[] = []
    await caughtUp(named, from, (_upTo, before) => {
      asked.push(before)
      return Promise.resolve(at(900))
    }, log)
    expect(asked).toEqual([told])
  })

  test('keeps what it knows of its newest entry where nothing was added', async () => {
    const from = at(10)
    expect(await caughtUp(stream(1, 2_000), from, () => Promise.resolve({ epoch: 3, seq: 10 }), log)).toBe(from)
  })
})

import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../../cmtp/errors.ts'
import { AtSequence } from '../../../../services/state/checks/at-sequence.ts'
import { testClock } from '../../../support/mesh.ts'

const START_MS = 1_800_000_000_000

interface Rig {
  readonly sequences: AtSequence
  /** At which sequence each work ran. */
  readonly ran: number[]
  at(seq: number): void
  run(at: number, wish: number, patienceMs: number, leftMs: number): Promise<number>
}

function rig(): Rig {
  let applied = 5
  const ran: number[] = []
  const sequences = new AtSequence({ applied: () => applied, clock: testClock({ ms: START_MS }) })
  return {
    sequences, ran,
    at: seq => {
      applied = seq
      sequences.applied(seq)
    },
    run: (at, wish, patienceMs, leftMs) => sequences.run({ at, wish, patienceMs, deadlineMs: START_MS + leftMs }, async () => {
      ran.push(applied)
      return applied
    }),
  }
}

describe('work on the state behind one block', () => {
  test('runs at once where the block is applied', () => {
    const { run, ran } = rig()
    void run(5, 5, 0, 60_000)
    expect(ran).toEqual([5])
  })

  test('runs in the turn in which that block is applied, not behind the next one', async () => {
    const { run, ran, at } = rig()
    const work = run(7, 7, 0, 60_000)
    at(6)
    expect(ran).toEqual([])
    at(7)
    at(8)
    expect(ran).toEqual([7])
    expect(await work).toBe(7)
  })

  test('runs on what there is when the block does not come, no earlier than it may', async () => {
    const { run, at } = rig()
    expect(await run(5, 9, 1, 60_000)).toBe(5)
    const waiting = run(6, 9, 1, 60_000)
    await run(5, 9, 2, 60_000)
    at(6)
    expect(await waiting).toBe(6)
  })

  test('is given up at the deadline, and when nothing is applied any more', async () => {
    const { run, sequences, ran } = rig()
    await expect(run(7, 7, 0, 1)).rejects.toMatchObject({ code: 'CMESH_ROUTER_TIMEOUT' })
    const waiting = run(7, 7, 60_000, 60_000)
    sequences.fail(new CMeshError('CMESH_STATE_HALTED', { reason: 'a test' }))
    await expect(waiting).rejects.toMatchObject({ code: 'CMESH_STATE_HALTED', message: 'The state service has halted: a test.' })
    sequences.applied(9)
    expect(ran).toEqual([])
  })
})

import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { encodeHeaders, type HeaderList } from '../../../cmtp/headers.ts'
import { ReadLevels } from '../../../services/state/read-levels.ts'
import { testClock } from '../../support/mesh.ts'

const START_MS = 1_800_000_000_000

interface Rig {
  readonly levels: ReadLevels
  readonly barriers: number[]
  at(seq: number): void
  wait(headers: HeaderList, patienceMs?: number): Promise<void> | undefined
}

function rig(): Rig {
  let applied = 5
  const barriers: number[] = []
  const levels = new ReadLevels({
    applied: () => applied, clock: testClock({ ms: START_MS }),
    barrier: deadlineMs => {
      barriers.push(deadlineMs)
      return Promise.resolve(8)
    },
  })
  return {
    levels, barriers,
    at: seq => {
      applied = seq
      levels.applied(seq)
    },
    wait: (headers, patienceMs = 60_000) => levels.wait({
      headers: headers.length === 0 ? new Uint8Array() : encodeHeaders(headers), deadlineMs: START_MS + patienceMs,
    }),
  }
}

/** Whether it has resolved once all that can happen now has. */
async function isDone(promise: Promise<void> | undefined): Promise<boolean> {
  let done = false
  void promise?.then(() => { done = true })
  await new Promise(resolve => { setImmediate(resolve) })
  return done
}

describe('a view', () => {
  test('that asks for nothing, or for what is here, waits for nothing', () => {
    const { wait, barriers } = rig()
    expect([wait([]), wait([['content-type', 'x']]), wait([['x-cmesh-read', 'local']]), wait([['x-cmesh-read', 'session'], ['x-cmesh-after', '5']])])
      .toEqual([undefined, undefined, undefined, undefined])
    expect(barriers).toEqual([])
  })

  test('behind what its caller has seen waits for that block, and no longer', async () => {
    const { wait, at } = rig()
    const waiting = wait([['x-cmesh-read', 'session'], ['x-cmesh-after', '7']])
    at(6)
    expect(await isDone(waiting)).toBe(false)
    at(7)
    await waiting
  })

  test('behind everything orders a batch, and waits until that is applied', async () => {
    const { wait, at, barriers } = rig()
    const waiting = wait([['x-cmesh-read', 'linear']])
    expect(barriers).toEqual([START_MS + 60_000])
    at(7)
    expect(await isDone(waiting)).toBe(false)
    at(8)
    await waiting
    await wait([['x-cmesh-read', 'linear']])
  })

  test('waits no longer than its deadline, and not for a state that has halted', async () => {
    const { wait, levels } = rig()
    await expect(wait([['x-cmesh-read', 'session'], ['x-cmesh-after', '7']], 0)).rejects.toMatchObject({ code: 'CMESH_ROUTER_DEADLINE' })
    const waiting = wait([['x-cmesh-read', 'session'], ['x-cmesh-after', '7']])
    levels.fail(new CMeshError('CMESH_STATE_HALTED', { reason: 'a test' }))
    await expect(waiting).rejects.toMatchObject({ code: 'CMESH_STATE_HALTED' })
  })

  test.each<[string, HeaderList, string]>([
    ['level', [['x-cmesh-read', 'fresh']], 'x-cmesh-read is local, session or linear'],
    ['sequence', [['x-cmesh-read', 'session'], ['x-cmesh-after', '-1']], 'x-cmesh-after says which sequence the caller has seen, a whole number'],
    ['sequence, since it has none,', [['x-cmesh-read', 'session']], 'x-cmesh-after says which sequence the caller has seen, a whole number'],
    ['sequence that is no number', [['x-cmesh-read', 'session'], ['x-cmesh-after', '9999999999999999']], 'x-cmesh-after says which sequence the caller has seen, a whole number'],
  ])('with an unknown %s is refused', (_, headers, reason) => {
    expect(() => rig().wait(headers)).toThrow(`How fresh the view has to be cannot be read: ${reason}.`)
  })
})

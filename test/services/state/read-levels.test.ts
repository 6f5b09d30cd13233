import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { encodeHeaders, type HeaderList } from '../../../cmtp/headers.ts'
import { ReadLevels } from '../../../services/state/read-levels.ts'
import { testClock } from '../../support/mesh.ts'

const START_MS = 1_800_000_000_000

const LINEAR: HeaderList = [['x-cmesh-read', 'linear']]
/** What stands two blocks ahead. */
const BEHIND: HeaderList = [['x-cmesh-read', 'session'], ['x-cmesh-after', '7']]

interface Rig {
  readonly levels: ReadLevels
  readonly barriers: number[]
  at(seq: number): void
  wait(headers: HeaderList, patienceMs?: number, caller?: string): Promise<void> | undefined
}

function rig(barrier = Promise.resolve(8)): Rig {
  let applied = 5
  const barriers: number[] = []
  const levels = new ReadLevels({
    applied: () => applied, clock: testClock({ ms: START_MS }),
    barrier: deadlineMs => {
      barriers.push(deadlineMs)
      return barrier
    },
  })
  return {
    levels, barriers,
    at: seq => {
      applied = seq
      levels.applied(seq)
    },
    wait: (headers, patienceMs = 60_000, caller = 'a') => levels.wait({
      headers: headers.length === 0 ? new Uint8Array() : encodeHeaders(headers), deadlineMs: START_MS + patienceMs,
    }, caller),
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
    await expect(wait([['x-cmesh-read', 'session'], ['x-cmesh-after', '7']], 0)).rejects.toMatchObject({ code: 'CMESH_ROUTER_TIMEOUT' })
    const waiting = wait([['x-cmesh-read', 'session'], ['x-cmesh-after', '7']])
    levels.fail(new CMeshError('CMESH_STATE_HALTED', { reason: 'a test' }))
    await expect(waiting).rejects.toMatchObject({ code: 'CMESH_STATE_HALTED' })
  })

  test('behind everything hears why nothing could be ordered', async () => {
    await expect(rig(Promise.reject(new CMeshError('CMESH_STATE_CLOCK', { reason: 'a test' }))).wait(LINEAR)).rejects.toMatchObject({ code: 'CMESH_STATE_CLOCK' })
  })

  test('waits with so many of its caller and no more, at either level; others wait beside them', async () => {
    const { wait, at } = rig()
    const waiting = Array.from({ length: 2_048 }, (_, i) => wait(i % 2 === 0 ? LINEAR : BEHIND))
    for (const headers of [LINEAR, BEHIND]) expect(() => wait(headers)).toThrow('views that wait for a block has 2048 requests in flight already; try again in 50 ms.')
    // What need not wait is answered all the same.
    expect(wait([['x-cmesh-read', 'session'], ['x-cmesh-after', '5']])).toBeUndefined()
    const other = wait(BEHIND, undefined, 'b')
    at(8)
    for (const each of [...waiting, other]) await each
    at(9)
    for (const each of Array.from({ length: 2_048 }, () => wait(LINEAR))) await each
  })

  test('one that gave up leaves its place, and one whose batch comes later finds nobody', async () => {
    let pass: (seq: number) => void = () => undefined
    const { wait, at } = rig(new Promise(resolve => { pass = resolve }))
    const all = Array.from({ length: 2_048 }, () => wait(LINEAR, 0))
    await Promise.all(all.map(async each => { await expect(each).rejects.toMatchObject({ code: 'CMESH_ROUTER_TIMEOUT' }) }))
    const waiting = wait(LINEAR)
    pass(7)
    expect(await isDone(waiting)).toBe(false)
    at(7)
    await waiting
  })

  test('of a node that drains hears so, before and after; one that need not wait is answered, and the node itself waits on', async () => {
    const { wait, at, levels } = rig(new Promise(() => undefined))
    const waiting = [wait(LINEAR), wait(BEHIND)]
    const own = levels.reached(7, START_MS + 60_000)
    levels.close(new CMeshError('CMESH_ROUTER_DRAINING'))
    for (const each of waiting) await expect(each).rejects.toMatchObject({ code: 'CMESH_ROUTER_DRAINING' })
    for (const headers of [LINEAR, BEHIND]) expect(() => wait(headers)).toThrow(expect.objectContaining({ code: 'CMESH_ROUTER_DRAINING' }))
    expect(wait([['x-cmesh-read', 'session'], ['x-cmesh-after', '5']])).toBeUndefined()
    expect(await isDone(own)).toBe(false)
    at(7)
    await own
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

import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { Turns } from '../../../services/state/turns.ts'
import { refusal } from '../../support/refusal.ts'

const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

/** What was done, and ways to ask for more of it and to wait for all. */
interface Working {
  readonly turns: Turns
  readonly done: string[]
  ask(sid: string, gas: number): string | Promise<string>
  all(asked: readonly (string | Promise<string>)[]): Promise<string[]>
}

function working(): Working {
  const turns = new Turns()
  const done: string[] = []
  let n = 0
  return {
    turns, done,
    all: async asked => {
      const names: string[] = []
      for (const each of asked) names.push(await each)
      return names
    },
    ask: (sid, gas) => {
      const name = `${sid}${n++}`
      return turns.take(sid, () => {
        turns.spend(gas)
        done.push(name)
        return name
      })
    },
  }
}

describe('the thread', () => {
  test('does at once what a turn has gas for, and the rest in the next ones', async () => {
    const { done, ask, all } = working()
    const asked = Array.from({ length: 12 }, () => ask('a', 2_000_000))
    expect(asked.map(answer => typeof answer)).toEqual([...Array.from({ length: 5 }, () => 'string'), ...Array.from({ length: 7 }, () => 'object')])
    expect(done).toHaveLength(5)
    await turn()
    expect(done).toHaveLength(10)
    await turn()
    expect(await all(asked)).toEqual(done)
  })

  test('does one thing a turn at least, however much that takes', async () => {
    const { done, ask } = working()
    for (let i = 0; i < 3; i++) void ask('a', 50_000_000)
    expect(done).toEqual(['a0'])
    await turn()
    expect(done).toEqual(['a0', 'a1'])
    await turn()
    expect(done).toEqual(['a0', 'a1', 'a2'])
  })

  test('lets each session have its turn: who comes last waits for one of each other\'s', async () => {
    const { done, ask } = working()
    for (let i = 0; i < 100; i++) void ask('a', 10_000_000)
    void ask('b', 10_000_000)
    await turn()
    await turn()
    expect(done).toEqual(['a0', 'a1', 'b100'])
  })

  test('starts anew with every turn', async () => {
    const { ask } = working()
    expect(ask('a', 10_000_000)).toBe('a0')
    await turn()
    expect(ask('a', 10_000_000)).toBe('a1')
  })

  test('tells whoever waits of a failure, and goes on', async () => {
    const { turns, ask } = working()
    void ask('a', 10_000_000)
    const failed = turns.take('a', () => { throw new CMeshError('CMESH_ROUTER_DEADLINE') })
    const after = ask('a', 1)
    await expect(failed).rejects.toMatchObject({ code: 'CMESH_ROUTER_DEADLINE' })
    expect(await after).toBe('a1')
  })

  test('keeps 2,048 waiting of one session and refuses it the next, and it alone', async () => {
    const { turns, ask, all } = working()
    void ask('a', 10_000_000)
    const waiting = Array.from({ length: 2_048 }, () => ask('a', 1))
    expect(turns.waiting).toBe(2_048)
    expect(refusal(() => { void ask('a', 1) })).toMatchObject({ code: 'CMESH_ROUTER_BUSY', message: expect.stringContaining('2048') })
    const other = ask('b', 1)
    expect(await other).toBe('b2050')
    expect(await all(waiting)).toHaveLength(2_048)
    expect(turns.waiting).toBe(0)
  })

  test('keeps 65,536 waiting of all', async () => {
    const { turns, ask, all } = working()
    void ask('a', 10_000_000)
    const waiting = Array.from({ length: 65_536 }, (_, i) => ask(`s${i >> 10}`, 1))
    expect(refusal(() => { void ask('z', 1) })).toMatchObject({ code: 'CMESH_ROUTER_BUSY', message: expect.stringContaining('65536') })
    await all(waiting)
    expect(turns.waiting).toBe(0)
  })
})

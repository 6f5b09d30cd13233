import { describe, expect, jest, test } from '@jest/globals'
import { Deadlines } from '../../../services/router/deadlines.ts'
import { testClock } from '../../support/mesh.ts'

const late = (): Error => new Error('late')
const never = new Promise<string>(() => undefined)

/** Timers that are set and not cleared, over one piece of work. */
async function timersLeft(work: () => Promise<void>): Promise<number> {
  const set = jest.spyOn(globalThis, 'setInterval')
  const clear = jest.spyOn(globalThis, 'clearInterval')
  try {
    await work()
    const cleared = new Set(clear.mock.calls.map(([timer]) => timer))
    return set.mock.results.filter(({ value }) => !cleared.has(value as NodeJS.Timeout)).length
  } finally {
    set.mockRestore()
    clear.mockRestore()
  }
}

describe('a race with a deadline', () => {
  test('settles as the work does when that is first', async () => {
    const deadlines = new Deadlines(testClock({ ms: 1_000 }))
    await expect(deadlines.race(Promise.resolve('done'), 2_000, late)).resolves.toBe('done')
    await expect(deadlines.race(Promise.reject(new Error('its own')), 2_000, late)).rejects.toThrow('its own')
    expect(deadlines.size).toBe(0)
  })

  test('rejects once the deadline has passed, each at its own', async () => {
    const clock = testClock({ ms: 1_000 })
    const deadlines = new Deadlines(clock)
    const first = deadlines.race(never, 1_100, () => new Error('first'))
    const second = deadlines.race(never, 1_200, () => new Error('second'))
    clock.ms = 1_100
    await expect(first).rejects.toThrow('first')
    expect(deadlines.size).toBe(1)
    clock.ms = 1_200
    await expect(second).rejects.toThrow('second')
    expect(deadlines.size).toBe(0)
  })

  test('that the deadline won leaves the work to end unseen, also when it fails', async () => {
    const clock = testClock({ ms: 1_000 })
    const deadlines = new Deadlines(clock)
    let fail: (error: Error) => void = () => undefined
    const raced = deadlines.race(new Promise<never>((_, reject) => { fail = reject }), 1_000, late)
    await expect(raced).rejects.toThrow('late')
    fail(new Error('nobody hears this'))
    await expect(deadlines.race(Promise.resolve('next'), 2_000, late)).resolves.toBe('next')
    expect(deadlines.size).toBe(0)
  })

  test('runs one timer for all that wait, and none when nothing does', async () => {
    const clock = testClock({ ms: 1_000 })
    const deadlines = new Deadlines(clock)
    expect(await timersLeft(async () => {
      const set = jest.mocked(globalThis.setInterval)
      const raced = Promise.allSettled(Array.from({ length: 50 }, (_, i) => deadlines.race(i % 2 === 0 ? never : Promise.resolve('done'), 1_500, late)))
      expect(set).toHaveBeenCalledTimes(1)
      clock.ms = 1_500
      await raced
    })).toBe(0)
    expect(await timersLeft(async () => { await deadlines.race(Promise.resolve('done'), 2_000, late) })).toBe(0)
  })
})

import { describe, expect, jest, test } from '@jest/globals'
import { SYSTEM_CLOCK, turnClock } from '../../services/clock.ts'

const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

describe('the system\'s clock', () => {
  test('counts ms since 1970, and rising µs of the same time', () => {
    expect(Math.abs(SYSTEM_CLOCK.nowMs() - Date.now())).toBeLessThan(1_000)
    expect(Math.abs(SYSTEM_CLOCK.nowUs() / 1_000 - Date.now())).toBeLessThan(10_000)
    const stamps = Array.from({ length: 1_000 }, SYSTEM_CLOCK.nowUs)
    expect(stamps).toEqual([...stamps].sort((a, b) => a - b))
    expect(stamps.every(Number.isSafeInteger)).toBe(true)
  })
})

describe('the clock of a turn', () => {
  test('reads the time once a turn, however often it is asked, and anew in the next', async () => {
    const now = jest.spyOn(Date, 'now')
    try {
      const clock = turnClock()
      now.mockReturnValueOnce(1_000).mockReturnValueOnce(2_000).mockReturnValueOnce(3_000)
      expect([clock.nowMs(), clock.nowMs()]).toEqual([1_000, 1_000])
      await Promise.resolve()
      expect(clock.nowMs()).toBe(1_000)
      await turn()
      expect([clock.nowMs(), clock.nowMs()]).toEqual([2_000, 2_000])
      await turn()
      expect(clock.nowMs()).toBe(3_000)
      expect(now).toHaveBeenCalledTimes(3)
    } finally {
      now.mockRestore()
    }
  })
})

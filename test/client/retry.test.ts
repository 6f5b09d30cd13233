import { describe, expect, test } from '@jest/globals'
import { mayChangeState, pauseBeforeRetry } from '../../client/retry.ts'
import { CMeshError } from '../../cmtp/errors.ts'

const down = new CMeshError('CMESH_BUS_DISCONNECTED')

describe('when a request is sent again', () => {
  test('a terminal error and a bug are never tried again', () => {
    expect(pauseBeforeRetry(new CMeshError('CMESH_STATE_NO_FUNCTION'), 1, 10_000)).toBeUndefined()
    expect(pauseBeforeRetry(new CMeshError('CMESH_INTERNAL'), 1, 10_000)).toBeUndefined()
  })

  test('pauses double up to a second, half of each at random', () => {
    const attempts = [1, 2, 3, 4, 5, 6, 7, 1_000_000]
    const pauses = (random: number): (number | undefined)[] => attempts.map((attempt) => pauseBeforeRetry(down, attempt, 60_000, () => random))
    expect(pauses(1)).toEqual([25, 50, 100, 200, 400, 800, 1_000, 1_000])
    expect(pauses(0)).toEqual([12.5, 25, 50, 100, 200, 400, 500, 500])
  })

  test('a pause that would outlast the deadline is not begun', () => {
    expect(pauseBeforeRetry(down, 3, 100, () => 1)).toBeUndefined()
    expect(pauseBeforeRetry(down, 1, 0)).toBeUndefined()
  })

  test('retryAfterMs is honoured', () => {
    expect(pauseBeforeRetry(new CMeshError('CMESH_ROUTER_BUSY', { what: 'x', limit: 1, retryAfterMs: 700 }), 1, 10_000)).toBe(700)
  })

  test.each([
    ['0xSW:0x001:say', true], ['0xRW:register:a.mcom:0xS:0x001', true], ['0xP:peer:0xSW:0x001:say', true],
    ['0xS:0x001:say', false], ['0xR:a.mcom:W', false], ['0xE:0xR:a.mcom:x', false],
  ])('%s may change state: %s', (fqmn, expected) => {
    expect(mayChangeState(fqmn)).toBe(expected)
  })
})

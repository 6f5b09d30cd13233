import { describe, expect, jest, test } from '@jest/globals'
import { table } from '../../../client/cli/table.ts'
import { Progress, withProgress } from '../../../client/cli/progress.ts'
import { spamLines } from '../../../client/cli/spam-report.ts'
import { printFailure } from '../../../client/cli/failure.ts'
import { durationText } from '../../../client/cli/moment.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { capture } from '../support/capture.ts'
import { hopTree } from '../../../client/cli/hop-tree.ts'

describe('a table', () => {
  const rows = [['a', '1'], ['\u001b[1mlonger\u001b[22m', '10']]

  test('has boxes for a person, columns by what is seen of a text', () => {
    expect(table(rows, { boxes: true, head: ['name', 'n'], right: [1], title: 'T' })).toEqual([
      'T',
      '┌────────┬────┐',
      '│ name   │  n │',
      '├────────┼────┤',
      '│ a      │  1 │',
      '│ \u001b[1mlonger\u001b[22m │ 10 │',
      '└────────┴────┘',
    ])
  })

  test('is plain columns elsewhere, without spaces at the end', () => {
    expect(table(rows, { boxes: false, head: ['name', 'n'] })).toEqual(['  name    n', '  a       1', '  \u001b[1mlonger\u001b[22m  10'])
  })

  test('of rows of different lengths fills them up', () => {
    expect(table([['a'], ['b', 'c']], { boxes: true })).toEqual(['┌───┬───┐', '│ a │   │', '│ b │ c │', '└───┴───┘'])
  })
})

describe('progress', () => {
  test('says nothing of what is done within a second', async () => {
    const { terminal, err } = capture({ tty: true })
    expect(await withProgress(terminal, 'working', () => Promise.resolve(7))).toBe(7)
    expect(err()).toBe('')
  })

  test('is one moving line on a terminal, and takes it away', () => {
    jest.useFakeTimers()
    try {
      const { terminal, err } = capture({ tty: true, env: { NO_COLOR: '1' } })
      const progress = new Progress(terminal, 'x'.repeat(200))
      jest.advanceTimersByTime(1_300)
      progress.update('half way')
      jest.advanceTimersByTime(200)
      progress.stop()
      progress.stop()
      const lines = err().split('\r\u001b[2K')
      expect(lines.at(1)).toMatch(/^⠋ x{77}$/)
      expect(lines.at(-2)).toMatch(/ half way$/)
      expect(lines.at(-1)).toBe('')
      expect(err()).not.toContain('\n')
    } finally {
      jest.useRealTimers()
    }
  })

  test('is a line every few seconds elsewhere', () => {
    jest.useFakeTimers()
    try {
      const { terminal, err } = capture()
      const progress = new Progress(terminal, 'working')
      jest.advanceTimersByTime(8_000)
      progress.stop()
      expect(err()).toBe('working (1 s)\nworking (4 s)\nworking (7 s)\n')
    } finally {
      jest.useRealTimers()
    }
  })

  test('ends when the task fails, and leaves no timer', async () => {
    jest.useFakeTimers()
    try {
      const { terminal } = capture({ tty: true })
      await expect(withProgress(terminal, 'working', () => Promise.reject(new Error('no')))).rejects.toThrow('no')
      expect(jest.getTimerCount()).toBe(0)
    } finally {
      jest.useRealTimers()
    }
  })
})

describe('a failure', () => {
  test('of a delayed call has durations as a person reads them, and for a script what the mesh said', () => {
    const { terminal, out, err } = capture()
    const reason = 'it is due more than 31622400000 ms ahead'
    printFailure(terminal, new CMeshError('CMESH_STATE_LATER', { id: 'ab', reason }), true)
    expect(err()).toBe('error CMESH_STATE_LATER: The delayed call ab is refused: it is due more than 366 days ahead.\n')
    expect(JSON.parse(out())).toMatchObject({ error: { message: `The delayed call ab is refused: ${reason}.`, detail: { id: 'ab', reason } } })
  })

  test('of anything else is shown as it is: what is in its text may be somebody else\'s', () => {
    const { terminal, err } = capture()
    printFailure(terminal, new CMeshError('CMESH_CONTRACT_REVERT', { contract: '0x002', reason: 'wait 60000 ms' }), false)
    expect(err()).toBe('error CMESH_CONTRACT_REVERT: The contract 0x002 refused: wait 60000 ms\n')
  })
})

test('a duration is in the largest unit that it fills', () => {
  const read = [0, 999, 1_000, 59_940, 60_000, 5_400_000, 86_400_000, 31_622_400_000].map(durationText)
  expect(read).toEqual(['0 ms', '999 ms', '1 s', '59.9 s', '1 min', '1.5 h', '1 day', '366 days'])
})

describe('the report of a load', () => {
  const report = {
    requests: 30_000, ok: 29_999, failed: 1, failures: { CMESH_ROUTER_BUSY: 1 }, hashes: 30_000,
    perSecond: 81_234, rawPerSecond: 101_000, ratio: 0.804,
    p50Ms: 2.5, p99Ms: 9.75, maxMs: 12, concurrency: 256, batch: 1, coalesce: true, rounds: 5, interrupted: false,
  }

  test('names every failure by its code', () => {
    expect(spamLines(capture().terminal, report)).toEqual([
      '  requests                30,000',
      '  ok                      29,999',
      '  failed                       1',
      '    CMESH_ROUTER_BUSY          1',
      '  with final hash         30,000',
      '  mesh, requests/s        81,234',
      '  bare NATS, requests/s  101,000',
      '  ratio                     0.80',
      '  p50                    2.50 ms',
      '  p99                    9.75 ms',
      '256 requests in flight, reads of one turn in one frame; medians of 5 rounds',
    ])
  })
})

test('the last layer of a receipt is the root of its tree, the others are branches in their order', () => {
  expect(hopTree(3)).toEqual([{ at: 2, branch: '' }, { at: 0, branch: '├─ ' }, { at: 1, branch: '└─ ' }])
  expect([hopTree(1), hopTree(0)]).toEqual([[{ at: 0, branch: '' }], []])
})

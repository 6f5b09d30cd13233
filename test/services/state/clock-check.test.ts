import { describe, expect, test } from '@jest/globals'
import { ClockCheck, type ClockCheckParts } from '../../../services/state/clock-check.ts'
import { refusal } from '../../support/refusal.ts'
import { startMesh } from '../../support/mesh.ts'

const START_MS = 1_800_000_000_000
const YEAR_MS = 365 * 86_400_000

/** `now` is what its clock shows, `steady` and `awake` how long it has run without and with the time that it slept. */
interface Machine { readonly time: { now: number, steady: number, awake: number }, readonly pass: (ms: number) => void, readonly check: () => void }

function machine(parts: Partial<ClockCheckParts> = {}): Machine {
  const time = { now: START_MS, steady: 0, awake: 0 }
  const { check } = new ClockCheck({
    clock: { nowMs: () => time.now, steadyMs: () => time.steady, awakeMs: () => time.awake },
    offsets: () => [], quorum: () => 0, shared: () => undefined, ...parts,
  })
  const pass = (ms: number): void => { for (const each of ['now', 'steady', 'awake'] as const) time[each] += ms }
  return { time, pass, check }
}

const said = (check: () => void): string => refusal(check).message

describe('a clock', () => {
  test('that could not be held against those of a quorum since the start orders nothing; once it could that is over', () => {
    const others: number[] = []
    let quorum = 0
    const { check } = machine({ offsets: () => others, quorum: () => quorum })
    // Nobody has to confirm anything yet.
    check()
    quorum = 3
    expect(said(check)).toContain('it has not been held against those of a quorum of the members')
    others.push(10)
    expect(said(check)).toContain('it has not been held against')
    others.push(-20)
    check()
    others.length = 0
    check()
  })

  test('is apart from the others where it is not that of a quorum of them: no word of one alone makes it so', () => {
    let others: readonly number[] = []
    let quorum = 2
    const { apart } = new ClockCheck({ clock: { nowMs: () => START_MS }, offsets: () => others, quorum: () => quorum, shared: () => undefined })
    const known = [[], [4_000, -4_000], [3_600_000, 0], [3_600_000], [3_600_000, -6_000, 0], [6_000, 6_000]].map(each => {
      others = each
      return apart()?.detail['reason']
    })
    expect(known).toEqual([undefined, undefined, undefined, undefined, 'it is 3600 s ahead of the other members', 'it is 6 s ahead of the other members'])
    // Where nobody has to confirm anything nobody knows better.
    quorum = 0
    expect(apart()).toBeUndefined()
  })

  test('of the only member there is counts, also for those that come later', () => {
    let quorum = 1
    const { check } = machine({ quorum: () => quorum })
    check()
    quorum = 2
    check()
  })

  test('that goes ahead by a year orders nothing until it is right again, and the error says what to do', () => {
    const { time, pass, check } = machine()
    check()
    pass(10_000)
    time.now += YEAR_MS
    expect(refusal(check)).toMatchObject({ code: 'CMESH_STATE_CLOCK', message: expect.stringMatching(/^The clock of this node cannot be right: it went ahead by 31536000 s at once\. Nothing acknowledged is lost, .* Set the clock of the machine .* start the node again\.$/) })
    pass(3_600_000)
    expect(said(check)).toContain('it went ahead by 31536000 s')
    time.now -= YEAR_MS
    check()
    pass(86_400_000)
    check()
  })

  test('that drifts, is set back, or is set within a minute is followed', () => {
    const { time, pass, check } = machine()
    for (let i = 0; i < 1_000; i++) {
      pass(10_000)
      time.now += 5
      check()
    }
    time.now -= YEAR_MS
    check()
    time.now += 59_000
    check()
    pass(10_000)
    check()
  })

  test('of a machine that slept has not jumped, and one that the other members agree with is right', () => {
    const asleep = machine()
    asleep.check()
    asleep.time.now += YEAR_MS
    asleep.time.awake += YEAR_MS
    asleep.check()
    const others: number[] = []
    const known = machine({ offsets: () => others })
    known.check()
    known.time.now += YEAR_MS
    expect(said(known.check)).toContain('at once')
    others.push(3, -2_000)
    known.check()
  })

  test('that is not that of most other members orders nothing, whichever way', () => {
    let others: number[] = []
    let logMs: number | undefined
    const { check } = machine({ offsets: () => others, shared: () => logMs })
    for (const [given, message] of [[[6_000, 7_000], 'it is 6 s ahead of the other members'], [[-3_600_000, 5], undefined], [[-3_600_000], 'it is 3600 s behind that of the other members']] as const) {
      others = [...given]
      if (message === undefined) check()
      else expect(said(check)).toContain(`: ${message}. `)
    }
    others = []
    logMs = START_MS + 5_000
    check()
    logMs++
    expect(said(check)).toContain('it is 5 s behind that of the log, and no member confirms what is ahead of its clock. ')
  })
})

test('a node whose clock goes wrong by a year and is set right loses nothing, and the log\'s time is as it was', async () => {
  let wrongMs = 0
  const mesh = await startMesh({ state: { clock: { nowMs: () => START_MS + wrongMs, nowUs: () => START_MS * 1_000, steadyMs: () => 0, awakeMs: () => 0 } } })
  const increment = async (): Promise<unknown> => {
    const { status, code, value } = await mesh.ask(mesh.root, '0xSW:0x002:increment')
    return code ?? (status === 200 ? value : status)
  }
  expect(await increment()).toBe(1)
  wrongMs = YEAR_MS
  expect(await increment()).toBe('CMESH_STATE_CLOCK')
  expect(mesh.halts).toEqual([])
  wrongMs = 0
  expect(await increment()).toBe(2)
  expect(mesh.state.head.timeMs).toBe(START_MS)
  await mesh.stop()
})

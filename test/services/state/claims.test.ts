/** Claims of members: what they confirm, and what they say of this node, with claims made by hand. */
import { beforeEach, describe, expect, test } from '@jest/globals'
import { decodeClaim, encodeClaim, signClaim, type Claim } from '../../../cmtp/claim.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { CLAIM_SUBJECT } from '../../../cmtp/subject.ts'
import type { BusMessage } from '../../../services/bus/provider.ts'
import { BEAT_MS, Claims } from '../../../services/state/claims.ts'
import type { StateHead } from '../../../services/state/provider.ts'
import { keptLog, memberOf, testClock } from '../../support/mesh.ts'

const KEYS = Array.from({ length: 5 }, (_, i) => KeyPair.fromSeed(Buffer.alloc(32, i + 1))).sort((a, b) => (a.did < b.did ? -1 : 1))
const [ME, ONE, TWO, THREE, FOUR] = KEYS as [KeyPair, KeyPair, KeyPair, KeyPair, KeyPair]
const START_MS = 1_800_000_000_000

const chainAt = (seq: number): Buffer => Buffer.alloc(32, seq % 251)
const headAt = (seq: number, timeMs = START_MS): StateHead => ({ epoch: 0, seq, timeMs, chain: chainAt(seq) })

interface Rig {
  readonly claims: Claims
  readonly said: Claim[]
  readonly confirmed: number[]
  readonly diverged: (readonly Claim[])[]
  readonly log: ReturnType<typeof keptLog>
  readonly time: ReturnType<typeof testClock>
  /** A claim of a member reaches this node. */
  hear(key: KeyPair, seq: number, fields?: Partial<Claim>): void
  raw(data: Uint8Array): void
}

function rig(members: readonly KeyPair[] = [ME, ONE, TWO]): Rig {
  const said: Claim[] = []
  const confirmed: number[] = []
  const diverged: (readonly Claim[])[] = []
  const log = keptLog()
  const time = testClock({ ms: START_MS })
  let handler: (message: BusMessage) => void = () => undefined
  const claims = new Claims({
    bus: {
      status: 'connected',
      publish: (subject, data) => {
        expect(subject).toBe(CLAIM_SUBJECT)
        said.push(decodeClaim(data) as Claim)
      },
      subscribe: (_, handle) => {
        handler = handle
        return { unsubscribe: () => undefined, drain: () => Promise.resolve() }
      },
    },
    member: memberOf(ME), members: () => members.map(({ did }) => did), level: 'os', version: '9.9.9', out: () => 3, clock: time, log,
    onConfirmed: seq => { confirmed.push(seq) },
    onDiverged: others => { diverged.push(others) },
  })
  const raw = (data: Uint8Array): void => { handler({ subject: CLAIM_SUBJECT, reply: '', data }) }
  const hear = (key: KeyPair, seq: number, fields: Partial<Claim> = {}): void => {
    time.ms++
    const { signature, ...content } = { did: key.did, epoch: 0, seq, chain: chainAt(seq).toString('hex'), level: 'os' as const, out: 0, timeMs: time.ms, version: '1', ...fields }
    const claim = signClaim(content, key)
    raw(encodeClaim(signature === undefined ? claim : { ...claim, signature }))
  }
  return { claims, said, confirmed, diverged, log, time, hear, raw }
}

let made: Rig
beforeEach(() => { made = rig() })

describe('what is confirmed', () => {
  test('is what this node holds durably and so many others claim with the same chain that they are a quorum', () => {
    const { claims, confirmed, hear } = made
    claims.start(headAt(0))
    for (const seq of [1, 2, 3]) claims.durable(headAt(seq))
    expect(confirmed).toEqual([])
    hear(ONE, 2)
    expect(confirmed).toEqual([2])
    hear(TWO, 1)
    expect(confirmed).toEqual([2])
    hear(TWO, 3)
    expect(confirmed).toEqual([2, 3])
    expect(claims.confirmed).toBe(3)
    claims.stop()
  })

  test('waits for this node where the others are ahead of it', () => {
    const { claims, confirmed, hear } = made
    claims.start(headAt(0))
    hear(ONE, 3)
    hear(TWO, 3)
    claims.durable(headAt(1))
    claims.durable(headAt(2))
    expect(confirmed).toEqual([])
    claims.durable(headAt(3))
    expect(confirmed).toEqual([3])
    claims.stop()
  })

  test('is at once what a lone member holds, and two of two need each other', () => {
    const lone = rig([ME])
    lone.claims.start(headAt(4))
    expect(lone.confirmed).toEqual([4])
    lone.claims.durable(headAt(5))
    expect(lone.confirmed).toEqual([4, 5])
    lone.claims.stop()
    const pair = rig([ME, ONE])
    pair.claims.start(headAt(4))
    expect(pair.confirmed).toEqual([])
    pair.hear(ONE, 4)
    expect(pair.confirmed).toEqual([4])
    pair.claims.stop()
  })

  test('of five is what three hold', () => {
    const { claims, confirmed, hear } = rig([ME, ONE, TWO, THREE, FOUR])
    claims.start(headAt(9))
    hear(ONE, 9)
    expect(confirmed).toEqual([])
    hear(FOUR, 9)
    expect(confirmed).toEqual([9])
    claims.stop()
  })

  test('counts nobody whose copy survives less than this node\'s: an acknowledgement says what all of a quorum survive', () => {
    const { claims, confirmed, log, hear } = made
    claims.start(headAt(0))
    for (const seq of [1, 2]) claims.durable(headAt(seq))
    hear(ONE, 2, { level: 'memory' })
    expect(confirmed).toEqual([])
    expect(log.lines).toMatchObject([{ level: 'warn', fields: { member: ONE.did, level: 'memory', own: 'os' } }])
    hear(ONE, 2, { level: 'memory' })
    expect(log.lines).toHaveLength(1)
    hear(TWO, 1, { level: 'disk' })
    expect(confirmed).toEqual([1])
    hear(ONE, 2)
    expect(confirmed).toEqual([1, 2])
    claims.stop()
  })

  test('goes on where this node is behind the others all the time: what it hears meanwhile takes nothing away', () => {
    const { claims, confirmed, hear } = made
    claims.start(headAt(0))
    for (let seq = 1; seq <= 20; seq++) {
      hear(ONE, seq + 4)
      claims.durable(headAt(seq))
    }
    expect(confirmed).toEqual([5, 9, 13, 17])
    hear(ONE, 22)
    for (const seq of [21, 22]) claims.durable(headAt(seq))
    expect(confirmed).toEqual([5, 9, 13, 17, 21, 22])
    claims.stop()
  })

  test.each<[string, (to: Rig) => void]>([
    ['one that nobody signed', ({ hear }) => { hear(ONE, 1, { signature: 'A'.repeat(86) }) }],
    ['one in another\'s name', ({ hear }) => { hear(ONE, 1, { did: TWO.did }) }],
    ['one of who is no member', ({ hear }) => { hear(THREE, 1) }],
    ['its own, come back', ({ hear }) => { hear(ME, 1) }],
    ['noise', ({ raw }) => { raw(Buffer.from('noise')) }],
  ])('is not moved by %s', (_, send) => {
    const { claims, confirmed } = made
    claims.start(headAt(0))
    claims.durable(headAt(1))
    send(made)
    expect(confirmed).toEqual([])
    claims.stop()
  })

  test('is not moved back by an old claim that is sent again', () => {
    const { claims, hear, raw } = made
    claims.start(headAt(0))
    hear(ONE, 1)
    hear(ONE, 0)
    const old = signClaim({ did: ONE.did, epoch: 0, seq: 9, chain: chainAt(9).toString('hex'), level: 'os', out: 0, timeMs: START_MS - 1, version: '1' }, ONE)
    raw(encodeClaim(old))
    expect(claims.states().map(({ seq }) => seq)).toEqual([0, 0, 0])
    claims.stop()
  })
})

describe('a chain that differs', () => {
  test('of one of three is told in the log and confirms nothing, also not what is before the place where it differs', () => {
    const { claims, confirmed, diverged, log, hear } = made
    claims.start(headAt(0))
    for (const seq of [1, 2, 3]) claims.durable(headAt(seq))
    hear(ONE, 2, { chain: 'ff'.repeat(32) })
    expect(log.lines).toMatchObject([{ level: 'error', fields: { member: ONE.did, seq: 2 }, message: 'a member claims another log than this node has' }])
    hear(ONE, 3, { chain: 'ff'.repeat(32) })
    hear(ONE, 1)
    expect(confirmed).toEqual([])
    expect(claims.states().map(({ differs }) => differs)).toEqual([false, true, false])
    hear(TWO, 3)
    expect(confirmed).toEqual([3])
    expect(diverged).toEqual([])
    claims.stop()
  })

  test('of a member that comes back with another log is forgotten: it counts again, and no longer against this node', () => {
    const { claims, confirmed, diverged, log, hear } = made
    claims.start(headAt(0))
    claims.durable(headAt(1))
    hear(ONE, 1, { chain: 'ff'.repeat(32) })
    for (const seq of [2, 3]) claims.durable(headAt(seq))
    hear(ONE, 2)
    expect(confirmed).toEqual([2])
    expect(claims.states().map(({ differs }) => differs)).toEqual([false, false, false])
    expect(log.lines.at(-1)).toMatchObject({ level: 'info', fields: { member: ONE.did, seq: 2 }, message: 'a member has this node\'s log again' })
    hear(TWO, 3, { chain: 'ee'.repeat(32) })
    expect(diverged).toEqual([])
    claims.stop()
  })

  test('is not taken from a claim that was made long ago: whoever can send on the bus sends what a member said before it was healed', () => {
    const { claims, confirmed, diverged, hear } = rig([ME, ONE])
    claims.start(headAt(0))
    claims.durable(headAt(1))
    hear(ONE, 1, { chain: 'ff'.repeat(32), timeMs: START_MS - 3_600_000 })
    expect(diverged).toEqual([])
    hear(ONE, 1)
    expect(confirmed).toEqual([1])
    claims.stop()
  })

  test('takes the duty from its member: what that does is of another log', () => {
    const { claims, hear } = rig([ONE, ME, TWO])
    claims.start(headAt(0))
    claims.durable(headAt(1))
    // Behind this node, so that it has no duty, and no word of what is out counts.
    hear(TWO, 0)
    hear(ONE, 1, { out: 1 })
    expect({ duty: claims.duty.onDuty(), out: claims.duty.outElsewhere() }).toEqual({ duty: false, out: 1 })
    claims.durable(headAt(2))
    hear(ONE, 2, { out: 2, chain: 'ff'.repeat(32) })
    expect({ duty: claims.duty.onDuty(), out: claims.duty.outElsewhere() }).toEqual({ duty: true, out: 0 })
    claims.stop()
  })

  test('of so many that no quorum is left is told to this node, once, and it confirms nothing any more', () => {
    const { claims, confirmed, diverged, hear } = made
    claims.start(headAt(0))
    claims.durable(headAt(1))
    hear(ONE, 1, { chain: 'ff'.repeat(32) })
    hear(TWO, 1, { chain: 'ff'.repeat(32) })
    expect(diverged.map(others => others.map(({ did, seq }) => [did, seq]))).toEqual([[[ONE.did, 1], [TWO.did, 1]]])
    claims.durable(headAt(2))
    hear(TWO, 2)
    expect({ confirmed, times: diverged.length }).toEqual({ confirmed: [], times: 1 })
    claims.stop()
  })

  test('ahead of this node counts when it got there', () => {
    const { claims, diverged, hear } = rig([ME, ONE])
    claims.start(headAt(0))
    hear(ONE, 2, { chain: 'ff'.repeat(32) })
    claims.durable(headAt(1))
    expect(diverged).toHaveLength(0)
    claims.durable(headAt(2))
    expect(diverged).toHaveLength(1)
    claims.stop()
  })
})

describe('what this node says', () => {
  const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

  test('is one claim for all that became durable together, signed, with what it holds', async () => {
    const { claims, said } = made
    claims.start(headAt(0))
    expect(said).toHaveLength(1)
    for (const seq of [1, 2, 3]) claims.durable(headAt(seq))
    await turn()
    expect(said.slice(1)).toMatchObject([{ did: ME.did, epoch: 0, seq: 3, chain: chainAt(3).toString('hex'), level: 'os', out: 3, version: '9.9.9', timeMs: START_MS }])
    claims.stop()
    expect(said).toHaveLength(3)
  })

  test('is nothing, until its beat, where it is not its turn and the others have confirmed it without it', async () => {
    // Of three the last has not its turn in the first stretch of the log.
    const { claims, said, hear } = rig([ONE, TWO, ME].sort((a, b) => (a.did === ME.did ? 1 : b.did === ME.did ? -1 : 0)))
    claims.start(headAt(0))
    claims.durable(headAt(1))
    hear(ONE, 1)
    hear(TWO, 1)
    await turn()
    expect(said.map(({ seq }) => seq)).toEqual([0])
    claims.stop()
  })

  test('is never of an earlier moment than what it said before, also when its clock is set back', () => {
    const { claims, said, time } = made
    claims.start(headAt(0))
    time.ms -= 1_000
    claims.stop()
    expect(said.map(({ timeMs }) => timeMs)).toEqual([START_MS, START_MS])
  })

  test('is of now again where what it said was of a time that is far from coming: its clock was wrong then', () => {
    const { claims, said, time } = made
    time.ms += 3_600_000
    claims.start(headAt(0))
    time.ms -= 3_600_000
    claims.stop()
    expect(said.map(({ timeMs }) => timeMs)).toEqual([START_MS + 3_600_000, START_MS])
  })

  test('is nothing of a block that is ahead of its clock', async () => {
    const { claims, said, log } = made
    claims.start(headAt(0))
    claims.durable(headAt(1, START_MS + 6_000))
    await turn()
    expect(said.map(({ seq }) => seq)).toEqual([0])
    expect(log.lines).toMatchObject([{ level: 'warn', fields: { seq: 1, aheadMs: 6_000 } }])
    claims.stop()
  })
})

describe('among the members', () => {
  test('one whose clock is apart from this node\'s has no duty: by it nothing is ordered', () => {
    const { claims, time, hear } = rig([ONE, ME, TWO])
    claims.start(headAt(0))
    hear(TWO, 0)
    for (let i = 0; i < 4; i++) hear(ONE, 0, { timeMs: time.ms - 10_000 + i })
    expect({ duty: claims.duty.onDuty(), accompanied: claims.duty.accompanied() }).toEqual({ duty: true, accompanied: true })
    // It was set right.
    hear(ONE, 0)
    expect(claims.duty.onDuty()).toBe(false)
    claims.stop()
  })

  test('what one behind this one says is out is believed of the time when it was heard again, and of nothing that comes later', () => {
    const { claims, time, hear } = made
    claims.start(headAt(0))
    const most = Number.MAX_SAFE_INTEGER
    for (let seq = 1; seq <= 5; seq++) claims.durable(headAt(seq, time.ms))
    hear(ONE, 5, { out: 4 })
    expect(claims.duty.outElsewhere()).toBe(4)
    hear(ONE, 5, { out: 5 })
    expect({ believed: claims.duty.outElsewhere(), said: claims.duty.saidOut() }).toEqual({ believed: 4, said: 5 })
    // It was not there, and did this node's work as far as that knows.
    time.ms += 5_001
    hear(ONE, 5, { out: most })
    expect(claims.duty.outElsewhere()).toBe(5)
    for (let seq = 6; seq <= 20; seq++) {
      time.ms += 1_000
      claims.durable(headAt(seq, time.ms))
      hear(ONE, seq, { out: most })
    }
    // The blocks of some seconds behind that may have been on their way to this node.
    expect({ believed: claims.duty.outElsewhere(), said: claims.duty.saidOut() }).toEqual({ believed: 9, said: 20 })
    claims.stop()
  })

  test('what one before this one says is out is believed, and whether it says that nothing is can be asked', () => {
    const { claims, hear } = rig([ONE, ME, TWO])
    claims.start(headAt(0))
    for (let seq = 1; seq <= 5; seq++) claims.durable(headAt(seq))
    hear(TWO, 5, { out: 0 })
    hear(ONE, 5, { out: 0 })
    expect({ out: claims.duty.outElsewhere(), idles: claims.duty.idles() }).toEqual({ out: 0, idles: true })
    hear(ONE, 5, { out: 3 })
    expect({ out: claims.duty.outElsewhere(), idles: claims.duty.idles() }).toEqual({ out: 3, idles: false })
    claims.stop()
  })

  test('the first of those that are there has the duty', () => {
    const { claims, time, hear } = rig([ONE, ME, TWO])
    claims.start(headAt(0))
    // Who just started leaves it to those it has not heard yet, for as long as they may be silent.
    expect(claims.duty.onDuty()).toBe(false)
    time.ms += 2 * BEAT_MS
    expect(claims.duty.onDuty()).toBe(true)
    hear(ONE, 0)
    expect(claims.duty.onDuty()).toBe(false)
    hear(TWO, 0)
    expect(claims.duty.onDuty()).toBe(false)
    time.ms += 5 * BEAT_MS + 1
    expect(claims.duty.onDuty()).toBe(true)
    claims.stop()
  })

  test('one that is gone is not there because its words are sent again, the last or older ones', () => {
    const { claims, time, hear, raw } = rig([ONE, ME, TWO])
    claims.start(headAt(0))
    const words = [START_MS + 1, START_MS + 2].map(timeMs => encodeClaim(signClaim(
      { did: ONE.did, epoch: 0, seq: 0, chain: chainAt(0).toString('hex'), level: 'os', out: 0, timeMs, version: '1' }, ONE,
    )))
    hear(TWO, 0)
    raw(words[0] as Buffer)
    expect(claims.duty.onDuty()).toBe(false)
    time.ms += 5 * BEAT_MS + 1
    raw(words[0] as Buffer)
    expect(claims.duty.onDuty()).toBe(true)
    time.ms += 3_600_000
    raw(words[1] as Buffer)
    expect(claims.duty.onDuty()).toBe(true)
    claims.stop()
  })

  test('one whose clock was ahead for a moment says nothing of clocks until time has come so far; what it holds counts all the while', () => {
    const { claims, confirmed, time, hear } = made
    claims.start(headAt(0))
    for (let seq = 1; seq <= 4; seq++) claims.durable(headAt(seq))
    const timeMs = START_MS + 3_600_000
    hear(ONE, 1, { timeMs })
    expect(claims.offsets()).toEqual([1 - 3_600_000])
    for (let seq = 2; seq <= 4; seq++) {
      time.ms += 2_000
      hear(ONE, seq, { timeMs })
    }
    expect({ offsets: claims.offsets(), confirmed }).toEqual({ offsets: [], confirmed: [1, 2, 3, 4] })
    for (let i = 0; i < 4; i++) hear(ONE, 4, { timeMs: timeMs + 1 + i })
    time.ms = timeMs + 10_000
    for (let i = 1; i <= 4; i++) hear(ONE, 4, { timeMs: timeMs + 10_000 + i })
    expect(claims.offsets()).toEqual([0])
    claims.stop()
  })

  test('one whose clock was ahead and that was started again with the right time is heard again at once, but not by old words of it', () => {
    const { claims, confirmed, time, hear } = made
    claims.start(headAt(0))
    for (let seq = 1; seq <= 3; seq++) claims.durable(headAt(seq))
    hear(ONE, 1, { timeMs: START_MS + 3_600_000 })
    time.ms += 120_000
    hear(ONE, 2, { timeMs: START_MS + 1_000 })
    expect(confirmed).toEqual([1])
    for (let i = 0; i < 2; i++) hear(ONE, 2 + i, { timeMs: time.ms + i })
    expect(confirmed).toEqual([1, 2, 3])
    expect(claims.states().find(({ did }) => did === ONE.did)).toMatchObject({ seq: 3, heardMs: 0 })
    claims.stop()
  })

  test('a second process with this node\'s key is told in the log, once', () => {
    const { claims, confirmed, log, said, hear, raw } = made
    claims.start(headAt(0))
    claims.durable(headAt(1))
    raw(encodeClaim(said[0] as Claim))
    hear(ME, 1)
    hear(ME, 9, { timeMs: START_MS - 3_600_000 })
    hear(ME, 9, { signature: 'A'.repeat(86) })
    expect(log.lines).toEqual([])
    hear(ME, 9)
    hear(ME, 10)
    expect(log.lines).toMatchObject([{ level: 'error', fields: { seq: 9 }, message: 'another process claims with this node\'s key; stop one of them, for both count as one member' }])
    expect(confirmed).toEqual([])
    claims.stop()
  })

  test('the slowest that was heard within a minute says how far the order is held, and each how far its events are out', () => {
    const { claims, time, hear } = made
    claims.start(headAt(0))
    for (let seq = 1; seq <= 9; seq++) claims.durable(headAt(seq))
    expect(claims.held()).toBe(9)
    hear(ONE, 7, { out: 6 })
    hear(TWO, 4, { out: 2 })
    expect({ held: claims.held(), out: claims.duty.outElsewhere() }).toEqual({ held: 4, out: 6 })
    time.ms += 60_000
    hear(ONE, 8, { out: 8 })
    expect({ held: claims.held(), out: claims.duty.outElsewhere() }).toEqual({ held: 8, out: 8 })
    expect(claims.states()).toMatchObject([
      { did: ME.did, self: true, seq: 9, heardMs: 0, version: '9.9.9' }, { did: ONE.did, self: false, seq: 8, heardMs: 0 }, { did: TWO.did, seq: 4, heardMs: 60_001 },
    ])
    claims.stop()
  })
})

/** When a write is acknowledged, and what may be taken out of the order. */
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import { encodeClaim, signClaim } from '../../../cmtp/claim.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { BusMessage } from '../../../services/bus/provider.ts'
import type { StateHead } from '../../../services/state/provider.ts'
import { Replication } from '../../../services/state/replication.ts'
import { keptLog, memberOf, testClock } from '../../support/mesh.ts'

const [ME, ONE, TWO] = Array.from({ length: 3 }, () => KeyPair.generate()) as [KeyPair, KeyPair, KeyPair]
const headAt = (seq: number): StateHead => ({ epoch: 0, seq, timeMs: 0, chain: Buffer.alloc(32, seq) })

let time: ReturnType<typeof testClock>
let hear: (message: BusMessage) => void
let acknowledged: number[]
let replication: Replication
beforeEach(() => {
  time = testClock()
  acknowledged = []
})
afterEach(() => { replication.stop() })

function start(quorum: boolean): void {
  replication = new Replication({
    bus: {
      status: 'connected', publish: () => undefined,
      subscribe: (_, handler) => {
        hear = handler
        return { unsubscribe: () => undefined, drain: () => Promise.resolve() }
      },
    },
    quorum, member: memberOf(ME), members: () => [ME, ONE, TWO].map(({ did }) => did), level: 'os', version: '1', out: () => 0, clock: time, log: keptLog(),
    onDiverged: () => undefined,
  })
  replication.start(headAt(0))
}

const durable = (seq: number): void => { replication.durable(headAt(seq), () => { acknowledged.push(seq) }) }

function claimed(key: KeyPair, seq: number): void {
  time.ms++
  const claim = signClaim({ did: key.did, epoch: 0, seq, chain: Buffer.alloc(32, seq).toString('hex'), level: 'os', out: 0, timeMs: time.ms, version: '1' }, key)
  hear({ subject: '', reply: '', data: encodeClaim(claim) })
}

describe('what may be taken out of the order', () => {
  test('is what a quorum holds: the rest of them gets from it what this node alone has, however long they were away', () => {
    start(true)
    for (const seq of [1, 2, 3, 4]) durable(seq)
    expect(replication.held(4)).toBe(0)
    claimed(ONE, 2)
    claimed(TWO, 1)
    expect(replication.held(4)).toBe(1)
    time.ms += 3_600_000
    expect(replication.held(4)).toBe(2)
    expect(acknowledged).toEqual([1, 2])
  })

  test('is what those hold that are there, where a write is acknowledged without a quorum', () => {
    start(false)
    for (const seq of [1, 2]) durable(seq)
    expect({ acknowledged, held: replication.held(2) }).toEqual({ acknowledged: [1, 2], held: 2 })
    claimed(ONE, 1)
    expect(replication.held(2)).toBe(1)
  })
})

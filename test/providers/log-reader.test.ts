/** How the blocks of a log are read: several trips at once, handed on in order. Storage is scripted here, so that trips end in any order. */
import { EventEmitter } from 'node:events'
import { describe, expect, test } from '@jest/globals'
import type Hypercore from 'hypercore'
import { LogReader } from '../../providers/state/log-reader.ts'

const TRIP = 512
const BLOCK = Uint8Array.of(1)

/** A trip that waits for what the test lets it do. */
class Trip extends EventEmitter {
  readonly range: { readonly gte: number, readonly lt: number }

  constructor(range: { readonly gte: number, readonly lt: number }) {
    super()
    this.range = range
  }

  succeed(): void {
    for (let index = this.range.gte; index < this.range.lt; index++) this.emit('data', { index, value: BLOCK })
    this.emit('close')
  }

  fail(): void {
    this.emit('error', new Error('the disk is gone'))
    this.emit('close')
  }
}

interface Scripted {
  readonly reader: LogReader
  readonly trips: readonly Trip[]
  /** From so many trips on none can set out any more. */
  readonly shut: (after: number) => void
}

/** A log of that many blocks, of which those from `unreadable` on cannot be had one by one. */
function scripted(length: number, unreadable = length): Scripted {
  const trips: Trip[] = []
  let most = Infinity
  const createBlockStream = (range: { gte: number, lt: number }): Trip => {
    if (trips.length >= most) throw new Error('closed')
    const trip = new Trip(range)
    trips.push(trip)
    return trip
  }
  const get = (index: number): Promise<Uint8Array> => (index < unreadable ? Promise.resolve(BLOCK) : Promise.reject(new Error('gone')))
  const core = { length, byteLength: length, state: { storage: { createBlockStream } }, get } as unknown as Hypercore
  return { reader: new LogReader('log', core), trips, shut: after => { most = after } }
}

const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

describe('blocks of a log', () => {
  test('come in order, whichever trip is back first, and three trips are under way', async () => {
    const { reader, trips } = scripted(5 * TRIP - 7)
    const seen: number[] = []
    const read = reader.read((_bytes, index) => { seen.push(index) })
    await turn()
    expect(trips.map(({ range }) => range.gte)).toEqual([0, TRIP, 2 * TRIP])
    trips[2]?.succeed()
    trips[1]?.succeed()
    await turn()
    expect(seen).toEqual([])
    trips[0]?.succeed()
    await turn()
    expect(seen).toHaveLength(3 * TRIP)
    expect(trips.slice(3).map(({ range }) => range)).toEqual([{ gte: 3 * TRIP, lt: 4 * TRIP }, { gte: 4 * TRIP, lt: 5 * TRIP - 7 }])
    trips[4]?.succeed()
    trips[3]?.succeed()
    await read
    expect(seen).toEqual(Array.from({ length: 5 * TRIP - 7 }, (_, index) => index))
  })

  test('a trip that fails before its turn is told in its turn, once the others are over', async () => {
    const { reader, trips } = scripted(5 * TRIP, TRIP + 3)
    const seen: number[] = []
    const ended: unknown[] = []
    const read = reader.read((_bytes, index) => { seen.push(index) }).catch((error: unknown) => { ended.push(error) })
    trips[1]?.fail()
    await turn()
    expect(seen).toEqual([])
    trips[0]?.succeed()
    await turn()
    expect(seen).toHaveLength(TRIP)
    expect(ended).toEqual([])
    for (const trip of trips.slice(2)) trip.succeed()
    await read
    expect(seen).toHaveLength(TRIP)
    expect(ended).toEqual([expect.objectContaining({ code: 'CMESH_STATE_CORRUPT', detail: { path: 'log', block: TRIP + 3, reason: 'the disk is gone' } })])
    expect(trips).toHaveLength(4)
  })

  test('a trip that cannot set out ends the reading, once the trips under way are over', async () => {
    const { reader, trips, shut } = scripted(5 * TRIP)
    shut(1)
    const ended: unknown[] = []
    const read = reader.read(() => {}).catch((error: unknown) => { ended.push(error) })
    await turn()
    expect(ended).toEqual([])
    trips[0]?.succeed()
    await read
    expect(ended).toEqual([new Error('closed')])
    expect(trips).toHaveLength(1)
  })

  test('what the callee throws ends the reading, once the trips under way are over', async () => {
    const { reader, trips } = scripted(5 * TRIP)
    const ended: unknown[] = []
    const read = reader.read((_bytes, index) => { if (index === 5) throw new RangeError('not this one') }).catch((error: unknown) => { ended.push(error) })
    trips[0]?.succeed()
    await turn()
    expect(ended).toEqual([])
    for (const trip of trips.slice(1)) trip.fail()
    await read
    expect(ended).toEqual([new RangeError('not this one')])
  })
})

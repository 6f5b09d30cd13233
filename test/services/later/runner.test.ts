import { expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { DelayedCall } from '../../../services/later/records.ts'
import { LaterRunner } from '../../../services/later/runner.ts'
import { SILENT_LOG } from '../../../services/log.ts'
import { testClock } from '../../support/mesh.ts'

const turn = (): Promise<void> => new Promise(resolve => { setImmediate(resolve) })

test('one identity whose calls take long holds up nobody else\'s: of its own a few are made at once', async () => {
  const time = testClock()
  const calls = new Map<string, DelayedCall>()
  const made: string[] = []
  const ends: (() => void)[] = []
  const runner = new LaterRunner({
    read: id => calls.get(id),
    call: async ({ id, did }) => {
      made.push(id)
      if (did === 'slow') await new Promise<void>(resolve => { ends.push(resolve) })
      calls.delete(id)
      return { error: undefined, ordered: true, layers: [] }
    },
    bury: () => Promise.resolve(), settle: () => Promise.resolve(), clock: time, log: SILENT_LOG, inFlight: 4, ofOne: 2,
  })
  const add = (id: string, did: string): void => {
    const call = { id, did, fqmn: '0xSW:0x001:say', body: Buffer.alloc(0), atMs: time.ms }
    calls.set(id, call)
    runner.add(call)
  }
  runner.start()
  for (let i = 1; i <= 5; i++) add(`slow ${i}`, 'slow')
  add('other', 'other')
  await turn()
  expect(made).toEqual(['slow 1', 'slow 2', 'other'])
  ends.splice(0).forEach(end => { end() })
  for (const id of ['slow 1', 'slow 2']) runner.over(id)
  await turn()
  expect(made.slice(3)).toEqual(['slow 3', 'slow 4'])
  ends.splice(0).forEach(end => { end() })
  await runner.stop()
})

test('a call that could not be asked for, since this node can order nothing, has used up none of its attempts and leaves no dead letter', async () => {
  const time = testClock()
  const call: DelayedCall = { id: 'a', did: 'one', fqmn: '0xSW:0x001:say', body: Buffer.alloc(0), atMs: time.ms }
  let there: DelayedCall | undefined = call
  const attempts: number[] = []
  const buried: number[] = []
  const ended = new Promise<void>(resolve => {
    const runner = new LaterRunner({
      read: () => there,
      call: (_, attempt) => {
        attempts.push(attempt)
        const code = attempts.length < 9 ? 'CMESH_STATE_CLOCK' : 'CMESH_BUS_DISCONNECTED'
        return Promise.resolve({ error: new CMeshError(code, { reason: 'of a test' }), ordered: false, layers: [] })
      },
      bury: (_, { attempts: used }) => { buried.push(used); return Promise.resolve() },
      settle: () => {
        there = undefined
        resolve()
        return Promise.resolve()
      },
      clock: time, log: SILENT_LOG, attempts: 2, retryMs: 1,
    })
    runner.start()
    runner.add(call)
  })
  await ended
  expect({ attempts, buried }).toEqual({ attempts: [...Array.from({ length: 9 }, () => 1), 2], buried: [2] })
})

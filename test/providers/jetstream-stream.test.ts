/** What the owner of a stream is told where the broker will not make it. */
import { afterAll, beforeAll, expect, test } from '@jest/globals'
import { ensureStream, managerOf, patient } from '../../providers/jetstream/stream.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'

const ROOM_BYTES = 1_048_576

let broker: TestBroker
beforeAll(async () => { broker = await startBroker({ maxFileStoreBytes: ROOM_BYTES }) })
afterAll(() => broker.stop())

test('a server with less room than a stream may take says so, and what to do; not that it is too old', async () => {
  const manager = await managerOf(broker.core)
  const wanted = { name: 'S', subjects: ['s'], max_bytes: ROOM_BYTES + 1 }
  await expect(ensureStream(manager, wanted, patient({ readyMs: 1 }))).rejects.toMatchObject({
    code: 'CMESH_BUS_STREAM',
    message: 'The JetStream stream S cannot be used: insufficient storage resources available. Its server has less room than the stream may come to take: '
      + 'free space on that disk, or raise max_file_store there, and start the server again.',
  })
  expect(await ensureStream(manager, { ...wanted, max_bytes: ROOM_BYTES })).toMatchObject({ config: { name: 'S' } })
})

import { expect, test } from '@jest/globals'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { encodeRootRecord, rootRecordHash } from '../../../cmtp/receipt/root.ts'
import type { PublishResult } from '../../../services/events/provider.ts'
import { RootStream } from '../../../services/audit/root-stream.ts'
import { SILENT_LOG } from '../../../services/log.ts'
import { until } from '../../client/support/until.ts'

const key = KeyPair.generate()
let previous: Uint8Array = new Uint8Array(32)
const RECORDS = Array.from({ length: 150 }, (_, batch) => {
  const record = encodeRootRecord({
    mesh: key.did, node: key.did, log: new Uint8Array(32), batch, first: batch, count: 1, merkleRoot: new Uint8Array(32), previous, timeUs: 1,
  }, bytes => key.sign(bytes))
  previous = rootRecordHash(record)
  return record
})

interface Told { readonly roots: readonly { readonly batch: number }[] }

/** Publishes into `seen`, once `gate` lets it. */
function streamInto(seen: number[], gate: () => Promise<void> = () => Promise.resolve()): RootStream {
  const events = {
    publish: async (_: string, body: Uint8Array): Promise<PublishResult> => {
      await gate()
      seen.push(...(JSON.parse(Buffer.from(body).toString()) as Told).roots.map(({ batch }) => batch))
      return { seq: seen.length, duplicate: false }
    },
  }
  return new RootStream({ events, log: SILENT_LOG })
}

test('roots go out in the order of the log, each once, and all that wait when the stream is stopped', async () => {
  const seen: number[] = []
  const stream = streamInto(seen)
  for (const record of RECORDS.slice(0, 3)) stream.add(record)
  stream.start()
  await until('the first are out', () => seen.length === 3)
  for (const record of RECORDS.slice(3)) stream.add(record)
  await stream.stop()
  expect(seen).toEqual(RECORDS.map((_, batch) => batch))
  expect([stream.pending, stream.leftOut]).toEqual([0, 0])
})

test('a stopped stream publishes nothing more, not what came while its last event went out either', async () => {
  const seen: number[] = []
  let asked = false
  let open = (): void => {}
  const gate = new Promise<void>(resolve => { open = resolve })
  const stream = streamInto(seen, () => {
    asked = true
    return gate
  })
  const [one, two, three] = RECORDS as [Buffer, Buffer, Buffer]
  stream.add(one)
  stream.start()
  await until('the first is on its way', () => asked)
  const stopped = stream.stop()
  stream.add(two)
  open()
  await stopped
  stream.add(three)
  expect(seen).toEqual([0, 1])
  expect(stream.pending).toBe(1)
})

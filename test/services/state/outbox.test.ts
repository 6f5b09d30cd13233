import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { MockEvents } from '../../../providers/events/mock.ts'
import type { EventOrigin } from '../../../services/events/provider.ts'
import { Outbox, type OutboxParts, type Watermark } from '../../../services/state/outbox.ts'
import type { Block, EmittedEvent } from '../../../services/state/provider.ts'
import type { OutboxDuty } from '../../../services/state/outbox.ts'
import { until } from '../../client/support/until.ts'
import { keptLog, memoryWatermark, type KeptLog } from '../../support/mesh.ts'

const event = (topic: string, text: string, contract = '0x001'): EmittedEvent => ({ contract, topic, data: Buffer.from(text) })

/** A block whose transactions emitted these. */
function block(seq: number, ...transactions: readonly (readonly EmittedEvent[])[]): Block {
  return {
    epoch: 0, seq, timeMs: 0, message: Buffer.alloc(0),
    transactions: transactions.map((events, i) => ({ id: `${seq}${i}`.padStart(32, '0'), status: 200, gas: 0n, writes: [], events, output: Buffer.alloc(0) })),
  }
}

interface Published { readonly channel: string, readonly text: string, readonly id: string | undefined, readonly origin: EventOrigin | undefined }

/** An outbox whose events provider does as the test says, call by call: nothing is the provider's own answer. */
function outbox(parts: Partial<OutboxParts> & { answers?: ((call: Published) => Promise<void> | void)[] } = {}): {
  outbox: Outbox, watermark: Watermark & { seq: number }, published: Published[], asked: Published[], log: KeptLog
} {
  const watermark = memoryWatermark()
  const published: Published[] = []
  const asked: Published[] = []
  const log = keptLog()
  const { answers = [], ...rest } = parts
  const made = new Outbox({
    watermark, log, retryMs: 1,
    events: {
      publish: async (channel, data, options) => {
        const call = { channel, text: Buffer.from(data).toString(), id: options?.id, origin: options?.origin }
        asked.push(call)
        await answers.shift()?.(call)
        published.push(call)
        return { seq: published.length, duplicate: false }
      },
    },
    ...rest,
  })
  return { outbox: made, watermark, published, asked, log }
}

/** What the other members do, as it stands when asked. */
const others = (parts: Partial<OutboxDuty>): () => OutboxDuty => () => ({
  onDuty: () => false, outElsewhere: () => 0, saidOut: () => 0, accompanied: () => true, idles: () => false, ...parts,
})
const down = (): Promise<void> => Promise.reject(new CMeshError('CMESH_BUS_DISCONNECTED'))
const texts = (published: readonly Published[]): string[] => published.map(({ text }) => text)

describe('the outbox', () => {
  test('publishes nothing up to a block that came from another member, and what it had before that first', async () => {
    const { outbox: made, published, watermark } = outbox({ answers: [down] })
    made.add(block(3, [event('said', 'before')]))
    made.passed(block(9, [event('said', 'of another')]))
    made.add(block(10, [event('said', 'after')]))
    await made.flush()
    expect({ texts: texts(published), seq: watermark.seq }).toEqual({ texts: ['before', 'after'], seq: 10 })
    made.passed(block(10))
    made.passed(block(12, [event('said', 'of another')]))
    await made.flush()
    expect({ texts: texts(published), seq: watermark.seq, pending: made.pending }).toEqual({ texts: ['before', 'after'], seq: 12, pending: 0 })
  })

  test('publishes nothing behind a block that came from another member before one says that its events are out; meanwhile it says that nothing is', async () => {
    let said = 6
    const { outbox: made, published, watermark } = outbox({ lookMs: 1, duty: others({ onDuty: () => true, saidOut: () => said }) })
    watermark.write(4)
    for (const seq of [5, 6, 7]) made.passed(block(seq, [event('said', 'of another')]))
    made.passed(block(8))
    made.add(block(9, [event('said', 'own')]))
    await until('the first of them is out', () => watermark.seq >= 5, 5_000)
    expect({ out: made.out, texts: texts(published) }).toEqual({ out: 0, texts: [] })
    said = 7
    await made.flush()
    expect({ out: made.out, texts: texts(published) }).toEqual({ out: 9, texts: ['own'] })
  })

  test('looks at no transactions of a block that is known to hold no events: of a million that are read back they would all have to be decoded', async () => {
    const { outbox: made, watermark } = outbox()
    for (const take of [made.add.bind(made), made.passed.bind(made)]) {
      take({ ...block(5), holds: { transactions: 1, writes: 1, events: 0, outputBytes: 0, bytes: 0 }, get transactions(): never { throw new Error('they were looked at') } })
    }
    await made.flush()
    expect({ pending: made.pending, seq: watermark.seq }).toEqual({ pending: 0, seq: 0 })
  })

  test('waits for nobody with what came from another member where none is there any more', async () => {
    const { outbox: made, published } = outbox({ duty: others({ onDuty: () => true, accompanied: () => false }) })
    made.passed(block(7, [event('said', 'of another')]))
    made.add(block(9, [event('said', 'own')]))
    await made.flush()
    expect({ out: made.out, texts: texts(published) }).toEqual({ out: 9, texts: ['own'] })
  })

  test('publishes what it has where who is on duty keeps saying that nothing is out: that one may be waiting for it', async () => {
    let looks = 0
    const { outbox: made, published } = outbox({
      // Once it says something, in the middle: then the waiting begins anew.
      lookMs: 1, duty: others({ idles: () => ++looks !== 40 }),
    })
    made.add(block(9, [event('said', 'own')]))
    await made.flush()
    expect({ out: made.out, texts: texts(published), looks }).toEqual({ out: 9, texts: ['own'], looks: 90 })
  })

  test('on duty publishes nothing that another member says is out: this node took those blocks from it before it was killed', async () => {
    let out = 4
    const { outbox: made, published, watermark } = outbox({ duty: others({ onDuty: () => true, outElsewhere: () => out }) })
    for (const seq of [3, 4, 5]) made.add(block(seq, [event('said', String(seq))]))
    await made.flush()
    expect({ texts: texts(published), seq: watermark.seq }).toEqual({ texts: ['5'], seq: 5 })
    out = 9
    made.add(block(9, [event('said', '9')]))
    await made.flush()
    expect({ texts: texts(published), seq: watermark.seq }).toEqual({ texts: ['5'], seq: 9 })
  })

  test('publishes what contracts emitted on their channels, under the place in the log, with the transactions it came from', async () => {
    const { outbox: made, published, watermark } = outbox()
    made.add(block(3, [event('said', 'a'), event('said', 'b')], [], [event('done', 'c', `0x${'ab'.repeat(32)}`)]))
    await made.flush()
    const origin = (place: number, index: number): EventOrigin => ({ request: `3${place}`.padStart(32, '0'), block: 3, index })
    expect(published).toEqual([
      { channel: 'events.state.contracts.0x001.said', text: 'a', id: '0.3.0.0', origin: origin(0, 0) },
      { channel: 'events.state.contracts.0x001.said', text: 'b', id: '0.3.0.1', origin: origin(0, 1) },
      { channel: `events.state.contracts.0x${'ab'.repeat(32)}.done`, text: 'c', id: '0.3.2.0', origin: origin(2, 0) },
    ])
    expect({ seq: watermark.seq, pending: made.pending }).toEqual({ seq: 3, pending: 0 })
  })

  test('keeps the order of the blocks: one is begun when the one before it is out', async () => {
    let release: () => void = () => undefined
    const { outbox: made, asked, published, watermark } = outbox({ answers: [() => new Promise(resolve => { release = resolve })] })
    for (const seq of [1, 2, 3]) made.add(block(seq, [event('said', String(seq))]))
    for (let i = 0; i < 20; i++) await Promise.resolve()
    expect({ asked: texts(asked), pending: made.pending, seq: watermark.seq }).toEqual({ asked: ['1'], pending: 3, seq: 0 })
    release()
    await made.flush()
    expect({ published: texts(published), seq: watermark.seq }).toEqual({ published: ['1', '2', '3'], seq: 3 })
  })

  test('tries a block again until it is out, says so, and puts nothing before it', async () => {
    const { outbox: made, published, asked, log, watermark } = outbox({ answers: [down, down] })
    made.add(block(1, [event('said', '1')]))
    made.add(block(2, [event('said', '2')]))
    await made.flush()
    expect({ asked: texts(asked), published: texts(published), seq: watermark.seq }).toEqual({ asked: ['1', '1', '1', '2'], published: ['1', '2'], seq: 2 })
    expect(log.lines.map(({ level, fields, message }) => [level, fields['code'], fields['seq'], message])).toEqual(Array.from({ length: 2 }, () => [
      'warn', 'CMESH_BUS_DISCONNECTED', 1, 'the events of a block could not be published; trying again',
    ]))
  })

  test('publishes again under the same ids, so that nothing is stored twice', async () => {
    const events = new MockEvents()
    let failures = 1
    const made = new Outbox({
      watermark: memoryWatermark(), log: keptLog(), retryMs: 1,
      events: {
        // Stored, but the answer is lost.
        publish: async (channel, data, options) => {
          const result = await events.publish(channel, data, options)
          if (failures-- > 0) throw new CMeshError('CMESH_BUS_TIMEOUT', { subject: channel, timeoutMs: 1 })
          return result
        },
      },
    })
    made.add(block(1, [event('said', 'a'), event('said', 'b')]))
    await made.flush()
    const stored = await events.range('events.state.contracts.0x001.said', {})
    expect(stored.map(({ data }) => Buffer.from(data).toString())).toEqual(['a', 'b'])
  })

  test.each([
    ['its channel is none', event('not a topic', 'x')],
    ['its topic is empty', event('', 'x')],
  ])('leaves an event that cannot be published because %s, and holds up nothing for it', async (_what, hopeless) => {
    const { outbox: made, published, log, watermark } = outbox()
    made.add(block(1, [event('said', 'before'), hopeless, event('said', 'behind')]))
    made.add(block(2, [event('said', 'later')]))
    await made.flush()
    expect({ published: texts(published), seq: watermark.seq }).toEqual({ published: ['before', 'behind', 'later'], seq: 2 })
    expect(log.lines).toEqual([expect.objectContaining({
      level: 'error', message: 'an event of a contract cannot be published', fields: expect.objectContaining({ code: 'CMESH_EVENTS_CHANNEL', id: '0.1.0.1' }),
    })])
  })

  test('leaves an event that is too large, and holds up nothing for it', async () => {
    const { outbox: made, published } = outbox({ answers: [() => Promise.reject(new CMeshError('CMESH_EVENTS_PAYLOAD', { bytes: 2, limit: 1 }))] })
    made.add(block(1, [event('said', 'large')]))
    made.add(block(2, [event('said', 'later')]))
    await made.flush()
    expect(texts(published)).toEqual(['later'])
  })

  test('takes up again behind its watermark what a restart hands to it, and nothing before', async () => {
    const { outbox: made, published } = outbox({ watermark: memoryWatermark(2) })
    for (const seq of [1, 2, 3]) made.add(block(seq, [event('said', String(seq))]))
    await made.flush()
    expect(texts(published)).toEqual(['3'])
  })

  test('of a log that ends before its watermark publishes what takes the places behind that end', async () => {
    const watermark = memoryWatermark(9)
    const { outbox: made, published } = outbox({ watermark })
    made.goesOnBehind(2)
    for (const seq of [2, 3]) made.add(block(seq, [event('said', String(seq))]))
    await made.flush()
    expect([texts(published), watermark.read()]).toEqual([['3'], 3])
    made.goesOnBehind(7)
    expect(watermark.read()).toBe(3)
  })

  test('has nothing to do for a block without events', async () => {
    const { outbox: made, asked } = outbox()
    made.add(block(1, [], []))
    made.add(block(2))
    expect(made.pending).toBe(0)
    await made.flush()
    expect(asked).toEqual([])
  })

  test('misses no block, whenever it comes', async () => {
    // The moment between the last look into the queue and the end of the work is a few microtasks wide: every one is tried.
    for (let after = 0; after < 30; after++) {
      let release: () => void = () => undefined
      const { outbox: made, published } = outbox({ answers: [() => new Promise(resolve => { release = resolve })] })
      made.add(block(1, [event('said', '1')]))
      for (let i = 0; i < 10; i++) await Promise.resolve()
      release()
      for (let i = 0; i < after; i++) await Promise.resolve()
      made.add(block(2, [event('said', '2')]))
      await made.flush()
      expect({ after, published: texts(published), pending: made.pending }).toEqual({ after, published: ['1', '2'], pending: 0 })
    }
  })

  test('stops when what is on its way is out', async () => {
    let release: () => void = () => undefined
    const { outbox: made, published, watermark } = outbox({ answers: [() => new Promise(resolve => { release = resolve })] })
    made.add(block(1, [event('said', '1')]))
    made.add(block(2, [event('said', '2')]))
    const stopped = made.stop()
    release()
    await stopped
    await made.stop()
    expect({ published: texts(published), seq: watermark.seq }).toEqual({ published: ['1', '2'], seq: 2 })
    made.add(block(3, [event('said', '3')]))
    await made.flush()
    expect({ published: texts(published), pending: made.pending }).toEqual({ published: ['1', '2'], pending: 0 })
  })

  test('stops also while nothing can be published; the rest goes out after the next start', async () => {
    const watermark = memoryWatermark()
    const blocks = [1, 2].map(seq => block(seq, [event('said', String(seq))]))
    const broken = outbox({ watermark, retryMs: 60_000, answers: Array.from({ length: 50 }, () => down) })
    for (const each of blocks) broken.outbox.add(each)
    await broken.outbox.stop()
    expect({ published: broken.published, seq: watermark.seq, pending: broken.outbox.pending }).toEqual({ published: [], seq: 0, pending: 2 })
    const again = outbox({ watermark })
    for (const each of blocks) again.outbox.add(each)
    await again.outbox.flush()
    expect({ published: texts(again.published), seq: watermark.seq }).toEqual({ published: ['1', '2'], seq: 2 })
  })
})

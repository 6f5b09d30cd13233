import { afterEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { Correlator, REQUEST } from '../../cmtp/correlate.ts'
import { CMeshError } from '../../cmtp/errors.ts'

const TICK = 10
const DATA = new Uint8Array([1])

interface Sent {
  readonly subject: string
  readonly data: Uint8Array
  readonly reply: string
}

function harness(options: { maxPending?: number; publish?: (sent: Sent) => void } = {}) {
  const clock = { ms: 0 }
  const sent: Sent[] = []
  const correlator = new Correlator({
    inbox: '_INBOX.x',
    tickMs: TICK,
    now: () => clock.ms,
    publish: (subject, data, reply) => {
      options.publish?.({ subject, data, reply })
      sent.push({ subject, data, reply })
    },
    ...(options.maxPending !== undefined && { maxPending: options.maxPending }),
  })
  open.push(correlator)
  /** Time passes as it does in a process that runs: tick by tick. */
  const advance = (ms: number): void => {
    for (const end = clock.ms + ms; clock.ms < end;) {
      clock.ms = Math.min(end, clock.ms + TICK)
      correlator.turn()
    }
  }
  return { clock, sent, correlator, advance, replyOf: (n: number) => sent[n]?.reply ?? 'nothing was sent' }
}

const open: Correlator[] = []
afterEach(() => open.splice(0).forEach((correlator) => correlator.close()))

/** What a promise came to, without waiting for one that is still open. */
async function outcome(promise: Promise<unknown>): Promise<unknown> {
  const pending = Symbol('pending')
  const first = await Promise.race([promise.catch((error: unknown) => error), Promise.resolve().then(() => pending)])
  return first === pending ? 'pending' : first instanceof CMeshError ? first.code : first
}

test('a request that another one gives up as it is told of its failure is told once', () => {
  for (const fail of [(one: Correlator) => { one.fail(new CMeshError('CMESH_BUS_DISCONNECTED')) }, (one: Correlator) => { one.failSubject('a', new CMeshError('CMESH_BUS_DISCONNECTED')) }]) {
    const { correlator } = harness()
    const giveUp = new AbortController()
    const told: string[] = []
    correlator.ask('a', DATA, undefined, () => undefined, error => {
      told.push(`first ${error.code}`)
      giveUp.abort()
    })
    correlator.ask('a', DATA, { signal: giveUp.signal }, () => undefined, error => { told.push(`second ${error.code}`) })
    fail(correlator)
    expect(told).toEqual(['first CMESH_BUS_DISCONNECTED', 'second CMESH_CLIENT_ABORTED'])
    expect(correlator.pending).toBe(0)
  }
})

describe('a request', () => {
  test('resolves with the answer that comes on its own reply subject', async () => {
    const { correlator, sent } = harness()
    const first = correlator.request('a', DATA)
    const second = correlator.request('b', DATA)
    expect(sent.map(({ subject, reply }) => [subject, reply])).toEqual([['a', '_INBOX.x.1'], ['b', '_INBOX.x.2']])
    expect(sent[0]?.data).toBe(DATA)
    const answer = new Uint8Array([7])
    expect(correlator.onReply('_INBOX.x.2', answer)).toBe(true)
    expect(await second).toBe(answer)
    expect(await outcome(first)).toBe('pending')
    expect(correlator.pending).toBe(1)
  })

  test('times out by name, never early and at most two ticks late', async () => {
    const { correlator, advance } = harness()
    const request = correlator.request('slow', DATA, { timeoutMs: 1_000 })
    advance(999)
    expect(await outcome(request)).toBe('pending')
    advance(1 + 2 * TICK)
    await expect(request).rejects.toMatchObject({
      code: 'CMESH_BUS_TIMEOUT', status: 504, message: 'No answer on slow within 1000 ms.',
    })
    expect(correlator.pending).toBe(0)
  })

  test('with a time-out of many turns of the wheel still waits it out', async () => {
    const { correlator, advance } = harness()
    const request = correlator.request('slow', DATA, { timeoutMs: REQUEST.timeoutMaxMs })
    advance(REQUEST.timeoutMaxMs - 1)
    expect(await outcome(request)).toBe('pending')
    advance(1 + 2 * TICK)
    expect(await outcome(request)).toBe('CMESH_BUS_TIMEOUT')
  })

  test('waits five seconds when it is not told how long', async () => {
    const { correlator, advance } = harness()
    const request = correlator.request('slow', DATA)
    advance(4_999)
    expect(await outcome(request)).toBe('pending')
    advance(1 + 2 * TICK)
    expect(await outcome(request)).toBe('CMESH_BUS_TIMEOUT')
  })

  test('is not given up for the time in which the process stood still', async () => {
    const { correlator, clock, advance } = harness()
    const before = correlator.request('a', DATA, { timeoutMs: 1_000 })
    clock.ms += 60_000
    const after = correlator.request('b', DATA, { timeoutMs: 1_000 })
    correlator.turn()
    expect([await outcome(before), await outcome(after)]).toEqual(['pending', 'pending'])
    advance(1_000 + 3 * TICK)
    expect([await outcome(before), await outcome(after)]).toEqual(['CMESH_BUS_TIMEOUT', 'CMESH_BUS_TIMEOUT'])
  })

  test('that nobody listens to rejects with the subject', async () => {
    const { correlator, replyOf } = harness()
    const request = correlator.request('cmesh.v1.nobody', DATA)
    expect(correlator.onNoResponders(replyOf(0))).toBe(true)
    await expect(request).rejects.toMatchObject({
      code: 'CMESH_BUS_NO_RESPONDERS', message: 'Nobody answers on cmesh.v1.nobody.',
    })
  })

  const outOfRange = [0, -1, 0.5, REQUEST.timeoutMaxMs + 1, Number.NaN, Number.POSITIVE_INFINITY]
  test.each(outOfRange)('refuses a time-out of %p ms', async (timeoutMs) => {
    const { correlator, sent } = harness()
    await expect(correlator.request('a', DATA, { timeoutMs })).rejects.toMatchObject({
      code: 'CMESH_CLIENT_USAGE', message: `timeoutMs must be 1 to 300000, not ${timeoutMs}.`,
    })
    expect(sent).toEqual([])
  })

  test('past the bound is refused, and taken again once one has settled', async () => {
    const { correlator, replyOf } = harness({ maxPending: 2 })
    const first = correlator.request('a', DATA)
    void correlator.request('b', DATA).catch(() => undefined)
    await expect(correlator.request('c', DATA)).rejects.toMatchObject({
      code: 'CMESH_BUS_BUSY', status: 429, message: 'More than 2 requests are waiting for an answer.',
    })
    correlator.onReply(replyOf(0), DATA)
    await first
    expect(await outcome(correlator.request('d', DATA))).toBe('pending')
  })

  test('that could not be sent rejects with the reason and leaves nothing behind', async () => {
    const { correlator } = harness({ publish: () => { throw new CMeshError('CMESH_BUS_CLOSED') } })
    await expect(correlator.request('a', DATA)).rejects.toMatchObject({ code: 'CMESH_BUS_CLOSED' })
    expect(correlator.pending).toBe(0)
    const odd = harness({ publish: () => { throw new TypeError('odd') } })
    const failure = odd.correlator.request('a', DATA)
    await expect(failure).rejects.toMatchObject({ code: 'CMESH_INTERNAL', cause: expect.any(TypeError) })
  })
})

describe('an answer for nobody', () => {
  const strange = ['_INBOX.x.2', '_INBOX.x.', '_INBOX.x.-1', '_INBOX.x.one', '_INBOX.x', '_INBOX.y.1', '']
  test.each(strange)('on %p is counted and dropped', async (reply) => {
    const { correlator } = harness()
    const request = correlator.request('a', DATA)
    expect(correlator.onReply(reply, DATA)).toBe(false)
    expect(correlator.late).toBe(1)
    expect(await outcome(request)).toBe('pending')
  })

  test('the second of two changes nothing', async () => {
    const { correlator, replyOf } = harness()
    const request = correlator.request('a', DATA)
    correlator.onReply(replyOf(0), DATA)
    expect(correlator.onReply(replyOf(0), new Uint8Array([2]))).toBe(false)
    expect(correlator.onNoResponders(replyOf(0))).toBe(false)
    expect(await request).toBe(DATA)
    expect(correlator.late).toBe(2)
  })
})

describe('an abort signal', () => {
  test('gives up every request that carries it and no other', async () => {
    const { correlator } = harness()
    const { signal, abort } = controller()
    const mine = [correlator.request('a', DATA, { signal }), correlator.request('b', DATA, { signal })]
    const other = correlator.request('c', DATA)
    abort(new Error('enough'))
    for (const request of mine) {
      await expect(request).rejects.toMatchObject({
        code: 'CMESH_CLIENT_ABORTED', status: 499, message: 'The caller gave up.', cause: { message: 'enough' },
      })
    }
    expect(await outcome(other)).toBe('pending')
    expect(correlator.pending).toBe(1)
  })

  test('that was raised before keeps the request from being sent', async () => {
    const { correlator, sent } = harness()
    const request = correlator.request('a', DATA, { signal: AbortSignal.abort() })
    await expect(request).rejects.toMatchObject({ code: 'CMESH_CLIENT_ABORTED' })
    expect(sent).toEqual([])
  })

  test('carries one listener for a thousand requests and none once they settled', async () => {
    const { correlator, replyOf } = harness()
    const { signal, abort } = controller()
    const counts = listenerCounts(signal)
    const requests = Array.from({ length: 1_000 }, () => correlator.request('a', DATA, { signal }))
    expect(counts).toEqual({ added: 1, removed: 0 })
    requests.forEach((_, n) => correlator.onReply(replyOf(n), DATA))
    await Promise.all(requests)
    expect(counts).toEqual({ added: 1, removed: 1 })
    abort()
    expect(correlator.pending).toBe(0)
  })
})

describe('a request that is sent again', () => {
  const again = { timeoutMs: 1_000, resendMs: 200 }

  test('goes out to the same reply subject after its time, then after twice as long, and its time-out stays what it was', async () => {
    const { correlator, advance, sent } = harness()
    let told = 0
    const request = correlator.request('a', DATA, { ...again, onResend: () => { told++ } })
    advance(200)
    expect(sent).toHaveLength(1)
    advance(2 * TICK)
    expect(sent).toHaveLength(2)
    advance(400 - 2 * TICK)
    expect(sent).toHaveLength(2)
    advance(2 * TICK)
    expect(sent).toEqual(Array.from({ length: 3 }, () => ({ subject: 'a', data: DATA, reply: '_INBOX.x.1' })))
    expect(told).toBe(2)
    advance(400 - 2 * TICK)
    expect(await outcome(request)).toBe('pending')
    advance(2 * TICK)
    await expect(request).rejects.toMatchObject({ code: 'CMESH_BUS_TIMEOUT', message: 'No answer on a within 1000 ms.' })
    expect([sent.length, correlator.pending]).toEqual([3, 0])
  })

  test('takes whichever answer comes first, and the other is for nobody', async () => {
    const { correlator, advance, replyOf } = harness()
    const request = correlator.request('a', DATA, again)
    advance(300)
    expect(correlator.onReply(replyOf(0), DATA)).toBe(true)
    expect(correlator.onReply(replyOf(1), DATA)).toBe(false)
    expect(await request).toBe(DATA)
    advance(2_000)
    expect(correlator.late).toBe(1)
  })

  test('waits on where nobody takes it the second time: whoever took it first may answer', async () => {
    const { correlator, advance, replyOf } = harness()
    const request = correlator.request('a', DATA, again)
    advance(300)
    expect(correlator.onNoResponders(replyOf(1))).toBe(true)
    expect(await outcome(request)).toBe('pending')
    correlator.onReply(replyOf(0), DATA)
    expect(await request).toBe(DATA)
  })

  test.each([[1_000], [5_000]])('is none where that would be after its time-out of 1,000 ms: %d ms', async (resendMs) => {
    const { correlator, advance, sent } = harness()
    const request = correlator.request('a', DATA, { timeoutMs: 1_000, resendMs })
    advance(1_000 + 2 * TICK)
    expect(await outcome(request)).toBe('CMESH_BUS_TIMEOUT')
    expect(sent).toHaveLength(1)
  })

  test('leaves room for no more than 512 that were: the next are sent again when those are answered', async () => {
    const { correlator, advance, sent, replyOf } = harness()
    const requests = Array.from({ length: 600 }, () => correlator.request('a', DATA, { timeoutMs: 10_000, resendMs: 200 }))
    advance(250)
    expect(sent).toHaveLength(600 + 512)
    advance(100)
    expect(sent).toHaveLength(600 + 512)
    for (let n = 0; n < 512; n++) correlator.onReply(replyOf(n), DATA)
    advance(100 + TICK)
    expect(sent).toHaveLength(600 + 512 + 88)
    for (let n = 512; n < 600; n++) correlator.onReply(replyOf(n), DATA)
    await Promise.all(requests)
    expect(correlator.pending).toBe(0)
  })

  test('rejects with the reason when it cannot be sent the second time, and leaves nothing behind', async () => {
    let times = 0
    const { correlator, advance } = harness({ publish: () => { if (++times === 2) throw new CMeshError('CMESH_FRAME_TOO_LARGE') } })
    const request = correlator.request('a', DATA, again)
    advance(250)
    expect(await outcome(request)).toBe('CMESH_FRAME_TOO_LARGE')
    advance(2_000)
    expect([times, correlator.pending]).toEqual([2, 0])
  })

  test('is given up by its signal as any other', async () => {
    const { correlator, advance, sent } = harness()
    const { signal, abort } = controller()
    const request = correlator.request('a', DATA, { ...again, signal })
    advance(300)
    abort()
    await expect(request).rejects.toMatchObject({ code: 'CMESH_CLIENT_ABORTED' })
    advance(2_000)
    expect(sent).toHaveLength(2)
  })
})

describe('all requests in flight', () => {
  test('fail at once with one error when the connection breaks, and new ones are taken', async () => {
    const { correlator } = harness()
    const requests = [correlator.request('a', DATA), correlator.request('b', DATA)]
    correlator.fail(new CMeshError('CMESH_BUS_DISCONNECTED'))
    expect(await Promise.all(requests.map(outcome))).toEqual(['CMESH_BUS_DISCONNECTED', 'CMESH_BUS_DISCONNECTED'])
    expect(await outcome(correlator.request('c', DATA))).toBe('pending')
  })

  test('to a forbidden subject fail, the others do not', async () => {
    const { correlator } = harness()
    const requests = [correlator.request('a', DATA), correlator.request('b', DATA)]
    correlator.failSubject('a', new CMeshError('CMESH_BUS_DENIED', { operation: 'publish on', subject: 'a' }))
    expect(await Promise.all(requests.map(outcome))).toEqual(['CMESH_BUS_DENIED', 'pending'])
  })

  test('end with the close, which is idempotent and final', async () => {
    const { correlator } = harness()
    const request = correlator.request('a', DATA)
    correlator.close()
    correlator.close()
    await expect(request).rejects.toMatchObject({ code: 'CMESH_BUS_CLOSED' })
    await expect(correlator.request('b', DATA)).rejects.toMatchObject({ code: 'CMESH_BUS_CLOSED' })
  })

  test('are waited for by a drain that takes no new ones', async () => {
    const { correlator, replyOf, advance } = harness()
    const answered = correlator.request('a', DATA)
    const silent = correlator.request('b', DATA, { timeoutMs: 100 })
    const drained = correlator.drain()
    expect(correlator.drain()).toBe(drained)
    await expect(correlator.request('c', DATA)).rejects.toMatchObject({ code: 'CMESH_BUS_CLOSED' })
    correlator.onReply(replyOf(0), DATA)
    expect(await answered).toBe(DATA)
    expect(await outcome(drained)).toBe('pending')
    advance(200)
    await expect(silent).rejects.toMatchObject({ code: 'CMESH_BUS_TIMEOUT' })
    await drained
  })

  test('do not keep a drain of none waiting', async () => {
    await expect(harness().correlator.drain()).resolves.toBeUndefined()
  })
})

test('the timer does not keep the process alive', () => {
  const before = timers()
  const { correlator } = harness()
  void correlator.request('a', DATA).catch(() => undefined)
  expect(timers()).toBe(before)
})

type Step =
  | { readonly do: 'request'; readonly timeoutMs: number; readonly resendMs: number; readonly signal: number }
  | { readonly do: 'reply' | 'noResponders'; readonly which: number }
  | { readonly do: 'advance'; readonly ms: number }
  | { readonly do: 'abort'; readonly signal: number }
  | { readonly do: 'fail' }

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('request' as const),
      timeoutMs: fc.integer({ min: 1, max: 12_000 }),
      resendMs: fc.integer({ min: 1, max: 24_000 }),
      signal: fc.integer({ min: -1, max: 3 }),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constantFrom('reply' as const, 'noResponders' as const), which: fc.nat(40) }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('advance' as const), ms: fc.integer({ min: 1, max: 2_000 }) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('abort' as const), signal: fc.nat(3) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('fail' as const) }) },
)

test('each request settles exactly once, in whatever order replies, time-outs, aborts and failures come', async () => {
  await fc.assert(fc.asyncProperty(fc.array(step, { maxLength: 120 }), async (steps) => {
    const { correlator, advance, clock, sent } = harness()
    const signals = Array.from({ length: 4 }, () => new AbortController())
    const settled: string[][] = []
    const model: { readonly due: number; readonly signal: number; readonly reply: string; readonly again: boolean; expected: string | undefined }[] = []
    const settle = (n: number, how: string): void => {
      const entry = model[n]
      if (entry !== undefined) entry.expected ??= how
    }

    for (const it of steps) {
      if (it.do === 'request') {
        const controller = signals[it.signal]
        const aborted = controller?.signal.aborted === true
        const seen: string[] = []
        settled.push(seen)
        const { timeoutMs, resendMs } = it
        const entry = { due: clock.ms + timeoutMs, signal: it.signal, reply: '', again: false, expected: undefined as string | undefined }
        const request = correlator.request('s', DATA, { timeoutMs, resendMs, onResend: () => { entry.again = true }, ...(controller && { signal: controller.signal }) })
        entry.reply = aborted ? 'never sent' : sent.at(-1)?.reply ?? ''
        if (aborted) entry.expected = 'CMESH_CLIENT_ABORTED'
        model.push(entry)
        void request.then(() => seen.push('answer'), (error: unknown) => seen.push((error as CMeshError).code))
      } else if (it.do === 'advance') {
        advance(it.ms)
        // Within two ticks after its time a request may be in either state; look only where the state is certain.
        await Promise.resolve()
        model.forEach((entry, n) => {
          const mayHave = clock.ms >= entry.due && settled[n]?.length === 1
          if (mayHave || clock.ms >= entry.due + 2 * TICK) settle(n, 'CMESH_BUS_TIMEOUT')
        })
      } else if (it.do === 'abort') {
        signals[it.signal]?.abort()
        model.forEach((entry, n) => { if (entry.signal === it.signal) settle(n, 'CMESH_CLIENT_ABORTED') })
      } else if (it.do === 'fail') {
        correlator.fail(new CMeshError('CMESH_BUS_DISCONNECTED'))
        model.forEach((_, n) => settle(n, 'CMESH_BUS_DISCONNECTED'))
      } else {
        const entry = model[it.which % Math.max(1, model.length)]
        if (entry === undefined) continue
        const came = it.do === 'reply' ? correlator.onReply(entry.reply, DATA) : correlator.onNoResponders(entry.reply)
        expect(came).toBe(entry.expected === undefined)
        if (it.do === 'reply') entry.expected ??= 'answer'
        else if (!entry.again) entry.expected ??= 'CMESH_BUS_NO_RESPONDERS'
      }
    }
    correlator.close()
    model.forEach((_, n) => settle(n, 'CMESH_BUS_CLOSED'))
    await Promise.resolve()
    expect(settled).toEqual(model.map(({ expected }) => [expected]))
    expect(correlator.pending).toBe(0)
  }), { numRuns: 300, examples: [[[{ do: 'request', timeoutMs: 2, resendMs: 1, signal: 0 }, { do: 'advance', ms: 22 }]]] })
})

function controller(): { readonly signal: AbortSignal; readonly abort: (reason?: unknown) => void } {
  const made = new AbortController()
  return { signal: made.signal, abort: (reason) => made.abort(reason) }
}

function listenerCounts(signal: AbortSignal): { added: number; removed: number } {
  const counts = { added: 0, removed: 0 }
  const { addEventListener, removeEventListener } = signal
  signal.addEventListener = (...args: Parameters<typeof addEventListener>) => {
    counts.added++
    addEventListener.apply(signal, args)
  }
  signal.removeEventListener = (...args: Parameters<typeof removeEventListener>) => {
    counts.removed++
    removeEventListener.apply(signal, args)
  }
  return counts
}

function timers(): number {
  return process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length
}

import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import { CMeshError } from '../../cmtp/errors.ts'
import { encodeReply, encodeRequest } from '../../cmtp/frame.ts'
import { MinerService, type MinedPair, type MinerParts } from '../../services/miner/service.ts'
import type { MinerEntry, MinerHandler, MinerOutcome, MinerSource, MinerSourceStats } from '../../services/miner/provider.ts'

const ID = Buffer.alloc(16, 1)
const FINAL = 'ab'.repeat(32)
/** The session that left a frame, and the one lent to an address. */
const SID = 'session-1'
const LENT = 'session-2'

function request(fqmn = '0xS:0x001:blah_blah'): Buffer {
  return encodeRequest({ id: ID, fqmn, token: Buffer.from('token'), deadlineMs: 1, receipt: 'hash' })
}

function reply(status: number, finalHash: string | null = FINAL): Buffer {
  return encodeReply({
    id: ID, status, receipt: finalHash === null ? 'none' : 'hash',
    ...(finalHash !== null && { finalHash: Buffer.from(finalHash, 'hex').toString('latin1') }),
  })
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** A source of which the test is the hand. */
class HandSource implements MinerSource {
  readonly name: string
  readonly log: string[]
  handler: MinerHandler = async () => 'retry'
  failing: CMeshError | undefined
  counts: Partial<MinerSourceStats> = {}
  readonly #underWay = new Set<Promise<unknown>>()

  constructor(name = 'hand', log: string[] = []) {
    this.name = name
    this.log = log
  }

  async start(handler: MinerHandler): Promise<void> {
    this.log.push(`${this.name} starts`)
    if (this.failing !== undefined) throw this.failing
    this.handler = handler
  }

  give(entry: MinerEntry): Promise<MinerOutcome> {
    const outcome = this.handler(entry)
    this.#underWay.add(outcome)
    return outcome
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#underWay])
    this.log.push(`${this.name} stops`)
  }

  stats(): MinerSourceStats {
    return { done: 0, retried: 0, abandoned: 0, garbage: 0, inFlight: 0, lag: 0, lagUnit: 'entries', reports: [], ...this.counts }
  }
}

interface Published {
  readonly channel: string
  readonly id: string
  readonly pair: MinedPair
}

function mining(parts: Partial<MinerParts> = {}): {
  miner: MinerService, source: HandSource, routed: { frame: Buffer, sid: string }[], published: Published[], failures: CMeshError[]
} {
  const source = new HandSource()
  const routed: { frame: Buffer, sid: string }[] = []
  const published: Published[] = []
  const failures: CMeshError[] = []
  const miner = new MinerService({
    sources: [source],
    route: async (frame, sid) => {
      routed.push({ frame: Buffer.from(frame), sid })
      return reply(200)
    },
    frameFor: fqmn => ({ frame: request(fqmn), sid: LENT }),
    publish: async (channel, data, { id }) => {
      published.push({ channel, id, pair: JSON.parse(Buffer.from(data).toString()) as MinedPair })
    },
    onFailure: failure => { failures.push(failure) },
    pause: async () => undefined,
    ...parts,
  })
  return { miner, source, routed, published, failures }
}

describe('what the miner does with an entry', () => {
  test('a frame goes through the front door as it is, under the session it came from, and its pair is published', async () => {
    const { miner, source, routed, published } = mining()
    await miner.start()
    const frame = request()
    expect(await source.give({ id: '1', frame, sid: SID })).toBe('done')
    expect(routed).toEqual([{ frame, sid: SID }])
    expect(published).toEqual([{
      channel: 'events.mined', id: sha256(frame), pair: { request: sha256(frame), final: FINAL, status: 200 },
    }])
    expect(miner.stats()).toMatchObject({ mined: 1, failed: 0 })
    await miner.stop()
  })

  test('an address is framed under the session that is lent to it', async () => {
    const { miner, source, routed, published } = mining({ frameFor: async fqmn => ({ frame: request(fqmn), sid: LENT }) })
    await miner.start()
    expect(await source.give({ id: '1', fqmn: '0xC:status' })).toBe('done')
    expect(routed).toEqual([{ frame: request('0xC:status'), sid: LENT }])
    expect(published[0]?.pair.request).toBe(sha256(request('0xC:status')))
    await miner.stop()
  })

  test.each([400, 401, 403, 404, 409, 422, 500, 504])('an answer %i is an answer: its pair is published', async status => {
    const { miner, source, published } = mining({ route: async () => reply(status) })
    await miner.start()
    expect(await source.give({ id: '1', frame: request(), sid: SID })).toBe('done')
    expect(published[0]?.pair).toMatchObject({ final: FINAL, status })
    await miner.stop()
  })

  test.each([429, 503])('an answer %i means not now: the entry comes again, and nothing is published', async status => {
    const { miner, source, published } = mining({ route: async () => reply(status) })
    await miner.start()
    expect(await source.give({ id: '1', frame: request(), sid: SID })).toBe('retry')
    expect(published).toEqual([])
    expect(miner.stats()).toMatchObject({ mined: 0, failed: 1 })
    await miner.stop()
  })

  test('a request that asked for no receipt is published without a final hash', async () => {
    const { miner, source, published } = mining({ route: async () => reply(200, null) })
    await miner.start()
    await source.give({ id: '1', frame: request(), sid: SID })
    expect(published[0]?.pair).toMatchObject({ final: null, status: 200 })
    await miner.stop()
  })

  test.each([
    ['nothing', Buffer.alloc(0), 'The frame is malformed at byte 0: expected "CM", the version and the kind.'],
    ['noise', Buffer.from('GET / HTTP/1.1\r\n'), 'The frame is malformed at byte 0: expected "CM", the version and the kind.'],
    ['a reply', reply(200), 'The frame is malformed at byte 3: expected a request (kind 1).'],
    ['half a request', request().subarray(0, -1), /^The frame is malformed at byte 38: expected lengths that add up/],
  ])('%s is garbage and never reaches the front door', async (_what, frame, reason) => {
    const { miner, source, routed, published } = mining()
    await miner.start()
    expect(await source.give({ id: '1', frame, sid: SID })).toEqual({ garbage: typeof reason === 'string' ? reason : expect.stringMatching(reason) })
    expect([routed, published]).toEqual([[], []])
    await miner.stop()
  })

  test('an address that is none is garbage; a session that cannot be had is not', async () => {
    const { miner, source, failures } = mining({
      frameFor: fqmn => {
        if (fqmn === '0xS') throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: 3, expected: 'a segment' })
        throw new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: 5 })
      },
    })
    await miner.start()
    expect(await source.give({ id: '1', fqmn: '0xS' })).toEqual({ garbage: 'The FQMN is malformed at byte 3: expected a segment.' })
    expect(await source.give({ id: '2', fqmn: '0xC:status' })).toBe('retry')
    expect(failures.map(failure => failure.code)).toEqual(['CMESH_IAM_BUSY'])
    await miner.stop()
  })

  test('a front door that fails against its promise costs a try, and is told of once in a while', async () => {
    let now = 0
    const { miner, source, failures } = mining({ route: async () => { throw new Error('broken') }, now: () => now })
    await miner.start()
    for (now of [0, 1, 9_999, 10_000]) expect(await source.give({ id: '1', frame: request(), sid: SID })).toBe('retry')
    expect(failures.map(failure => [failure.code, failure.message])).toEqual(Array.from({ length: 2 }, () => [
      'CMESH_INTERNAL', 'An unexpected failure in miner. It is logged with the message id unknown.',
    ]))
    expect(miner.stats().failed).toBe(4)
    await miner.stop()
  })

  test('an answer that is no reply costs a try', async () => {
    const { miner, source, failures } = mining({ route: async () => Buffer.from('?') })
    await miner.start()
    expect(await source.give({ id: '1', frame: request(), sid: SID })).toBe('retry')
    expect(failures.map(failure => failure.code)).toEqual(['CMESH_FRAME_MALFORMED'])
    await miner.stop()
  })

  test('while its pair cannot be published the entry stays under way, and is not routed again', async () => {
    const waits: number[] = []
    let failures = 5
    const { miner, source, routed, published } = mining({
      publish: async (_channel, _data, { id }) => {
        if (failures-- > 0) throw new CMeshError('CMESH_BUS_DISCONNECTED')
        published.push({ channel: '', id, pair: { request: '', final: null, status: 0 } })
      },
      pause: async ms => { waits.push(ms) },
    })
    await miner.start()
    expect(await source.give({ id: '1', frame: request(), sid: SID })).toBe('done')
    expect([routed.length, published.length]).toEqual([1, 1])
    expect(waits).toEqual([50, 100, 200, 400, 800])
    expect(miner.stats()).toMatchObject({ mined: 1, failed: 5 })
    await miner.stop()
  })
})

describe('the life of the miner', () => {
  test('start is memoised and starts the sources in turn; stop stops them', async () => {
    const log: string[] = []
    const { miner } = mining({ sources: [new HandSource('a', log), new HandSource('b', log)] })
    expect(miner.state).toBe('idle')
    await Promise.all([miner.start(), miner.start()])
    expect(miner.state).toBe('running')
    await Promise.all([miner.stop(), miner.stop()])
    expect(miner.state).toBe('stopped')
    expect(log).toEqual(['a starts', 'b starts', 'a stops', 'b stops'])
  })

  test('a source that fails to start undoes those before it, and its error is given', async () => {
    const log: string[] = []
    const [first, second, third] = [new HandSource('a', log), new HandSource('b', log), new HandSource('c', log)]
    second.failing = new CMeshError('CMESH_BUS_STREAM', { stream: 'S', reason: 'no' })
    const { miner } = mining({ sources: [first, second, third] })
    await expect(miner.start()).rejects.toMatchObject({ code: 'CMESH_BUS_STREAM', message: 'The JetStream stream S cannot be used: no.' })
    expect(log).toEqual(['a starts', 'b starts', 'b stops', 'a stops'])
    expect(miner.state).toBe('stopped')
    await expect(miner.start()).rejects.toMatchObject({ code: 'CMESH_BUS_STREAM' })
  })

  test('drain waits for what is under way', async () => {
    let finish: () => void = () => undefined
    const { miner, source, published } = mining({
      route: () => new Promise(resolve => { finish = () => { resolve(reply(200)) } }),
    })
    await miner.start()
    const outcome = source.give({ id: '1', frame: request(), sid: SID })
    await Promise.resolve()
    const drained = miner.drain()
    expect(miner.state).toBe('draining')
    finish()
    await drained
    expect(await outcome).toBe('done')
    expect([published.length, miner.state]).toEqual([1, 'stopped'])
  })

  test.each(['route', 'publish'] as const)('stop hands back what hangs in %s', async where => {
    const { miner, source } = mining({ [where]: () => new Promise(() => undefined) })
    await miner.start()
    const outcome = source.give({ id: '1', frame: request(), sid: SID })
    await miner.stop()
    expect(await outcome).toBe('retry')
    expect(miner.stats().mined).toBe(0)
  })

  test('drain gives up when its time is over', async () => {
    const { miner, source } = mining({ route: () => new Promise(() => undefined) })
    await miner.start()
    const outcome = source.give({ id: '1', frame: request(), sid: SID })
    await miner.drain(1)
    expect(await outcome).toBe('retry')
  })

  test('stop before start is quiet, and a start behind it is refused', async () => {
    const { miner } = mining()
    await miner.stop()
    await expect(miner.start()).rejects.toMatchObject({ code: 'CMESH_ROUTER_DRAINING' })
  })

  test('its figures are the sums of its sources, each lag in its own unit', async () => {
    const [stream, logfile] = [new HandSource('stream'), new HandSource('logfile')]
    stream.counts = { garbage: 2, abandoned: 1, lag: 7 }
    logfile.counts = { garbage: 3, abandoned: 4, lag: 900, lagUnit: 'bytes' }
    const { miner } = mining({ sources: [stream, logfile] })
    expect(miner.stats()).toEqual({
      mined: 0, failed: 0, garbage: 5, abandoned: 5, lagEntries: 7, lagBytes: 900,
      sources: { stream: stream.stats(), logfile: logfile.stats() },
    })
  })
})

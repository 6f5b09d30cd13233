import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { createHash } from 'node:crypto'
import { LIMITS } from '../../../cmtp/limits.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { eventJson } from '../../../services/events/event-json.ts'
import { startMesh, type TestMesh } from '../../support/mesh.ts'

let mesh: TestMesh
let reader: Session
let channel: string
let channels = 0
beforeAll(async () => {
  mesh = await startMesh()
  reader = await mesh.open()
})
afterAll(() => mesh.stop())
beforeEach(() => { channel = `chan.${channels++}` })

const ask = (fqmn: string, body?: Uint8Array | string): ReturnType<TestMesh['ask']> => mesh.ask(mesh.root, fqmn, body === undefined ? {} : { body })

describe('publishing', () => {
  test.each<[what: string, behind: string, body: Uint8Array | string | undefined, data: unknown]>([
    ['a word in the address', ':hello', undefined, 'hello'],
    ['an array in the address', ':["a",1]', undefined, '["a",1]'],
    ['text in the body', '', 'any text: at all', 'any text: at all'],
    ['bytes in the body', '', Buffer.from([0, 255, 1]), { base64: 'AP8B' }],
    ['nothing', '', undefined, ''],
  ])('takes %s, and a reader gets it as it was, with the request it came from', async (_what, behind, body, data) => {
    const { status, value, frame } = await ask(`0xEW:${channel}${behind}`, body)
    const { seq } = value as { seq: number }
    expect({ status, value }).toEqual({ status: 200, value: { channel, seq: expect.any(Number) } })
    expect((await mesh.ask(reader, `0xE:${channel}`)).value).toEqual({ channel, seq, timeMs: mesh.time.ms, data, origin: { request: frame.id.toString('hex') } })
  })

  test.each<[what: string, behind: string, body: string | undefined]>([
    ['a word and a body', ':hello', 'more'], ['arguments and a body', ':["a"]', 'more'],
  ])('refuses %s: a payload stands in one place', async (_what, behind, body) => {
    expect(await ask(`0xEW:${channel}${behind}`, body)).toMatchObject({ status: 400, code: 'CMESH_FQMN_ARGUMENTS_TWICE' })
    expect(await ask(`0xE:${channel}`)).toMatchObject({ status: 404 })
  })

  test('refuses two payloads in the address', async () => {
    expect(await ask(`0xEW:${channel}:one:two`)).toMatchObject({ status: 400, code: 'CMESH_FQMN_SYNTAX', message: expect.stringContaining('expected one payload behind the channel') })
  })

  test.each(['audit', 'events.mined', 'events.state.contracts.0x001.blah_blah', 'events.', 'events.anything'])('on %s is for services alone, whoever asks', async reserved => {
    expect(await ask(`0xEW:${reserved}:x`)).toMatchObject({ status: 403, code: expect.stringMatching(/^CMESH_(EVENTS_RESERVED|IAM_DENIED)$/) })
    if (reserved !== 'audit') expect(await ask(`0xEW:${reserved}:x`)).toMatchObject({ message: `The channel ${reserved} is reserved: only services publish there.` })
  })

  test('without the permission is 403', async () => {
    expect(await mesh.ask(reader, `0xEW:${channel}:x`)).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
  })

  test('takes 64 KiB and no more', async () => {
    expect(await ask(`0xEW:${channel}`, Buffer.alloc(LIMITS.eventBytes))).toMatchObject({ status: 200 })
    expect(await ask(`0xEW:${channel}`, Buffer.alloc(LIMITS.eventBytes + 1))).toMatchObject({
      status: 413, code: 'CMESH_EVENTS_PAYLOAD', message: 'The event has 65537 bytes; at most 65536 are allowed.',
    })
  })

  test('takes a channel of 255 bytes and no longer one', async () => {
    expect(await ask(`0xEW:${'c'.repeat(255)}:x`)).toMatchObject({ status: 200 })
    for (const fqmn of [`0xEW:${'c'.repeat(256)}:x`, `0xE:${'c'.repeat(256)}`, `0xE:${'c'.repeat(256)}:count`]) {
      expect(await ask(fqmn)).toMatchObject({ status: 400, code: 'CMESH_EVENTS_CHANNEL' })
    }
  })

  test('again under the same id stores nothing twice', async () => {
    const id = createHash('sha256').update(channel).digest().subarray(0, 16)
    const first = await mesh.ask(mesh.root, `0xEW:${channel}:once`, { id })
    expect((await mesh.ask(mesh.root, `0xEW:${channel}:once`, { id })).value).toEqual(first.value)
    expect((await ask(`0xE:${channel}:count`)).value).toBe(1)
  })
})

describe('reading', () => {
  test('is reading the newest', async () => {
    await ask(`0xEW:${channel}:first`)
    await ask(`0xEW:${channel}:second`)
    for (const fqmn of [`0xE:${channel}`, `0xE:${channel}:read`]) expect((await mesh.ask(reader, fqmn)).value).toMatchObject({ channel, data: 'second' })
    await ask(`0xEW:${channel}:third`)
    expect((await mesh.ask(reader, `0xE:${channel}`)).value).toMatchObject({ data: 'third' })
  })

  test('of a channel that has none is 404, of a count 0, of a range nothing', async () => {
    expect(await mesh.ask(reader, `0xE:${channel}`)).toMatchObject({ status: 404, code: 'CMESH_EVENTS_NO_CHANNEL', message: `The channel ${channel} has no events.` })
    expect((await mesh.ask(reader, `0xE:${channel}:count`)).value).toBe(0)
    expect((await mesh.ask(reader, `0xE:${channel}:range`)).value).toEqual([])
  })

  test('of the audit channel is not for newcomers', async () => {
    expect(await mesh.ask(reader, '0xE:audit')).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
    expect(await ask('0xE:audit')).toMatchObject({ status: 404, code: 'CMESH_EVENTS_NO_CHANNEL' })
  })

  test('has no other actions', async () => {
    expect(await ask(`0xE:${channel}:delete`)).toMatchObject({ status: 405, code: 'CMESH_ROUTER_ACTION' })
  })
})

describe('a range', () => {
  let seqs: number[]
  const range = async (args?: unknown, body = false): Promise<string[]> => {
    const text = args === undefined ? '' : JSON.stringify(args)
    const { value } = body ? await mesh.ask(reader, `0xE:${channel}:range`, { body: text }) : await mesh.ask(reader, `0xE:${channel}:range${text === '' ? '' : `:${text}`}`)
    return (value as { data: string }[]).map(event => event.data)
  }
  const publish = async (count: number, payload = (i: number): string => `e${i}`): Promise<void> => {
    seqs = []
    for (let i = 1; i <= count; i++) seqs.push((((await ask(`0xEW:${channel}`, payload(i))).value) as { seq: number }).seq)
  }

  test('is from, to and limit, each of them or none, in the address or the body', async () => {
    await publish(9)
    const at = (n: number): number => seqs[n - 1] ?? 0
    const all = ['e1', 'e2', 'e3', 'e4', 'e5', 'e6', 'e7', 'e8', 'e9']
    for (const body of [false, true]) {
      expect(await range([], body)).toEqual(all)
      expect(await range([at(3)], body)).toEqual(all.slice(2))
      expect(await range([at(3), at(5)], body)).toEqual(['e3', 'e4', 'e5'])
      expect(await range([at(3), at(5), 2], body)).toEqual(['e3', 'e4'])
      expect(await range([null, at(2)], body)).toEqual(['e1', 'e2'])
      expect(await range([null, null, 1], body)).toEqual(['e1'])
      expect(await range([at(9) + 1], body)).toEqual([])
      expect(await range([at(5), at(5)], body)).toEqual(['e5'])
    }
    expect(await range()).toEqual(all)
  })

  test('is 100 events unless more are asked for, and 1,000 at most', async () => {
    await publish(130)
    expect(await range()).toHaveLength(100)
    expect(await range([null, null, 120])).toHaveLength(120)
    expect(await range([null, null, 1_000])).toHaveLength(130)
  })

  test('is as many as fit into one reply; behind the last one it goes on, until nothing comes', async () => {
    await publish(40, i => `${i}:`.padEnd(60_000, '\u0001'))
    const seen: number[] = []
    for (let from = 1; ;) {
      const answer = await mesh.ask(reader, `0xE:${channel}:range:[${from},null,1000]`)
      expect(answer.status).toBe(200)
      expect(answer.frame.body.length).toBeLessThanOrEqual(LIMITS.bodyBytes)
      const events = answer.value as { seq: number }[]
      if (events.length === 0) break
      seen.push(...events.map(event => event.seq))
      from = (events.at(-1)?.seq ?? 0) + 1
    }
    expect(seen).toEqual(seqs)
  })

  test.each<[args: string, reason: string]>([
    ['[0]', 'argument 1 is not a whole number from 1'], ['[-1]', 'argument 1 is not a whole number from 1'], ['[1.5]', 'argument 1 is not a whole number from 1'],
    ['["1"]', 'argument 1 is not a whole number from 1'], ['[1,0]', 'argument 2 is not a whole number from 1'], ['[1,2,0]', 'argument 3 is not a whole number from 1'],
    ['[9007199254740993]', 'argument 1 is not a whole number from 1'], ['[[1]]', 'argument 1 is not a whole number from 1'],
    ['[1,2,1001]', 'at most 1000 events at once'], ['[2,1]', 'it ends before it begins'], ['[1,2,3,4]', 'its arguments are [from, to, limit]'],
  ])('of %s is refused: %s', async (args, reason) => {
    expect(await mesh.ask(reader, `0xE:${channel}:range:${args}`)).toMatchObject({ status: 400, code: 'CMESH_EVENTS_RANGE', message: `The range is not valid: ${reason}.` })
  })

  test('whose body is no array is refused, and one given twice', async () => {
    for (const body of ['{}', '1', 'noise', '"x"', 'null']) {
      expect(await mesh.ask(reader, `0xE:${channel}:range`, { body })).toMatchObject({ status: 400, code: 'CMESH_EVENTS_RANGE' })
    }
    expect(await mesh.ask(reader, `0xE:${channel}:range:[1]`, { body: '[1]' })).toMatchObject({ status: 400, code: 'CMESH_FQMN_ARGUMENTS_TWICE' })
  })
})

describe('an event as JSON', () => {
  const json = (data: Uint8Array): unknown => (eventJson({ channel: 'c', seq: 1, timeMs: 2, data }) as { data: unknown }).data

  test('is text where that is UTF-8, byte for byte, and base64 where it is not', () => {
    expect(json(Buffer.from('\ufeffé\u0000'))).toBe('\ufeffé\u0000')
    expect(json(Buffer.from([0xc3]))).toEqual({ base64: 'ww==' })
    expect(json(Buffer.from([0xed, 0xa0, 0x80]))).toEqual({ base64: '7aCA' })
  })
})

import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, type ConnectOptions } from '../../client/connect.ts'
import type { MeshClient } from '../../client/mesh-client.ts'
import type { ChannelEvent } from '../../client/subscription.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { encodeReply } from '../../cmtp/frame.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { answer, refuse, StandInMesh, type StandInRequest } from './support/stand-in-mesh.ts'
import { until } from './support/until.ts'

let mesh: StandInMesh
let client: MeshClient
/** A channel as a node keeps it: what was published, and the inboxes of its tails. */
let stored: ChannelEvent[]
let tails: Map<string, string>
let leaseMs: number
let warnings: CMeshError[]

beforeAll(async () => { mesh = await StandInMesh.start() })
afterAll(() => mesh.stop())
beforeEach(async () => {
  stored = []
  tails = new Map()
  leaseMs = 30_000
  warnings = []
  mesh.requests.length = 0
  mesh.behaviour = events
  client = await open()
})
afterEach(() => client.close())

function open(options: ConnectOptions = {}): Promise<MeshClient> {
  const onWarning = (warning: CMeshError): void => { warnings.push(warning) }
  return connect({ url: mesh.url, identity: KeyPair.generate(), onWarning, timeoutMs: 20_000, ...options })
}

function events(request: StandInRequest): void {
  const { frame, send } = request
  const action = frame.fqmn.split(':')[2]
  const body: unknown = frame.body.length === 0 ? undefined : JSON.parse(frame.body.toString('utf8'))
  if (action === 'read') {
    const newest = stored.at(-1)
    if (newest === undefined) refuse(request, new CMeshError('CMESH_EVENTS_NO_CHANNEL', { channel: 'news' }))
    else send(answer(frame, 200, newest))
  } else if (action === 'range') {
    const [from, , limit] = body as [number, null, number]
    send(answer(frame, 200, stored.filter(({ seq }) => seq >= from).slice(0, limit)))
  } else {
    const { inbox, tail = `tail-${tails.size}`, close } = body as { inbox: string, tail?: string, close?: boolean }
    if (close === true) tails.delete(tail)
    else tails.set(tail, inbox)
    send(answer(frame, 200, { tail, leaseMs: close === true ? 0 : leaseMs }))
  }
}

function store(seq: number): ChannelEvent {
  const event = { channel: 'news', seq, timeMs: 1, data: `n${seq}` }
  stored.push(event)
  return event
}

function live(event: ChannelEvent): void {
  const bytes = encodeReply({ id: Buffer.alloc(16), status: 200, receipt: 'none', body: Buffer.from(JSON.stringify(event)) })
  for (const inbox of tails.values()) mesh.publish(inbox, bytes)
}

const actions = (): string[] => mesh.requests.map(({ frame }) => frame.fqmn.split(':')[2] as string)

describe('a subscription', () => {
  test('hands over what is published from now on, in order, each once', async () => {
    store(1)
    const seen: number[] = []
    const subscription = await client.subscribe('news', ({ seq }) => { seen.push(seq) })
    expect(subscription.seq).toBe(1)
    for (const seq of [2, 3, 5]) {
      const event = store(seq)
      live(event)
      live(event)
    }
    await until('three events', () => seen.length === 3)
    expect(seen).toEqual([2, 3, 5])
    expect(subscription.seq).toBe(5)
    await subscription.close()
  })

  test('loses nothing that is published while it is being opened', async () => {
    store(1)
    mesh.behaviour = (request) => {
      if (request.frame.fqmn.endsWith(':tail')) store(2)
      events(request)
    }
    const seen: number[] = []
    await client.subscribe('news', ({ seq }) => { seen.push(seq) })
    await until('the event between', () => seen.length === 1)
    expect(seen).toEqual([2])
  })

  test('reads what it missed while the broker was away, before what comes live', async () => {
    const seen: number[] = []
    await client.subscribe('news', ({ seq }) => { seen.push(seq) })
    live(store(1))
    await until('the first', () => seen.length === 1)
    const back = mesh.killBroker()
    await until('the client noticed', () => client.connection === 'disconnected')
    store(2)
    store(3)
    await back
    await until('the missed ones', () => seen.length === 3)
    live(store(4))
    await until('a live one', () => seen.length === 4)
    expect(seen).toEqual([1, 2, 3, 4])
  })

  test('is renewed before its lease ends, under its tail', async () => {
    leaseMs = 90
    await client.subscribe('news', () => undefined)
    await until('two renewals', () => actions().filter((action) => action === 'tail').length >= 3)
    const bodies = mesh.requests.filter(({ frame }) => frame.fqmn.endsWith(':tail')).map(({ frame }) => JSON.parse(frame.body.toString()) as { tail?: string })
    expect(bodies.slice(0, 3).map(({ tail }) => tail)).toEqual([undefined, 'tail-0', 'tail-0'])
  })

  test('opens a new tail when its session may not renew the old one', async () => {
    leaseMs = 60
    let denied = false
    mesh.behaviour = (request) => {
      const renews = request.frame.fqmn.endsWith(':tail') && request.frame.body.includes('tail-0')
      if (renews && !denied) {
        denied = true
        return refuse(request, new CMeshError('CMESH_EVENTS_TAIL', { reason: 'the tail belongs to another session, channel or inbox' }))
      }
      events(request)
    }
    const seen: number[] = []
    await client.subscribe('news', ({ seq }) => { seen.push(seq) })
    await until('a tail of its own', () => tails.size === 2)
    live(store(1))
    await until('the event, once', () => seen.length === 1)
    expect(seen).toEqual([1])
  })

  test('handles one event at a time, and a handler that throws is a warning', async () => {
    let running = 0
    let most = 0
    const seen: number[] = []
    await client.subscribe('news', async ({ seq }) => {
      most = Math.max(most, ++running)
      await Promise.resolve()
      running--
      seen.push(seq)
      if (seq === 1) throw new Error('oops')
    })
    for (const seq of [1, 2, 3]) live(store(seq))
    await until('three events', () => seen.length === 3)
    expect(most).toBe(1)
    expect(warnings).toMatchObject([{ code: 'CMESH_INTERNAL', message: expect.stringContaining('the handler of channel news') }])
  })

  test('a handler slower than the channel misses nothing, though the queue is bounded', async () => {
    const seen: number[] = []
    let release = (): void => undefined
    const held = new Promise<void>((resolve) => { release = resolve })
    await client.subscribe('news', async ({ seq }) => {
      if (seq === 1) await held
      seen.push(seq)
    })
    // Behind the first look at the channel: from here on events come live.
    await client.call('0xE:news:range', { body: '[1,null,1]' })
    for (let seq = 1; seq <= 3_000; seq++) live(store(seq))
    await client.call('0xE:news:range', { body: '[1,null,1]' })
    release()
    await until('all of them', () => seen.length >= 3_000)
    expect(seen).toEqual(Array.from({ length: 3_000 }, (_, i) => i + 1))
  })

  test('says good-bye when it is closed, and its handler is called no more', async () => {
    const seen: number[] = []
    const subscription = await client.subscribe('news', ({ seq }) => { seen.push(seq) })
    const [inbox] = tails.values()
    await subscription.close()
    expect(tails.size).toBe(0)
    tails.set('zombie', inbox as string)
    live(store(1))
    await client.call('0xE:news:read')
    expect(seen).toEqual([])
    expect(subscription.close()).toBe(subscription.close())
  })

  test('ends when its signal fires, and when the client closes', async () => {
    const abort = new AbortController()
    await client.subscribe('news', () => undefined, { signal: abort.signal })
    abort.abort()
    await until('the tail is closed', () => tails.size === 0)
    await client.subscribe('news', () => undefined)
    expect(tails.size).toBe(1)
    await client.close()
    expect(tails.size).toBe(0)
  })

  test('that is refused rejects and leaves nothing behind', async () => {
    mesh.behaviour = (request) => {
      if (request.frame.fqmn.endsWith(':tail')) refuse(request, new CMeshError('CMESH_IAM_DENIED', { permission: 'read', fqmn: '0xE:news:tail' }))
      else events(request)
    }
    await expect(client.subscribe('news', () => undefined)).rejects.toMatchObject({ code: 'CMESH_IAM_DENIED' })
    const before = mesh.requests.length
    await client.call('0xE:news:range', { body: '[1,null,1]' })
    expect(mesh.requests).toHaveLength(before + 1)
  })

  test.each([
    ['noise', Buffer.from('noise'), /CMESH_FRAME_MALFORMED/],
    ['no JSON', encodeReply({ id: Buffer.alloc(16), status: 200, receipt: 'none', body: Buffer.from('{') }), /CMESH_CLIENT_REPLY/],
    ['no event', encodeReply({ id: Buffer.alloc(16), status: 200, receipt: 'none', body: Buffer.from('{"seq":"1"}') }), /CMESH_CLIENT_REPLY/],
  ])('a live message that is %s is a warning, and the next event comes', async (_, bytes, code) => {
    const seen: number[] = []
    await client.subscribe('news', ({ seq }) => { seen.push(seq) })
    for (const inbox of tails.values()) mesh.publish(inbox, bytes)
    live(store(1))
    await until('the event', () => seen.length === 1)
    expect(warnings.map((warning) => warning.code).join()).toMatch(code)
  })
})

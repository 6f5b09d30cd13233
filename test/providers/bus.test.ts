import { createServer } from 'node:net'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import type { CMeshError } from '../../cmtp/errors.ts'
import { connectNats, type NatsBus, type NatsBusOptions } from '../../providers/bus/nats.ts'
import type { Bus, BusStatus } from '../../services/bus/provider.ts'
import { startBroker, type TestBroker } from '../support/broker.ts'
import { ExternalBroker } from '../support/external-broker.ts'

let server: TestBroker
let buses: NatsBus[] = []
beforeAll(async () => { server = await startBroker() })
afterEach(async () => {
  await Promise.all(buses.map((bus) => bus.close()))
  buses = []
})
afterAll(() => server.stop())

async function open(options: Partial<NatsBusOptions> = {}): Promise<NatsBus> {
  const login = options.user === undefined ? server.broker.mesh : {}
  const bus = await connectNats({ servers: server.url, ...login, ...options })
  buses.push(bus)
  return bus
}

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const text = (data: Uint8Array): string => new TextDecoder().decode(data)

/** Collects messages; `until(n)` resolves once n have come. */
function collect(bus: Bus, subject: string, options?: { queue?: string }) {
  const seen: string[] = []
  const waiting: { count: number; resolve: () => void }[] = []
  const subscription = bus.subscribe(subject, ({ data }) => {
    seen.push(text(data))
    for (const { count, resolve } of waiting) if (seen.length >= count) resolve()
  }, options)
  const until = (count: number): Promise<void> => new Promise((resolve) => {
    if (seen.length >= count) resolve()
    else waiting.push({ count, resolve })
  })
  return { seen, subscription, until }
}

function untilStatus(bus: Bus, wanted: BusStatus): Promise<void> {
  return new Promise((resolve) => {
    if (bus.status === wanted) return resolve()
    const off = bus.onStatus((status) => {
      if (status !== wanted) return
      off()
      resolve()
    })
  })
}

describe('publish and subscribe', () => {
  test('hand over subject, data and reply, which is empty when nobody waits', async () => {
    const bus = await open()
    const seen: { subject: string; data: string; reply: string }[] = []
    bus.subscribe('t.handover.*', ({ subject, data, reply }) => { seen.push({ subject, data: text(data), reply }) })
    bus.publish('t.handover.a', bytes('one'), 'somewhere')
    bus.publish('t.handover.b', bytes('two'))
    bus.publish('t.handover.c', new Uint8Array(0), '')
    await bus.flush()
    expect(seen).toEqual([
      { subject: 't.handover.a', data: 'one', reply: 'somewhere' },
      { subject: 't.handover.b', data: 'two', reply: '' },
      { subject: 't.handover.c', data: '', reply: '' },
    ])
  })

  test('keep order and every byte of a message of a megabyte', async () => {
    const [sender, receiver] = [await open(), await open()]
    const sizes: number[] = []
    let last: Uint8Array = new Uint8Array(0)
    receiver.subscribe('t.order', ({ data }) => {
      sizes.push(data.length)
      last = Uint8Array.from(data)
    })
    await receiver.flush()
    const big = Uint8Array.from({ length: 1_179_648 }, (_, at) => at * 31)
    for (let n = 0; n < 1_000; n++) sender.publish('t.order', new Uint8Array(n))
    sender.publish('t.order', big)
    await sender.flush()
    await receiver.flush()
    expect(sizes).toEqual([...Array.from({ length: 1_000 }, (_, n) => n), big.length])
    expect(Buffer.compare(last, big)).toBe(0)
  })

  test('give each message to one member of a queue group', async () => {
    const [a, b, sender] = [await open(), await open(), await open()]
    const groups = [collect(a, 't.queue', { queue: 'q' }), collect(b, 't.queue', { queue: 'q' })]
    await Promise.all([a.flush(), b.flush()])
    const sent = Array.from({ length: 200 }, (_, n) => String(n))
    for (const n of sent) sender.publish('t.queue', bytes(n))
    await sender.flush()
    await Promise.all([a.flush(), b.flush()])
    expect(groups.flatMap(({ seen }) => seen).sort()).toEqual([...sent].sort())
  })

  test('end with unsubscribe at once', async () => {
    const bus = await open()
    const { seen, subscription } = collect(bus, 't.unsubscribe')
    bus.publish('t.unsubscribe', bytes('before'))
    await bus.flush()
    subscription.unsubscribe()
    bus.publish('t.unsubscribe', bytes('after'))
    await bus.flush()
    expect(seen).toEqual(['before'])
  })

  test('a drained subscription hands over what was sent before and nothing after', async () => {
    const bus = await open()
    const { seen, subscription } = collect(bus, 't.drain')
    for (let n = 0; n < 500; n++) bus.publish('t.drain', bytes(String(n)))
    const drained = subscription.drain()
    expect(subscription.drain()).toBe(drained)
    await drained
    bus.publish('t.drain', bytes('late'))
    await bus.flush()
    expect(seen).toHaveLength(500)
  })

  test('a handler that throws is reported and does not deafen the bus', async () => {
    const reported: CMeshError[] = []
    const bus = await open({ onError: (error) => reported.push(error) })
    const cause = new TypeError('a bug')
    bus.subscribe('t.throws', () => { throw cause })
    const { seen } = collect(bus, 't.hears')
    bus.publish('t.throws', bytes('x'))
    bus.publish('t.hears', bytes('y'))
    await bus.flush()
    expect(seen).toEqual(['y'])
    expect(reported).toMatchObject([{ code: 'CMESH_INTERNAL', cause, detail: { component: 'the handler of t.throws' } }])
  })

  test('a message above the broker\'s bound is refused with that bound', async () => {
    const bus = await open()
    expect(() => bus.publish('t.big', new Uint8Array(3_000_000))).toThrow(expect.objectContaining({
      code: 'CMESH_FRAME_TOO_LARGE', message: 'The message has 3000000 bytes; at most 2097152 are allowed.',
    }))
  })
})

describe('a request', () => {
  test('resolves with the answer, a thousand at once with their own', async () => {
    const [client, service] = [await open(), await open()]
    service.subscribe('t.double', ({ data, reply }) => service.publish(reply, bytes(`${text(data)}${text(data)}`)))
    await service.flush()
    const answers = await Promise.all(Array.from({ length: 1_000 }, (_, n) => client.request('t.double', bytes(`<${n}>`))))
    expect(answers.map(text)).toEqual(Array.from({ length: 1_000 }, (_, n) => `<${n}><${n}>`))
    expect(client.pending).toBe(0)
  })

  test('takes an empty answer for an answer', async () => {
    const bus = await open()
    bus.subscribe('t.empty', ({ reply }) => bus.publish(reply, new Uint8Array(0)))
    expect(await bus.request('t.empty', new Uint8Array(0))).toHaveLength(0)
  })

  test('that nobody listens to fails at once', async () => {
    const bus = await open()
    await expect(bus.request('t.nobody', bytes('x'), { timeoutMs: 60_000 })).rejects.toMatchObject({
      code: 'CMESH_BUS_NO_RESPONDERS', status: 503, retry: 'retry', message: 'Nobody answers on t.nobody.',
    })
  })

  test('that is not answered times out by name', async () => {
    const bus = await open()
    bus.subscribe('t.silent', () => undefined)
    await expect(bus.request('t.silent', bytes('x'), { timeoutMs: 30 })).rejects.toMatchObject({
      code: 'CMESH_BUS_TIMEOUT', message: 'No answer on t.silent within 30 ms.',
    })
  })

  test('is given up by its signal', async () => {
    const bus = await open()
    const controller = new AbortController()
    bus.subscribe('t.abort', () => controller.abort())
    const request = bus.request('t.abort', bytes('x'), { signal: controller.signal })
    await expect(request).rejects.toMatchObject({ code: 'CMESH_CLIENT_ABORTED' })
    expect(bus.pending).toBe(0)
  })

  test('past the bound is refused', async () => {
    const bus = await open({ maxPending: 1, drainMs: 0 })
    bus.subscribe('t.busy', () => undefined)
    const first = bus.request('t.busy', bytes('x'))
    await expect(bus.request('t.busy', bytes('x'))).rejects.toMatchObject({ code: 'CMESH_BUS_BUSY', detail: { limit: 1 } })
    await Promise.all([expect(first).rejects.toMatchObject({ code: 'CMESH_BUS_CLOSED' }), bus.close()])
  })

  test('on a subject that the broker forbids fails with that, not with a time-out', async () => {
    const reported: string[] = []
    const login = { ...server.broker.sessionLogin('session1'), inboxPrefix: '_INBOX.session1' }
    const client = await connectNats({ servers: server.url, ...login, onError: (error) => reported.push(error.message) })
    buses.push(client)
    await expect(client.request('cmesh.v1.svc.state.read', bytes('x'), { timeoutMs: 60_000 })).rejects.toMatchObject({
      code: 'CMESH_BUS_DENIED',
      status: 403,
      message: 'The broker does not allow to publish on cmesh.v1.svc.state.read on this connection.',
    })
    expect(reported).toEqual(['The broker does not allow to publish on cmesh.v1.svc.state.read on this connection.'])
  })
})

describe('closing', () => {
  test('waits for requests in flight and loses no answer that a handler gives meanwhile', async () => {
    const [client, service] = [await open(), await open()]
    service.subscribe('t.closing', ({ data, reply }) => {
      const copy = Uint8Array.from(data)
      setImmediate(() => service.publish(reply, copy))
    })
    await service.flush()
    const requests = Array.from({ length: 300 }, (_, n) => client.request('t.closing', bytes(String(n))))
    const closed = client.close()
    expect((await Promise.all(requests)).map(text)).toEqual(requests.map((_, n) => String(n)))
    await closed
    expect(client.status).toBe('closed')
  })

  test('feeds the handlers with what has arrived', async () => {
    const [sender, receiver] = [await open(), await open()]
    const { seen } = collect(receiver, 't.fed')
    await receiver.flush()
    for (let n = 0; n < 1_000; n++) sender.publish('t.fed', bytes(String(n)))
    await sender.flush()
    await receiver.close()
    expect(seen).toHaveLength(1_000)
  })

  test('is idempotent, told to listeners once, and final for everything else', async () => {
    const bus = await open()
    const statuses: BusStatus[] = []
    bus.onStatus((status) => statuses.push(status))
    expect(bus.close()).toBe(bus.close())
    await bus.close()
    expect(statuses).toEqual(['closed'])
    const closed = expect.objectContaining({ code: 'CMESH_BUS_CLOSED', message: 'The connection to the broker is closed.' })
    expect(() => bus.publish('t.x', bytes('x'))).toThrow(closed)
    expect(() => bus.subscribe('t.x', () => undefined)).toThrow(closed)
    await expect(bus.request('t.x', bytes('x'))).rejects.toEqual(closed)
    await expect(bus.flush()).rejects.toEqual(closed)
  })

  test('a listener that left is not told', async () => {
    const bus = await open()
    const statuses: BusStatus[] = []
    bus.onStatus((status) => statuses.push(status))()
    await bus.close()
    expect(statuses).toEqual([])
  })
})

describe('connecting', () => {
  test('to nobody is refused with the address and without the login', async () => {
    await expect(connectNats({ servers: 'nats://me:secret@127.0.0.1:1' })).rejects.toMatchObject({
      code: 'CMESH_BUS_CONNECT', message: 'No broker can be used at nats://127.0.0.1:1: connection refused.',
    })
  })

  test('with a key that the broker does not know is refused', async () => {
    const stranger = 'SUAIHZVYTWNUFLPFLULULUSYBTBGI2RGTKKQ42M7EZWVK4ZGJTGZDEKSUQ'
    await expect(connectNats({ servers: server.url, nkeySeed: stranger })).rejects.toMatchObject({ code: 'CMESH_BUS_CONNECT' })
  })

  test('takes the login from the address', async () => {
    const guarded = await ExternalBroker.start({ extra: () => 'authorization { user: me, password: right }' })
    const { host } = new URL(guarded.url)
    const bus = await connectNats({ servers: `nats://me:right@${host}` })
    expect(bus.status).toBe('connected')
    await bus.close()
    const failure = connectNats({ servers: `nats://me:wrong@${host}` })
    await expect(failure).rejects.toMatchObject({ code: 'CMESH_BUS_CONNECT', message: expect.not.stringContaining('wrong') })
    await guarded.stop()
  })

  test('with an account\'s word about another key is refused', async () => {
    const { nkeySeed } = server.broker.core
    await expect(connectNats({ servers: server.url, nkeySeed, jwt: server.broker.mesh.jwt })).rejects.toMatchObject({ code: 'CMESH_BUS_CONNECT' })
  })

  test.each([['asked it to sign', 'abc', true], ['asked for nothing', undefined, false]])('knows whether the server %s, whatever that says of itself later', async (_, nonce, signed) => {
    const info = (more: object): string => `INFO ${JSON.stringify({ server_id: 'x', version: '2.15.1', headers: true, max_payload: 1_048_576, ...more })}\r\n`
    const said = createServer(socket => {
      socket.write(info(nonce === undefined ? {} : { nonce }))
      // As newer servers do, and all of them when their cluster changes.
      socket.once('data', () => { socket.write(`PONG\r\n${info(nonce === undefined ? { nonce: 'late' } : {})}`) })
      socket.on('data', data => { if (data.toString('latin1').endsWith('PING\r\n')) socket.write('PONG\r\n') })
      socket.on('error', () => undefined)
    })
    await new Promise<void>(resolve => { said.listen(0, '127.0.0.1', resolve) })
    const { port } = said.address() as { port: number }
    const bus = await connectNats({ servers: `nats://127.0.0.1:${port}`, ...server.broker.mesh })
    await bus.connection.flush()
    expect(bus.connection.info?.nonce).toBe(nonce === undefined ? 'late' : undefined)
    expect(bus.signed).toBe(signed)
    await bus.close()
    await new Promise(resolve => { said.close(resolve) })
  })

  test('with half a login is refused', async () => {
    await expect(connectNats({ servers: server.url, jwt: server.broker.mesh.jwt })).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID',
      message: 'The setting jwt is not valid: it is worth nothing without the nkey seed it speaks of.',
    })
  })

  test('where the broker has no accounts is no different with a login for some', async () => {
    const plain = await ExternalBroker.start()
    const bus = await connectNats({ servers: plain.url, ...server.broker.mesh })
    expect(bus.status).toBe('connected')
    await bus.close()
    await plain.stop()
  })

  test('with two logins at once is refused', async () => {
    await expect(connectNats({ servers: server.url, nkeySeed: 'SU', user: 'me' })).rejects.toMatchObject({
      code: 'CMESH_CONFIG_INVALID',
      message: 'The setting user is not valid: an nkey seed and a user are given; one login is needed.',
    })
  })
})

describe('a broker that is killed and returns on the same port', () => {
  test('fails requests in flight at once, refuses new ones meanwhile, and finds its subscriptions working again', async () => {
    const [client, service] = [await open(), await open()]
    const statuses: BusStatus[] = []
    client.onStatus((status) => statuses.push(status))
    service.subscribe('t.silent', () => undefined)
    const { until } = collect(service, 't.again')
    service.subscribe('t.echo', ({ data, reply }) => service.publish(reply, data))
    await service.flush()

    const inFlight = [1, 2, 3].map(() => client.request('t.silent', bytes('x'), { timeoutMs: 300_000 }))
    await client.flush()
    const gone = Promise.all([untilStatus(client, 'disconnected'), untilStatus(service, 'disconnected')])
    process.kill(server.broker.pid as number, 'SIGKILL')
    for (const request of inFlight) {
      await expect(request).rejects.toMatchObject({
        code: 'CMESH_BUS_DISCONNECTED', status: 503, retry: 'retry', message: 'The connection to the broker is down.',
      })
    }
    await gone
    await expect(client.request('t.echo', bytes('x'))).rejects.toMatchObject({ code: 'CMESH_BUS_DISCONNECTED' })
    await expect(client.flush()).rejects.toMatchObject({ code: 'CMESH_BUS_DISCONNECTED' })
    client.publish('t.again', bytes('lost'))
    expect(client.dropped).toBe(1)

    await Promise.all([untilStatus(client, 'connected'), untilStatus(service, 'connected')])
    await service.flush()
    client.publish('t.again', bytes('here'))
    await until(1)
    expect(text(await client.request('t.echo', bytes('back')))).toBe('back')
    expect(statuses).toEqual(['disconnected', 'connected'])
  })

  test('does not keep a bus from closing while it is away', async () => {
    const bus = await open()
    const gone = untilStatus(bus, 'disconnected')
    const back = untilStatus(server.core, 'disconnected').then(() => untilStatus(server.core, 'connected'))
    process.kill(server.broker.pid as number, 'SIGKILL')
    await gone
    await bus.close()
    expect(bus.status).toBe('closed')
    await back
  })
})

/**
 * What both ends ask of the NATS client: that not all messages of a turn wait for its end. The client's types hide the option, so a
 * server on another thread says what has arrived while the turn that sends still lasts.
 */
import { once } from 'node:events'
import { Worker } from 'node:worker_threads'
import { afterEach, beforeEach, expect, test } from '@jest/globals'
import { Connection } from '../../client/connection.ts'
import { EARLY_SENDING } from '../../cmtp/nats.ts'
import { connectNats } from '../../providers/bus/nats.ts'

const SERVER = `
const { parentPort, workerData } = require('node:worker_threads')
const arrived = new Int32Array(workerData)
require('node:net').createServer(socket => {
  socket.write('INFO {"server_id":"test","version":"2.9.10","headers":true,"max_payload":1048576}\\r\\n')
  socket.on('error', () => {})
  socket.on('data', bytes => {
    if (bytes.includes('PING\\r\\n')) socket.write('PONG\\r\\n')
    Atomics.add(arrived, 0, bytes.length)
    Atomics.notify(arrived, 0)
  })
}).listen(0, '127.0.0.1', function () { parentPort.postMessage(this.address().port) })
`
const MESSAGE = Buffer.alloc(2_048)
/** The longest that the turn waits for what should be there at once. */
const PATIENCE_MS = 10_000

const arrived = new Int32Array(new SharedArrayBuffer(4))
let server: Worker
let url: string

beforeEach(async () => {
  arrived[0] = 0
  server = new Worker(SERVER, { eval: true, workerData: arrived.buffer })
  const [port] = await once(server, 'message') as [number]
  url = `nats://127.0.0.1:${port}`
})
afterEach(async () => { await server.terminate() })

/** Publishes twice the limit and a message, and stays in this turn until the limit has arrived or patience ends. */
function arrivedWithin(publish: () => void): number {
  const before = Atomics.load(arrived, 0)
  for (let sent = 0; sent <= 2 * EARLY_SENDING.pendingLimit; sent += MESSAGE.length) publish()
  for (const end = performance.now() + PATIENCE_MS; performance.now() < end;) {
    const seen = Atomics.load(arrived, 0)
    if (seen - before >= EARLY_SENDING.pendingLimit) break
    Atomics.wait(arrived, 0, seen, PATIENCE_MS)
  }
  return Atomics.load(arrived, 0) - before
}

test('a node sends before its turn ends', async () => {
  const bus = await connectNats({ servers: url })
  try {
    await bus.flush()
    expect(arrivedWithin(() => { bus.publish('a.subject', MESSAGE) })).toBeGreaterThanOrEqual(EARLY_SENDING.pendingLimit)
  } finally {
    await bus.close()
  }
})

test('a client sends before its turn ends', async () => {
  const connection = new Connection({ url, name: 'test', connectTimeoutMs: 5_000, maxInFlight: 64, onWarning: () => undefined })
  const failed: Error[] = []
  try {
    connection.use(await connection.dial({ sid: 'a-session' }))
    const ask = (): void => { connection.ask('a.subject', MESSAGE, { timeoutMs: 60_000 }, () => undefined, error => { failed.push(error) }) }
    expect(arrivedWithin(ask)).toBeGreaterThanOrEqual(EARLY_SENDING.pendingLimit)
    expect(failed).toEqual([])
  } finally {
    await connection.close()
  }
})

import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { encodeBatch, type BatchEntryFields } from '../../../cmtp/batch.ts'
import { decodeBatchReply, type BatchReply } from '../../../cmtp/batch-reply.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { LIMITS } from '../../../cmtp/limits.ts'
import { entryId } from '../../../cmtp/message-id.ts'
import type { ReceiptLevel } from '../../../cmtp/wire.ts'
import { jsonReply, type Reply } from '../../../services/call.ts'
import { startMesh, type TestMesh } from '../../support/mesh.ts'
import { recomputedHash } from '../../support/receipts.ts'

// Its last bits wrap within a batch.
const ID = Buffer.from('0102030405060708090a0b0cfffffffe', 'hex')
const VIEW = '0xS:0x001:hello_world'

/** Work that the test ends when it likes, by the address's second segment. */
const held = new Map<string, (reply: Reply) => void>()
let allHeld: { readonly count: number, readonly done: () => void } | undefined
const untilHeld = (count: number): Promise<void> => new Promise(resolve => { allHeld = { count, done: resolve } })

let tally = 0
let mesh: TestMesh
let session: Session
beforeAll(async () => {
  mesh = await startMesh({
    handlers: {
      events: ({ route }) => {
        const [channel, key = ''] = route.segments
        if (channel === 'tally') return jsonReply(route.write ? ++tally : tally)
        if (channel === 'large') return { status: 200, headers: Buffer.alloc(0), body: Buffer.alloc(Number(key), 0x20) }
        return new Promise(resolve => {
          held.set(key, resolve)
          if (held.size === allHeld?.count) allHeld.done()
        })
      },
    },
  })
  session = await mesh.open()
  await mesh.ask(session, VIEW)
})
afterAll(() => mesh.stop())

interface BatchFields {
  readonly receipt?: ReceiptLevel
  readonly who?: Session | undefined
  readonly deadlineMs?: number
}

interface Sent {
  readonly reply: Promise<BatchReply>
  readonly replies: BatchReply[]
  readonly bytes: Promise<Buffer>
}

function send(entries: readonly BatchEntryFields[], fields: BatchFields = {}, id: Buffer = ID): Sent {
  const who = 'who' in fields ? fields.who : session
  const replies: BatchReply[] = []
  const frame = encodeBatch({
    id, token: Buffer.from(who?.token ?? ''), deadlineMs: mesh.time.ms + 5_000, receipt: 'hash', entries, ...fields,
  })
  const bytes = new Promise<Buffer>(resolve => {
    mesh.frontDoor.handle(frame, { sid: who?.sid ?? '', replySubject: '' }, answer => {
      replies.push(decodeBatchReply(answer))
      resolve(answer)
    })
  })
  return { bytes, replies, reply: bytes.then(decodeBatchReply) }
}

const json = (body: Buffer): unknown => JSON.parse(body.toString('utf8'))
const hold = (key: number): BatchEntryFields => ({ fqmn: `0xE:held:${key}` })
const greet = (name: number): BatchEntryFields => ({ fqmn: `${VIEW}:["${name}"]` })

describe('a batch', () => {
  test('is answered in the order of its entries, whichever is done first', async () => {
    const orders = fc.uniqueArray(fc.nat(11), { minLength: 1, maxLength: 12 }).chain(slow => fc.record({
      slow: fc.constant(new Set(slow)), order: fc.shuffledSubarray(slow, { minLength: slow.length }),
    }))
    await fc.assert(fc.asyncProperty(orders, async ({ slow, order }) => {
      held.clear()
      const entries = Array.from({ length: 12 }, (_, i) => (slow.has(i) ? hold(i) : greet(i)))
      const ready = untilHeld(slow.size)
      const { reply, replies } = send(entries)
      await ready
      expect(replies).toEqual([])
      for (const key of order) held.get(String(key))?.(jsonReply(`Held, ${key}`))
      const values = (await reply).entries.map(entry => json(entry.body))
      expect(values).toEqual(entries.map((_, i) => (slow.has(i) ? `Held, ${i}` : `Hello, ${i}`)))
      expect(replies).toHaveLength(1)
    }), { numRuns: 60 })
  })

  test('gives each entry its own status, error, layers and final hash, under its own id', async () => {
    const entries: (BatchEntryFields & { readonly body?: Buffer })[] = [
      { fqmn: VIEW }, { fqmn: '0xZ:nothing' }, { fqmn: VIEW, body: Buffer.from('["x"]') }, { fqmn: '0xS:0xfff:x' }, { fqmn: '0xSW:0x002:increment' },
      { fqmn: '0xR:google.com' }, { fqmn: '0xA:1:0x001:x' },
    ]
    const { id, receipt, entries: replies } = await send(entries, { receipt: 'full' }).reply
    expect({ id, receipt }).toEqual({ id: ID, receipt: 'full' })
    const codes = replies.map(({ status, body }) => (status < 400 ? json(body) : (json(body) as { code: string }).code))
    expect(codes).toEqual([
      'Hello, world', 'CMESH_FQMN_OPCODE', 'Hello, x', 'CMESH_STATE_NO_CONTRACT', 'CMESH_IAM_DENIED', 'CMESH_REGISTRAR_NOT_FOUND', 'CMESH_ROUTER_INTERNAL_ONLY',
    ])
    expect(replies.map(reply => reply.status)).toEqual([200, 400, 200, 404, 403, 404, 405])
    replies.forEach((reply, i) => {
      const read = i !== 1
      expect({ i, hash: reply.finalHash.toString('hex') }).toEqual({
        i,
        hash: recomputedHash(reply, {
          id: entryId(ID, i), sid: read ? session.sid : '', sub: read ? session.sub : '', ...(entries[i]?.body !== undefined && { requestBody: entries[i].body }),
        }),
      })
    })
  })

  test('at level `none` carries neither hashes nor layers, refusals included', async () => {
    const { entries } = await send([{ fqmn: VIEW }, { fqmn: '0xZ' }, { fqmn: `0xE:large:${LIMITS.bodyBytes}` }, { fqmn: `0xE:large:${LIMITS.bodyBytes - 1}` }], { receipt: 'none' }).reply
    expect(entries.map(({ status, finalHash, layers }) => [status, finalHash.length, layers.length]))
      .toEqual([[200, 0, 0], [400, 0, 0], [200, 0, 0], [413, 0, 0]])
  })

  test('without a session is 401 for each entry, with the prompt', async () => {
    const { entries } = await send([{ fqmn: VIEW }, { fqmn: '0xR:google.com' }], { who: undefined }).reply
    for (const { status, body } of entries) expect({ status, value: json(body) }).toMatchObject({ status: 401, value: { code: 'CMESH_IAM_NO_SESSION', prompt: 'identity' } })
    expect(entries).toHaveLength(2)
  })

  test('whose token has to be verified first is answered whole', async () => {
    const fresh = await mesh.open()
    const { entries } = await send([{ fqmn: VIEW }, { fqmn: VIEW }], { who: fresh }).reply
    expect(entries.map(entry => entry.status)).toEqual([200, 200])
  })

  test('that came too late is 408 for each entry; what is not done when its deadline passes is 504, the rest is kept', async () => {
    const late = await send([{ fqmn: VIEW }, { fqmn: VIEW }], { deadlineMs: mesh.time.ms - 1 }).reply
    expect(late.entries.map(entry => entry.status)).toEqual([408, 408])
    held.clear()
    const ready = untilHeld(1)
    const { reply } = send([{ fqmn: VIEW }, hold(0), { fqmn: VIEW }])
    await ready
    mesh.time.ms += 5_001
    expect((await reply).entries.map(entry => entry.status)).toEqual([200, 504, 200])
  })

  test('that asks one thing several times does it once, and gives each entry the final hash that it has on its own', async () => {
    const asked = [VIEW, '0xC:status', VIEW, VIEW, '0xC:status']
    // The same request under the same id at the same time has the same final hash.
    mesh.time.still = true
    const { repeated } = mesh.frontDoor.stats
    const { requests } = mesh.endpoints.state.stats
    const { entries } = await send(asked.map(fqmn => ({ fqmn }))).reply
    expect(mesh.frontDoor.stats.repeated - repeated).toBe(3)
    expect(mesh.endpoints.state.stats.requests - requests).toBe(1)
    for (const [i, entry] of entries.entries()) {
      const alone = await send([{ fqmn: asked[i] as string }], {}, entryId(ID, i)).reply
      expect({ i, hash: entry.finalHash.toString('hex'), body: entry.body.toString() })
        .toEqual({ i, hash: alone.entries[0]?.finalHash.toString('hex'), body: alone.entries[0]?.body.toString() })
    }
    expect(new Set(entries.map(entry => entry.finalHash.toString('hex'))).size).toBe(5)
    mesh.time.still = false
  })

  test('that asks one thing several times at `full` does it once, and gives each entry layers of its own final hash', async () => {
    const asked = [VIEW, '0xC:status', VIEW, VIEW, '0xC:status']
    const { repeated } = mesh.frontDoor.stats
    const { requests } = mesh.endpoints.state.stats
    const { entries } = await send(asked.map(fqmn => ({ fqmn })), { receipt: 'full' }).reply
    expect(mesh.frontDoor.stats.repeated - repeated).toBe(3)
    expect(mesh.endpoints.state.stats.requests - requests).toBe(1)
    expect(entries.map(entry => entry.finalHash.toString('hex')))
      .toEqual(entries.map((entry, i) => recomputedHash(entry, { id: entryId(ID, i), sid: session.sid, sub: session.sub })))
    expect(new Set(entries.map(entry => entry.finalHash.toString('hex'))).size).toBe(5)
  })

  test.each<[string, readonly BatchEntryFields[], ReceiptLevel]>([
    ['addresses that differ in their last byte', [{ fqmn: `${VIEW}:["a"]` }, { fqmn: `${VIEW}:["b"]` }], 'hash'],
    ['entries with bodies', [{ fqmn: VIEW, body: Buffer.from('["a"]') }, { fqmn: VIEW, body: Buffer.from('["b"]') }, { fqmn: VIEW }], 'hash'],
    ['refusals', [{ fqmn: '0xS:0xfff:x' }, { fqmn: '0xS:0xfff:x' }], 'hash'],
    ['denied writes', [{ fqmn: '0xSW:0x002:increment' }, { fqmn: '0xSW:0x002:increment' }], 'hash'],
  ])('repeats nothing for %s', async (_, entries, receipt) => {
    const { repeated } = mesh.frontDoor.stats
    const together = await send(entries, { receipt }).reply
    expect(mesh.frontDoor.stats.repeated).toBe(repeated)
    for (const [i, entry] of entries.entries()) {
      const alone = await send([entry], { receipt }, entryId(ID, i)).reply
      expect([together.entries[i]?.status, together.entries[i]?.body.toString()]).toEqual([alone.entries[0]?.status, alone.entries[0]?.body.toString()])
    }
  })

  test('does a read again behind what may have changed it, though that was done at once', async () => {
    const writer = await mesh.open({ identity: mesh.operator })
    await mesh.ask(writer, VIEW)
    const { repeated } = mesh.frontDoor.stats
    const { entries } = await send(['0xE:tally', '0xE:tally', '0xEW:tally', '0xE:tally', '0xE:tally'].map(fqmn => ({ fqmn })), { who: writer }).reply
    expect(entries.map(({ body }) => json(body))).toEqual([0, 0, 1, 1, 1])
    expect(mesh.frontDoor.stats.repeated - repeated).toBe(2)
  })

  test('is counted by its entries', async () => {
    const { requests, batches, failed } = mesh.frontDoor.stats
    await send([{ fqmn: VIEW }, { fqmn: '0xZ' }, { fqmn: '0xS:0xfff:x' }]).reply
    expect(mesh.frontDoor.stats).toMatchObject({ requests: requests + 3, batches: batches + 1, failed: failed + 2 })
  })
})

describe('entries that outgrow the reply', () => {
  const large = (bytes: number): BatchEntryFields => ({ fqmn: `0xE:large:${bytes}` })

  test.each(['full', 'hash', 'none'] as const)('a read that did not fit is not told again, at %s', async receipt => {
    const { entries } = await send([large(700_000), large(600_000), large(600_000), large(10)], { receipt }).reply
    expect(entries.map(({ status, body }) => [status, status === 200 ? body.length : 0])).toEqual([[200, 700_000], [413, 0], [413, 0], [200, 10]])
  })

  test('are refused one by one: what comes behind them and fits is answered', async () => {
    for (const receipt of ['hash', 'full'] as const) {
      const entries = [large(600_000), large(600_001), { fqmn: VIEW }, large(400_000), large(400_001), { fqmn: VIEW }]
      const reply = await send(entries, { receipt }).reply
      expect(reply.entries.map(entry => entry.status)).toEqual([200, 413, 200, 200, 413, 200])
      expect(json(reply.entries[1]?.body as Buffer)).toMatchObject({
        code: 'CMESH_FRAME_TOO_LARGE', retry: 'terminal', message: expect.stringMatching(/^The batch reply has \d+ bytes; at most \d+ are allowed\.$/),
      })
      expect(reply.entries[1]?.finalHash).toHaveLength(32)
      expect(json(reply.entries[5]?.body as Buffer)).toBe('Hello, world')
    }
  })

  test('are none of those that repeat one another, up to 64 frames of them', async () => {
    const { entries } = await send(Array.from({ length: 100 }, () => large(1_000_000)), { receipt: 'none' }).reply
    expect(entries.map(({ status }) => status)).toEqual([...Array<number>(76).fill(200), ...Array<number>(24).fill(413)])
    expect(entries.slice(0, 76).every(({ body }) => body.length === 1_000_000)).toBe(true)
  })

  test.each(['hash', 'full', 'none'] as const)('leave a reply that is a frame, however many are refused (%s)', async receipt => {
    const entries = Array.from({ length: LIMITS.batchEntries }, (_, i) => large(60_000 + i))
    const { bytes } = send(entries, { receipt })
    const frame = await bytes
    expect(frame.length).toBeLessThanOrEqual(LIMITS.frameBytes)
    const statuses = decodeBatchReply(frame).entries.map(entry => entry.status)
    expect(statuses).toHaveLength(LIMITS.batchEntries)
    expect(new Set(statuses)).toEqual(new Set([200, 413]))
    // The room is used: what is kept for refusals is no more than they may take.
    expect(statuses.filter(status => status === 200).length).toBeGreaterThanOrEqual(10)
  })

  test('are none at level `full` where what the receipts share is told once: a whole batch of different reads is answered', async () => {
    const entries = Array.from({ length: LIMITS.batchEntries }, (_, i) => ({ fqmn: `${VIEW}:["${i}"]` }))
    const reply = await send(entries, { receipt: 'full' }).reply
    expect(new Set(reply.entries.map(({ status }) => status))).toEqual(new Set([200]))
  })

  test('at level `full` with long addresses leave a reply that is a frame too', async () => {
    const entries = Array.from({ length: LIMITS.batchEntries }, (_, i) => ({ fqmn: `0xS:0x001:${'f'.repeat(1_000)}${i}` }))
    const { bytes } = send(entries, { receipt: 'full' })
    expect((await bytes).length).toBeLessThanOrEqual(LIMITS.frameBytes)
    const statuses = decodeBatchReply(await bytes).entries.map(entry => entry.status)
    expect(new Set(statuses)).toEqual(new Set([404, 413]))
  })
})

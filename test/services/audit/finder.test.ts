/** Receipts over several nodes: who is asked, who decides, what is said where nobody has one. */
import { beforeEach, expect, test } from '@jest/globals'
import { CMeshError } from '../../../cmtp/errors.ts'
import { encodeRequest, ReplyFrame } from '../../../cmtp/frame.ts'
import { ReceiptFinder, receiptSubject } from '../../../services/audit/finder.ts'
import type { Reply } from '../../../services/call.ts'
import type { AuthContext } from '../../../services/iam/guard.ts'
import type { BusMessage } from '../../../services/bus/provider.ts'
import { SILENT_LOG } from '../../../services/log.ts'

const ID = 'ab'.repeat(16)
const NONE = new CMeshError('CMESH_AUDIT_NO_RECEIPT', { id: ID })
const NOW_MS = 1_800_000_000_000
const reply = (text: string): Reply => ({ status: 200, headers: Buffer.alloc(0), body: Buffer.from(text) })

/** Who asked: a token is `<sid> <sub>`. */
const caller = (sub: string, sid = 's1'): AuthContext => ({ sub, sid }) as AuthContext
interface Node {
  readonly finder: ReceiptFinder
  /** Whom it was asked by, on its own account. */
  readonly asked: string[]
  has: ((auth: AuthContext) => Promise<Reply>) | undefined
}

/** A bus of which answers come when they come. */
class Later {
  readonly status = 'connected'
  readonly #handlers = new Map<string, (message: BusMessage) => void>()
  readonly #inboxes = new Map<string, (data: Uint8Array) => void>()
  #inbox = 0

  subscribe(subject: string, handler: (message: BusMessage) => void): { drain(): Promise<void>, unsubscribe(): void } {
    this.#handlers.set(subject, handler)
    const unsubscribe = (): void => { this.#handlers.delete(subject) }
    return { unsubscribe, drain: () => Promise.resolve(unsubscribe()) }
  }

  publish(subject: string, data: Uint8Array): void {
    this.#inboxes.get(subject)?.(data)
  }

  request(subject: string, data: Uint8Array): Promise<Uint8Array> {
    const handler = this.#handlers.get(subject)
    if (handler === undefined) return Promise.reject(new CMeshError('CMESH_BUS_NO_RESPONDERS', { subject }))
    const reply = `_INBOX.${this.#inbox++}`
    return new Promise(resolve => {
      this.#inboxes.set(reply, resolve)
      handler({ subject, data, reply })
    })
  }
}

let bus: Later
let members: string[]
let nodes: Record<string, Node>
function node(did: string): Node {
  const asked: string[] = []
  const made: Node = { asked, has: undefined, finder: new ReceiptFinder({
    did, members: () => members, log: SILENT_LOG, clock: { nowMs: () => NOW_MS },
    bus,
    guard: {
      tokenOf: ({ sid, sub }) => Buffer.from(`${sid} ${sub}`),
      check: (token, sid) => {
        const [own, sub = ''] = Buffer.from(token).toString().split(' ')
        if (own !== sid || sub === '') throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'another\'s' })
        return caller(sub, sid)
      },
      authorise: ({ sub }, route) => {
        if (sub === 'banned') throw new CMeshError('CMESH_IAM_DENIED', { permission: 'read', fqmn: route.bare })
        return '>'
      },
    },
    receipts: { fetch: (id, auth) => {
      asked.push(`${auth.sub} ${id}`)
      return made.has?.(auth) ?? Promise.reject(NONE)
    } },
  }) }
  made.finder.start()
  return made
}
beforeEach(() => {
  bus = new Later()
  members = ['a', 'b', 'c']
  nodes = Object.fromEntries(members.map(did => [did, node(did)]))
})
const at = (did: string): Node => nodes[did] as Node
const find = (auth = caller('me'), deadlineMs = NOW_MS + 1_000): Promise<string> => at('a').finder.fetch(ID, auth, deadlineMs).then(({ body }) => Buffer.from(body).toString())

test('its own answer counts first, and nobody is asked', async () => {
  for (const did of members) at(did).has = () => Promise.resolve(reply(did))
  expect(await find()).toBe('a')
  expect([at('b').asked, at('c').asked]).toEqual([[], []])
})

test('what it has not another gives, and decides for itself who asks', async () => {
  at('c').has = auth => (auth.sub === 'me' ? Promise.resolve(reply('c')) : Promise.reject(NONE))
  expect(await find()).toBe('c')
  expect(at('c').asked).toEqual([`me ${ID}`])
  await expect(find(caller('somebody'))).rejects.toMatchObject({ code: 'CMESH_AUDIT_NO_RECEIPT', detail: { id: ID } })
})

test('a receipt of a 401, after which the client asked again under the same id, is given only where there is no other', async () => {
  /** As far as the finder looks: the status stands behind magic, versions, flags and id. */
  const receiptOf = (status: number, of: string): Reply => {
    const body = Buffer.from(`${' '.repeat(25)}${of}`)
    body.writeUInt16BE(status, 23)
    return { ...reply(''), body }
  }
  const found = async (): Promise<string> => (await find()).slice(-1)
  at('a').has = () => Promise.resolve(receiptOf(401, 'a'))
  at('b').has = () => Promise.resolve(receiptOf(401, 'b'))
  expect(await found()).toBe('a')
  at('c').has = () => Promise.resolve(receiptOf(200, 'c'))
  expect(await found()).toBe('c')
  at('a').has = undefined
  expect(await found()).toBe('c')
  at('c').has = undefined
  expect(await found()).toBe('b')
})

test('where all have answered that they have none, there is none', async () => {
  await expect(find()).rejects.toMatchObject({ code: 'CMESH_AUDIT_NO_RECEIPT' })
  for (const did of members) expect(at(did).asked).toEqual([`me ${ID}`])
})

test('where one is silent or fails it is said that it may have it, unless another does', async () => {
  await at('b').finder.stop()
  await expect(find()).rejects.toMatchObject({
    code: 'CMESH_AUDIT_UNHEARD', detail: { id: ID, silent: 1, asked: 2 },
    message: `No node that answered has a receipt of ${ID} that you may have, and 1 of 2 others did not answer. Try again when all are there.`,
  })
  at('c').has = () => Promise.resolve(reply('c'))
  expect(await find()).toBe('c')
  at('c').has = () => Promise.reject(new CMeshError('CMESH_AUDIT_CORRUPT', { path: '/secret', batch: 1, reason: 'x' }))
  await expect(find()).rejects.toMatchObject({ code: 'CMESH_AUDIT_UNHEARD', detail: { silent: 2 } })
})

test('no other trouble than that there is none makes it ask further, and what has no session asks nobody', async () => {
  at('a').has = () => Promise.reject(new CMeshError('CMESH_AUDIT_CORRUPT', { path: '', batch: 1, reason: 'x' }))
  await expect(find()).rejects.toMatchObject({ code: 'CMESH_AUDIT_CORRUPT' })
  at('a').has = undefined
  await expect(find(caller('0x002', ''))).rejects.toMatchObject({ code: 'CMESH_AUDIT_NO_RECEIPT' })
  expect(at('b').asked).toEqual([])
})

test('one caller has so many searches under way and no more', async () => {
  let go = (): void => {}
  const gate = new Promise<void>(resolve => { go = resolve })
  at('b').has = async () => {
    await gate
    throw NONE
  }
  const searches = Array.from({ length: 64 }, () => find())
  await new Promise(resolve => { setImmediate(resolve) })
  await expect(find()).rejects.toMatchObject({ code: 'CMESH_ROUTER_BUSY', detail: { what: 'the search for receipts', limit: 64 } })
  const other = find(caller('somebody'))
  go()
  expect(new Set((await Promise.allSettled([...searches, other])).map(({ status }) => status))).toEqual(new Set(['rejected']))
  await expect(find()).rejects.toMatchObject({ code: 'CMESH_AUDIT_NO_RECEIPT' })
})

test('a search of this node\'s own log is one of them', async () => {
  let go = (): void => {}
  const gate = new Promise<void>(resolve => { go = resolve })
  at('a').has = async () => {
    await gate
    return reply('a')
  }
  const searches = Array.from({ length: 64 }, () => find())
  await expect(find()).rejects.toMatchObject({ code: 'CMESH_ROUTER_BUSY', detail: { limit: 64 } })
  go()
  expect(new Set(await Promise.all(searches))).toEqual(new Set(['a']))
  expect(await find()).toBe('a')
})

test('so many searches of all are under way and no more, and each makes room when it ends', async () => {
  let go = (): void => {}
  let gate = new Promise<void>(resolve => { go = resolve })
  at('b').has = async () => {
    await gate
    throw NONE
  }
  for (let round = 0; round < 2; round++) {
    const searches = Array.from({ length: 256 }, (_, i) => find(caller(`caller ${i % 16}`)))
    await new Promise(resolve => { setImmediate(resolve) })
    await expect(find()).rejects.toMatchObject({ code: 'CMESH_ROUTER_BUSY', detail: { limit: 256 } })
    go()
    const ends = await Promise.allSettled(searches)
    expect(new Set(ends.map(end => end.status === 'rejected' && (end.reason as CMeshError).code))).toEqual(new Set(['CMESH_AUDIT_NO_RECEIPT']))
    gate = new Promise<void>(resolve => { go = resolve })
  }
})

test.each([
  ['of another session', { body: 's2' }, 'CMESH_IAM_NO_SESSION'],
  ['of a caller that may read no receipts', { token: 's1 banned' }, 'CMESH_IAM_DENIED'],
  ['that comes too late', { deadlineMs: NOW_MS - 1 }, 'CMESH_ROUTER_DEADLINE'],
  ['for something else', { fqmn: '0xC:status' }, 'CMESH_ROUTER_INTERNAL_ONLY'],
  ['for a write', { fqmn: `0xCW:receipt:${ID}` }, 'CMESH_ROUTER_INTERNAL_ONLY'],
  ['for what is no id', { fqmn: '0xC:receipt' }, 'CMESH_AUDIT_NO_RECEIPT'],
] as const)('a question %s is answered with why, and nothing else', async (_, { fqmn = `0xC:receipt:${ID}`, token = 's1 me', body = 's1', deadlineMs = NOW_MS + 1 }: {
  fqmn?: string, token?: string, body?: string, deadlineMs?: number
}, code) => {
  const question = encodeRequest({ id: Buffer.alloc(16), fqmn, token: Buffer.from(token), deadlineMs, receipt: 'none', hops: 1, body: Buffer.from(body) })
  const answer = ReplyFrame.decode(await bus.request(receiptSubject('b'), question))
  expect(answer.status).toBeGreaterThanOrEqual(400)
  expect(JSON.parse(answer.body.toString())).toMatchObject({ code })
  const noise = ReplyFrame.decode(await bus.request(receiptSubject('b'), Buffer.from('noise')))
  expect(noise.status).toBe(400)
})

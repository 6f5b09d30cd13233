import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { LIMITS } from '../../../cmtp/limits.ts'
import { parsePermission } from '../../../cmtp/permission.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { startMesh, type TestMesh } from '../../support/mesh.ts'

interface Taken {
  readonly seq: number
  readonly data: unknown
  readonly attempt: number
  readonly token: string
  readonly origin?: object
}

let mesh: TestMesh
let stranger: Session
let channel: string
let channels = 0
beforeAll(async () => {
  mesh = await startMesh()
  stranger = await mesh.open()
})
afterAll(() => mesh.stop())
beforeEach(() => { channel = `work.${channels++}` })

const as = (session: Session, fqmn: string, body?: unknown): ReturnType<TestMesh['ask']> =>
  mesh.ask(session, fqmn, body === undefined ? {} : { body: JSON.stringify(body) })
const of = (action: string, body?: unknown, session = mesh.root): ReturnType<TestMesh['ask']> => as(session, `0xEW:${channel}:g:${action}`, body)
const pull = async (body: object = {}): Promise<readonly Taken[]> => (await of('pull', body)).value as readonly Taken[]
const publish = async (...payloads: (string | Buffer)[]): Promise<void> => {
  for (const body of payloads) await mesh.ask(mesh.root, `0xEW:${channel}`, { body })
}
const letters = async (session = mesh.root): Promise<readonly Record<string, unknown>[]> =>
  ((await as(session, '0xE:events.dead:list')).value as { letters: Record<string, unknown>[] }).letters.filter(letter => letter['channel'] === channel)

/** A session of an identity that may do what is listed besides what a newcomer may. */
async function allowed(...permissions: string[]): Promise<Session> {
  const identity = KeyPair.generate()
  mesh.grants.set(identity.did, ['read 0xE:>', 'write 0xEW:events.dead:*:drop', 'write 0xEW:events.dead:*:replay', ...permissions].map(parsePermission))
  return mesh.open({ identity })
}

describe('a group', () => {
  test('is made with its defaults, shown, listed and removed', async () => {
    const shown = { channel, group: 'g', from: 'new', ackWaitMs: 30_000, attempts: 5, backoffMs: 1_000, waiting: 0, inHand: 0 }
    expect((await of('open')).value).toEqual(shown)
    expect((await as(mesh.root, `0xE:${channel}:groups`)).value).toEqual([shown])
    expect((await of('remove')).status).toBe(200)
    expect((await as(mesh.root, `0xE:${channel}:groups`)).value).toEqual([])
  })

  test('hands out events with attempt and token, and not again once they are acked', async () => {
    await of('open')
    await publish('one', Buffer.from([255]))
    const taken = await pull({ max: 5 })
    expect(taken).toMatchObject([{ channel, data: 'one', attempt: 1 }, { channel, data: { base64: '/w==' }, attempt: 1 }])
    expect((await of('ack', { tokens: taken.map(({ token }) => token) })).value).toEqual({ done: 2 })
    expect((await as(mesh.root, `0xE:${channel}:groups`)).value).toMatchObject([{ waiting: 0, inHand: 0 }])
  })

  test('gives as many events as fit into a reply, however they look in JSON', async () => {
    await of('open')
    const payload = Buffer.alloc(LIMITS.eventBytes, 1)
    await publish(...Array.from({ length: 14 }, () => payload))
    const first = await pull({ max: 64 })
    expect(first.length).toBeGreaterThan(9)
    expect(first[0]?.data).toEqual({ base64: payload.toString('base64') })
    expect(await pull({ max: 64 })).toHaveLength(14 - first.length)
  })

  test('waits for a first event as long as it is told to', async () => {
    await of('open')
    const waiting = pull({ waitMs: 4_000 })
    await publish('late')
    expect(await waiting).toMatchObject([{ data: 'late' }])
  })

  test.each<[what: string, permissions: string[], denied: string]>([
    ['who may only read', [], 'write'],
    ['who may write everywhere but not read', ['write 0xEW:>'], 'read'],
  ])('gives nothing to %s', async (_what, permissions, denied) => {
    await of('open')
    const identity = KeyPair.generate()
    mesh.grants.set(identity.did, (denied === 'read' ? permissions : ['read 0xE:>']).map(parsePermission))
    const session = await mesh.open({ identity })
    for (const action of ['open', 'pull']) {
      expect(await of(action, {}, session)).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED', message: expect.stringContaining(`Permission ${denied} on`) })
    }
  })

  test('is for whom its own address is granted, and no other group', async () => {
    const member = await allowed(`write 0xEW:${channel}:g:*`)
    await of('open')
    expect((await of('pull', {}, member)).value).toEqual([])
    expect(await as(member, `0xEW:${channel}:other:open`)).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
    expect(await as(member, `0xEW:${channel}`, 'x')).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
  })

  test('a right that is taken back ends a wait', async () => {
    const identity = KeyPair.generate()
    mesh.grants.set(identity.did, ['read 0xE:>', `write 0xEW:${channel}:g:*`].map(parsePermission))
    const member = await mesh.open({ identity })
    await of('open')
    const waiting = of('pull', { waitMs: 4_000 }, member)
    mesh.grants.set(identity.did, [])
    mesh.guard.grantsChanged()
    mesh.time.ms += 1_000
    expect(await waiting).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
  })

  test.each<[what: string, action: string, body: unknown, expected: string]>([
    ['a beginning that is none', 'open', { from: 'last' }, '"new", "first" or a sequence as from'],
    ['an ack wait that is too short', 'open', { ackWaitMs: 99 }, 'a whole number from 100 to 3600000 as ackWaitMs'],
    ['no attempts', 'open', { attempts: 0 }, 'a whole number from 1 to 100 as attempts'],
    ['too many events at once', 'pull', { max: 65 }, 'a whole number from 1 to 64 as max'],
    ['too long a wait', 'pull', { waitMs: 30_001 }, 'a whole number from 0 to 30000 as waitMs'],
    ['an ack of nothing', 'ack', {}, 'at most 64 tokens'],
    ['a nack of nothing', 'nack', {}, 'a token'],
  ])('refuses %s', async (_what, action, body, expected) => {
    await of('open')
    expect(await of(action, body)).toMatchObject({ status: 400, code: 'CMESH_FRAME_MALFORMED', message: expect.stringContaining(`in the body ${expected}`) })
  })

  test('refuses a name that is too long, and a token that is none', async () => {
    expect(await as(mesh.root, `0xEW:${channel}:${'x'.repeat(65)}:open`)).toMatchObject({ status: 409, code: 'CMESH_EVENTS_GROUP' })
    await of('open')
    expect(await of('ack', { tokens: ['>'] })).toMatchObject({
      status: 409, code: 'CMESH_EVENTS_GROUP', message: `The group g of channel ${channel} refuses: that is no token of an event in hand.`,
    })
    expect(await as(mesh.root, `0xEW:${channel}:none:pull`)).toMatchObject({ status: 404, code: 'CMESH_EVENTS_NO_GROUP' })
  })
})

describe('an event that fails', () => {
  const error = { code: 'E_ODD', message: 'it is odd' }

  /** Takes and lets go until it is dead; gives the letter's id. */
  async function die(attempts: number): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      const [taken] = await pull()
      expect(taken).toMatchObject({ attempt })
      const { value } = await of('nack', { token: taken?.token, error })
      if (attempt === attempts) return (value as { dead: string }).dead
      expect(value).toEqual({ retryMs: 0 })
    }
  }

  test('comes again after a pause that doubles, or the one it was let go with', async () => {
    await of('open', { backoffMs: 100 })
    await publish('x')
    const pauses: unknown[] = []
    for (const delayMs of [undefined, undefined, 7]) {
      const [taken] = await pull()
      const { value } = await of('nack', { token: taken?.token, delayMs })
      pauses.push(value)
      mesh.time.ms += (value as { retryMs: number }).retryMs
    }
    expect(pauses).toEqual([{ retryMs: 100 }, { retryMs: 200 }, { retryMs: 7 }])
  })

  test('is a dead letter after its last attempt, with the error, the attempts and what it was', async () => {
    await of('open', { attempts: 2, backoffMs: 0 })
    await publish('poison', 'good')
    const [first] = await pull()
    await of('nack', { token: first?.token, error })
    const [second] = await pull()
    const { value } = await of('nack', { token: second?.token, error })
    const { dead: id } = value as { dead: string }
    const outline = { id, kind: 'event', channel, group: 'g', seq: first?.seq, attempts: 2, error, timeMs: mesh.time.ms }
    expect(await letters()).toEqual([{ ...outline, place: expect.any(Number) }])
    expect((await as(mesh.root, `0xE:events.dead:show:["${id}"]`)).value).toEqual({ ...outline, eventTimeMs: mesh.time.ms, data: 'poison', origin: first?.origin })
    expect(first?.origin).toEqual({ request: expect.stringMatching(/^[0-9a-f]{32}$/) })
    expect(await pull()).toMatchObject([{ data: 'good' }])
  })

  test('is a dead letter too when its takers vanish, each time', async () => {
    await of('open', { attempts: 2, ackWaitMs: 100 })
    await publish('x')
    for (let i = 0; i < 2; i++) {
      expect(await pull()).toHaveLength(1)
      mesh.time.ms += 100
    }
    expect(await pull()).toEqual([])
    expect(await letters()).toMatchObject([{ attempts: 2, error: { code: 'CMESH_EVENTS_NOT_HANDLED', message: expect.stringMatching(/^Nobody finished event \d+ of channel .* within 100 ms\.$/) } }])
    expect((await as(mesh.root, `0xE:${channel}:groups`)).value).toMatchObject([{ waiting: 0, inHand: 0 }])
  })

  test('is replayed to its group alone, once, and may die again', async () => {
    await of('open', { attempts: 1, backoffMs: 0 })
    await publish('x')
    const id = await die(1)
    expect((await as(mesh.root, `0xEW:events.dead:${id}:replay`)).value).toEqual({ id, replayed: true })
    expect((await as(mesh.root, `0xEW:events.dead:${id}:replay`)).value).toEqual({ id, replayed: false })
    expect(await letters()).toEqual([])
    expect(await die(1)).toBe(id)
    expect((await as(mesh.root, `0xE:events.dead:show:["${id}"]`)).value).toMatchObject({ origin: { request: expect.stringMatching(/^[0-9a-f]{32}$/) } })
    expect(await letters()).toHaveLength(1)
    expect((await as(mesh.root, `0xEW:events.dead:${id}:replay`)).value).toEqual({ id, replayed: true })
    expect(await die(1)).toBe(id)
  })

  test('is dropped, once', async () => {
    await of('open', { attempts: 1 })
    await publish('x')
    const id = await die(1)
    expect((await as(mesh.root, `0xEW:events.dead:${id}:drop`)).value).toEqual({ id, dropped: true })
    expect((await as(mesh.root, `0xEW:events.dead:${id}:drop`)).value).toEqual({ id, dropped: false })
    expect(await as(mesh.root, `0xE:events.dead:show:["${id}"]`)).toMatchObject({
      status: 404, code: 'CMESH_EVENTS_NO_LETTER', message: `There is no dead letter ${id} that you may see.`,
    })
  })

  test('keeps its letter when its group is gone', async () => {
    await of('open', { attempts: 1 })
    await publish('x')
    const id = await die(1)
    await of('remove')
    expect(await as(mesh.root, `0xEW:events.dead:${id}:replay`)).toMatchObject({ status: 404, code: 'CMESH_EVENTS_NO_GROUP' })
    expect(await letters()).toHaveLength(1)
  })

  test('shows its letter to who may take from the group, and to nobody else', async () => {
    const member = await allowed(`write 0xEW:${channel}:g:*`)
    await of('open', { attempts: 1 })
    await publish('x')
    const id = await die(1)
    expect(await letters(stranger)).toEqual([])
    expect(await as(stranger, `0xE:events.dead:show:["${id}"]`)).toMatchObject({ status: 404, code: 'CMESH_EVENTS_NO_LETTER' })
    const outsider = await allowed()
    expect((await as(outsider, `0xEW:events.dead:${id}:drop`)).value).toEqual({ id, dropped: false })
    expect((await as(outsider, `0xEW:events.dead:${id}:replay`)).value).toEqual({ id, replayed: false })
    expect(await letters(member)).toHaveLength(1)
    expect((await as(member, `0xEW:events.dead:${id}:drop`)).value).toEqual({ id, dropped: true })
  })
})

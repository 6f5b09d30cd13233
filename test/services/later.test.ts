import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { parsePermission } from '../../cmtp/permission.ts'
import { laterCallId, laterJti } from '../../services/later/records.ts'
import { until } from '../client/support/until.ts'
import { testCall } from '../support/calls.ts'
import { startMesh, type TestMesh } from '../support/mesh.ts'

const INCREMENT = '0xSW:0x002:increment'
let mesh: TestMesh
beforeAll(async () => { mesh = await startMesh() })
afterAll(() => mesh.stop())

const later = (ask: object, session = mesh.root): ReturnType<TestMesh['ask']> => mesh.ask(session, '0xSW:0x000:later', { body: JSON.stringify(ask) })
const idOf = async (ask: object, session = mesh.root): Promise<string> => {
  const { status, value } = await later(ask, session)
  expect(status).toBe(200)
  return (value as { id: string }).id
}
const counted = async (): Promise<number> => (await mesh.ask(mesh.root, '0xS:0x002:get')).value as number
const waiting = async (session = mesh.root): Promise<{ id: string }[]> => (await mesh.ask(session, '0xS:0x000:later')).value as { id: string }[]
const letters = async (session = mesh.root): Promise<Record<string, unknown>[]> =>
  ((await mesh.ask(session, '0xE:events.dead:list')).value as { letters: Record<string, unknown>[] }).letters
/** Lets log time come to when something is due. */
async function pass(ms: number): Promise<void> {
  mesh.time.ms += ms
  await mesh.ask(mesh.root, INCREMENT)
}

const BASE = ['read 0xE:>', 'read 0xS:>', 'write 0xSW:0x000:later', 'write 0xSW:0x000:cancel', 'write 0xEW:events.dead:*:replay']

/** Somebody who may ask for delayed calls, and what else is listed. */
async function allowed(...permissions: string[]): Promise<{ readonly did: string, readonly session: Session }> {
  const identity = KeyPair.generate()
  mesh.grants.set(identity.did, [...BASE, ...permissions].map(parsePermission))
  return { did: identity.did, session: await mesh.open({ identity }) }
}

describe('a delayed call', () => {
  test('is made when log time has come to it, once, and not before', async () => {
    const before = await counted()
    const id = await idOf({ fqmn: INCREMENT, inMs: 1_000 })
    expect(await waiting()).toEqual([{ id, did: mesh.operator.did, fqmn: INCREMENT, atMs: mesh.time.ms + 1_000 }])
    await pass(999)
    expect(await counted()).toBe(before + 1)
    expect(await waiting()).toHaveLength(1)
    await pass(1)
    await until('it was made', async () => (await waiting()).length === 0)
    expect(await counted()).toBe(before + 3)
  })

  test('publishes, by a name or not, with its body', async () => {
    await idOf({ fqmn: '0xEW:later.channel', body: { base64: Buffer.from([0, 255]).toString('base64') }, atMs: 0 })
    await until('it was made', async () => (await waiting()).length === 0)
    expect((await mesh.ask(mesh.root, '0xE:later.channel')).value).toMatchObject({ data: { base64: 'AP8=' } })
  })

  test('is taken back by who asked or by the operator, once, and never made', async () => {
    const { session } = await allowed()
    const stranger = await allowed()
    const id = await idOf({ fqmn: INCREMENT, inMs: 60_000 }, session)
    const cancel = async (as: Session): Promise<unknown> => (await mesh.ask(as, `0xSW:0x000:cancel:["${id}"]`)).value
    expect(await waiting(stranger.session)).toEqual([])
    expect(await cancel(stranger.session)).toEqual({ id, cancelled: false })
    expect(await waiting(session)).toHaveLength(1)
    expect(await cancel(session)).toEqual({ id, cancelled: true })
    expect(await cancel(mesh.root)).toEqual({ id, cancelled: false })
    expect(await waiting()).toEqual([])
  })

  test('takes the permission to ask, and the permissions of the moment to be made', async () => {
    expect(await later({ fqmn: INCREMENT, inMs: 0 }, await mesh.open())).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
    const { did, session } = await allowed(`write ${INCREMENT}`)
    const before = await counted()
    const id = await idOf({ fqmn: INCREMENT, inMs: 1_000 }, session)
    mesh.grants.set(did, [parsePermission('read 0xE:>')])
    await pass(1_000)
    await until('it is over', async () => (await waiting()).length === 0)
    expect(await letters()).toHaveLength(1)
    expect(await counted()).toBe(before + 1)
    const { value } = await mesh.ask(mesh.root, `0xE:events.dead:show:["${id}"]`)
    expect(value).toMatchObject({
      id, kind: 'call', did, fqmn: INCREMENT, attempts: 1, error: { code: 'CMESH_IAM_DENIED', message: `Permission write on ${INCREMENT} is missing.` },
      layers: [{ hop: 'state', decision: 'denied', status: 403, fqmn: INCREMENT }],
    })
    mesh.grants.set(did, [...BASE, `write ${INCREMENT}`].map(parsePermission))
    mesh.guard.grantsChanged()
    // The operator may look, and may not make it in its own name or the caller's.
    expect(await mesh.ask(mesh.root, `0xEW:events.dead:${id}:replay`)).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
    expect((await mesh.ask(session, `0xEW:events.dead:${id}:replay`)).value).toEqual({ id, replayed: true })
    await until('it was made', async () => (await counted()) === before + 2)
    expect(await letters()).toEqual([])
  })

  test('is not made before its time, whoever proposes it, nor under an id that a caller takes', async () => {
    const id = await idOf({ fqmn: INCREMENT, inMs: 60_000 })
    const before = await counted()
    const auth = mesh.guard.delayedPrincipal(mesh.operator.did, laterJti(id))
    const call = testCall(INCREMENT, { id: Buffer.from(laterCallId(id, 7), 'hex'), auth, deadlineMs: mesh.time.ms + 5_000 })
    const reply = await mesh.state.write(call, auth, { gas: 0n, before: undefined, after: undefined })
    expect(JSON.parse(Buffer.from(reply.body).toString())).toMatchObject({ code: 'CMESH_STATE_LATER', message: `The delayed call ${id} is refused: it is not due yet.` })
    expect(await counted()).toBe(before)
    expect(await mesh.ask(mesh.root, INCREMENT, { id: Buffer.from(laterCallId(id, 1), 'hex') })).toMatchObject({ status: 409, code: 'CMESH_ROUTER_DUPLICATE' })
    await mesh.ask(mesh.root, `0xSW:0x000:cancel:["${id}"]`)
  })

  test.each<[what: string, ask: object, reason: string]>([
    ['a deployment', { fqmn: '0xSW:0x000:deploy', inMs: 1 }, '0xSW:0x000:deploy takes a signature of its own, which is good for its moment'],
    ['an order on rights', { fqmn: '0xIW:grant', inMs: 1 }, '0xIW:grant is about sessions and rights, which cannot be delayed'],
    ['a delayed call', { fqmn: '0xSW:0x000:later', inMs: 1 }, '0xSW:0x000:later belongs to the system contract'],
    ['a session', { fqmn: '0xIW:hangup', inMs: 1 }, '0xIW:hangup is about sessions and rights, which cannot be delayed'],
    ['another mesh', { fqmn: '0xP:z6Mk:0xS:0x001', inMs: 1 }, '0xP:z6Mk:0xS:0x001 is not for services of this mesh to call'],
    ['no time', { fqmn: INCREMENT }, 'it takes atMs or inMs, a whole number of ms'],
    ['two times', { fqmn: INCREMENT, inMs: 1, atMs: 1 }, 'it takes atMs or inMs, a whole number of ms'],
    ['too far a time', { fqmn: INCREMENT, inMs: LIMITS.laterAheadMs + 1 }, `it is due more than ${LIMITS.laterAheadMs} ms ahead`],
    ['no address', { inMs: 1 }, 'it has no address: fqmn'],
    ['a body that is none', { fqmn: INCREMENT, inMs: 1, body: 5 }, 'its body is a text or {"base64"}'],
  ])('is refused for %s', async (_what, ask, reason) => {
    expect(await later(ask)).toMatchObject({ status: 409, code: 'CMESH_STATE_LATER', message: expect.stringMatching(/^The delayed call [0-9a-f]{32} is refused: /) })
    expect(await later(ask)).toMatchObject({ message: expect.stringContaining(`is refused: ${reason}.`) })
  })

  test('is refused where 64 of the identity wait, and for too large a body', async () => {
    const { session } = await allowed()
    const ids: string[] = []
    for (let i = 0; i < LIMITS.laterCalls; i++) ids.push(await idOf({ fqmn: INCREMENT, inMs: 60_000 }, session))
    expect(await later({ fqmn: INCREMENT, inMs: 60_000 }, session)).toMatchObject({
      status: 409, code: 'CMESH_STATE_LATER', message: expect.stringContaining('64 of this identity\'s wait already, which is the most'),
    })
    for (const id of ids) await mesh.ask(session, `0xSW:0x000:cancel:["${id}"]`)
    expect((await later({ fqmn: INCREMENT, inMs: 60_000 }, session)).status).toBe(200)
    expect(await later({ fqmn: INCREMENT, inMs: 1, body: 'x'.repeat(LIMITS.laterBytes + 1) })).toMatchObject({
      status: 413, code: 'CMESH_FRAME_TOO_LARGE', message: 'The body of a delayed call has 65537 bytes; at most 65536 are allowed.',
    })
  })
})

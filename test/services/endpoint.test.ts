import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import v8 from 'node:v8'
import vm from 'node:vm'
import { CMeshError } from '../../cmtp/errors.ts'
import { tokenReference } from '../../cmtp/identity/token.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import type { AuthContext } from '../../services/iam/guard.ts'
import { errorReply, jsonReply, type Call, type Reply } from '../../services/call.ts'
import { Endpoint, hashArguments, type ServiceHandler } from '../../services/endpoint.ts'
import { testCall } from '../support/calls.ts'
import { startIam, type IamFixture } from '../support/iam.ts'
import { keptLog, startMesh, testClock, type KeptLog, type TestClock } from '../support/mesh.ts'

let iam: IamFixture
let session: Session
let auth: AuthContext
let clock: TestClock
let log: KeptLog
beforeAll(async () => {
  iam = await startIam()
  session = await iam.open()
  auth = await iam.enter(session)
})
afterAll(() => iam.iam.stop())
beforeEach(() => {
  clock = testClock(iam.clock)
  log = keptLog()
})

function endpoint(handler: ServiceHandler): { endpoint: Endpoint, handled: { call: Call, auth: AuthContext }[] } {
  const handled: { call: Call, auth: AuthContext }[] = []
  return {
    handled,
    endpoint: new Endpoint({
      hop: 'state', node: 'did:key:zNode', guard: iam.guard, clock, log,
      handler: (call, caller, notes) => {
        handled.push({ call, auth: caller })
        return handler(call, caller, notes)
      },
    }),
  }
}

const VIEW = '0xS:0x001:hello_world'
const mine = (fqmn = VIEW, fields: Partial<Call> = {}): Call => testCall(fqmn, { auth, sid: session.sid, ...fields })
const told = (reply: Reply): Record<string, unknown> => JSON.parse(Buffer.from(reply.body).toString()) as Record<string, unknown>

describe('an endpoint', () => {
  test('runs its handler for who is known and allowed, at once where it can', () => {
    const { endpoint: made, handled } = endpoint(() => jsonReply('done'))
    const reply = made.call(mine())
    expect(reply).not.toBeInstanceOf(Promise)
    expect(told(reply as Reply)).toBe('done')
    expect(handled.map(each => each.auth.sub)).toEqual([session.sub])
  })

  test('finds out who it is where nobody did before', async () => {
    const { endpoint: made, handled } = endpoint(() => jsonReply('done'))
    const token = Buffer.from(session.token)
    for (const each of [token, tokenReference(token)]) expect((await made.call(testCall(VIEW, { token: each, sid: session.sid }))).status).toBe(200)
    const fresh = await iam.open()
    expect((await made.call(testCall(VIEW, { token: Buffer.from(fresh.token), sid: fresh.sid }))).status).toBe(200)
    expect(handled.map(each => each.auth.sub)).toEqual([session.sub, session.sub, fresh.sub])
  })

  test('never lets its handler see who is not', async () => {
    const { endpoint: made, handled } = endpoint(() => jsonReply('done'))
    const other = await iam.open()
    const stranger = await startIam()
    const foreign = await stranger.enter(await stranger.open())
    const forged = Object.assign(Object.create(Object.getPrototypeOf(auth) as object) as object, { sub: auth.sub, sid: auth.sid }) as AuthContext
    const cases: Record<string, Partial<Call>> = {
      'no token': { sid: session.sid },
      'the token of another session': { token: Buffer.from(other.token), sid: session.sid },
      'a token nobody signed': { token: Buffer.from(`${session.token.slice(0, -6)}AAAAAA`), sid: session.sid },
      'a look-alike': { auth: { ...auth } as AuthContext },
      'a forged prototype': { auth: forged },
      'a proxy': { auth: new Proxy(auth, {}) },
      'a context of another guard': { auth: foreign },
    }
    for (const [what, fields] of Object.entries(cases)) {
      const deploys = await made.call(testCall('0xSW:0x000:deploy', fields))
      expect({ what, code: told(deploys)['code'] }).toEqual({ what, code: 'CMESH_IAM_NO_SESSION' })
      const call = testCall(VIEW, fields)
      const reply = await made.call(call)
      expect({ what, status: reply.status, prompt: told(reply)['prompt'] }).toEqual({ what, status: 401, prompt: 'identity' })
      expect({ what, layers: call.layers.map(layer => [layer.decision, layer.status, layer.grant]) }).toEqual({ what, layers: [['denied', 401, '']] })
    }
    expect(handled).toEqual([])
    await stranger.iam.stop()
  })

  test('asks for the token it was referred to and has not seen', async () => {
    const { endpoint: made, handled } = endpoint(() => jsonReply('done'))
    expect(told(await made.call(testCall(VIEW, { token: Buffer.alloc(16, 1), sid: session.sid })))).toMatchObject({ code: 'CMESH_IAM_TOKEN', prompt: 'token' })
    expect(handled).toEqual([])
  })

  test('never lets its handler see what the caller may not do, and says what is missing', async () => {
    const { endpoint: made, handled } = endpoint(() => jsonReply('done'))
    const call = mine('0xSW:0x002:increment:[1]')
    const reply = await made.call(call)
    expect({ status: reply.status, body: told(reply) }).toMatchObject({
      status: 403, body: { code: 'CMESH_IAM_DENIED', message: 'Permission write on 0xSW:0x002:increment is missing.' },
    })
    expect(told(await made.call(mine('0xSW:0x000:deploy')))).toMatchObject({ code: 'CMESH_IAM_DENIED', message: 'Permission deploy on 0xSW:0x000:deploy is missing.' })
    expect(call.layers[0]).toMatchObject({ decision: 'denied', grant: '', status: 403 })
    expect(made.stats).toMatchObject({ requests: 2, denied: 2, failed: 2 })
    expect(handled).toEqual([])
  })

  test('refuses a context the moment it is revoked or has expired', async () => {
    const { endpoint: made, handled } = endpoint(() => jsonReply('done'))
    const gone = await iam.open()
    const context = await iam.enter(gone)
    iam.guard.revoke({ sid: gone.sid })
    expect((await made.call(testCall(VIEW, { auth: context }))).status).toBe(401)
    const short = await iam.open()
    const aging = await iam.enter(short)
    const now = iam.clock.ms
    iam.clock.ms = short.expires
    expect((await made.call(testCall(VIEW, { auth: aging }))).status).toBe(401)
    iam.clock.ms = now
    expect(handled).toEqual([])
  })

  test('waits for its handler, and makes a reply of whatever it throws or rejects with', async () => {
    const coded = new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: '0xfff' })
    const cases: readonly [ServiceHandler, number, string, string][] = [
      [() => { throw coded }, 404, 'CMESH_STATE_NO_CONTRACT', 'allowed'],
      [() => Promise.reject(coded), 404, 'CMESH_STATE_NO_CONTRACT', 'allowed'],
      [() => { throw new TypeError('odd') }, 500, 'CMESH_INTERNAL', 'allowed'],
      [() => Promise.reject(new TypeError('odd')), 500, 'CMESH_INTERNAL', 'allowed'],
      // eslint-disable-next-line no-throw-literal -- what a handler throws may be anything
      [() => { throw undefined }, 500, 'CMESH_INTERNAL', 'allowed'],
    ]
    for (const [handler, status, code, decision] of cases) {
      const { endpoint: made } = endpoint(handler)
      const call = mine()
      const reply = await made.call(call)
      expect({ status: reply.status, code: told(reply)['code'] }).toEqual({ status, code })
      expect(call.layers.map(layer => [layer.decision, layer.grant, layer.status])).toEqual([[decision, '0xS:>', status]])
    }
    // What is a bug is told once each, with the id; what is the caller's own fault is not.
    expect(log.lines.map(line => [line.message, line.fields['id'], line.fields['fqmn']]))
      .toEqual(Array.from({ length: 3 }, () => ['request failed unexpectedly', '05'.repeat(16), VIEW]))
  })

  test('closes its layer where the last hop ended, with what its handler noted', async () => {
    const before = { epoch: 0, seq: 1, chain: Buffer.alloc(32, 1) }
    const after = { epoch: 0, seq: 2, chain: Buffer.alloc(32, 2) }
    const { endpoint: made } = endpoint((_call, _auth, notes) => {
      Object.assign(notes, { gas: 7n, before, after })
      return jsonReply('done')
    })
    const startUs = clock.nowUs() - 100
    const call = mine(`${VIEW}:["x"]`, { markUs: startUs })
    await made.call(call)
    const [layer] = call.layers
    expect(layer).toMatchObject({ status: 200, startUs, gas: 7n, before, after, site: { hop: 'state', node: 'did:key:zNode', fqmn: VIEW, target: undefined } })
    expect(layer?.durationUs).toBe(call.markUs - startUs)
    expect(layer?.argumentsHash).toBe(hashArguments(call))
    expect(made.stats).toEqual({ requests: 1, failed: 0, denied: 0, busyUs: call.markUs - startUs })
  })

  test('counts what failed, whoever said so', async () => {
    const { endpoint: made } = endpoint(({ route }) => (route.args === undefined ? errorReply(new CMeshError('CMESH_CONTRACT_REVERT', { contract: '0x001', reason: 'no' })) : jsonReply(1)))
    await made.call(mine())
    await made.call(mine(`${VIEW}:[1]`))
    expect(made.stats).toMatchObject({ requests: 2, failed: 1, denied: 0 })
  })
})

test('the hash of arguments is made of the address or the body, under one salt, and only where there are any', () => {
  const call = mine()
  expect(hashArguments(call)).toBeUndefined()
  expect(call.salt).toBeUndefined()
  const withBody = mine(VIEW, { body: Buffer.from('["x"]') })
  const first = hashArguments(withBody)
  expect(first).toHaveLength(32)
  expect(hashArguments(withBody)).toBe(first)
  expect(hashArguments(mine(`${VIEW}:["x"]`, { salt: withBody.salt }))).toBe(first)
  expect(hashArguments(mine(`${VIEW}:["y"]`, { salt: withBody.salt }))).not.toBe(first)
})

test('a flood of long addresses, each asked once, leaves memory where it was', async () => {
  v8.setFlagsFromString('--expose-gc')
  const gc = vm.runInNewContext('gc') as () => void
  const mesh = await startMesh({ state: { viewCache: { entries: 0 } } })
  const flooding = await mesh.open()
  await mesh.register(mesh.root, mesh.operator, 'hello.mcom', '0xS:0x001')
  await mesh.ask(flooding, VIEW)
  const long = 'x'.repeat(3_900)
  const flood = (from: number, to: number): void => {
    for (let i = from; i < to; i++) {
      const fqmn = [`0xR:hello.mcom:hello_world:["${long}${i}"]`, `0xS:0x001:${long}${i}`, `0xE:chan:${long}${i}`][i % 3] as string
      mesh.frontDoor.handle(mesh.frame(flooding, fqmn), { sid: flooding.sid, replySubject: '' }, () => {})
    }
  }
  // The caches are full after the first part; 24 MB of addresses come behind it.
  flood(0, 6_000)
  gc()
  const before = process.memoryUsage().heapUsed
  flood(6_000, 12_000)
  gc()
  expect((process.memoryUsage().heapUsed - before) / 1e6).toBeLessThan(10)
  await mesh.stop()
})

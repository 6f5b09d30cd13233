import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { canonicalBytes } from '../../../cmtp/identity/canonical-json.ts'
import { makeRenewal } from '../../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { commitmentTo } from '../../../cmtp/identity/rotation.ts'
import { decodeBatch, type Batch } from '../../../services/state/batch.ts'
import { startMesh, type TestMesh } from '../../support/mesh.ts'

let mesh: TestMesh
let session: Session
beforeAll(async () => { mesh = await startMesh() })
beforeEach(async () => { session = await mesh.open() })
afterAll(() => mesh.stop())

describe('what a session asks of IAM', () => {
  test('is who it is, what it may do, and whose mesh this is', async () => {
    expect((await mesh.ask(session, '0xI:whoami')).value).toMatchObject({ did: session.sub, sid: session.sid, mesh: mesh.mesh.did, provider: 'did' })
    expect((await mesh.ask(session, '0xI:session')).value).toMatchObject({ sid: session.sid, expires: session.expires })
    expect((await mesh.ask(session, '0xI:grants')).value).toMatchObject({ did: session.sub, perms: expect.arrayContaining(['read 0xS:>']) })
    expect((await mesh.ask(session, '0xI:jwks')).value).toMatchObject({ keys: [expect.objectContaining({ crv: 'Ed25519' })] })
  })

  test('is a new token for itself, with which it goes on', async () => {
    const renewal = makeRenewal('refresh', session.token, session.key, mesh.time.ms)
    const { status, value } = await mesh.ask(session, '0xIW:refresh', { body: canonicalBytes(renewal) })
    const { token } = value as { token: string }
    expect({ status, same: token === session.token }).toEqual({ status: 200, same: false })
    expect(await mesh.ask({ ...session, token }, '0xI:whoami')).toMatchObject({ status: 200, value: { sid: session.sid } })
  })

  test('is its own end, and that is at once', async () => {
    const other = await mesh.open()
    expect(await mesh.ask(session, '0xIW:hangup')).toMatchObject({ status: 200 })
    expect(await mesh.ask(session, '0xI:whoami')).toMatchObject({ status: 401, code: 'CMESH_IAM_NO_SESSION', value: { prompt: 'identity' } })
    expect(await mesh.ask(other, '0xI:whoami')).toMatchObject({ status: 200 })
  })

  test('is none of the handshake\'s steps: those are for who has no session', async () => {
    for (const action of ['call', 'confirm', 'consent']) {
      expect(await mesh.ask(mesh.root, `0xIW:${action}`)).toMatchObject({
        status: 405, code: 'CMESH_ROUTER_ACTION', message: `The IAM service has no action ${action} for writing with a session.`,
      })
    }
  })
})

describe('a rotation, as sessions ask for it', () => {
  const body = (value: object): { body: string } => ({ body: JSON.stringify({ mesh: mesh.mesh.did, ...value }) })

  test('is committed to, done by that DID, and told to everybody', async () => {
    const [old, next, after] = [KeyPair.generate(), KeyPair.generate(), KeyPair.generate()]
    const [before, now] = [await mesh.open({ identity: old }), await mesh.open({ identity: next })]
    expect(await mesh.ask(before, '0xI:rotation')).toMatchObject({ status: 200, value: { did: old.did, next: null, rotatedTo: null, rotatedFrom: [] } })
    expect(await mesh.ask(before, '0xIW:prepare', { ...body({ next: commitmentTo(next.did) }), headers: Buffer.alloc(0) })).toMatchObject({ status: 403, code: 'CMESH_IAM_PROOF' })
    expect(await mesh.ask(before, '0xIW:prepare', body({ next: commitmentTo(next.did) }))).toMatchObject({ status: 200 })
    expect(await mesh.ask(now, '0xIW:rotate', body({ old: old.did, next: commitmentTo(after.did) }))).toMatchObject({ status: 200, value: { old: old.did, did: next.did } })
    expect((await mesh.ask(session, `0xI:rotation:${JSON.stringify([old.did])}`)).value).toEqual({ did: old.did, next: null, rotatedTo: next.did, rotatedFrom: [] })
    expect((await mesh.ask(now, '0xI:rotation')).value).toEqual({ did: next.did, next: commitmentTo(after.did), rotatedTo: null, rotatedFrom: [old.did] })
    // What is told of a DID of before is its heir's to ask, and nobody else's who may not grant.
    const why = `0xI:explain:${JSON.stringify([old.did, '0xS:0x002:get'])}`
    expect(await mesh.ask(now, why)).toMatchObject({ status: 200, value: { allowed: false, rotatedTo: next.did } })
    expect(await mesh.ask(session, why)).toMatchObject({ status: 403 })
    expect((await mesh.ask(now, `0xI:grants:${JSON.stringify([old.did])}`)).value).toEqual({ did: old.did, perms: [], grants: [], banned: false, rotatedTo: next.did })
    expect((await mesh.ask(now, '0xI:grants')).value).toMatchObject({ did: next.did, rotatedFrom: [old.did] })
  })

  test.each(['0xI:rotation:["x"]', '0xI:rotation:[1]', '0xI:rotation:["a","b"]'])('at %s is refused', async fqmn => {
    expect((await mesh.ask(session, fqmn)).status).toBe(400)
  })
})

describe('rights, as sessions ask for them', () => {
  const GRANT = { did: KeyPair.generate().did, permission: 'write 0xSW:0x002:increment' }

  test('are changed by an order, which later writes name', async () => {
    const batches: Batch[] = []
    const own = await startMesh({ state: { onApplied: block => { batches.push(decodeBatch(block.message)) } } })
    try {
      expect(await own.ask(own.root, '0xSW:0x002:increment')).toMatchObject({ status: 200 })
      const granted = await own.ask(own.root, '0xIW:grant', { body: JSON.stringify(GRANT) })
      expect(granted).toMatchObject({ status: 200, value: { did: GRANT.did, perm: GRANT.permission, by: own.operator.did } })
      expect(await own.ask(own.root, '0xSW:0x002:increment')).toMatchObject({ status: 200 })
      expect(batches.flatMap(({ transactions }) => transactions.map(({ grantSeq }) => grantSeq))).toEqual([0, 0, 0, (granted.value as { seq: number }).seq])
    } finally {
      await own.stop()
    }
  })

  test('are told of oneself, and of others to whoever may grant', async () => {
    await mesh.ask(mesh.root, '0xIW:grant', { body: JSON.stringify(GRANT) })
    const args = JSON.stringify([GRANT.did])
    const why = JSON.stringify([GRANT.did, '0xSW:0x002:increment'])
    expect((await mesh.ask(mesh.root, `0xI:grants:${args}`)).value).toMatchObject({ did: GRANT.did, grants: [{ perm: GRANT.permission }], banned: false })
    expect((await mesh.ask(mesh.root, `0xI:explain:${why}`)).value).toMatchObject({ allowed: true, missing: null, by: [{ from: 'grant', perm: GRANT.permission }] })
    expect((await mesh.ask(mesh.root, `0xI:capabilities:${args}`)).value).toEqual({ did: GRANT.did, capabilities: [] })
    for (const fqmn of [`0xI:grants:${args}`, `0xI:explain:${why}`, `0xI:capabilities:${args}`]) {
      expect(await mesh.ask(session, fqmn)).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED', message: 'Permission write on 0xIW:grant is missing.' })
    }
    expect((await mesh.ask(session, `0xI:explain:${JSON.stringify([session.sub, '0xSW:0x002:increment'])}`)).value).toMatchObject({ allowed: false, missing: GRANT.permission })
    expect((await mesh.ask(session, '0xI:capabilities')).value).toEqual({ did: session.sub, capabilities: [] })
  })

  test.each([
    ['0xI:explain', 400, 'CMESH_FRAME_MALFORMED'], ['0xI:explain:["x"]', 400, 'CMESH_FRAME_MALFORMED'], ['0xI:grants:[1]', 400, 'CMESH_FRAME_MALFORMED'],
    ['0xI:grants:["did:key:z"]', 400, 'CMESH_IAM_KEY'], ['0xI:capabilities:["a","b"]', 400, 'CMESH_FRAME_MALFORMED'],
  ])('are not told for %s', async (fqmn, status, code) => {
    expect(await mesh.ask(mesh.root, fqmn)).toMatchObject({ status, code })
  })
})

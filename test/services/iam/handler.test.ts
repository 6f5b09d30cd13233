import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { canonicalBytes } from '../../../cmtp/identity/canonical-json.ts'
import { makeRenewal } from '../../../cmtp/identity/handshake.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
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
        status: 405, code: 'CMESH_ROUTER_ACTION', message: `The iam service has no action ${action} for writing with a session.`,
      })
    }
  })
})

/** Names that look like rights: what the grammar lets through is one token and means itself alone, wherever rights are written, and holding it allows nothing. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { isSegment, parseFqmn } from '../../../cmtp/fqmn.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { normaliseName } from '../../../cmtp/name.ts'
import { actionOf, compilePermissions, covers, formatPermission, parsePermission } from '../../../cmtp/permission.ts'
import { failureOf } from '../../support/iam.ts'
import { startMesh, type TestMesh } from '../../support/mesh.ts'

const INCREMENT = '0xSW:0x002:increment'
/** Wildcards and permission texts, as they are and in letters that look like them. */
const REFUSED = [
  '*', '>', '*.mcom', '>.mcom', '*.*.mcom', 'a.>.mcom', 'a*.mcom', '**.mcom', '0xSW:>', '0xSW:>.mcom', 'a:*.mcom', 'write 0xSW:>', 'write 0xSW:>.mcom', 'read,write.mcom',
  'write >.mcom', 'operator', 'newcomer', '\uff0a.mcom', '\uff1e.mcom', '\u2217.mcom', '\u203a.mcom', 'a\uff1ab.mcom', 'write\u00a0x.mcom', '$SYS.mcom', '_inbox.mcom', '%3e.mcom', '%2a.mcom',
]
/** Words of permissions, opcodes, sets and subjects that the grammar of names lets through. */
const TAKEN = [
  'operator.mcom', 'newcomer.mcom', 'write.mcom', 'deploy.mcom', 'exec.mcom', '0xsw.mcom', '0x000.mcom', 'write.0xsw.0x002.increment.mcom', 'audit.mcom', 'cmesh.v1.req.mcom', 'read-write.mcom',
]

let mesh: TestMesh
let mallory: Session
const key = KeyPair.generate()
const held = async (session: Session): Promise<readonly string[]> => (await mesh.enter(session)).permissions.map(formatPermission)

beforeAll(async () => {
  mesh = await startMesh()
  mallory = await mesh.open({ identity: key })
  const names = TAKEN.map(name => mesh.register(mallory, key, name, '0xS:0x002'))
  expect((await Promise.all(names)).map(({ status }) => status)).toEqual(TAKEN.map(() => 200))
})
afterAll(() => mesh.stop())

describe('no name', () => {
  test.each(REFUSED)('is %j: not by the grammar, and nothing is registered', async name => {
    expect(await failureOf(() => normaliseName(name))).toMatchObject({ code: 'CMESH_NAME_INVALID' })
    const before = mesh.state.head.seq
    expect((await mesh.register(mallory, key, name, '0xS:0x002')).status).toBeGreaterThanOrEqual(400)
    expect(mesh.state.head.seq).toBe(before)
  })
})

describe('the name', () => {
  test.each(TAKEN)('%s is no permission: it can be neither wanted nor granted', async name => {
    const refused = { code: 'CMESH_IAM_PERMISSION' }
    for (const text of [name, name.slice(0, -5), `write ${name}`, `${name} >`].filter(each => each !== 'operator' && each !== 'newcomer')) {
      expect(await failureOf(() => mesh.open({ identity: key, want: [text] }))).toMatchObject(refused)
      expect(await mesh.ask(mesh.root, '0xIW:grant', { body: JSON.stringify({ did: key.did, permission: text }) })).toMatchObject({ status: 400, ...refused })
    }
  })

  test.each(TAKEN)('%s in a pattern is that one token', name => {
    expect(isSegment(name)).toBe(true)
    const compiled = compilePermissions([parsePermission(`read 0xR:resolve:${name}`), parsePermission(`write 0xRW:${name}:>`)])
    const allowed = (fqmn: string): boolean => covers(compiled, actionOf(parseFqmn(fqmn)), parseFqmn(fqmn))
    expect([`0xR:resolve:${name}`, `0xRW:${name}:increment`].map(allowed)).toEqual([true, true])
    for (const other of ['other.mcom', `x${name}`, ...TAKEN.filter(each => each !== name)]) expect([`0xR:resolve:${other}`, `0xRW:${other}:increment`].map(allowed)).toEqual([false, false])
    expect([INCREMENT, '0xIW:grant', '0xEW:channel:audit'].map(allowed)).toEqual([false, false, false])
  })

  test('gives its owner no right, by itself or through what it stands for', async () => {
    const stranger = await held(await mesh.open({ identity: KeyPair.generate() }))
    expect(await held(await mesh.open({ identity: key }))).toEqual(stranger)
    const count = async (): Promise<unknown> => (await mesh.ask(mallory, '0xS:0x002:get')).value
    const before = await count()
    for (const fqmn of [INCREMENT, ...TAKEN.map(name => `0xRW:${name}:increment`)]) {
      expect(await mesh.ask(mallory, fqmn)).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
    }
    expect(await count()).toBe(before)
  })

  test('in a grant allows what the grant says of that name, and its address of no other', async () => {
    const ann = KeyPair.generate()
    await mesh.ask(mesh.root, '0xIW:grant', { body: JSON.stringify({ did: ann.did, permission: 'write 0xRW:release:operator.mcom' }) })
    const stranger = await held(await mesh.open({ identity: KeyPair.generate() }))
    const granted = await held(await mesh.open({ identity: ann }))
    // A newcomer may release any name of its own already: the grant is a part of that, and no more.
    expect(granted.filter(each => !stranger.includes(each) && each !== 'write 0xRW:release:operator.mcom')).toEqual([])
    const session = await mesh.open({ identity: ann, want: ['write 0xRW:release:operator.mcom'] })
    expect(await held(session)).toEqual(['write 0xRW:release:operator.mcom'])
    for (const fqmn of ['0xRW:release:newcomer.mcom', '0xRW:operator.mcom:increment', INCREMENT, '0xIW:grant']) {
      expect(await mesh.ask(session, fqmn)).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED' })
    }
    expect(await mesh.ask(session, '0xRW:release:operator.mcom')).toMatchObject({ status: 403, code: 'CMESH_REGISTRAR_NOT_OWNER' })
  })
})

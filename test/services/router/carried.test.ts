/** A gateway's frame: entries of several sessions, each under its own. */
import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { assembleBatch, BATCH_ID_AT, encodeBatchEntry } from '../../../cmtp/batch.ts'
import { decodeBatchReply, type BatchReply, type BatchReplyEntry } from '../../../cmtp/batch-reply.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { hangup, refresh, type Session } from '../../../cmtp/identity/login.ts'
import { tokenReference } from '../../../cmtp/identity/token.ts'
import { encodePackage, packageManifest } from '../../../cmtp/package.ts'
import { entryId } from '../../../cmtp/message-id.ts'
import { NEWCOMER_READ_SET, parsePermissions } from '../../../cmtp/permission.ts'
import type { ReceiptLevel } from '../../../cmtp/wire.ts'
import { callerContract } from '../../support/caller-contract.ts'
import { startMesh, type TestMesh } from '../../support/mesh.ts'
import { recomputedHash } from '../../support/receipts.ts'

const ID = Buffer.from('0102030405060708090a0b0cfffffffe', 'hex')
const VIEW = '0xS:0x001:hello_world'
const WRITE = '0xSW:0x002:increment'

let mesh: TestMesh
let gateway: Session
let ann: Session
let ben: Session
beforeAll(async () => {
  const pkg = encodePackage({
    salt: Buffer.alloc(16), strategy: 'immutable', manifest: packageManifest({ name: 'caller', version: '1.0.0' }), init: Buffer.alloc(0), module: callerContract(),
  })
  mesh = await startMesh({ genesis: genesis => ({ ...genesis, contracts: [...genesis.contracts, { address: '0x003', pkg }] }) })
})
afterAll(() => mesh.stop())
beforeEach(async () => {
  gateway = await open()
  ann = await open(gateway.sid)
  ben = await open(gateway.sid)
})

const bytesOf = ({ token }: Session): Buffer => Buffer.from(token)
const reference = (session: Session): Buffer => tokenReference(bytesOf(session))

/** A session that this node knows. */
async function open(via?: string, identity = KeyPair.generate()): Promise<Session> {
  const session = await mesh.open({ identity, ...(via !== undefined && { via }) })
  await mesh.enter(session)
  return session
}

interface Fields {
  readonly by?: Session
  /** Session of the subject it comes on. Default: that of `by`. */
  readonly on?: string
  /** Session of the gateway's connection that it comes over, where that is another's. */
  readonly via?: string
  readonly token?: Buffer
  readonly receipt?: ReceiptLevel
}

type Asked = readonly [who: Session | Buffer, fqmn: string, body?: string]

function send(asked: readonly Asked[], { by = gateway, on = by.sid, via, token = bytesOf(by), receipt = 'full' }: Fields = {}): Promise<BatchReply> {
  const entries = asked.map(([, fqmn, body]) => encodeBatchEntry({ fqmn, ...(body !== undefined && { body: Buffer.from(body) }) }))
  const references = asked.map(([who]) => (Buffer.isBuffer(who) ? who : reference(who)))
  const frame = assembleBatch({ token, deadlineMs: mesh.time.ms + 5_000, receipt }, entries, references)
  frame.set(ID, BATCH_ID_AT)
  return new Promise(resolve => { mesh.frontDoor.handle(frame, { sid: on, via, replySubject: '' }, answer => { resolve(decodeBatchReply(answer)) }) })
}

const value = ({ body }: BatchReplyEntry): Record<string, unknown> => JSON.parse(body.toString('utf8')) as Record<string, unknown>
const codes = ({ entries }: BatchReply): unknown[] => entries.map(entry => (entry.status < 400 ? entry.status : value(entry)['code']))
const UNKNOWN = 'CMESH_IAM_TOKEN'

describe('a frame of a gateway', () => {
  test('answers each entry as its own caller, under that caller\'s session in the final hash', async () => {
    const asked: Asked[] = [[ann, '0xI:whoami'], [ben, '0xI:whoami'], [ann, VIEW], [ben, VIEW, '["Ben"]'], [ann, '0xI:session'], [ben, '0xR:google.com'], [ben, '0xZ:x']]
    const { entries } = await send(asked)
    expect(entries.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 404, 400])
    expect(entries.slice(0, 2).map(value)).toMatchObject([{ did: ann.sub, sid: ann.sid }, { did: ben.sub, sid: ben.sid }])
    expect(value(entries[4] as BatchReplyEntry)).toMatchObject({ did: ann.sub, sid: ann.sid })
    for (const [i, entry] of entries.entries()) {
      const [who, , body] = asked[i] as [Session, string, string?]
      const known = i < 6
      expect({ i, hash: entry.finalHash.toString('hex') }).toEqual({
        i,
        hash: recomputedHash(entry, {
          id: entryId(ID, i), sid: known ? who.sid : '', sub: known ? who.sub : '', ...(body !== undefined && { requestBody: Buffer.from(body) }),
        }),
      })
    }
  })

  test('gives each entry what it would be answered alone', async () => {
    mesh.time.still = true
    const { entries } = await send([[ann, VIEW], [ben, '0xI:whoami'], [ann, '0xC:status']], { receipt: 'hash' })
    for (const [i, [who, fqmn]] of ([[ann, VIEW], [ben, '0xI:whoami'], [ann, '0xC:status']] as const).entries()) {
      const alone = await mesh.ask(who, fqmn, { id: entryId(ID, i) })
      expect([entries[i]?.status, entries[i]?.body.toString(), entries[i]?.finalHash.toString('hex')])
        .toEqual([alone.status, alone.frame.body.toString(), alone.frame.finalHash.toString('hex')])
    }
    mesh.time.still = false
  })

  test('gives nobody another\'s rights: of one address one may write, the other and the gateway may not', async () => {
    const key = KeyPair.generate()
    mesh.grants.set(key.did, [...NEWCOMER_READ_SET, ...parsePermissions(['write 0xSW:0x002:increment'])])
    const may = await open(gateway.sid, key)
    const before = (await mesh.ask(ben, '0xS:0x002:get')).value as number
    const { entries } = await send([[ben, WRITE], [may, WRITE], [ben, WRITE]])
    expect(codes({ entries } as BatchReply)).toEqual(['CMESH_IAM_DENIED', 200, 'CMESH_IAM_DENIED'])
    expect((await mesh.ask(ben, '0xS:0x002:get')).value).toBe(before + 1)
    expect((await mesh.ask(gateway, WRITE)).code).toBe('CMESH_IAM_DENIED')
    // Nor does the operator's gateway lend its own.
    const root = await mesh.open({ identity: mesh.operator })
    await mesh.enter(root)
    const carried = await open(root.sid)
    expect(codes(await send([[carried, WRITE]], { by: root }))).toEqual(['CMESH_IAM_DENIED'])
  })

  test('does a read that several ask once for each caller, and never once for two', async () => {
    const { repeated } = mesh.frontDoor.stats
    const { requests } = mesh.endpoints.iam.stats
    const { entries } = await send([[ann, '0xI:whoami'], [ben, '0xI:whoami'], [ann, '0xI:whoami'], [ben, '0xI:whoami'], [ann, '0xI:whoami']], { receipt: 'hash' })
    expect(entries.map(value).map(({ did }) => did)).toEqual([ann.sub, ben.sub, ann.sub, ben.sub, ann.sub])
    expect(mesh.frontDoor.stats.repeated - repeated).toBe(3)
    expect(mesh.endpoints.iam.stats.requests - requests).toBe(2)
    expect(new Set(entries.map(({ finalHash }) => finalHash.toString('hex'))).size).toBe(5)
  })

  test('shows a view each caller as itself, from the cache too', async () => {
    for (let i = 0; i < 2; i++) {
      const { entries } = await send([[ann, '0xS:0x003:who'], [ben, '0xS:0x003:who'], [ann, '0xS:0x003:who'], [ben, '0xS:0x003:who']], { receipt: 'hash' })
      expect(entries.map(({ body }) => body.toString())).toEqual([ann.sub, ben.sub, ann.sub, ben.sub])
    }
  })

  test('answers nothing out of a session that ended in the same frame', async () => {
    const asked: Asked[] = [[ann, '0xI:whoami'], [ben, '0xI:whoami'], [ann, '0xIW:hangup'], [ann, '0xI:whoami'], [ben, '0xI:whoami']]
    const reply = await send(asked, { receipt: 'hash' })
    expect(codes(reply)).toEqual([200, 200, 200, 'CMESH_IAM_NO_SESSION', 200])
    expect(value(reply.entries[4] as BatchReplyEntry)).toMatchObject({ did: ben.sub })
  })

  test('is refused entry by entry: what does not count hurts nobody else', async () => {
    const lone = await open()
    const elsewhere = await open((await open()).sid)
    const gone = await open(gateway.sid)
    mesh.guard.revoke({ sid: gone.sid })
    const asked: Asked[] = [[ann, VIEW], [Buffer.alloc(16), VIEW], [lone, VIEW], [elsewhere, VIEW], [gone, VIEW], [gateway, VIEW], [ben, VIEW]]
    const { entries } = await send(asked)
    expect(codes({ entries } as BatchReply)).toEqual([200, UNKNOWN, UNKNOWN, UNKNOWN, 'CMESH_IAM_NO_SESSION', UNKNOWN, 200])
    expect(entries.slice(1, 6).map(value).map(({ prompt }) => prompt)).toEqual(['token', 'token', 'token', 'identity', 'token'])
    // A refusal is sealed as one on this subject is: for the session of the subject, of nobody.
    for (const [i, entry] of entries.entries()) {
      const who = i === 0 ? ann : ben
      const witness = i === 0 || i === 6 ? { sid: who.sid, sub: who.sub } : { sid: gateway.sid, sub: '' }
      expect({ i, hash: entry.finalHash.toString('hex') }).toEqual({ i, hash: recomputedHash(entry, { id: entryId(ID, i), ...witness }) })
    }
  })

  test.each<[what: string, fields: () => Fields | Promise<Fields>]>([
    ['has no token', () => ({ token: Buffer.alloc(0) })],
    ['refers to a token that this node has not seen', async () => ({ by: await mesh.open(), token: Buffer.alloc(16, 1) })],
    ['has a token that the mesh did not sign', () => ({ token: Buffer.from(`${gateway.token.slice(0, -8)}AAAAAAAA`) })],
    ['has the token of one that it carries', () => ({ token: bytesOf(ann) })],
    ['comes on the subject of one that it carries, under that one\'s token', () => ({ by: ann })],
    ['comes on another session\'s subject', () => ({ on: ben.sid })],
  ])('that %s is 401 with the prompt for the token for each entry, and does nothing', async (_, fields) => {
    const { requests } = mesh.endpoints.state.stats
    const reply = await send([[ann, VIEW], [ben, VIEW], [ann, WRITE]], await fields())
    expect(codes(reply)).toEqual([UNKNOWN, UNKNOWN, UNKNOWN])
    expect(reply.entries.map(entry => [entry.status, value(entry)['prompt']])).toEqual(Array.from({ length: 3 }, () => [401, 'token']))
    expect(mesh.endpoints.state.stats.requests).toBe(requests)
  })

  test('of a session that has ended carries nothing, though those it carried live on', async () => {
    await hangup(gateway, mesh.send, mesh.time.ms)
    expect(codes(await send([[ann, VIEW], [ben, VIEW]]))).toEqual([UNKNOWN, UNKNOWN])
    expect((await mesh.ask(ann, VIEW, { token: reference(ann) })).status).toBe(200)
  })

  test('carries by its reference, and by a refreshed token of the same session', async () => {
    expect(codes(await send([[ann, VIEW], [ben, VIEW]], { token: reference(gateway) }))).toEqual([200, 200])
    mesh.time.ms += 1_000
    const renewed = await refresh(gateway, mesh.send, mesh.time.ms)
    expect(codes(await send([[ann, VIEW], [ben, VIEW]], { by: renewed }))).toEqual([200, 200])
    expect(codes(await send([[ann, VIEW], [ben, VIEW]], { token: reference(renewed) }))).toEqual([200, 200])
  })

  test('whose tokens are to be verified again is answered whole, in order', async () => {
    mesh.time.ms += 60_000
    const { entries } = await send([[ann, '0xI:whoami'], [Buffer.alloc(16), VIEW], [ben, '0xI:whoami'], [ann, '0xI:whoami']])
    expect(codes({ entries } as BatchReply)).toEqual([200, UNKNOWN, 200, 200])
    expect([0, 2, 3].map(i => value(entries[i] as BatchReplyEntry)['did'])).toEqual([ann.sub, ben.sub, ann.sub])
  })
})

describe('a stolen reference', () => {
  test('does nothing in a frame of the thief, nor alone on the thief\'s subject', async () => {
    const thief = await open()
    const accomplice = await open(thief.sid)
    const reply = await send([[ann, '0xI:whoami'], [accomplice, '0xI:whoami'], [ben, '0xI:whoami']], { by: thief })
    expect(codes(reply)).toEqual([UNKNOWN, 200, UNKNOWN])
    expect(value(reply.entries[1] as BatchReplyEntry)).toMatchObject({ did: accomplice.sub })
    expect((await mesh.ask(thief, '0xI:whoami', { token: reference(ann) })).code).toBe(UNKNOWN)
  })

  test('is not carried on by one that is carried itself', async () => {
    const nested = await open(ann.sid)
    expect(codes(await send([[nested, VIEW]]))).toEqual([UNKNOWN])
    expect(codes(await send([[nested, VIEW], [ben, VIEW]], { by: ann }))).toEqual([200, UNKNOWN])
    // Over the gateway's connection: `nested` named `ann`, and `ann` is not who sends this.
    const { requests } = mesh.endpoints.state.stats
    const reply = await send([[nested, VIEW], [ann, VIEW], [nested, WRITE]], { by: ann, via: gateway.sid })
    expect(codes(reply)).toEqual([UNKNOWN, UNKNOWN, UNKNOWN])
    expect(reply.entries.map(entry => value(entry)['prompt'])).toEqual(['token', 'token', 'token'])
    expect(mesh.endpoints.state.stats.requests).toBe(requests)
  })
})

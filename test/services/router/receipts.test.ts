/**
 * Receipts of what the real front door answers, of every kind. With WRITE_VECTORS=1 those that are not there become golden files of
 * `test/vectors/receipts`, which other tests hold both verifiers to.
 */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { encodeBatch } from '../../../cmtp/batch.ts'
import { decodeBatchReply } from '../../../cmtp/batch-reply.ts'
import { RequestFrame } from '../../../cmtp/frame.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { decodeLayers, type StatePosition } from '../../../cmtp/layer.ts'
import { entryId, MessageIds } from '../../../cmtp/message-id.ts'
import type { Evidence } from '../../../cmtp/receipt/receipt.ts'
import { verifyReceipt } from '../../../cmtp/receipt/verify.ts'
import { encodeWitness } from '../../../cmtp/receipt/witness.ts'
import { contractModule } from '../../support/contract-module.ts'
import { saltedOutcome } from '../../../services/audit/claims/leaf.ts'
import { evidenceOf, outcomeEvidenceOf } from '../../support/evidence.ts'
import { readAnswer, nameBody, startMesh, type AskFields, type TestMesh } from '../../support/mesh.ts'
import { receiptsOf, toldByReply, type Told } from '../../support/receipt-files.ts'
import type { Sealed } from '../../support/receipts.ts'
import { deploymentOf } from '../../support/replica.ts'

const MESH = KeyPair.fromSeed(Buffer.alloc(32, 0x51))
const NODE = KeyPair.fromSeed(Buffer.alloc(32, 0x52))
const OTHER = KeyPair.fromSeed(Buffer.alloc(32, 0x53))

interface Made {
  readonly name: string
  readonly hops: readonly string[]
  readonly told: Told
  readonly witness: Buffer
}

const made: Made[] = []
let mesh: TestMesh
let session: Session
beforeAll(async () => {
  mesh = await startMesh({ key: MESH, nodeKey: NODE })
  session = await mesh.open()
  await mesh.register(mesh.root, mesh.operator, 'inner.mcom', '0xS:0x001')
  await mesh.register(mesh.root, mesh.operator, 'outer.mcom', '0xR:inner.mcom')
  await mesh.ask(session, '0xS:0x001:hello_world')
})
afterAll(() => mesh.stop())

type Asked = Pick<RequestFrame, 'id' | 'fqmn' | 'deadlineMs' | 'headers' | 'body'>

/** Receipts of before had claims of the state behind a write; they are to be checked for good. */
const BEFORE = ['a write', 'a trap']

function claimsOf(name: string, id: Uint8Array, salt: Uint8Array, after: StatePosition): Evidence {
  if (BEFORE.includes(name)) return evidenceOf(after, MESH, [NODE, MESH, OTHER])
  const outcome = mesh.state.outcome(Buffer.from(id).toString('hex'))
  if (outcome?.span === undefined) throw new Error(`${name} has no outcome`)
  const logged = { ...outcome, digest: outcome.digest, after: outcome.span.after }
  return outcomeEvidenceOf(saltedOutcome(id, salt, logged), MESH, [NODE, MESH, OTHER], { index: 4, count: 11 })
}

function keep(name: string, reply: Sealed, request: Asked, who: Pick<Session, 'sid' | 'sub'>, read = true): void {
  const { salt, layers } = decodeLayers(reply.layers)
  const after = layers.find(layer => layer.after !== undefined)?.after
  const requestBody = read ? request.body : Buffer.alloc(0)
  const told = toldByReply(reply, { ...who, id: request.id, requestBody }, after && claimsOf(name, request.id, salt, after))
  const witness = encodeWitness({
    id: request.id, salt, fqmn: request.fqmn, deadlineMs: request.deadlineMs, requestHeaders: request.headers, requestBody: request.body,
    replyHeaders: reply.headers, replyBody: reply.body,
  })
  made.push({ name, hops: layers.map(layer => `${layer.hop} ${layer.status}`), told, witness })
}

async function ask(name: string, who: Session | undefined, fqmn: string, fields: AskFields = {}): Promise<void> {
  const bytes = mesh.frame(who, fqmn, { ...fields, receipt: 'full' })
  const origin = { sid: fields.sid ?? who?.sid ?? '', via: undefined, replySubject: '' }
  const { frame } = readAnswer(await new Promise<Buffer>(resolve => { mesh.frontDoor.handle(bytes, origin, resolve) }))
  const read = frame.layers.length > 0 && decodeLayers(frame.layers).layers.at(-1)?.fqmn !== ''
  // Whom a request is from is known once its token was looked at.
  const known = who !== undefined && frame.status !== 401 && frame.status !== 408 && read
  keep(name, frame, RequestFrame.decode(bytes), { sid: read ? origin.sid : '', sub: known ? who.sub : '' }, read)
}

const TRAPS = '(data (i32.const 0) "k") (func (export "call_init") (unreachable)) (func (export "call_f"))'

describe('a receipt of what the router answered', () => {
  test('holds, with its witness and its claims, for every kind of request', async () => {
    await ask('a view read', session, '0xS:0x001:hello_world:["Dexter"]')
    await ask('a write', mesh.root, '0xRW:register:fresh.mcom:0xS:0x001', { body: nameBody(mesh.operator, 'fresh.mcom', '0xS:0x001', 1) })
    await ask('a resolution through two names', session, '0xR:outer.mcom:hello_world')
    await ask('a denial: no session', undefined, '0xS:0x001:hello_world', { sid: 'nobody' })
    await ask('a denial: no permission', session, '0xIW:permit:x', { body: '{}' })
    await ask('a denial: no such name', session, '0xR:google.com')
    await ask('a trap', mesh.root, '0xSW:0x000:deploy', {
      body: deploymentOf(contractModule(TRAPS, {
        abi: JSON.stringify({
          abi: 1, sdk: 'none', events: [],
          functions: [{ name: 'init', mode: 'init', params: [], returns: 'void' }, { name: 'f', mode: 'write', params: [], returns: 'void' }],
        }),
      }), {}, mesh.operator),
    })
    await ask('past its deadline', session, '0xS:0x001:hello_world', { deadlineMs: mesh.time.ms - 1 })
    await ask('an event', session, '0xE:events.state.contracts.0x001.blah_blah:read')
    await ask('a large body', session, '0xS:0x001:hello_world', { body: JSON.stringify(['x'.repeat(60_000)]) })
    await ask('an address that is none', session, '0xZ:nothing')
    const id = new MessageIds(mesh.time.nowMs).next()
    const entries = [{ fqmn: '0xS:0x001:hello_world' }, { fqmn: '0xR:google.com' }, { fqmn: '0xS:0x001:hello_world', body: Buffer.from('["Ben"]') }]
    const deadlineMs = mesh.time.ms + 5_000
    const frame = encodeBatch({ id, token: Buffer.from(session.token), deadlineMs, receipt: 'full', entries })
    const batch = decodeBatchReply(await mesh.frontDoor.route(frame, session.sid))
    batch.entries.forEach((entry, i) => {
      const { fqmn, body } = entries[i] as { fqmn: string, body?: Buffer }
      keep(`entry ${i} of a batch`, entry, { id: entryId(id, i), fqmn, deadlineMs, headers: Buffer.alloc(0), body: body ?? Buffer.alloc(0) }, session)
    })
    await ask('a write that members claim', mesh.root, '0xSW:0x002:increment:[1]')
    await ask('a write with a body that members claim', mesh.root, '0xSW:0x002:increment', { body: '[2]' })
    await ask('a failure that members claim', mesh.root, '0xSW:0x002:increment:["x"]')
    await ask('a name that members claim', mesh.root, '0xRW:register:claimed.mcom:0xS:0x001', { body: nameBody(mesh.operator, 'claimed.mcom', '0xS:0x001', 1) })

    expect(made.map(({ name, hops, told }) => [name, hops.join(', '), told.evidence?.claims.length ?? 0])).toEqual([
      ['a view read', 'state 200, router 200', 0], ['a write', 'registrar 200, router 200', 3],
      ['a resolution through two names', 'registrar 200, state 200, router 200', 0], ['a denial: no session', 'router 401', 0],
      ['a denial: no permission', 'iam 403, router 403', 0], ['a denial: no such name', 'registrar 404, router 404', 0],
      ['a trap', 'state 422, router 422', 3], ['past its deadline', 'router 408', 0], ['an event', 'events 200, router 200', 0],
      ['a large body', 'state 422, router 422', 0], ['an address that is none', 'router 400', 0],
      ['entry 0 of a batch', 'state 200, router 200', 0], ['entry 1 of a batch', 'registrar 404, router 404', 0],
      ['entry 2 of a batch', 'state 200, router 200', 0], ['a write that members claim', 'state 200, router 200', 3],
      ['a write with a body that members claim', 'state 200, router 200', 3], ['a failure that members claim', 'state 422, router 422', 3],
      ['a name that members claim', 'registrar 200, router 200', 3],
    ])
    const receipts = receiptsOf(made.map(({ told }) => told), { mesh: MESH, node: NODE })
    receipts.forEach((receipt, i) => {
      const { name, witness, told } = made[i] as Made
      const verdict = verifyReceipt(receipt, MESH.did, { witness, claims: 3 })
      expect({ name, verdict }).toMatchObject({ name, verdict: { valid: true, claims: told.evidence?.claims.map(({ level }) => ({ level })) ?? [] } })
    })
    if (process.env['WRITE_VECTORS'] === '1') write(receipts)
  })
})

function write(receipts: readonly Buffer[]): void {
  const at = (file: string): URL => new URL(`../../vectors/receipts/${file}`, import.meta.url)
  mkdirSync(at(''), { recursive: true })
  const vectors = receipts.map((receipt, i) => {
    const { name, witness } = made[i] as Made
    const file = name.replace(/[^a-z0-9]+/g, '-')
    if (!existsSync(at(`${file}.receipt`))) {
      writeFileSync(at(`${file}.receipt`), receipt)
      writeFileSync(at(`${file}.witness`), witness)
    }
    return { name, file }
  })
  writeFileSync(at('index.json'), `${JSON.stringify({ mesh: MESH.did, vectors }, undefined, 2)}\n`)
}

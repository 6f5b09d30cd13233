/** Every request through the front door, whatever came of it: recorded once, and its receipt verifies by the mesh's DID alone. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { encodeBatch } from '../../../cmtp/batch.ts'
import { decodeBatchReply } from '../../../cmtp/batch-reply.ts'
import { encodeRequest, ReplyFrame } from '../../../cmtp/frame.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { decodeLayers } from '../../../cmtp/layer.ts'
import { entryId, MessageIds } from '../../../cmtp/message-id.ts'
import { verifyReceipt } from '../../../cmtp/receipt/verify.ts'
import { LEAF_BYTES } from '../../../cmtp/receipt/merkle.ts'
import { ROOT_RECORD_BYTES, rootRecordHash, verifyRootRecord } from '../../../cmtp/receipt/root.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import type { AuditBatch } from '../../../services/audit/provider.ts'
import { MockAuditLog } from '../../../providers/audit/mock.ts'
import { readAnswer, startMesh, type TestMesh } from '../../support/mesh.ts'

const VIEW = '0xS:0x001:hello_world'
const WRITE = '0xSW:0x002:increment:[1]'
const RETENTION = { maxBytes: 1024 ** 3, maxAgeMs: 86_400_000 }

/** Keeps what was appended, and appends when it is let. */
class HeldLog extends MockAuditLog {
  readonly blocks: Buffer[] = []
  gate: Promise<void> | undefined
  broken: CMeshError | undefined

  override async append(batch: AuditBatch): Promise<void> {
    await this.gate
    if (this.broken !== undefined) throw this.broken
    await super.append(batch)
    this.blocks.push(Buffer.from(batch.block))
  }

  /** Ids on the log, in their order. */
  ids(): string[] {
    return this.blocks.flatMap(block => {
      const leaves = block.subarray(ROOT_RECORD_BYTES)
      return Array.from({ length: leaves.length / LEAF_BYTES }, (_, i) => leaves.toString('hex', i * LEAF_BYTES, i * LEAF_BYTES + 16))
    })
  }

  finalOf(id: Uint8Array): string[] {
    const hex = Buffer.from(id).toString('hex')
    return this.blocks.flatMap(block => {
      const leaves = block.subarray(ROOT_RECORD_BYTES)
      return Array.from({ length: leaves.length / LEAF_BYTES }, (_, i) => leaves.subarray(i * LEAF_BYTES, (i + 1) * LEAF_BYTES))
        .filter(leaf => leaf.toString('hex', 0, 16) === hex).map(leaf => leaf.toString('hex', 16))
    })
  }
}

const newIds = new MessageIds()
let log: HeldLog
let mesh: TestMesh
let session: Session
beforeAll(async () => {
  log = new HeldLog(RETENTION)
  mesh = await startMesh({ auditLog: log })
  session = await mesh.open()
})
afterAll(() => mesh.stop())

const handled = (frame: Uint8Array, sid = session.sid): Promise<Buffer> => new Promise(resolve => { mesh.frontDoor.handle(frame, { sid, replySubject: '' }, resolve) })
const verified = (receipt: Uint8Array): ReturnType<typeof verifyReceipt> => verifyReceipt(receipt, mesh.node)

describe.each([
  ['a view', VIEW, 200, {}],
  ['a write', WRITE, 200, { as: 'root' }],
  ['what is not permitted', WRITE, 403, {}],
  ['what has no session', VIEW, 401, { as: 'nobody' }],
  ['what is not there', '0xS:0xfff:x', 404, {}],
  ['an address that is none', '0xZ', 400, {}],
  ['a name that nobody has', '0xR:nobody.mcom', 404, {}],
  ['what came too late', VIEW, 408, { late: true }],
] as const)('%s', (_name, fqmn, status, { as, late }: { as?: 'root' | 'nobody', late?: boolean }) => {
  const who = (): Session | undefined => (as === 'root' ? mesh.root : as === 'nobody' ? undefined : session)
  const fields = (): object => (late === true ? { deadlineMs: mesh.time.ms - 1 } : {})

  test.each(['hash', 'none'] as const)('at %s is answered at once, promises that level, and is on the log', async receipt => {
    const id = newIds.next()
    const answer = await mesh.ask(who(), fqmn, { id, receipt, ...fields() })
    expect({ status: answer.status, level: answer.frame.receipt }).toEqual({ status, level: receipt })
    await mesh.batcher?.flush()
    expect(log.finalOf(id)).toEqual([receipt === 'hash' ? answer.frame.finalHash.toString('hex') : expect.stringMatching(/^[0-9a-f]{64}$/)])
  })

  test('at full carries a receipt that verifies, with every layer, its status and its caller', async () => {
    const id = newIds.next()
    const answer = await mesh.ask(who(), fqmn, { id, receipt: 'full', ...fields() })
    const { layers, receipt } = decodeLayers(answer.frame.layers)
    const verdict = verified(receipt)
    if (!verdict.valid) throw verdict.error
    expect({ status: answer.status, level: answer.frame.receipt }).toEqual({ status, level: 'full' })
    // Nobody looks at the session of what is no request, or came too late.
    expect(verdict.receipt).toMatchObject({ status, sub: [400, 408].includes(status) ? '' : who()?.sub ?? '' })
    expect(Buffer.from(verdict.receipt.id)).toEqual(id)
    expect(Buffer.from(verdict.receipt.final)).toEqual(answer.frame.finalHash)
    expect(verdict.layers.map(layer => [layer?.hop, layer?.fqmn, layer?.status])).toEqual(layers.map(({ hop, fqmn: at, status: code }) => [hop, at, code]))
    expect(log.finalOf(id)).toEqual([answer.frame.finalHash.toString('hex')])
    const wrote = status === 200 && fqmn === WRITE
    expect(verdict.claims).toEqual(wrote ? [{ member: mesh.node, epoch: 0, seq: mesh.state.head.seq, level: 'memory' }] : [])
  })
})

test('what came malformed is recorded under its id, and promises nothing where it has none', async () => {
  const id = newIds.next()
  const whole = encodeRequest({ id, fqmn: VIEW, token: Buffer.from(session.token), deadlineMs: mesh.time.ms + 5_000, receipt: 'hash' })
  const before = log.ids().length
  const cut = ReplyFrame.decode(await handled(whole.subarray(0, whole.length - 1)))
  const noise = ReplyFrame.decode(await handled(Buffer.from('noise')))
  const refused = ReplyFrame.decode(mesh.frontDoor.refuse(whole, new CMeshError('CMESH_ROUTER_BUSY', { what: 'This node', limit: 1, retryAfterMs: 1 })))
  await mesh.batcher?.flush()
  expect([cut, noise, refused].map(({ status, receipt }) => [status, receipt])).toEqual([[400, 'hash'], [400, 'none'], [429, 'hash']])
  expect(log.finalOf(id)).toEqual([cut.finalHash.toString('hex'), refused.finalHash.toString('hex')])
  expect(log.ids().length).toBe(before + 2)
})

describe('the entries of a batch', () => {
  // More of them one behind the other than have a note each.
  const entries = [VIEW, '0xS:0xfff:x', ...Array<string>(90).fill(VIEW), '0xZ', VIEW].map(fqmn => ({ fqmn }))
  const batch = async (receipt: 'hash' | 'none' | 'full'): Promise<{ id: Buffer, replies: ReturnType<typeof decodeBatchReply> }> => {
    const id = newIds.next()
    const frame = encodeBatch({ id, token: Buffer.from(session.token), deadlineMs: mesh.time.ms + 5_000, receipt, entries })
    const replies = decodeBatchReply(await handled(frame))
    await mesh.batcher?.flush()
    return { id, replies }
  }

  test.each(['hash', 'none'] as const)('are recorded each, repeated ones too, at %s', async level => {
    const { id, replies } = await batch(level)
    for (const [i, { status, finalHash }] of replies.entries.entries()) {
      expect(log.finalOf(entryId(id, i))).toEqual([level === 'hash' ? Buffer.from(finalHash).toString('hex') : expect.stringMatching(/^[0-9a-f]{64}$/)])
      expect(status).toBe(({ 1: 404, 92: 400 } as Record<number, number>)[i] ?? 200)
    }
    // What was noted of a repeated one is its own.
    for (const i of [2, 3, 60, 91, 93]) {
      const answer = await mesh.askRaw(session, `0xC:receipt:${entryId(id, i).toString('hex')}`)
      expect(verified(answer.frame.body)).toMatchObject({ valid: true, receipt: { id: entryId(id, i) } })
    }
  })

  test('each have a receipt at full', async () => {
    const { id, replies } = await batch('full')
    for (const [i, { layers, finalHash, status }] of replies.entries.entries()) {
      const verdict = verified(decodeLayers(layers).receipt)
      if (!verdict.valid) throw verdict.error
      const { receipt } = verdict
      expect([Buffer.from(receipt.id), Buffer.from(receipt.final), receipt.status]).toEqual([entryId(id, i), Buffer.from(finalHash), status])
    }
  })
})

describe('a receipt that is fetched', () => {
  test('is the caller\'s own, with the salt; the operator gets anybody\'s, without it; to others it is not there', async () => {
    const id = newIds.next()
    await mesh.ask(session, VIEW, { id })
    await mesh.batcher?.flush()
    const address = `0xC:receipt:${id.toString('hex')}`
    const [own, operators] = [await mesh.askRaw(session, address), await mesh.askRaw(mesh.root, address)]
    expect(verified(own.frame.body)).toMatchObject({ valid: true, receipt: { sub: session.sub, status: 200 } })
    expect(operators.frame.body).toEqual(own.frame.body)
    const salts = [own, operators].map(({ frame }) => /x-cmesh-salt/.test(frame.headers.toString('latin1')))
    expect(salts).toEqual([true, false])
    const [strangers, unknown] = [await mesh.ask(await mesh.open(), address), await mesh.ask(session, `0xC:receipt:${'0'.repeat(32)}`)]
    const why = 'nothing is known of that message, it was another\'s, or its layers are kept no more'
    const message = (of: string): string => `There is no receipt of ${of} here that you may have: ${why}.`
    expect(strangers).toMatchObject({ status: 404, code: 'CMESH_AUDIT_NO_RECEIPT', message: message(id.toString('hex')) })
    expect(unknown).toMatchObject({ status: 404, code: 'CMESH_AUDIT_NO_RECEIPT', message: message('0'.repeat(32)) })
  })

  test('of a write has what the members claim of it, as the one that came with the reply', async () => {
    const id = newIds.next()
    const answer = await mesh.ask(mesh.root, WRITE, { id, receipt: 'full' })
    const [came, fetched] = [decodeLayers(answer.frame.layers).receipt, (await mesh.askRaw(mesh.root, `0xC:receipt:${id.toString('hex')}`)).frame.body].map(verified)
    const evidence = came?.valid === true ? came.receipt.evidence : undefined
    expect(evidence).toMatchObject({ version: 2, members: 1, claims: [{ level: 'memory' }] })
    expect(fetched).toMatchObject({ valid: true, claims: [{ member: mesh.node }], receipt: { evidence: { ...evidence, claims: [expect.anything()] } } })
  })

  test.each(['', 'abc', 'A'.repeat(32)])('by the id %p is 400', async id => {
    expect(await mesh.ask(session, `0xC:receipt${id === '' ? '' : `:${id}`}`)).toMatchObject({ status: 400, code: 'CMESH_FQMN_SYNTAX' })
  })

  test('is that of the answer, not of the 401 under the same id that asked for the session', async () => {
    const id = newIds.next()
    for (const by of [undefined, session, undefined]) {
      await mesh.ask(by, VIEW, { id })
      await mesh.batcher?.flush()
    }
    expect(verified((await mesh.askRaw(mesh.root, `0xC:receipt:${id.toString('hex')}`)).frame.body)).toMatchObject({ valid: true, receipt: { status: 200, sub: session.sub } })
  })

  test('is there for a denial without a session only to who may have anybody\'s', async () => {
    const id = newIds.next()
    await mesh.ask(undefined, VIEW, { id })
    await mesh.batcher?.flush()
    const address = `0xC:receipt:${id.toString('hex')}`
    expect((await mesh.askRaw(session, address)).status).toBe(404)
    expect(verified((await mesh.askRaw(mesh.root, address)).frame.body)).toMatchObject({ valid: true, receipt: { status: 401, sub: '' } })
  })
})

test('the roots are signed, dense and each holds the hash of the one before', () => {
  const roots = mesh.roots.map(record => verifyRootRecord(record, mesh.node, undefined))
  expect(roots.map(({ batch }) => batch)).toEqual(roots.map((_, i) => i))
  let first = 0
  for (const [i, root] of roots.entries()) {
    expect(root.first).toBe(first)
    first += root.count
    expect(Buffer.from(root.previous)).toEqual(i === 0 ? Buffer.alloc(32) : rootRecordHash(mesh.roots[i - 1] as Buffer))
  }
  expect(first).toBe(log.ids().length)
})

describe('a disk that is behind', () => {
  test('holds up a reply at full and no other, and past the bound refuses what was not begun', async () => {
    const slow = new HeldLog(RETENTION)
    const own = await startMesh({ auditLog: slow })
    const mine = await own.open()
    let release = (): void => undefined
    slow.gate = new Promise(resolve => { release = resolve })
    let full: Buffer | undefined
    own.frontDoor.handle(own.frame(mine, VIEW, { receipt: 'full' }), { sid: mine.sid, replySubject: '' }, frame => { full = frame })
    // The append under way waits at the gate; what follows fills the next batch.
    await new Promise(resolve => { setImmediate(resolve) })
    const taken: number[] = []
    const entries = Array.from({ length: 1_024 }, () => ({ fqmn: VIEW }))
    for (let i = 0; i < 17; i++) {
      const frame = encodeBatch({ id: newIds.next(), token: Buffer.from(mine.token), deadlineMs: own.time.ms + 5_000, receipt: 'hash', entries })
      const reply = await new Promise<Buffer>(resolve => { own.frontDoor.handle(frame, { sid: mine.sid, replySubject: '' }, resolve) })
      taken.push(reply[3] as number)
    }
    expect(full).toBeUndefined()
    // 4: a batch reply; 2: one reply, a refusal.
    expect(taken).toEqual([...Array.from({ length: 16 }, () => 4), 2])
    const refused = await own.ask(mine, VIEW)
    expect(refused).toMatchObject({ status: 503, code: 'CMESH_AUDIT_BUSY' })
    expect(refused.frame.receipt).toBe('none')
    release()
    await own.batcher?.flush()
    expect(readAnswer(full as unknown as Buffer)).toMatchObject({ status: 200 })
    expect(await own.ask(mine, VIEW)).toMatchObject({ status: 200 })
    await own.stop()
  })

  test('that takes nothing ends it: what waited hears of it, nothing more is begun, and the node is told once', async () => {
    const broken = new HeldLog(RETENTION)
    const own = await startMesh({ auditLog: broken })
    const mine = await own.open()
    broken.broken = new CMeshError('CMESH_AUDIT_FULL', { reason: 'no space left' })
    const waiting = await own.ask(mine, VIEW, { receipt: 'full' })
    const later = await own.ask(mine, VIEW)
    for (const answer of [waiting, later]) {
      expect(answer).toMatchObject({
        status: 507, code: 'CMESH_AUDIT_FULL',
        message: 'The audit log cannot be written: no space left. A node answers nothing that it cannot record, and stops; free space and start it again.',
      })
      expect(answer.frame.receipt).toBe('none')
    }
    expect(own.halts.map(({ code }) => code)).toEqual(['CMESH_AUDIT_FULL'])
    await own.stop()
  })
})

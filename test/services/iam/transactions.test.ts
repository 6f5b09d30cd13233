import { beforeEach, describe, expect, test } from '@jest/globals'
import { makeLink } from '../../../cmtp/identity/capability.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import { actionOf, compilePermissions, covers, formatPermission, NEWCOMER_READ_SET, OPERATOR_SET, parsePermissions, type Permission } from '../../../cmtp/permission.ts'
import { explain } from '../../../services/iam/explain.ts'
import { GrantBook } from '../../../services/iam/grant-book.ts'
import type { Facts } from '../../../services/iam/provider.ts'
import { SYSTEM_SPACE } from '../../../services/state/transaction.ts'
import { batchOf, genesisTransaction, MEMBER, moveTo, OPERATOR, outputOf, replica, type Replica, START_MS, transactionOf } from '../../support/replica.ts'

const [ANN, BEN, CAT] = [KeyPair.generate(), KeyPair.generate(), KeyPair.generate()]
const INCREMENT = 'write 0xSW:0x002:increment'

let made: Replica
let book: GrantBook
let nowMs: number
beforeEach(async () => {
  made = await replica()
  nowMs = START_MS
  made.next(batchOf([genesisTransaction()]))
  book = new GrantBook({ records: () => made.store.space(SYSTEM_SPACE), node: MEMBER.did, operator: OPERATOR.did, now: () => nowMs })
})

/** What an order came to: its status, and its output or the code and message of its error. */
const order = (by: KeyPair, action: string, body: object): { status: number, value: unknown, code?: unknown, message?: unknown } => {
  const [record] = made.next(batchOf([transactionOf(`0xIW:${action}`, { sub: by.did, body: Buffer.from(JSON.stringify(body)), deadlineMs: nowMs + 60_000 })], { proposedMs: nowMs }))
  const value = outputOf(record)
  const { code, message } = (value ?? {}) as Record<string, unknown>
  return { status: record?.status ?? 0, value, code, message }
}
const grant = (did: string, permission: string, more: object = {}, by = OPERATOR): ReturnType<typeof order> => order(by, 'grant', { did, permission, ...more })
const may = (permissions: readonly Permission[], fqmn: string): boolean => covers(compilePermissions(permissions), actionOf(parseFqmn(fqmn)), parseFqmn(fqmn))
const mayIncrement = (did: string, facts?: Facts): boolean => may(book.grantsOf(did, facts), '0xSW:0x002:increment')

describe('a grant', () => {
  test('that the configuration names as well, once taken back by whoever made it, does not return with the configuration', () => {
    const seed = 'b'.repeat(32)
    grant(ANN.did, INCREMENT)
    expect(grant(ANN.did, INCREMENT, { seed }, MEMBER)).toMatchObject({ status: 200, value: { by: OPERATOR.did } })
    expect(order(OPERATOR, 'ungrant', { did: ANN.did, permission: INCREMENT }).status).toBe(200)
    expect(grant(ANN.did, INCREMENT, { seed }, MEMBER)).toMatchObject({ code: 'CMESH_IAM_GRANT', message: 'The change of grants is refused: it was taken back; grant it anew.' })
    expect(mayIncrement(ANN.did)).toBe(false)
  })

  test('gives what it says and nothing else, from the block on that holds it, until it is taken back', () => {
    expect(mayIncrement(ANN.did)).toBe(false)
    const { status, value } = grant(ANN.did, INCREMENT)
    expect({ status, value }).toEqual({ status: 200, value: { did: ANN.did, id: expect.stringMatching(/^[0-9a-f]{32}$/), perm: INCREMENT, by: OPERATOR.did, seq: 2, timeMs: START_MS } })
    expect([mayIncrement(ANN.did), may(book.grantsOf(ANN.did), '0xSW:0x001:say'), mayIncrement(BEN.did), book.seq]).toEqual([true, false, false, 2])
    expect(order(OPERATOR, 'ungrant', { did: ANN.did, permission: INCREMENT })).toMatchObject({ status: 200, value: { revoked: [{ perm: INCREMENT }] } })
    expect([mayIncrement(ANN.did), book.seq]).toEqual([false, 3])
    expect(book.grantsOf(ANN.did)).toBe(NEWCOMER_READ_SET)
  })

  test('of the same thing twice is one', () => {
    const first = grant(ANN.did, 'write,read 0xSW:0x002:increment')
    expect(grant(ANN.did, 'read,write 0xSW:0x002:increment').value).toEqual(first.value)
    expect(book.grants(ANN.did)).toHaveLength(1)
    grant(ANN.did, 'read,write 0xSW:0x002:increment', { notAfter: START_MS + 5 })
    expect(book.grants(ANN.did)).toHaveLength(2)
  })

  test('is taken back by its id, by what it says, or with all others', () => {
    const { value } = grant(ANN.did, INCREMENT)
    for (const permission of ['write 0xSW:0x001:say', 'write 0xE:x']) grant(ANN.did, permission)
    expect(order(OPERATOR, 'ungrant', { did: ANN.did, id: (value as { id: string }).id }).status).toBe(200)
    expect(book.grants(ANN.did).map(({ perm }) => perm)).toEqual(['write 0xSW:0x001:say', 'write 0xE:x'])
    expect(order(OPERATOR, 'ungrant', { did: ANN.did, id: (value as { id: string }).id })).toMatchObject({ status: 409, code: 'CMESH_IAM_GRANT', message: 'The change of grants is refused: there is no such grant.' })
    expect(order(OPERATOR, 'ungrant', { did: ANN.did, all: true })).toMatchObject({ value: { revoked: [{}, {}] } })
    expect(book.grants(ANN.did)).toEqual([])
  })

  test('is not a newcomer\'s to make, whoever proposes it', () => {
    expect(grant(ANN.did, INCREMENT, {}, ANN)).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED', message: 'Permission write on 0xIW:grant is missing.' })
    for (const action of ['ungrant', 'ban', 'unban']) expect(order(ANN, action, { did: BEN.did })).toMatchObject({ code: 'CMESH_IAM_DENIED' })
  })

  test('is never wider than what its granter holds by itself, under no condition', () => {
    for (const perm of ['write 0xIW:grant', 'write 0xIW:ungrant', 'write 0xSW:0x002:>']) grant(ANN.did, perm)
    grant(ANN.did, 'write 0xSW:0x001:>', { notAfter: START_MS + 1_000 })
    grant(ANN.did, 'write 0xSW:0x003:>', { aal: 1 })
    expect(grant(BEN.did, INCREMENT, {}, ANN).status).toBe(200)
    expect(mayIncrement(BEN.did)).toBe(true)
    for (const perm of ['write 0xSW:>', 'write,deploy 0xSW:0x002:increment', 'deploy 0xSW:0x000:deploy', 'write 0xSW:0x001:say', 'write 0xSW:0x003:f', 'read,write >']) {
      expect(grant(BEN.did, perm, {}, ANN)).toMatchObject({ status: 409, code: 'CMESH_IAM_GRANT', message: expect.stringContaining('is wider than what its granter may do itself') })
    }
    // Whose grant it is may take it back; others' it may not.
    grant(BEN.did, 'write 0xSW:0x001:say')
    expect(order(ANN, 'ungrant', { did: BEN.did, permission: 'write 0xSW:0x001:say' })).toMatchObject({ code: 'CMESH_IAM_GRANT', message: 'The change of grants is refused: somebody else granted it.' })
    expect(order(ANN, 'ungrant', { did: BEN.did, all: true })).toMatchObject({ value: { revoked: [{ perm: INCREMENT }] } })
  })

  test('of exec is nobody\'s, since it is the services\' own', () => {
    expect(grant(ANN.did, 'exec 0xA:1:0x001:f')).toMatchObject({ code: 'CMESH_IAM_GRANT' })
    for (const perm of ['peer 0xP:>', 'read 0xE:audit:>', 'read,write,deploy,proxy,replace,peer >']) expect(grant(ANN.did, perm).status).toBe(200)
  })

  test('has bounds: 256 for a DID', () => {
    const body = (i: number): Buffer => Buffer.from(JSON.stringify({ did: ANN.did, permission: `write 0xSW:0x002:f${i}` }))
    const statuses = made.next(batchOf(Array.from({ length: 256 }, (_, i) => transactionOf('0xIW:grant', { body: body(i) })))).map(({ status }) => status)
    expect(new Set(statuses)).toEqual(new Set([200]))
    expect(grant(ANN.did, INCREMENT)).toMatchObject({ code: 'CMESH_IAM_GRANT', message: 'The change of grants is refused: a DID has at most 256 grants.' })
  })

  test.each<[string, string, object]>([
    ['no DID', 'grant', { did: 'ann', permission: INCREMENT }], ['no permission', 'grant', { did: ANN.did }], ['a member more', 'grant', { did: ANN.did, permission: INCREMENT, until: 1 }],
    ['a time that is none', 'grant', { did: ANN.did, permission: INCREMENT, notAfter: '2030' }], ['an assurance that is none', 'grant', { did: ANN.did, permission: INCREMENT, aal: 3 }],
    ['an attribute by nobody', 'grant', { did: ANN.did, permission: INCREMENT, attribute: { id: 'age', issuer: 'x' } }], ['two ways to say which', 'ungrant', { did: ANN.did, id: 'x', all: true }],
    ['nothing to take back', 'ungrant', { did: ANN.did }], ['whom and which session', 'ban', { did: ANN.did, sid: 'session-1' }], ['links that are no texts', 'capability', { links: [1] }], ['no jti', 'uncapability', { jti: 'x' }],
  ])('with %s is malformed', (_, action, body) => {
    expect(order(OPERATOR, action, body)).toMatchObject({ status: 400, code: 'CMESH_FRAME_MALFORMED' })
  })
})

describe('a condition', () => {
  const FACTS: Facts = { aal: 1, attributes: [], nowMs: START_MS }

  test('of time lets the grant count between its ends alone, and says when that changes', () => {
    grant(ANN.did, INCREMENT, { notBefore: START_MS + 10, notAfter: START_MS + 20 })
    const at = (ms: number): boolean => mayIncrement(ANN.did, { ...FACTS, nowMs: ms })
    expect([at(START_MS + 9), at(START_MS + 10), at(START_MS + 19), at(START_MS + 20)]).toEqual([false, true, true, false])
    expect([0, 10, 20].map(ms => book.changesAt(ANN.did, START_MS + ms))).toEqual([START_MS + 10, START_MS + 20, Infinity])
    expect(book.changesAt(BEN.did, START_MS)).toBe(Infinity)
    expect(grant(ANN.did, INCREMENT, { notAfter: START_MS })).toMatchObject({ code: 'CMESH_IAM_GRANT', message: 'The change of grants is refused: it would have ended already.' })
  })

  test('of assurance lets it count for sessions that are sure enough', () => {
    grant(ANN.did, INCREMENT, { aal: 2 })
    expect([mayIncrement(ANN.did), mayIncrement(ANN.did, FACTS), mayIncrement(ANN.did, { ...FACTS, aal: 2 })]).toEqual([false, false, true])
  })

  test('of an attribute lets it count for sessions that hold it, by that issuer', () => {
    grant(ANN.did, INCREMENT, { attribute: { id: 'member#level', value: 'gold', issuer: CAT.did } })
    grant(BEN.did, INCREMENT, { attribute: { id: 'member#level', issuer: CAT.did } })
    const holding = (value: string, issuer = CAT.did): Facts => ({ ...FACTS, attributes: [{ id: 'member#level', value, issuer }] })
    expect([mayIncrement(ANN.did, holding('gold')), mayIncrement(ANN.did, holding('silver')), mayIncrement(ANN.did, holding('gold', BEN.did)), mayIncrement(ANN.did)]).toEqual([true, false, false, false])
    expect([mayIncrement(BEN.did, holding('silver')), mayIncrement(BEN.did, holding('silver', BEN.did)), mayIncrement(BEN.did, FACTS)]).toEqual([true, false, false])
  })

  test('does not keep a right out of the token, which the guard narrows at each use', () => {
    grant(ANN.did, INCREMENT, { aal: 2, notBefore: START_MS + 10 })
    expect([may(book.possible(ANN.did), '0xSW:0x002:increment'), mayIncrement(ANN.did)]).toEqual([true, false])
  })

  test('makes one array for each set of conditions that are met, the same each time', () => {
    grant(ANN.did, INCREMENT, { aal: 2 })
    grant(ANN.did, 'write 0xE:x')
    const [low, high] = [book.grantsOf(ANN.did, FACTS), book.grantsOf(ANN.did, { ...FACTS, aal: 2 })]
    expect(low).not.toBe(high)
    expect(book.grantsOf(ANN.did, { ...FACTS, nowMs: START_MS + 1 })).toBe(low)
    expect(book.grantsOf(ANN.did, { ...FACTS, aal: 2, attributes: [{ id: 'x', value: 'y', issuer: 'z' }] })).toBe(high)
    grant(BEN.did, 'write 0xE:x')
    expect(book.grantsOf(BEN.did)).toBe(low)
    grant(ANN.did, 'write 0xE:y')
    expect(book.grantsOf(ANN.did, FACTS)).not.toBe(low)
  })
})

describe('a ban', () => {
  test('takes everything, grants and the newcomer\'s set alike, until it is lifted', () => {
    grant(ANN.did, INCREMENT)
    expect(order(OPERATOR, 'ban', { did: ANN.did, reason: 'spam' })).toMatchObject({ status: 200, value: { did: ANN.did, reason: 'spam' } })
    expect([book.grantsOf(ANN.did), book.isBanned(ANN.did)]).toEqual([[], true])
    expect(order(OPERATOR, 'unban', { did: ANN.did }).status).toBe(200)
    expect(mayIncrement(ANN.did)).toBe(true)
    expect(order(OPERATOR, 'unban', { did: ANN.did })).toMatchObject({ code: 'CMESH_IAM_GRANT', message: 'The change of grants is refused: it is not banned.' })
  })

  test('is not for the operator or a member', () => {
    for (const did of [OPERATOR.did, MEMBER.did]) expect(order(OPERATOR, 'ban', { did })).toMatchObject({ status: 409, code: 'CMESH_IAM_GRANT' })
  })

  test('of a session is remembered for an hour of the log', () => {
    order(OPERATOR, 'ban', { sid: 'session-1' })
    nowMs += 3_600_000
    expect(book.revokedSessions).toEqual(['session-1'])
    nowMs += 1
    moveTo(made, nowMs)
    order(OPERATOR, 'ban', { sid: 'session-2' })
    expect(book.revokedSessions).toEqual(['session-2'])
  })

  test('is told to those who keep sessions, and other blocks are not', () => {
    const lastChange = () => GrantBook.changeOf(made.applied.at(-1))
    order(OPERATOR, 'ban', { did: ANN.did })
    expect(lastChange()).toEqual({ banned: [ANN.did], sessions: false })
    order(OPERATOR, 'ban', { sid: 'session-1' })
    expect(lastChange()).toEqual({ banned: [], sessions: true })
    order(OPERATOR, 'unban', { did: ANN.did })
    expect(lastChange()).toEqual({ banned: [], sessions: false })
    order(OPERATOR, 'unban', { did: ANN.did })
    expect(lastChange()).toBeUndefined()
  })
})

describe('what the configuration grants', () => {
  const seed = 'a'.repeat(32)

  test('is a member\'s to carry into the log, once', () => {
    expect(grant(ANN.did, INCREMENT, { seed }, OPERATOR)).toMatchObject({ code: 'CMESH_IAM_GRANT', message: 'The change of grants is refused: only a member carries the configuration into the log.' })
    for (let i = 0; i < 2; i++) expect(grant(ANN.did, INCREMENT, { seed }, MEMBER)).toMatchObject({ status: 200, value: { id: seed, by: MEMBER.did } })
    expect(book.grants(ANN.did)).toHaveLength(1)
  })

  test('stays taken back when its node starts again', () => {
    grant(ANN.did, INCREMENT, { seed }, MEMBER)
    order(OPERATOR, 'ungrant', { did: ANN.did, all: true })
    expect(grant(ANN.did, INCREMENT, { seed }, MEMBER)).toMatchObject({ code: 'CMESH_IAM_GRANT', message: 'The change of grants is refused: it was taken back; grant it anew.' })
    expect(grant(ANN.did, INCREMENT).status).toBe(200)
  })
})

describe('a capability', () => {
  const link = (issuer: KeyPair, to: KeyPair, perms: readonly string[], more: object = {}): string => makeLink({
    issuer, to: to.did, mesh: MEMBER.did, permissions: parsePermissions(perms), exp: START_MS / 1_000 + 60, depth: 2, nowS: START_MS / 1_000, ...more,
  })
  const jtiOf = (text: string): string => (JSON.parse(Buffer.from(text.split('.')[1] as string, 'base64url').toString()) as { jti: string }).jti
  let links: string[]
  beforeEach(() => {
    grant(ANN.did, 'write 0xSW:0x002:>')
    const first = link(ANN, BEN, ['write 0xSW:0x002:>', 'write 0xSW:0x001:>'])
    links = [first, link(BEN, CAT, [INCREMENT, 'write 0xSW:0x001:say'], { parent: first, depth: 1 })]
  })

  test('gives its holder what it says, as far as its root may do that itself, until it expires', () => {
    expect(mayIncrement(CAT.did)).toBe(false)
    expect(order(CAT, 'capability', { links })).toMatchObject({ status: 200, value: { root: ANN.did, holder: CAT.did, jti: jtiOf(links[1] as string) } })
    expect([mayIncrement(CAT.did), may(book.grantsOf(CAT.did), '0xSW:0x001:say'), may(book.grantsOf(CAT.did), '0xSW:0x002:other'), mayIncrement(BEN.did)]).toEqual([true, false, false, false])
    expect(book.changesAt(CAT.did, START_MS)).toBe(START_MS + 60_000)
    nowMs = START_MS + 60_000
    expect(mayIncrement(CAT.did)).toBe(false)
  })

  test('ends with the right of its root, and comes back with it', () => {
    order(CAT, 'capability', { links })
    order(OPERATOR, 'ungrant', { did: ANN.did, all: true })
    expect(mayIncrement(CAT.did)).toBe(false)
    grant(ANN.did, INCREMENT)
    expect(mayIncrement(CAT.did)).toBe(true)
  })

  test('gives nothing of what its root holds by a capability itself', () => {
    order(BEN, 'capability', { links: [links[0]] })
    expect(mayIncrement(BEN.did)).toBe(true)
    expect(order(CAT, 'capability', { links: [link(BEN, CAT, [INCREMENT])] }).status).toBe(200)
    expect(mayIncrement(CAT.did)).toBe(false)
  })

  test('is taken only from its holder', () => {
    expect(order(BEN, 'capability', { links })).toMatchObject({ status: 403, code: 'CMESH_IAM_CAPABILITY', message: 'The capability is refused: it was handed to somebody else.' })
    expect(order(CAT, 'capability', { links: [links[1]] })).toMatchObject({ code: 'CMESH_IAM_CAPABILITY' })
    expect(mayIncrement(CAT.did)).toBe(false)
  })

  test('the ninth way: once a link in its middle is taken back it gives nothing, and is not taken again', () => {
    order(CAT, 'capability', { links })
    expect(order(ANN, 'uncapability', { jti: jtiOf(links[0] as string) }).status).toBe(200)
    expect(mayIncrement(CAT.did)).toBe(false)
    expect(order(CAT, 'capability', { links })).toMatchObject({ code: 'CMESH_IAM_CAPABILITY', message: 'The capability is refused: a link of it was taken back, or its issuer is banned.' })
  })

  test('is taken back by who stands at the link or above it, and by the operator; nobody else\'s word counts', () => {
    const jti = jtiOf(links[1] as string)
    order(CAT, 'capability', { links })
    order(CAT, 'uncapability', { jti })
    order(KeyPair.generate(), 'uncapability', { jti })
    order(BEN, 'uncapability', { jti: jtiOf(links[0] as string) })
    expect(mayIncrement(CAT.did)).toBe(true)
    const forget = ({ did }: KeyPair): void => { for (const key of [`uncap/${did}`, `uncap/${did}/${jti}`]) made.store.space(SYSTEM_SPACE).delete(key) }
    for (const by of [ANN, BEN, OPERATOR]) {
      forget(by)
      expect([mayIncrement(CAT.did), order(by, 'uncapability', { jti }).status, mayIncrement(CAT.did)]).toEqual([true, 200, false])
      forget(by)
    }
  })

  test('presented again changes nothing, and all that one holds is bounded', () => {
    const held = (): string => Buffer.from(made.store.space(SYSTEM_SPACE).get(`cap/${CAT.did}`) ?? []).toString()
    order(CAT, 'capability', { links })
    const before = held()
    expect(order(CAT, 'capability', { links }).status).toBe(200)
    expect(held()).toBe(before)
    const many = (from: number): string[] => Array.from({ length: 32 }, (_, i) => `write 0xSW:0x002:f${from + i}`)
    for (let i = 0; i < 7; i++) expect(order(CAT, 'capability', { links: [link(ANN, CAT, many(i * 32))] }).status).toBe(200)
    const full = held()
    expect(order(CAT, 'capability', { links: [link(ANN, CAT, many(500))] }))
      .toMatchObject({ code: 'CMESH_IAM_CAPABILITY', message: 'The capability is refused: the capabilities of a DID have at most 256 permissions together.' })
    expect(held()).toBe(full)
  })

  test('gives nothing while anybody in its chain is banned', () => {
    order(CAT, 'capability', { links })
    for (const who of [ANN, BEN, CAT]) {
      order(OPERATOR, 'ban', { did: who.did })
      expect(mayIncrement(CAT.did)).toBe(false)
      order(OPERATOR, 'unban', { did: who.did })
      expect(mayIncrement(CAT.did)).toBe(true)
    }
  })

  test('is the same array each time it gives the same', () => {
    order(CAT, 'capability', { links })
    expect(book.grantsOf(CAT.did)).toBe(book.grantsOf(CAT.did))
  })
})

describe('why somebody may, or may not', () => {
  const why = (did: string, fqmn = '0xSW:0x002:increment'): ReturnType<typeof explain> => explain(book, did, parseFqmn(fqmn), nowMs)

  test('names every grant that allows it, each that might, or what is missing', () => {
    expect(why(ANN.did)).toMatchObject({ allowed: false, by: [], conditional: [], missing: INCREMENT, banned: false })
    const { value } = grant(ANN.did, 'write 0xSW:0x002:>')
    grant(ANN.did, INCREMENT, { aal: 2 })
    const { id } = value as { id: string }
    expect(why(ANN.did)).toMatchObject({
      allowed: true, missing: null, by: [{ from: 'grant', perm: 'write 0xSW:0x002:>', id, by: OPERATOR.did }], conditional: [{ from: 'grant', perm: INCREMENT, condition: { aal: 2 } }],
    })
    order(OPERATOR, 'ban', { did: ANN.did })
    expect(why(ANN.did)).toMatchObject({ allowed: false, by: [], missing: INCREMENT, banned: true })
  })

  test('names the set that everybody, the node or the operator has', () => {
    expect(why(ANN.did, '0xS:0x002:get')).toMatchObject({ allowed: true, by: [{ from: 'newcomer', perm: 'read 0xS:>' }] })
    expect(why(MEMBER.did)).toMatchObject({ allowed: true, by: [{ from: 'member', perm: 'write 0xSW:0x002:>' }] })
    expect(why(OPERATOR.did)).toMatchObject({ allowed: true, by: [{ from: 'operator', perm: 'write >' }] })
    expect(book.grantsOf(OPERATOR.did)).toBe(OPERATOR_SET)
    expect(formatPermission(OPERATOR_SET.find(({ pattern }) => pattern === '>') as Permission)).toContain('write')
  })
})

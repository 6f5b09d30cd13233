import { afterAll, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { signNameRecord, verifyNameRecord } from '../../../cmtp/identity/name-record.ts'
import { LIMITS } from '../../../cmtp/limits.ts'
import { OPERATOR_SET } from '../../../cmtp/permission.ts'
import { GRACE_MS, ownedKey, TERM_MS, type RegisteredName } from '../../../services/registrar/records.ts'
import { nameBody, startMesh, type Answer, type TestMesh } from '../../support/mesh.ts'

interface Person { readonly key: KeyPair, readonly did: string, session: Session }

let mesh: TestMesh
let anna: Person
let bert: Person
const people: Person[] = []

async function person(): Promise<Person> {
  const key = KeyPair.generate()
  const made = { key, did: key.did, session: await mesh.open({ identity: key }) }
  people.push(made)
  return made
}

beforeAll(async () => {
  mesh = await startMesh()
  anna = await person()
  bert = await person()
})
afterAll(() => mesh.stop())
// Log time runs in these tests by months; sessions live five minutes.
beforeEach(async () => {
  for (const each of people) each.session = await mesh.open({ identity: each.key })
})

const segment = (did: string): string => did.slice('did:key:'.length)
const write = (who: Person, fqmn: string, body?: string): Promise<Answer> => mesh.ask(who.session, fqmn, body === undefined ? {} : { body })
const register = (who: Person, name: string, target = '0xS:0x001'): Promise<Answer> => mesh.register(who.session, who.key, name, target)
const update = (who: Person, name: string, target: string, sequence: number): Promise<Answer> =>
  write(who, `0xRW:update:${name}:${target}`, nameBody(who.key, name, target, sequence))
const transfer = (who: Person, name: string, to: string, sequence: number, target = '0xS:0x001'): Promise<Answer> =>
  write(who, `0xRW:transfer:${name}:${segment(to)}`, nameBody(who.key, name, target, sequence, to))
const resolve = (name: string, who = anna): Promise<Answer> => mesh.ask(who.session, `0xR:resolve:${name}`)
const record = async (name: string): Promise<RegisteredName> => (await resolve(name)).value as RegisteredName
const ownedBy = (did: string): number => Number(Buffer.from(mesh.store.space('0x000').get(ownedKey(did)) ?? '0').toString())

/** Moves log time, which only writes do, and renews everybody's session. */
async function after(ms: number): Promise<void> {
  mesh.time.ms += ms
  const operator = await mesh.open({ identity: mesh.operator })
  // A step of log time is twice the last one at most.
  for (let steps = 0; steps < 32 && mesh.state.head.timeMs < mesh.time.ms; steps++) {
    expect(await mesh.ask(operator, '0xSW:0x002:increment')).toMatchObject({ status: 200 })
  }
  expect(mesh.state.head.timeMs).toBe(mesh.time.ms)
  for (const each of people) each.session = await mesh.open({ identity: each.key })
}

describe('the owner of a name', () => {
  test('changes what it maps to, one sequence on, and the name means that from then on', async () => {
    await register(anna, 'moving.mcom')
    expect(await mesh.ask(bert.session, '0xR:moving.mcom:hello_world')).toMatchObject({ value: 'Hello, world' })
    expect(await update(anna, 'moving.mcom', '0xS:0x002', 2)).toMatchObject({ status: 200, value: { target: '0xS:0x002', sequence: 2, owner: anna.did } })
    expect(await mesh.ask(bert.session, '0xR:moving.mcom:hello_world')).toMatchObject({ status: 404, code: 'CMESH_STATE_NO_FUNCTION' })
    expect(await mesh.ask(bert.session, '0xR:moving.mcom:get')).toMatchObject({ status: 200 })
    expect(verifyNameRecord(await record('moving.mcom'), (await record('moving.mcom')).signature)).toBe(true)
  })

  test('gives it to somebody else, who alone holds it then', async () => {
    await register(anna, 'gift.mcom')
    const before = ownedBy(bert.did)
    expect(await transfer(anna, 'gift.mcom', bert.did, 2)).toMatchObject({ status: 200, value: { owner: bert.did, sequence: 2, target: '0xS:0x001' } })
    expect([ownedBy(bert.did) - before]).toEqual([1])
    // The former owner signed it: a record of the new owner that proves the gift.
    expect(verifyNameRecord(await record('gift.mcom'), (await record('gift.mcom')).signature, anna.did)).toBe(true)
    for (const refused of [await update(anna, 'gift.mcom', '0xS:0x002', 3), await write(anna, '0xRW:renew:gift.mcom'), await write(anna, '0xRW:release:gift.mcom')]) {
      expect(refused).toMatchObject({ status: 403, code: 'CMESH_REGISTRAR_NOT_OWNER' })
    }
    expect(await update(bert, 'gift.mcom', '0xS:0x002', 3)).toMatchObject({ status: 200 })
    expect((await update(anna, 'gift.mcom', '0xS:0x002', 3)).message).toBe(`The name gift.mcom belongs to ${bert.did}; only its owner may update it.`)
  })

  test('lets go of it, and anybody may have it', async () => {
    await register(anna, 'free.mcom')
    const before = ownedBy(anna.did)
    expect(await write(anna, '0xRW:release:free.mcom')).toMatchObject({ status: 200, value: { name: 'free.mcom', released: true } })
    expect(ownedBy(anna.did)).toBe(before - 1)
    expect(await resolve('free.mcom')).toMatchObject({ status: 404 })
    expect(await mesh.ask(anna.session, '0xR:free.mcom')).toMatchObject({ status: 404 })
    expect(await register(bert, 'free.mcom')).toMatchObject({ status: 200, value: { sequence: 1, owner: bert.did } })
  })

  test('is asked for by its normal form, however it was typed', async () => {
    await register(anna, 'MiXed.mcom')
    expect(await update(anna, 'mIxEd.MCOM', '0xS:0x002', 2)).toMatchObject({ status: 200, value: { name: 'mixed.mcom' } })
  })

  test.each([
    ['update', (name: string) => update(bert, name, '0xS:0x002', 2)],
    ['transfer', (name: string) => transfer(bert, name, bert.did, 2)],
    ['renew', (name: string) => write(bert, `0xRW:renew:${name}`)],
    ['release', (name: string) => write(bert, `0xRW:release:${name}`)],
  ])('is the only one who may %s it', async (action, attempt) => {
    const name = `only-${action}.mcom`
    await register(anna, name)
    const before = await record(name)
    expect(await attempt(name)).toMatchObject({
      status: 403, code: 'CMESH_REGISTRAR_NOT_OWNER', message: `The name ${name} belongs to ${anna.did}; only its owner may ${action} it.`,
    })
    expect(await attempt('nobody-has-this.mcom')).toMatchObject({ status: 404, code: 'CMESH_REGISTRAR_NOT_FOUND' })
    expect(await record(name)).toEqual(before)
  })
})

describe('the signature over a record', () => {
  const body = (fields: object): string => JSON.stringify({ sequence: 1, signature: '', ...fields })
  const sign = (fields: Partial<Parameters<typeof signNameRecord>[0]>, key = anna.key): string =>
    signNameRecord({ name: 'signed.mcom', target: '0xS:0x001', owner: anna.did, sequence: 1, ...fields }, key)

  test.each<[string, () => string, number, string]>([
    ['missing', () => '', 400, 'CMESH_FRAME_MALFORMED'],
    ['no JSON', () => 'noise', 400, 'CMESH_FRAME_MALFORMED'],
    ['an array', () => '[]', 400, 'CMESH_FRAME_MALFORMED'],
    ['by somebody else', () => body({ signature: sign({}, bert.key) }), 403, 'CMESH_REGISTRAR_SIGNATURE'],
    ['over another name', () => body({ signature: sign({ name: 'other.mcom' }) }), 403, 'CMESH_REGISTRAR_SIGNATURE'],
    ['over another target', () => body({ signature: sign({ target: '0xS:0x002' }) }), 403, 'CMESH_REGISTRAR_SIGNATURE'],
    ['over another owner', () => body({ signature: sign({ owner: bert.did }) }), 403, 'CMESH_REGISTRAR_SIGNATURE'],
    ['over another sequence', () => body({ signature: sign({ sequence: 2 }) }), 403, 'CMESH_REGISTRAR_SIGNATURE'],
    ['over the name as it was typed', () => body({ signature: sign({ name: 'Signed.mcom' }) }), 403, 'CMESH_REGISTRAR_SIGNATURE'],
    ['no text', () => body({ signature: 7 }), 403, 'CMESH_REGISTRAR_SIGNATURE'],
    ['with the wrong sequence beside it', () => body({ sequence: 2, signature: sign({ sequence: 2 }) }), 412, 'CMESH_REGISTRAR_SEQUENCE'],
    ['without a sequence', () => JSON.stringify({ signature: sign({}) }), 412, 'CMESH_REGISTRAR_SEQUENCE'],
  ])('that is %s registers nothing', async (_what, make, status, code) => {
    expect(await write(anna, '0xRW:register:Signed.mcom:0xS:0x001', make())).toMatchObject({ status, code })
    expect(await resolve('signed.mcom')).toMatchObject({ status: 404 })
  })

  test('counts for its own sequence: neither an old record nor a future one takes its place', async () => {
    await register(anna, 'stepwise.mcom')
    expect(await update(anna, 'stepwise.mcom', '0xS:0x002', 1)).toMatchObject({
      status: 412, code: 'CMESH_REGISTRAR_SEQUENCE', message: 'The record of stepwise.mcom is at sequence 1, not 0: resolve it and sign again.',
    })
    expect(await update(anna, 'stepwise.mcom', '0xS:0x002', 3)).toMatchObject({ status: 412, message: 'The record of stepwise.mcom is at sequence 1, not 2: resolve it and sign again.' })
    expect(await update(anna, 'stepwise.mcom', '0xS:0x002', 2)).toMatchObject({ status: 200 })
    // Sent again under another id, the same words say nothing new.
    expect(await update(anna, 'stepwise.mcom', '0xS:0x002', 2)).toMatchObject({ status: 412 })
  })
})

describe('what a name may map to', () => {
  test.each([
    ['0xI:whoami', 'CMESH_REGISTRAR_TARGET', 'A name cannot map to 0xI:whoami: a name maps to a 0xS, 0xR or 0xE address.'],
    ['0xC:status', 'CMESH_REGISTRAR_TARGET', 'A name cannot map to 0xC:status: a name maps to a 0xS, 0xR or 0xE address.'],
    ['0xA:1:0x001:f', 'CMESH_REGISTRAR_TARGET', 'A name cannot map to 0xA:1:0x001:f: a name maps to a 0xS, 0xR or 0xE address.'],
    ['0xS:0x001:hello_world:["x"]', 'CMESH_REGISTRAR_TARGET', 'A name cannot map to 0xS:0x001:hello_world: arguments belong to the call, not to the name.'],
    ['0xE:0xR:x.mcom:said', 'CMESH_REGISTRAR_TARGET', 'A name cannot map to 0xE:0xR:x.mcom:said: it nests another address.'],
    ['0xR:x.mcom:0xS:0x001', 'CMESH_REGISTRAR_TARGET', 'A name cannot map to 0xR:x.mcom:0xS:0x001: it nests another address.'],
    ['0xP:peer:0xS:0x001', 'CMESH_REGISTRAR_TARGET', 'A name cannot map to 0xP:peer:0xS:0x001: a name maps to a 0xS, 0xR or 0xE address.'],
  ])('not to %s, at registration or later', async (target, code, message) => {
    expect(await register(anna, 'mapped.mcom', target)).toMatchObject({ status: 400, code, message })
    await register(anna, 'mapped-later.mcom')
    expect(await update(anna, 'mapped-later.mcom', target, 2)).toMatchObject({ status: 400, code, message })
  })

  test.each([
    ['0xRW:register:lonely.mcom', 'CMESH_REGISTRAR_TARGET'], ['0xRW:update:lonely.mcom', 'CMESH_REGISTRAR_TARGET'],
    ['0xRW:register:lonely.mcom:more:0xS:0x001', 'CMESH_FQMN_SYNTAX'], ['0xRW:renew:lonely.mcom:more', 'CMESH_FQMN_SYNTAX'],
    ['0xRW:renew:lonely.mcom:[1]', 'CMESH_FQMN_SYNTAX'], ['0xRW:release:lonely.mcom:0xS:0x001', 'CMESH_FQMN_SYNTAX'],
    ['0xRW:transfer:lonely.mcom', 'CMESH_IAM_KEY'], ['0xRW:transfer:lonely.mcom:nobody', 'CMESH_IAM_KEY'],
    ['0xRW:register:nodot:0xS:0x001', 'CMESH_NAME_INVALID'], ['0xRW:register:google.com:0xS:0x001', 'CMESH_NAME_INVALID'],
    ['0xRW:renew', undefined], ['0xRW:nonsense:x.mcom', undefined],
  ])('%s is refused before it costs a place in the log', async (fqmn, code) => {
    const { head } = mesh.state
    const answer = await write(anna, fqmn, '{}')
    expect(answer).toMatchObject(code === undefined ? { status: 403, code: 'CMESH_IAM_DENIED' } : { status: 400, code })
    expect(mesh.state.head).toBe(head)
  })
})

describe('lookalikes', () => {
  // "apple" in Cyrillic, whose normal form is ASCII like every other.
  const cyrillic = 'xn--80ak6aa92e.mcom'

  test('of a registered name are refused, whichever of the two came first', async () => {
    await register(anna, 'apple.mcom')
    expect(await register(bert, cyrillic)).toMatchObject({
      status: 409, code: 'CMESH_NAME_CONFUSABLE', message: `The name ${cyrillic} looks like the registered name apple.mcom and is refused.`,
    })
    await write(anna, '0xRW:release:apple.mcom')
    expect(await register(bert, cyrillic)).toMatchObject({ status: 200 })
    expect(await register(anna, 'apple.mcom')).toMatchObject({ status: 409, message: `The name apple.mcom looks like the registered name ${cyrillic} and is refused.` })
    await write(bert, `0xRW:release:${cyrillic}`)
    expect(await register(anna, 'apple.mcom')).toMatchObject({ status: 200 })
    await write(anna, '0xRW:release:apple.mcom')
  })

  test('are refused also after the name expired and was taken up again', async () => {
    expect(await register(bert, cyrillic)).toMatchObject({ status: 200 })
    await after(TERM_MS)
    expect(await register(bert, cyrillic)).toMatchObject({ status: 200 })
    expect(await register(anna, 'apple.mcom')).toMatchObject({ status: 409, code: 'CMESH_NAME_CONFUSABLE' })
    await write(bert, `0xRW:release:${cyrillic}`)
  })

  test('are refused also after the name was given away or changed', async () => {
    await register(anna, cyrillic)
    await transfer(anna, cyrillic, bert.did, 2)
    await update(bert, cyrillic, '0xS:0x002', 3)
    expect(await register(anna, 'apple.mcom')).toMatchObject({ status: 409, code: 'CMESH_NAME_CONFUSABLE' })
    await write(bert, `0xRW:release:${cyrillic}`)
  })

  test('leave no mark when their registration fails', async () => {
    expect(await write(bert, `0xRW:register:${cyrillic}:0xS:0x001`, '{}')).toMatchObject({ status: 412 })
    expect(await register(anna, 'apple.mcom')).toMatchObject({ status: 200 })
  })
})

describe('the quota', () => {
  test('is 100 names an identity, whether registered or received, and what is given up counts no more', async () => {
    const rich = await person()
    for (let i = 0; i < LIMITS.namesPerOwner; i++) expect(await register(rich, `rich-${i}.mcom`)).toMatchObject({ status: 200 })
    const full = { status: 403, code: 'CMESH_REGISTRAR_QUOTA', message: 'This identity owns 100 names already, which is the most one may own.' }
    expect(await register(rich, 'rich-100.mcom')).toMatchObject(full)
    expect(await resolve('rich-100.mcom')).toMatchObject({ status: 404 })
    await register(anna, 'one-more.mcom')
    expect(await transfer(anna, 'one-more.mcom', rich.did, 2)).toMatchObject(full)
    expect(await record('one-more.mcom')).toMatchObject({ owner: anna.did, sequence: 1 })
    await write(rich, '0xRW:release:rich-0.mcom')
    expect(await register(rich, 'rich-100.mcom')).toMatchObject({ status: 200 })
    await transfer(rich, 'rich-1.mcom', anna.did, 2)
    expect(await register(rich, 'rich-101.mcom')).toMatchObject({ status: 200 })
    expect(ownedBy(rich.did)).toBe(100)
  })
})

describe('a name expires by log time', () => {
  test('after 365 days: it does not resolve, whatever was remembered of it', async () => {
    await register(anna, 'yearly.mcom')
    await register(anna, 'through.mcom', '0xR:yearly.mcom')
    const { expiresAtMs } = await record('yearly.mcom')
    expect(expiresAtMs).toBe(mesh.time.ms + 365 * 86_400_000)
    for (const name of ['yearly.mcom', 'through.mcom']) expect(await mesh.ask(anna.session, `0xR:${name}:hello_world`)).toMatchObject({ status: 200 })
    await after(TERM_MS - 1)
    for (const name of ['yearly.mcom', 'through.mcom']) expect(await mesh.ask(anna.session, `0xR:${name}:hello_world`)).toMatchObject({ status: 200 })
    await write(anna, '0xRW:renew:through.mcom')
    await after(1)
    for (const name of ['yearly.mcom', 'through.mcom']) {
      expect(await mesh.ask(anna.session, `0xR:${name}:hello_world`)).toMatchObject({ status: 404, message: 'The name yearly.mcom is not registered.' })
    }
    expect(await resolve('yearly.mcom')).toMatchObject({ status: 404 })
    expect(await resolve('through.mcom')).toMatchObject({ status: 200 })
  })

  test('the clock of the node alone makes nothing expire', async () => {
    await register(anna, 'steady.mcom')
    mesh.time.ms += TERM_MS
    anna.session = await mesh.open({ identity: anna.key })
    expect(await mesh.ask(anna.session, '0xR:steady.mcom:hello_world')).toMatchObject({ status: 200 })
    await after(0)
    expect(await mesh.ask(anna.session, '0xR:steady.mcom:hello_world')).toMatchObject({ status: 404 })
  })

  test('is the owner\'s alone for another 30 days', async () => {
    await register(anna, 'grace.mcom')
    await after(TERM_MS)
    expect(await register(bert, 'grace.mcom')).toMatchObject({ status: 409, code: 'CMESH_REGISTRAR_TAKEN' })
    await after(GRACE_MS - 1)
    expect(await register(bert, 'grace.mcom')).toMatchObject({ status: 409, code: 'CMESH_REGISTRAR_TAKEN' })
    expect(await write(anna, '0xRW:renew:grace.mcom')).toMatchObject({ status: 200, value: { expiresAtMs: mesh.time.ms + TERM_MS, sequence: 1 } })
    expect(await mesh.ask(bert.session, '0xR:grace.mcom:hello_world')).toMatchObject({ status: 200 })
  })

  test('is anybody\'s after that, and counts no more for who had it', async () => {
    await register(anna, 'lapsed.mcom')
    const before = ownedBy(anna.did)
    await after(TERM_MS + GRACE_MS)
    expect(await write(anna, '0xRW:renew:lapsed.mcom')).toMatchObject({ status: 404, code: 'CMESH_REGISTRAR_NOT_FOUND' })
    expect(await register(bert, 'lapsed.mcom')).toMatchObject({ status: 200, value: { owner: bert.did, sequence: 1 } })
    expect(ownedBy(anna.did)).toBe(before - 1)
  })

  test('and may still be given up by who had it, so that nobody\'s quota is lost to names that are gone', async () => {
    await register(anna, 'forgotten.mcom')
    const before = ownedBy(anna.did)
    await after(TERM_MS + GRACE_MS)
    expect(await write(bert, '0xRW:release:forgotten.mcom')).toMatchObject({ status: 404 })
    expect(await update(anna, 'forgotten.mcom', '0xS:0x002', 2)).toMatchObject({ status: 404 })
    expect(await write(anna, '0xRW:release:forgotten.mcom')).toMatchObject({ status: 200 })
    expect(ownedBy(anna.did)).toBe(before - 1)
  })

  test('may be renewed at any time, for 365 days from then', async () => {
    await register(anna, 'renewed.mcom')
    await after(86_400_000)
    expect(await write(anna, '0xRW:renew:renewed.mcom')).toMatchObject({ status: 200, value: { expiresAtMs: mesh.time.ms + TERM_MS } })
    expect(await write(anna, '0xRW:renew:renewed.mcom')).toMatchObject({ status: 200, value: { expiresAtMs: mesh.time.ms + TERM_MS } })
  })
})

type Step = readonly ['register' | 'update' | 'release' | 'transfer' | 'ask', 0 | 1 | 2, 0 | 1 | 2]

test('what is remembered of names is never older than the names are', async () => {
  const fresh = await startMesh()
  const [a, b] = [KeyPair.generate(), KeyPair.generate()]
  for (const key of [a, b]) fresh.grants.set(key.did, OPERATOR_SET)
  const sessions = [await fresh.open({ identity: a }), await fresh.open({ identity: b })] as const
  const keys = [a, b] as const
  const names = ['x.mcom', 'y.mcom', 'z.mcom'] as const
  const targets = ['0xS:0x001:hello_world', '0xS:0x002:get', '0xR:x.mcom'] as const
  const anyStep = fc.tuple(fc.constantFrom('register', 'update', 'release', 'transfer', 'ask', 'ask', 'ask'), fc.nat(2), fc.nat(2)) as fc.Arbitrary<Step>
  await fc.assert(fc.asyncProperty(fc.array(anyStep, { minLength: 5, maxLength: 25 }), async steps => {
    /** What the names stand for and whose they are, by the rules alone. */
    const model = new Map<string, { target: string, owner: 0 | 1, sequence: number }>()
    for (const name of names) await Promise.all(sessions.map(session => fresh.ask(session, `0xRW:release:${name}`)))
    for (const [what, n, m] of steps) {
      const name = names[n]
      const held = model.get(name)
      const target = targets[m]
      if (what === 'register' && held === undefined) {
        expect(await fresh.register(sessions[0], a, name, target)).toMatchObject({ status: 200 })
        model.set(name, { target, owner: 0, sequence: 1 })
      } else if (held !== undefined && what === 'update') {
        const sequence = held.sequence + 1
        expect(await fresh.ask(sessions[held.owner], `0xRW:update:${name}:${target}`, { body: nameBody(keys[held.owner], name, target, sequence) })).toMatchObject({ status: 200 })
        model.set(name, { ...held, target, sequence })
      } else if (held !== undefined && what === 'transfer') {
        const to = held.owner === 0 ? 1 : 0
        const sequence = held.sequence + 1
        const body = nameBody(keys[held.owner], name, held.target, sequence, keys[to].did)
        expect(await fresh.ask(sessions[held.owner], `0xRW:transfer:${name}:${segment(keys[to].did)}`, { body })).toMatchObject({ status: 200 })
        model.set(name, { ...held, owner: to, sequence })
      } else if (held !== undefined && what === 'release') {
        expect(await fresh.ask(sessions[held.owner], `0xRW:release:${name}`)).toMatchObject({ status: 200 })
        model.delete(name)
      } else if (what === 'ask') {
        let at = model.get(name)
        let hops = 1
        const visited = new Set<string>([name])
        let expected: number | undefined
        while (expected === undefined) {
          if (at === undefined) expected = 404
          else if (at.target !== '0xR:x.mcom') expected = 200
          else if (visited.has('x.mcom') || ++hops > 3) expected = 508
          else {
            visited.add('x.mcom')
            at = model.get('x.mcom')
          }
        }
        const answer = await fresh.ask(sessions[0], `0xR:${name}`)
        expect({ name, status: answer.status }).toEqual({ name, status: expected })
        if (expected === 200) expect(answer.value).toEqual(at?.target === '0xS:0x002:get' ? 0 : 'Hello, world')
      }
    }
  }), { numRuns: 30 })
  await fresh.stop()
})

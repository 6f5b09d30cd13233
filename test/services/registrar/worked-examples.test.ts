/** The worked examples of the address page, through the front door, and what stands around them. */
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { nameBody, startMesh, type Answer, type TestMesh } from '../../support/mesh.ts'

let mesh: TestMesh
let owner: KeyPair
let session: Session
let stranger: { readonly key: KeyPair, readonly session: Session }
beforeAll(async () => {
  mesh = await startMesh()
  owner = KeyPair.generate()
  session = await mesh.open({ identity: owner })
  const key = KeyPair.generate()
  stranger = { key, session: await mesh.open({ identity: key }) }
})
afterAll(() => mesh.stop())

const register = (name: string, target: string): Promise<Answer> => mesh.register(session, owner, name, target)
const ask = (fqmn: string): Promise<Answer> => mesh.ask(session, fqmn)

describe('the worked examples', () => {
  test('0xS:0x001:hello_world says hello, to the world or by name', async () => {
    expect((await ask('0xS:0x001:hello_world')).value).toBe('Hello, world')
    expect((await ask('0xS:0x001:hello_world:["Dexter"]')).value).toBe('Hello, Dexter')
  })

  test('a name stands for a contract, for a function, and for something through another name', async () => {
    expect(await register('helloWorld.mcom', '0xS:0x001')).toMatchObject({ status: 200, value: { name: 'helloworld.mcom', target: '0xS:0x001', sequence: 1, owner: owner.did } })
    expect(await register('helloWorldExample.mcom', '0xS:0x001:hello_world')).toMatchObject({ status: 200 })
    expect(await register('again.mcom', '0xR:helloWorld.mcom:hello_world')).toMatchObject({ status: 200 })
    for (const fqmn of [
      '0xR:helloWorldExample.mcom:["Dexter"]', '0xR:helloWorld.mcom:hello_world:["Dexter"]', '0xR:again.mcom:["Dexter"]', '0xR:HELLOWORLD.MCOM:hello_world:["Dexter"]',
    ]) expect({ fqmn, answer: await ask(fqmn) }).toMatchObject({ fqmn, answer: { status: 200, value: 'Hello, Dexter' } })
    expect((await ask('0xR:again.mcom')).value).toBe('Hello, world')
    expect((await ask('0xR:helloWorld.mcom')).value).toMatchObject({ address: '0x001' })
  })

  test('a name that is taken is 409 and names its owner and until when', async () => {
    const { value } = await ask('0xR:resolve:helloWorldExample.mcom')
    const expires = new Date((value as { expiresAtMs: number }).expiresAtMs).toISOString()
    for (const [who, key] of [[stranger.session, stranger.key], [session, owner]] as const) {
      expect(await mesh.register(who, key, 'helloWorldExample.mcom', '0xS:0x002')).toMatchObject({
        status: 409, code: 'CMESH_REGISTRAR_TAKEN', message: `The name helloworldexample.mcom is taken by ${owner.did} until ${expires}.`,
        value: { detail: { owner: owner.did, expires } },
      })
    }
  })

  test('a name that nobody registered is 404, never an empty success', async () => {
    for (const fqmn of ['0xR:google.com', '0xR:unregistered.mcom', '0xR:unregistered.mcom:x:["y"]', '0xRW:unregistered.mcom:x', '0xE:0xR:unregistered.mcom:x']) {
      expect({ fqmn, answer: await ask(fqmn) }).toMatchObject({ fqmn, answer: { status: 404, code: 'CMESH_REGISTRAR_NOT_FOUND' } })
    }
    expect((await ask('0xR:google.com')).message).toBe('The name google.com is not registered.')
  })

  test('the events of a contract have a channel, by its address and by its name', async () => {
    const event = { channel: 'events.state.contracts.0x001.blah_blah', data: '"blah blah"' }
    expect((await ask('0xE:events.state.contracts.0x001.blah_blah:read')).value).toMatchObject(event)
    expect((await ask('0xE:0xR:helloWorld.mcom:blah_blah')).value).toMatchObject(event)
    expect((await ask('0xE:0xR:helloWorldExample.mcom:blah_blah:read')).value).toMatchObject(event)
    expect((await ask('0xE:0xR:helloWorld.mcom:blah_blah:count')).value).toBe(1)
    expect((await ask('0xE:0xR:helloWorld.mcom:blah_blah:range:[1,9]')).value).toMatchObject([event])
  })
})

describe('the record of a name', () => {
  test('is what was registered, with its proof', async () => {
    const { value } = await ask('0xR:resolve:helloWorld.mcom')
    expect(value).toEqual({
      name: 'helloworld.mcom', target: '0xS:0x001', owner: owner.did, sequence: 1, registeredAtMs: mesh.time.ms, expiresAtMs: mesh.time.ms + 365 * 86_400_000,
      signature: (JSON.parse(nameBody(owner, 'helloworld.mcom', '0xS:0x001', 1)) as { signature: string }).signature,
    })
  })

  test.each([
    ['0xR:resolve:nobody.mcom', 404, 'CMESH_REGISTRAR_NOT_FOUND', 'The name nobody.mcom is not registered.'],
    ['0xR:resolve', 400, 'CMESH_NAME_INVALID', 'The name (none) is not valid: a name must stand behind resolve.'],
    ['0xR:resolve:nodot', 400, 'CMESH_NAME_INVALID', 'The name nodot is not valid: it does not end in .mcom behind at least one label.'],
    ['0xR:resolve:helloWorld.mcom:more', 400, 'CMESH_FQMN_SYNTAX', 'The FQMN is malformed at byte 32: expected the end of the address.'],
    ['0xR:resolve:helloWorld.mcom:[1]', 400, 'CMESH_FQMN_SYNTAX', 'The FQMN is malformed at byte 27: expected the end of the address.'],
    ['0xR:resolve:helloWorld.mcom:0xS:0x001', 400, 'CMESH_FQMN_SYNTAX', 'The FQMN is malformed at byte 37: expected the end of the address.'],
  ])('asked for as %s is %i', async (fqmn, status, code, message) => {
    expect(await ask(fqmn)).toMatchObject({ status, code, message })
  })
})

describe('reading and writing by name', () => {
  test('a bare contract takes the caller\'s mode', async () => {
    expect(await register('bare.mcom', '0xS:0x002')).toMatchObject({ status: 200 })
    expect(await mesh.ask(mesh.root, '0xRW:bare.mcom:increment:[2]')).toMatchObject({ status: 200, value: 2 })
    expect(await mesh.ask(mesh.root, '0xR:bare.mcom:get')).toMatchObject({ status: 200, value: 2 })
    // Read by name, a function that changes state is refused by the contract's own rule.
    expect(await mesh.ask(mesh.root, '0xR:bare.mcom:increment:[2]')).toMatchObject({ status: 405, code: 'CMESH_STATE_NOT_A_VIEW' })
  })

  test('so does a bare channel, and one that was registered to be written', async () => {
    expect(await register('news.mcom', '0xE:news')).toMatchObject({ status: 200 })
    expect(await mesh.register(mesh.root, mesh.operator, 'press.mcom', '0xEW:press')).toMatchObject({ status: 200 })
    for (const name of ['news.mcom', 'press.mcom']) {
      expect(await mesh.ask(mesh.root, `0xRW:${name}:first`)).toMatchObject({ status: 200, value: { channel: name.split('.')[0] } })
      expect(await ask(`0xR:${name}`)).toMatchObject({ status: 200, value: { data: 'first' } })
    }
  })

  test('a function that changes state is 405 by a read, a view is 405 by a write, and each says which way', async () => {
    expect(await mesh.register(mesh.root, mesh.operator, 'writer.mcom', '0xSW:0x002:increment')).toMatchObject({ status: 200 })
    expect(await register('reader.mcom', '0xS:0x002:get')).toMatchObject({ status: 200 })
    expect(await mesh.ask(mesh.root, '0xR:writer.mcom:[1]')).toMatchObject({
      status: 405, code: 'CMESH_REGISTRAR_WRITE_TARGET', message: 'The name writer.mcom maps to 0xSW:0x002:increment, which changes state: call it as 0xRW:writer.mcom.',
    })
    expect(await mesh.ask(mesh.root, '0xRW:reader.mcom')).toMatchObject({
      status: 405, code: 'CMESH_REGISTRAR_READ_TARGET', message: 'The name reader.mcom maps to 0xS:0x002:get, which only reads: call it as 0xR:reader.mcom.',
    })
    expect(await mesh.ask(mesh.root, '0xRW:writer.mcom:[1]')).toMatchObject({ status: 200, value: 3 })
  })

  test('a name grants nothing: the caller needs the permission for what it stands for', async () => {
    expect(await ask('0xRW:bare.mcom:increment:[1]')).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED', message: 'Permission write on 0xSW:0x002:increment is missing.' })
    expect(await ask('0xRW:news.mcom:x')).toMatchObject({ status: 403, message: 'Permission write on 0xEW:news:x is missing.' })
  })

  test('nobody puts a name on what is not theirs to use', async () => {
    expect(await register('mine.mcom', '0xSW:0x002:increment')).toMatchObject({ status: 403, code: 'CMESH_IAM_DENIED', message: 'Permission write on 0xSW:0x002:increment is missing.' })
    expect(await register('deploy.mcom', '0xSW:0x000:deploy')).toMatchObject({ status: 403, message: 'Permission deploy on 0xSW:0x000:deploy is missing.' })
    expect(await register('audit.mcom', '0xE:audit')).toMatchObject({ status: 403 })
    expect(await ask('0xR:resolve:mine.mcom')).toMatchObject({ status: 404 })
  })

  test('arguments stand behind the name once, in the address or the body', async () => {
    expect(await mesh.ask(session, '0xR:helloWorldExample.mcom', { body: '["Dexter"]' })).toMatchObject({ value: 'Hello, Dexter' })
    expect(await mesh.ask(session, '0xR:helloWorldExample.mcom:["Dexter"]', { body: '["Dexter"]' })).toMatchObject({ status: 400, code: 'CMESH_FQMN_ARGUMENTS_TWICE' })
  })

  test.each([
    ['0xR:helloWorld.mcom:hello_world:more', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xR:helloWorldExample.mcom:more', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xR:helloWorld.mcom:0xS:0x001', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xE:0xR:helloWorld.mcom', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xE:audit:0xR:helloWorld.mcom:blah_blah', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xE:0xR:helloWorld.mcom:0xS:0x001', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xE:0xS:0x001', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xEW:chan:0xS:0x001', 400, 'CMESH_FQMN_SYNTAX'],
    ['0xR:hello_world.mcom', 400, 'CMESH_NAME_INVALID'],
    [`0xR:${'a'.repeat(64)}.mcom`, 400, 'CMESH_NAME_INVALID'],
    ['0xR:-a.mcom', 400, 'CMESH_NAME_INVALID'],
    ['0xR:xn--abc.mcom', 400, 'CMESH_NAME_INVALID'],
  ])('%s is %i %s', async (fqmn, status, code) => {
    expect(await ask(fqmn)).toMatchObject({ status, code })
  })
})

describe('a chain of names', () => {
  test('of three resolves, of four is 508', async () => {
    await register('one.mcom', '0xS:0x001')
    await register('two.mcom', '0xR:one.mcom')
    await register('three.mcom', '0xR:two.mcom')
    await register('four.mcom', '0xR:three.mcom')
    expect(await ask('0xR:three.mcom:hello_world')).toMatchObject({ status: 200, value: 'Hello, world' })
    expect(await ask('0xR:four.mcom:hello_world')).toMatchObject({
      status: 508, code: 'CMESH_REGISTRAR_DEPTH', message: 'Resolving four.mcom passes through more than 3 names.',
    })
    expect(await ask('0xE:0xR:three.mcom:blah_blah')).toMatchObject({ status: 200 })
    expect(await ask('0xE:0xR:four.mcom:blah_blah')).toMatchObject({ status: 508 })
  })

  test('that returns to a name is 508, whichever it begins with', async () => {
    await register('ping.mcom', '0xR:pong.mcom')
    await register('pong.mcom', '0xR:ping.mcom')
    await register('self.mcom', '0xR:SELF.mcom:x')
    for (const [name, again] of [['ping.mcom', 'ping.mcom'], ['pong.mcom', 'pong.mcom'], ['self.mcom', 'self.mcom']] as const) {
      expect(await ask(`0xR:${name}`)).toMatchObject({ status: 508, code: 'CMESH_REGISTRAR_LOOP', message: `Resolving ${name} returns to ${again}.` })
    }
  })

  test('that ends in a name nobody has is 404 for that one', async () => {
    await register('dangling.mcom', '0xR:missing.mcom')
    expect(await ask('0xR:dangling.mcom')).toMatchObject({ status: 404, message: 'The name missing.mcom is not registered.' })
  })
})

import { afterEach, describe, expect, test } from '@jest/globals'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { CMeshError } from '../../../cmtp/errors.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Space, StateStore } from '../../../services/state/provider.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import {
  deliveryGas, MESSAGE_GAS, messageIdOf, MESSAGES_PER_CONTRACT, pendingMessages, readMessage, replyGas, transactionIdOf,
} from '../../../services/contracts/messages.ts'
import { jsonReply } from '../../../services/call.ts'
import { sendingContract, type MessageText } from '../../support/sending-contract.ts'
import { startMesh, type Answer, type TestMesh, type TestMeshOptions } from '../../support/mesh.ts'
import { packageOf } from '../../support/replica.ts'
import { until } from '../../client/support/until.ts'

const A = '0x0a1'
const B = '0x0b2'
let mesh: TestMesh
afterEach(async () => {
  await mesh.stop()
  store = undefined
})

/** A mesh with one contract that sends these messages, and one that takes what comes. */
async function start(messages: Readonly<Record<string, MessageText>>, options: TestMeshOptions = {}): Promise<TestMesh> {
  const contracts = [{ address: A, pkg: packageOf(sendingContract(messages)) }, { address: B, pkg: packageOf(sendingContract()) }]
  mesh = await startMesh({ ...options, genesis: genesis => ({ ...genesis, contracts: [...genesis.contracts, ...contracts] }) })
  return mesh
}

const call = (name: string, session: Session = mesh.root): Promise<Answer> => mesh.ask(session, `0xSW:${A}:${name}`)
const view = async (address: string, name: string): Promise<string> => (await mesh.askRaw(mesh.root, `0xS:${address}:${name}`)).frame.body.toString()
/** The store of the mesh, where it is not the one of every test. */
let store: StateStore | undefined
const system = (): Space => (store ?? mesh.store).space('0x000')
const sentKeys = (): string[] => [...system().keys()].filter(key => key.startsWith('outbox/') || key.startsWith('sending/'))
/** What the reply function was called with. */
async function heard(): Promise<{ readonly id: string, readonly status: number, readonly body: unknown }> {
  const [id, status, body] = JSON.parse(await view(A, 'last')) as [string, number, string]
  return { id, status, body: body === '' ? '' : JSON.parse(body) as unknown }
}

describe('a message to a contract', () => {
  test('is delivered after its block as a transaction of its own, in the contract\'s name, and answered', async () => {
    await start({ ask: { fqmn: `0xSW:${B}:note`, body: '["hello"]', reply: 'heard' } })
    expect(await call('ask')).toMatchObject({ status: 200 })
    const { seq } = mesh.state.head
    await mesh.state.courier.flush()
    expect([await view(B, 'who'), await view(B, 'noted')]).toEqual([A, '["hello"]'])
    const { id, status, body } = await heard()
    expect({ status, body }).toEqual({ status: 200, body: '' })
    expect(id).toMatch(new RegExp(`^${seq}\\.[0-9a-f]{32}\\.0$`))
    expect(mesh.state.outcome(transactionIdOf('send', id))).toMatchObject({ status: 200, seq: seq + 1 })
    expect(mesh.state.head.seq).toBe(seq + 2)
    expect(sentKeys()).toEqual([])
    expect(mesh.state.courier.stats).toEqual({ delivered: 1, failed: 0 })
  })

  test.each<[string, Partial<MessageText>, number, string]>([
    ['refuses', { fqmn: `0xSW:${B}:refuse` }, 422, 'CMESH_CONTRACT_REVERT'],
    ['has no such function', { fqmn: `0xSW:${B}:nothing` }, 404, 'CMESH_STATE_NO_FUNCTION'],
    ['is not there', { fqmn: '0xSW:0xfff:note' }, 404, 'CMESH_STATE_NO_CONTRACT'],
    ['never ends', { fqmn: `0xSW:${B}:spin` }, 422, 'CMESH_CONTRACT_OUT_OF_GAS'],
    ['is asked for a function of the mesh\'s', { fqmn: `0xSW:${B}:heard` }, 404, 'CMESH_STATE_NO_FUNCTION'],
    ['is asked to change something in a read', { fqmn: `0xS:${B}:note` }, 405, 'CMESH_STATE_NOT_A_VIEW'],
  ])('that %s is answered with the failure', async (_what, message, status, code) => {
    await start({ ask: { fqmn: '', reply: 'heard', ...message } })
    await call('ask')
    await mesh.state.courier.flush()
    expect(await heard()).toMatchObject({ status, body: { code } })
    expect(mesh.state.courier.stats).toEqual({ delivered: 0, failed: 1 })
    expect(sentKeys()).toEqual([])
  })

  test('without a reply function is answered to nobody', async () => {
    await start({ tell: { fqmn: `0xSW:${B}:note`, body: '["x"]' } })
    await call('tell')
    await mesh.state.courier.flush()
    expect(await view(B, 'noted')).toBe('["x"]')
    expect(await view(A, 'last')).toBe('')
    expect(sentKeys()).toEqual([])
  })

  test('of a call that fails is never sent', async () => {
    await start({ ask: { fqmn: `0xSW:${B}:note`, gas: 30_000_000 } })
    const { seq } = mesh.state.head
    expect(await call('ask')).toMatchObject({ status: 422, code: 'CMESH_CONTRACT_OUT_OF_GAS' })
    expect(mesh.state.head.seq).toBe(seq + 1)
    expect(mesh.state.courier.pending).toBe(0)
    expect(sentKeys()).toEqual([])
  })
})

describe('a message to anything else', () => {
  test('reads a view, a name, a channel and the log, and hears what anybody would', async () => {
    await start({
      view: { fqmn: '0xS:0x001:hello_world:["you"]', reply: 'heard' },
      name: { fqmn: '0xR:hello.mcom:["me"]', reply: 'heard' },
      nobody: { fqmn: '0xR:nobody.mcom', reply: 'heard' },
      log: { fqmn: '0xC:leader', reply: 'heard' },
      channel: { fqmn: '0xE:silence', reply: 'heard' },
    })
    await mesh.register(mesh.root, mesh.operator, 'hello.mcom', '0xS:0x001:hello_world')
    const answers: Record<string, unknown> = {}
    for (const name of ['view', 'name', 'nobody', 'log', 'channel']) {
      await call(name)
      await mesh.state.courier.flush()
      const { status, body } = await heard()
      answers[name] = [status, (body as { code?: string }).code ?? (typeof body === 'string' ? body : Object.keys(body as object))]
    }
    expect(answers).toEqual({
      view: [200, 'Hello, you'], name: [200, 'Hello, me'], nobody: [404, 'CMESH_REGISTRAR_NOT_FOUND'], log: [200, ['leader', 'term']], channel: [404, 'CMESH_EVENTS_NO_CHANNEL'],
    })
  })

  test('publishes on the contract\'s own channels, once', async () => {
    await start({ publish: { fqmn: `0xEW:contracts.${A}.news`, body: 'it happened', gas: 0 } })
    await call('publish')
    await mesh.state.courier.flush()
    expect(await mesh.events.range(`contracts.${A}.news`, {})).toMatchObject([{ data: Buffer.from('it happened') }])
    expect(sentKeys()).toEqual([])
  })

  test('that a name leads where no contract may go is denied there', async () => {
    await start({ ask: { fqmn: '0xR:versions.mcom', reply: 'heard' } })
    await mesh.register(mesh.root, mesh.operator, 'versions.mcom', '0xS:0x000:versions')
    await call('ask')
    await mesh.state.courier.flush()
    expect(await heard()).toMatchObject({ status: 422, body: { code: 'CMESH_CONTRACT_DENIED', message: `The contract ${A} may not do this: 0xS:0x000:versions belongs to the system contract.` } })
  })

  test.each([
    ['0xSW:0x000:deploy', 'CMESH_CONTRACT_DENIED'], ['0xSW:0x000:meter:[1,1]', 'CMESH_CONTRACT_DENIED'], ['0xS:0x000', 'CMESH_CONTRACT_DENIED'], ['0xEW:news', 'CMESH_CONTRACT_DENIED'],
    [`0xEW:contracts.${B}.news`, 'CMESH_CONTRACT_DENIED'], ['0xEW:events.mined', 'CMESH_CONTRACT_DENIED'], ['0xE:audit', 'CMESH_CONTRACT_DENIED'],
    ['0xRW:register:x.mcom:0xS:0x001', 'CMESH_CONTRACT_DENIED'], ['0xIW:hangup', 'CMESH_CONTRACT_DENIED'], ['0xA:1:0x001:f', 'CMESH_CONTRACT_DENIED'],
    ['0xP:peer:0xS:0x001', 'CMESH_CONTRACT_DENIED'], ['0xE:news:tail', 'CMESH_CONTRACT_DENIED'], ['noise', 'CMESH_CONTRACT_ADDRESS'], ['0xS:0x1', 'CMESH_CONTRACT_ADDRESS'],
  ])('%s is refused where it is sent', async (fqmn, code) => {
    await start({ ask: { fqmn } })
    expect(await call('ask')).toMatchObject({ status: 422, code })
    expect(sentKeys()).toEqual([])
  })
})

describe('what a message may cost', () => {
  test('is set aside by who sends it: the way, half of the rest for the function, what is left for the answer', () => {
    expect(deliveryGas({ gas: 1_050_000, reply: 'heard' })).toBe(500_000)
    expect(deliveryGas({ gas: 1_050_000, reply: '' })).toBe(1_000_000)
    expect(replyGas({ gas: 1_050_000 }, 200_000)).toBe(800_000)
    expect(MESSAGE_GAS).toBe(50_000)
  })

  test.each<[string, MessageText, string, RegExp]>([
    ['that calls a function without gas', { fqmn: `0xSW:${B}:note`, gas: 0 }, 'CMESH_CONTRACT_LIMIT', /0 gas is less than the 50000 that the way of a message costs/],
    ['that is to be answered with too little', { fqmn: '0xC:leader', reply: 'heard', gas: 49_999 }, 'CMESH_CONTRACT_LIMIT', /49999 gas is less/],
    ['answered to no reply function', { fqmn: '0xC:leader', reply: 'note' }, 'CMESH_CONTRACT_NO_FUNCTION', /note/],
  ])('a message %s is refused', async (_what, message, code, text) => {
    await start({ ask: message })
    expect(await call('ask')).toMatchObject({ status: 422, code, message: expect.stringMatching(text) })
  })

  test('a reply function without enough is not heard, and the message is answered all the same', async () => {
    await start({ ask: { fqmn: `0xSW:${B}:note`, reply: 'heard', gas: MESSAGE_GAS + 4 } })
    await call('ask')
    await mesh.state.courier.flush()
    expect([await view(A, 'last'), await view(B, 'noted')]).toEqual(['', ''])
    expect(sentKeys()).toEqual([])
    expect(mesh.halts).toEqual([])
  })

  test('a reply function that fails leaves nothing, and the message is answered all the same', async () => {
    await start({ ask: { fqmn: `0xSW:${B}:note`, reply: 'heard_badly' } })
    await call('ask')
    await mesh.state.courier.flush()
    expect(await view(A, 'last')).toBe('')
    expect(await view(B, 'who')).toBe(A)
    expect(sentKeys()).toEqual([])
  })

  test('a contract that sends to itself for ever ends with its gas', async () => {
    await start({ again: { fqmn: `0xSW:${A}:again`, gas: 'most' } })
    await call('again')
    await mesh.state.courier.flush()
    const { delivered, failed } = mesh.state.courier.stats
    expect(delivered).toBeGreaterThan(100)
    expect(delivered).toBeLessThanOrEqual(20_000_000 / MESSAGE_GAS)
    // The last one found too little to send with.
    expect(failed).toBe(1)
    expect(sentKeys()).toEqual([])
  })

  test('a contract that sends to itself twice over every time ends with its gas all the same', async () => {
    await start({ again: { fqmn: `0xSW:${A}:again`, gas: 400_000, times: 2 } })
    await call('again')
    await mesh.state.courier.flush()
    const { delivered, failed } = mesh.state.courier.stats
    expect(delivered + failed).toBeLessThanOrEqual(20_000_000 / MESSAGE_GAS)
    expect(sentKeys()).toEqual([])
  })

  test('at most 64 messages of a contract are under way, and the next is refused until one is answered', async () => {
    await start({ many: { fqmn: `0xSW:${B}:note`, gas: 60_000, times: 16 } }, { handlers: { state: (call, auth, notes) => {
      // Deliveries wait: what the contract sends stays under way.
      if (auth.sub === A) return new Promise(() => undefined)
      return call.route.write ? mesh.state.write(call, auth, notes) : mesh.state.read(call, auth, notes)
    } } })
    for (let i = 0; i < MESSAGES_PER_CONTRACT / 16; i++) expect(await call('many')).toMatchObject({ status: 200 })
    expect(mesh.state.courier.pending).toBe(64)
    expect(await call('many')).toMatchObject({ status: 422, code: 'CMESH_CONTRACT_LIMIT', message: `The contract ${A} went over a limit: at most 64 messages of a contract are under way at once.` })
    expect(pendingMessages(system())).toHaveLength(64)
  })
})

describe('whom nobody hears of', () => {
  test('is asked again, and then it is a failure like any other', async () => {
    let asked = 0
    await start({ ask: { fqmn: '0xC:leader', reply: 'heard' } }, { handlers: { consensus: () => {
      asked++
      if (asked === 1) throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'it', limit: 1, retryAfterMs: 1 })
      return jsonReply({ asked })
    } } })
    await call('ask')
    await mesh.state.courier.flush()
    expect(await heard()).toMatchObject({ status: 200, body: { asked: 2 } })
  })

  test('is 504 once its time is over', async () => {
    await start({ ask: { fqmn: '0xC:leader', reply: 'heard' } }, { handlers: { consensus: () => new Promise(() => undefined) } })
    await call('ask')
    const flushed = mesh.state.courier.flush()
    const moved = setInterval(() => { mesh.time.ms += 1_000 }, 5)
    await flushed.finally(() => { clearInterval(moved) })
    expect(await heard()).toMatchObject({ status: 504, body: { code: 'CMESH_ROUTER_TIMEOUT' } })
  })
})

describe('nobody else', () => {
  test('answers a message by a request, whatever it may do', async () => {
    await start({})
    expect(await mesh.ask(mesh.root, '0xSW:0x000:answer:["1.0.0"]', { body: '{}' })).toMatchObject({ status: 404, code: 'CMESH_STATE_NO_FUNCTION' })
  })

  test('is a contract: its context is good for one address, and no other', async () => {
    await start({})
    const { guard } = mesh
    const { parseFqmn } = await import('../../../cmtp/fqmn.ts')
    const own = parseFqmn(`0xSW:${B}:note`)
    const auth = guard.contractPrincipal(A, 'm', own)
    expect(auth).toMatchObject({ sub: A, sid: '', jti: 'm', aal: 0, amr: ['contract'] })
    expect(guard.authorise(auth, own)).toBe(`0xSW:${B}:note`)
    for (const other of [`0xS:${B}:note`, `0xSW:${B}:refuse`, `0xSW:${A}:note`, '0xSW:0x000:deploy', '0xS:0x001:hello_world']) {
      expect(() => guard.authorise(auth, parseFqmn(other))).toThrow(expect.objectContaining({ code: 'CMESH_IAM_DENIED' }))
    }
    for (const [who, fqmn] of [[A, '0xSW:0x000:deploy'], [A, '0xEW:news:x'], [mesh.operator.did, `0xSW:${B}:note`]] as const) {
      expect(() => guard.contractPrincipal(who, 'm', parseFqmn(fqmn))).toThrow(expect.objectContaining({ code: 'CMESH_IAM_DENIED' }))
    }
    mesh.time.ms += 61_000
    expect(() => guard.authorise(auth, own)).toThrow(expect.objectContaining({ code: 'CMESH_IAM_NO_SESSION' }))
  })
})

describe('a node that stops', () => {
  test('leaves what is under way to the next, which delivers it once', async () => {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-messages-'))
    try {
      const key = KeyPair.generate()
      const messages = { ask: { fqmn: `0xSW:${B}:note`, body: '["once"]', reply: 'heard' }, publish: { fqmn: `0xEW:contracts.${A}.news`, body: 'x', gas: 0 } }
      await start(messages, { key, state: { store: store = new HypercoreStateStore({ dir }), deliver: () => new Promise(() => undefined) } })
      const { operator } = mesh
      await call('ask')
      await call('publish')
      const pending = sentKeys()
      expect(pending).toHaveLength(3)
      await mesh.stop()

      mesh = await startMesh({ key, state: { store: store = new HypercoreStateStore({ dir }) } })
      mesh.grants.set(operator.did, mesh.grants.get(mesh.operator.did) ?? [])
      await mesh.state.courier.flush()
      expect(await view(B, 'noted')).toBe('["once"]')
      expect(await heard()).toMatchObject({ status: 200 })
      expect(await mesh.events.count(`contracts.${A}.news`)).toBe(1)
      expect(sentKeys()).toEqual([])
      const { seq } = mesh.state.head
      await mesh.stop()

      mesh = await startMesh({ key, state: { store: store = new HypercoreStateStore({ dir }) } })
      await mesh.state.courier.flush()
      expect(mesh.state.head.seq).toBe(seq)
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })

  test('with a delivery done and not answered, the next answers with what was done', async () => {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-messages-'))
    try {
      const key = KeyPair.generate()
      await start({ ask: { fqmn: `0xSW:${B}:note`, body: '["done"]', reply: 'heard' } }, {
        key,
        handlers: { state: async (each, auth, notes) => {
          if (!each.route.write) return mesh.state.read(each, auth, notes)
          const reply = await mesh.state.write(each, auth, notes)
          // It is in the log; that it is never reaches the courier.
          return auth.sub === A ? new Promise(() => undefined) : reply
        } },
        state: { store: store = new HypercoreStateStore({ dir }) },
      })
      await call('ask')
      await until('the delivery is in the log', async () => await view(B, 'noted') === '["done"]')
      const [id = ''] = pendingMessages(system())
      expect(readMessage(system(), id)?.delivered).toMatchObject({ status: 200 })
      const { seq } = mesh.state.head
      await mesh.stop()

      mesh = await startMesh({ key, state: { store: store = new HypercoreStateStore({ dir }) } })
      await mesh.state.courier.flush()
      expect(mesh.state.head.seq).toBe(seq + 1)
      expect(sentKeys()).toEqual([])
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })
})

test('a key of the system space names a message or it does not', () => {
  expect(messageIdOf('outbox/1.2.3')).toBe('1.2.3')
  expect(messageIdOf('sending/0x001')).toBeUndefined()
})

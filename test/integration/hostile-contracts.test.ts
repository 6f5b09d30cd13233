/**
 * What a stranger's contracts can do to a real node, through the SDK: each request to them gets its coded result and says what gas it used,
 * none leaves anything behind, and whoever works beside them is served all the while.
 */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from '@jest/globals'
import { connect, KeyPair, type MeshClient } from '../../client/index.ts'
import { CATALOGUE } from '../../cmtp/errors.ts'
import { encodeBatch } from '../../cmtp/batch.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import { requestSubject } from '../../cmtp/subject.ts'
import { until } from '../client/support/until.ts'
import { abiText, contractModule } from '../support/contract-module.ts'
import { NodeRoom, type TestNode } from '../support/node-process.ts'
import { metric } from '../support/prometheus.ts'
import { RawNats } from '../support/raw-nats.ts'

const room = new NodeRoom()
const operator = KeyPair.generate()
const stranger = KeyPair.generate()
const ARGS = ['--operator', operator.did, '--set', `iam.grants=${stranger.did}=deploy 0xSW:0x000:deploy|write 0xSW:>`]
const COUNTER = '0x002'
/** What a transaction and a view may use at most, by default. */
const GAS = 20_000_000
const VIEW_GAS = 2_000_000

/** An address has so many characters. */
const ADDRESS_LENGTH = 66
/** Where a contract keeps what it writes its next address to. */
const AT = 4_096

/** What it asks of another contract, and of which it passes on the failure as its own. */
const ASKS: Readonly<Record<string, readonly [fqmn: string, input: string]>> = {
  text_for_number: [`0xSW:${COUNTER}:increment`, '["one"]'],
  no_list: [`0xSW:${COUNTER}:increment`, '{"by":1}'],
  too_many: [`0xSW:${COUNTER}:increment`, '[1,2,3]'],
  unknown_function: [`0xSW:${COUNTER}:nothing`, ''],
  not_for_callers: [`0xSW:${COUNTER}:init`, '[7]'],
  unknown_contract: ['0xSW:0xfff:nothing', ''],
  the_system: ['0xSW:0x000:deploy', ''],
  no_address: ['nonsense', ''],
}
const VIEWS = ['look', 'view_spin', 'view_allocate', 'view_recurse', 'view_write']

/**
 * All of them write and emit `spoilt` first, where they may. `mark` emits `mark` and nothing else; `look` gives every key and value;
 * `link` keeps an address, on which `ring` calls itself, and `rings` does without end. `echo` counts in two bytes of seven bits how often it was
 * called, and sends itself the rest of its gas.
 */
function hostileContract(): Uint8Array {
  let at = 1_024
  const data: string[] = []
  const place = (text: string): string => {
    data.push(`(data (i32.const ${at}) "${text.replaceAll('"', '\\22')}")`)
    const range = `(i32.const ${at}) (i32.const ${text.length})`
    at += text.length
    return range
  }
  const [spoilt, mark, topic, next, hops, write] = ['spoilt', 'mark', 'said', 'next', 'hops', '0xSW:'].map(place)
  const [ring, echo] = [':ring', ':echo'].map(place)
  const many = (body: string): string => `(loop $l (i32.store (i32.const 8) (local.get $i)) ${body}
    (br_if $l (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 1))) (i32.const 10000))))`
  const spin = '(loop $l (br $l))'
  const allocate = '(loop $l (drop (memory.grow (i32.const 1))) (memory.fill (i32.const 0) (i32.const 1) (i32.const 65536)) (br $l))'
  /** The address in the register behind `0xSW:`, with a function behind it. */
  const addressed = (name = ''): string => `(memory.copy (i32.const ${AT}) ${write}) (call $reg (i32.const ${AT + 5}))
    (memory.copy (i32.const ${AT + 5 + ADDRESS_LENGTH}) ${name})`
  const target = `(i32.const ${AT}) (i32.const ${5 + ADDRESS_LENGTH + 5})`
  const around = `(drop (call $get ${next})) ${addressed(ring)} (call $call ${target} (i32.const 0) (i32.const 0) (i64.const 0))`
  const passOn = `(if (then (call $reg (i32.const ${AT})) (call $fail (i32.const ${AT}) (call $reglen))))`
  const echoing = `(drop (call $ctxs (i32.const 1))) ${addressed(echo)}
      (drop (call $send ${target} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.sub (call $ctx (i32.const 2)) (i64.const 20000))))`
  const asks = Object.entries(ASKS).map(([name, [fqmn, input]]) => `
    (func (export "call_${name}") (call $spoil) (call $call ${place(fqmn)} ${place(input)} (i64.const 0)) ${passOn})`)
  const body = `
    (func $spoil (call $set ${spoilt} ${spoilt}) (call $emit ${topic} ${spoilt}))
    (func $deep (call $deep) (call $spoil))
    (func (export "call_mark") (call $emit ${topic} ${mark}))
    (func (export "call_look") (drop (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 256) (i32.const 0)))
      (call $reg (i32.const ${AT})) (call $output (i32.const ${AT}) (call $reglen)))
    (func (export "call_link") (drop (call $input)) (call $reg (i32.const ${AT})) (call $set ${next} (i32.const ${AT + 2}) (i32.const ${ADDRESS_LENGTH})))
    (func (export "call_spin") (call $spoil) ${spin})
    (func (export "call_allocate") (call $spoil) ${allocate})
    (func (export "call_recurse") (call $spoil) (call $deep))
    (func (export "call_keys") (local $i i32) (call $spoil) ${many('(call $set (i32.const 8) (i32.const 4) (i32.const 8) (i32.const 4))')})
    (func (export "call_events") (local $i i32) (call $spoil) ${many(`(call $emit ${topic} ${spoilt})`)})
    (func (export "call_view_spin") ${spin})
    (func (export "call_view_allocate") ${allocate})
    (func (export "call_view_recurse") (call $deep))
    (func (export "call_view_write") (call $spoil))
    (func (export "call_echo") (local $n i32)
      (if (i32.gt_s (call $get ${hops}) (i32.const 0)) (then (call $reg (i32.const 16))
        (local.set $n (i32.or (i32.load8_u (i32.const 16)) (i32.shl (i32.load8_u (i32.const 17)) (i32.const 7))))))
      (local.set $n (i32.add (local.get $n) (i32.const 1)))
      (i32.store8 (i32.const 16) (i32.and (local.get $n) (i32.const 127)))
      (i32.store8 (i32.const 17) (i32.shr_u (local.get $n) (i32.const 7)))
      (call $set ${hops} (i32.const 16) (i32.const 2))
      ${echoing})
    (func (export "call_echoes") (call $spoil) (loop $l (drop (call $ctxs (i32.const 1))) ${addressed(echo)}
      (drop (call $send ${target} (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i64.const 50000))) (br $l)))
    (func (export "call_ring") (call $spoil) ${around} ${passOn})
    (func (export "call_rings") (call $spoil) (loop $l ${around} (drop) (br $l)))
    ${asks.join('')}`
  const names = [...body.matchAll(/\(export "call_([a-z_]+)"\)/g)].map(([, name]) => name as string)
  const abi = abiText(names.map(name => ({ name, mode: VIEWS.includes(name) ? 'view' : 'write' })))
  return contractModule(`${data.join(' ')} ${body}`, { abi })
}

let node: TestNode
let clients: MeshClient[] = []
let client: MeshClient
/** Three deployments of one module, each linked to the next. */
let ring: string[]
let address: string

async function open(identity: KeyPair): Promise<MeshClient> {
  const opened = await connect({ url: node.url, mesh: node.descriptor.did, identity, timeoutMs: 120_000, drainMs: 0, onWarning: () => undefined })
  clients.push(opened)
  return opened
}

beforeAll(async () => {
  node = await room.start({ args: ARGS })
  client = await open(stranger)
  const wasm = hostileContract()
  ring = []
  for (const version of ['1', '2', '3']) ring.push((await client.deploy({ wasm, name: 'hostile', version })).address)
  for (const [i, from] of ring.entries()) await client.call(`0xSW:${from}:link`, { args: [ring[(i + 1) % 3]] })
  address = ring[0] as string
}, 120_000)
afterAll(async () => {
  await Promise.all(clients.map(each => each.close()))
  await room.close()
})

/** Somebody in a session of their own, who does nothing but what is asked of a mesh: one write and one view after the other. */
class Bystander {
  served = 0
  readonly refused: unknown[] = []
  readonly #mesh: MeshClient
  readonly #work: Promise<void>
  #going = true

  constructor(mesh: MeshClient) {
    this.#mesh = mesh
    this.#work = this.#serve()
  }

  async #serve(): Promise<void> {
    while (this.#going) {
      try {
        const [write, view] = [await this.#mesh.call(`0xSW:${COUNTER}:increment:[1]`), await this.#mesh.call('0xS:0x001:hello_world:["you"]')]
        if (write.status !== 200 || view.text() !== '"Hello, you"') throw new Error(`${write.status} ${view.text()}`)
        this.served++
      } catch (error) {
        this.refused.push(error)
        return
      }
    }
  }

  async stop(): Promise<void> {
    this.#going = false
    await this.#work
    await this.#mesh.close()
  }
}

let bystander: Bystander
let counted: number
const count = async (): Promise<number> => (await client.call(`0xS:${COUNTER}:get`)).json<number>()

beforeEach(async () => {
  // A node that has halted would let every request wait for its deadline.
  expect(await node.health()).toMatchObject({ code: 200 })
  counted = await count()
  bystander = new Bystander(await open(operator))
  await until('the bystander is served', () => bystander.served > 0 || bystander.refused.length > 0)
})

/** Whatever was asked: all requests of the bystander were served, each once, also after it; the node is up and well. */
afterEach(async () => {
  const { served } = bystander
  await until('the bystander is served still', () => bystander.served > served || bystander.refused.length > 0)
  await bystander.stop()
  expect(bystander.refused).toEqual([])
  expect(await count()).toBe(counted + bystander.served)
  expect(await node.health()).toMatchObject({ code: 200, body: { status: 'ok', writesPending: 0 } })
  expect(node.running).toBe(true)
  expect(node.stderr).not.toMatch(/CMESH_INTERNAL|"level":(50|60)/)
})

const look = async (of: string): Promise<string> => (await client.call(`0xS:${of}:look`)).text()
const looks = async (): Promise<string[]> => Promise.all(ring.map(look))

/** What is on the channel of a contract up to an event that is made now; it was in the log before nothing that was asked earlier. */
async function said(of: string): Promise<unknown[]> {
  const channel = `events.state.contracts.${of}.said`
  await client.call(`0xSW:${of}:mark`)
  marks.set(of, (marks.get(of) ?? 0) + 1)
  const heard = async (): Promise<unknown[]> => (await client.range(channel).catch(() => [])).map(({ data }) => data)
  await until('the mark is heard', async () => (await heard()).filter(data => data === 'mark').length === marks.get(of))
  return heard()
}
const marks = new Map<string, number>()

interface Told {
  readonly status: number
  readonly code: string | undefined
  readonly gas: number | undefined
  /** Whether it has a place in the log. */
  readonly logged: boolean
  readonly message: string
}

/** Asks for what must fail, and holds it to leave every contract of the stranger as it was. */
async function hostile(fqmn: string): Promise<Told> {
  const before = await looks()
  const reply = await client.call(fqmn, { throwOnError: false })
  const { code, message = '' } = reply.error() ?? {}
  expect(Object.keys(CATALOGUE)).toContain(code)
  expect(await looks()).toEqual(before)
  for (const of of ring) expect(new Set(await said(of))).toEqual(new Set(['mark']))
  const gas = reply.header('x-cmesh-gas')
  return { status: reply.status, code, gas: gas === undefined ? undefined : Number(gas), logged: reply.header('x-cmesh-sequence') !== undefined, message }
}

describe('a contract', () => {
  test.each([
    ['spins', 'spin', 'OUT_OF_GAS'],
    ['allocates without end', 'allocate', 'OUT_OF_GAS'],
    ['recurses', 'recurse', 'STACK'],
    ['writes 10,000 keys', 'keys', 'LIMIT'],
    ['emits 10,000 events', 'events', 'LIMIT'],
    ['sends to itself more often than a call may', 'echoes', 'LIMIT'],
    ['calls in a ring without end', 'rings', 'OUT_OF_GAS'],
  ])('that %s is charged all it might have used', async (_what, name, code) => {
    expect(await hostile(`0xSW:${address}:${name}`)).toMatchObject({ status: 422, code: `CMESH_CONTRACT_${code}`, gas: GAS, logged: true })
  })

  test.each([
    ['spins', 'view_spin', 'OUT_OF_GAS'],
    ['allocates without end', 'view_allocate', 'OUT_OF_GAS'],
    ['recurses', 'view_recurse', 'STACK'],
    ['writes', 'view_write', 'READONLY'],
  ])('that %s in a view is charged as well', async (_what, name, code) => {
    expect(await hostile(`0xS:${address}:${name}`)).toMatchObject({ status: 422, code: `CMESH_CONTRACT_${code}`, gas: VIEW_GAS, logged: false })
  })

  test('that calls in a ring comes to the depth that calls may have, and is told so', async () => {
    const { status, code, gas, message } = await hostile(`0xSW:${address}:ring`)
    expect([status, code, message]).toEqual([422, 'CMESH_CONTRACT_REVERT', expect.stringContaining('CMESH_CONTRACT_CALL_DEPTH: at most 8 contracts')])
    // Eight entries and seven calls were paid for, and the rest was not.
    expect(gas).toBeGreaterThan(8 * 30_000)
    expect(gas).toBeLessThan(GAS)
  })

  test.each([
    ['text_for_number', 'CMESH_CONTRACT_REVERT'], ['no_list', 'CMESH_CONTRACT_REVERT'], ['too_many', 'CMESH_CONTRACT_REVERT'],
    ['unknown_function', `CMESH_CONTRACT_NO_FUNCTION: ${COUNTER} has no function nothing`],
    ['not_for_callers', `CMESH_CONTRACT_NO_FUNCTION: ${COUNTER} has no function init`],
    ['unknown_contract', 'CMESH_CONTRACT_NO_CONTRACT: 0xfff'], ['the_system', 'CMESH_CONTRACT_ADDRESS'], ['no_address', 'CMESH_CONTRACT_ADDRESS'],
  ])('that calls another wrongly (%s) is told why, and pays for the try', async (name, told) => {
    const { status, code, gas, message } = await hostile(`0xSW:${address}:${name}`)
    expect([status, code, message]).toEqual([422, 'CMESH_CONTRACT_REVERT', expect.stringContaining(told)])
    expect(gas).toBeGreaterThan(100_000)
    expect(gas).toBeLessThan(GAS)
  })

  test('that sends to itself goes on for as long as the gas of one call lasts', async () => {
    const reply = await client.call(`0xSW:${address}:echo`)
    expect(Number(reply.header('x-cmesh-gas'))).toBeLessThanOrEqual(GAS)
    await until('nothing is under way', async () => metric(await node.metrics(), 'cmesh_contract_messages_pending') === 0, 60_000)
    const [, low = '', high = ''] = /hops\x02\0\0\0(.)(.)/s.exec(await look(address)) ?? []
    const hops = low.charCodeAt(0) + high.charCodeAt(0) * 128
    expect(hops).toBeGreaterThan(1)
    // Each time the way costs 50,000, entering 30,000 and sending 10,000, at least.
    expect(hops).toBeLessThan(GAS / 90_000)
    expect(new Set(await said(address))).toEqual(new Set(['mark']))
  }, 120_000)
})

describe('a request', () => {
  test.each([
    '["one"]', '[-1]', '[0.5]', '[{}]', '[null]', '[1,2,3]', '[99999999999999999999999]',
  ])('with arguments of a wrong type (%s) is told so, and pays for the try', async args => {
    const reply = await client.call(`0xSW:${COUNTER}:increment:${args}`, { throwOnError: false })
    expect([reply.status, reply.error()?.code]).toEqual([422, 'CMESH_CONTRACT_REVERT'])
    expect(Number(reply.header('x-cmesh-gas'))).toBeGreaterThan(0)
  })

  test.each([
    () => `0xSW:${address}:nothing`, () => `0xS:${address}:nothing`, () => `0xSW:${address}:toString`, () => `0xSW:${COUNTER}:init:[7]`,
  ])('for an unknown function is refused before it gets into the log: nothing runs, nothing is charged (%#)', async fqmn => {
    expect(await hostile(fqmn())).toMatchObject({ status: 404, code: 'CMESH_STATE_NO_FUNCTION', gas: undefined, logged: false })
  })
})

describe('after all of it', () => {
  test('a node that is killed comes to the same state from the log', async () => {
    const before = await looks()
    await bystander.stop()
    await node.kill()
    await Promise.all(clients.map(each => each.close()))
    clients = []
    const replayed = await room.start({ dir: node.dir, args: ARGS })
    node = replayed
    client = await open(stranger)
    expect(await looks()).toEqual(before)
    counted = await count()
    bystander = new Bystander(await open(operator))
  }, 120_000)
})

describe('a thousand requests in one frame that use all their gas', () => {
  /** The frames of somebody else's session that are under way; the promises of their replies. */
  const flood = async (
    raw: RawNats, { sid, token }: Session, fqmn: string, frames: number, entries: number,
  ): Promise<{ answered: () => number, stop: () => void }> => {
    let answered = 0
    for (let i = 0; i < frames; i++) {
      const { subject, message } = raw.expect(sid)
      void message.then(() => { answered++ }, () => undefined)
      const deadlineMs = Date.now() + 4_000
      raw.publish(requestSubject(sid), encodeBatch({
        id: raw.ids.next(), token: Buffer.from(token), deadlineMs, receipt: 'hash', entries: Array.from({ length: entries }, () => ({ fqmn })),
      }), subject)
    }
    // The broker has them all: what is published from now on comes behind them.
    await raw.flush()
    return { answered: () => answered, stop: () => { raw.close() } }
  }

  test.each([
    ['views, by somebody who was granted nothing', () => KeyPair.generate(), (at: string) => `0xS:${at}:view_spin`, 2, 1_024],
    ['transactions', () => stranger, (at: string) => `0xSW:${at}:spin`, 1, 256],
  ] as const)('are put off, and whoever asks behind them is answered before: %s', async (_, who, fqmn, frames, entries) => {
    const raw = await RawNats.connect(node.url)
    const under = await flood(raw, await raw.login(who()), fqmn(address), frames, entries)
    const before = bystander.served
    // The first of the two may have been under way when the frames came.
    await until('the bystander is served twice', () => bystander.served > before + 1 || bystander.refused.length > 0)
    expect([under.answered(), bystander.refused]).toEqual([0, []])
    await until('the frames are answered', () => under.answered() === frames)
    under.stop()
  })
})

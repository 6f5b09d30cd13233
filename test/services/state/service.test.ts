import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import { decodeClaim } from '../../../cmtp/claim.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { WasmEngine } from '../../../providers/contracts/wasm.ts'
import { MockConsensus } from '../../../providers/consensus/mock.ts'
import { MockEvents } from '../../../providers/events/mock.ts'
import { HypercoreStateStore } from '../../../providers/state/hypercore.ts'
import { MockStateStore } from '../../../providers/state/mock.ts'
import type { LogEntry, LogHead } from '../../../services/consensus/provider.ts'
import type { Genesis } from '../../../services/contracts/genesis.ts'
import { NameTransactions } from '../../../services/registrar/transactions.ts'
import { Outbox } from '../../../services/state/outbox.ts'
import type { StateStore } from '../../../services/state/provider.ts'
import { StateService } from '../../../services/state/service.ts'
import type { StateServiceParts } from '../../../services/state/service-parts.ts'
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { contractModule } from '../../support/contract-module.ts'
import { until } from '../../client/support/until.ts'
import { HandBus } from '../../support/hand-bus.ts'
import { failureOf } from '../../support/iam.ts'
import { keptLog, memberOf, memoryWatermark, startMesh, testClock, type TestMesh } from '../../support/mesh.ts'
import { batchOf, deploymentOf, genesisTransaction, MEMBER, METER, OPERATOR, transactionOf } from '../../support/replica.ts'

const ID = Buffer.alloc(16, 4)

let mesh: TestMesh
let session: Session
beforeAll(async () => {
  mesh = await startMesh()
  session = await mesh.open()
})
afterAll(() => mesh.stop())

test('a message id of the mesh\'s own range is nobody else\'s: no contract\'s message is kept from being delivered', async () => {
  const id = Buffer.concat([Buffer.of(0xff, 0xff), Buffer.alloc(14, 7)])
  for (const who of [session, mesh.root]) {
    const { status, value } = await mesh.ask(who, '0xSW:0x002:increment', { id })
    if (who === mesh.root) expect({ status, value }).toMatchObject({ status: 409, value: { code: 'CMESH_ROUTER_DUPLICATE' } })
    else expect(status).toBe(403)
  }
})

describe('a view', () => {
  test.each<[fqmn: string, body: string, status: number, value: unknown]>([
    ['0xS:0x001:hello_world', '', 200, 'Hello, world'],
    ['0xS:0x001:hello_world:["Dexter"]', '', 200, 'Hello, Dexter'],
    ['0xS:0x001:hello_world', '["Dexter"]', 200, 'Hello, Dexter'],
    ['0xS:0x001:hello_world:["Dexter"]', '["Dexter"]', 400, expect.objectContaining({ code: 'CMESH_FQMN_ARGUMENTS_TWICE' })],
    ['0xS:0x001:blah_blah', '', 200, 'blah blah'],
    ['0xS:0xfff:x', '', 404, expect.objectContaining({ code: 'CMESH_STATE_NO_CONTRACT', message: 'There is no contract 0xfff.' })],
    ['0xS:0xfff', '', 404, expect.objectContaining({ code: 'CMESH_STATE_NO_CONTRACT' })],
    ['0xS:0x001:nothing', '', 404, expect.objectContaining({ code: 'CMESH_STATE_NO_FUNCTION', message: 'The contract 0x001 has no function nothing.' })],
    ['0xS:0x001:say:["x"]', '', 405, expect.objectContaining({ code: 'CMESH_STATE_NOT_A_VIEW', message: 'The function say of 0x001 changes state: call it as 0xSW.' })],
    ['0xS:0x001:init', '', 405, expect.objectContaining({ code: 'CMESH_STATE_NOT_A_VIEW' })],
  ])('%s with the body "%s" is %i', async (fqmn, body, status, value) => {
    expect(await mesh.ask(session, fqmn, { body })).toMatchObject({ status, value })
  })

  test('of a contract alone is its manifest', async () => {
    const { value } = await mesh.ask(session, '0xS:0x001')
    expect(value).toMatchObject({
      address: '0x001', deployer: mesh.operator.did, codeHash: expect.stringMatching(/^[0-9a-f]{64}$/), manifest: { name: 'hello', version: '1.0.0' },
      abi: { functions: expect.arrayContaining([expect.objectContaining({ name: 'hello_world', mode: 'view' })]) },
    })
    expect((await mesh.ask(session, '0xS:0x000')).value).toMatchObject({ address: '0x000', functions: ['deploy', 'replace', 'proxy', 'meter', 'leave', 'checkpoint', 'later', 'cancel'], reads: ['versions', 'code', 'dryrun', 'get', 'proof', 'at', 'diff', 'later'], meter: [{ from: 1, meter: 1, schedule: 1, transactionGas: 20_000_000 }], genesis: { operator: mesh.operator.did, members: [mesh.node] } })
  })

  test('says what gas it used, also from the cache and when it fails', async () => {
    const gas = async (fqmn: string): Promise<number> => Number((await mesh.ask(session, fqmn)).headers.find(([name]) => name === 'x-cmesh-gas')?.[1])
    const first = await gas('0xS:0x001:hello_world:["gas"]')
    expect(first).toBeGreaterThan(1_000)
    expect(await gas('0xS:0x001:hello_world:["gas"]')).toBe(first)
    const [hits, failures] = [mesh.state.stats.viewHits, mesh.state.stats.contractFailures]
    expect(await mesh.ask(session, '0xS:0x001:hello_world:[7]')).toMatchObject({ status: 422, headers: expect.arrayContaining([['x-cmesh-gas', expect.stringMatching(/^[1-9]/)]]) })
    expect([mesh.state.stats.viewHits, mesh.state.stats.contractFailures]).toEqual([hits, failures + 1])
  })

  test('uses no more gas than its node lets it', async () => {
    const poor = await startMesh({ state: { viewGas: 1_500 } })
    expect(await poor.ask(poor.root, '0xS:0x001:hello_world')).toMatchObject({ status: 422, code: 'CMESH_CONTRACT_OUT_OF_GAS', headers: expect.arrayContaining([['x-cmesh-gas', '1500']]) })
    expect(await poor.ask(poor.root, '0xSW:0x001:hello_world')).toMatchObject({ status: 200 })
    await poor.stop()
  })

  test('of the system contract tells versions and code, by arguments that it checks', async () => {
    const { value } = await mesh.ask(session, '0xS:0x000:versions:["0x001"]')
    const [version] = value as [{ codeHash: string }]
    expect(value).toEqual([{ version: 1, codeHash: version.codeHash, deployer: mesh.operator.did, strategy: 'replaceable', manifest: expect.objectContaining({ name: 'hello' }), seq: 1, timeMs: expect.any(Number) }])
    expect((await mesh.ask(session, '0xS:0x000:versions:["0x001",1]')).value).toEqual(version)
    const { frame } = await mesh.askRaw(session, `0xS:0x000:code:["${version.codeHash}"]`)
    expect(createHash('sha256').update(frame.body).digest('hex')).toBe(version.codeHash)
    for (const [fqmn, status, code] of [
      ['0xS:0x000:versions', 422, 'CMESH_CONTRACT_REVERT'], ['0xS:0x000:versions:["0x001",0]', 422, 'CMESH_CONTRACT_REVERT'], ['0xS:0x000:versions:["0x000"]', 422, 'CMESH_CONTRACT_REVERT'],
      ['0xS:0x000:versions:["0xfff"]', 404, 'CMESH_STATE_NO_CONTRACT'], ['0xS:0x000:code:["ab"]', 422, 'CMESH_CONTRACT_REVERT'], [`0xS:0x000:code:["${'0'.repeat(64)}"]`, 404, 'CMESH_STATE_NO_CODE'],
      ['0xS:0x000:deploy', 404, 'CMESH_STATE_NO_FUNCTION'],
    ] as const) expect(await mesh.ask(session, fqmn)).toMatchObject({ status, code })
  })

  test('changes nothing', async () => {
    const { head } = mesh.state
    await mesh.ask(session, '0xS:0x001:hello_world')
    expect(mesh.state.head).toBe(head)
  })
})

describe('a write', () => {
  test('is answered when its block is durable, with its level, sequence and transaction', async () => {
    const answer = await mesh.ask(mesh.root, '0xSW:0x001:say:["hi"]', { id: ID })
    expect(answer.status).toBe(200)
    expect(answer.headers).toEqual([
      ['content-type', 'application/json'], ['x-cmesh-durability', 'memory'], ['x-cmesh-gas', expect.stringMatching(/^[1-9]\d*$/)], ['x-cmesh-sequence', String(mesh.state.head.seq)], ['x-cmesh-transaction', ID.toString('hex')],
    ])
    expect((await mesh.ask(session, '0xS:0x001:blah_blah')).value).toBe('hi')
    expect((await mesh.ask(session, `0xC:tx:${ID.toString('hex')}`)).value).toMatchObject({ id: ID.toString('hex'), status: 200, seq: mesh.state.head.seq })
  })

  test('under the same id again is the first outcome, and done once; with other content it is 409', async () => {
    const id = Buffer.alloc(16, 5)
    const [first, second] = [await mesh.ask(mesh.root, '0xSW:0x002:increment:[1]', { id }), await mesh.ask(mesh.root, '0xSW:0x002:increment:[1]', { id })]
    expect(second).toMatchObject({ status: 200, value: first.value })
    expect(second.headers).toEqual(first.headers)
    expect(await mesh.ask(mesh.root, '0xSW:0x002:increment:[2]', { id })).toMatchObject({ status: 409, code: 'CMESH_ROUTER_DUPLICATE' })
    expect((await mesh.ask(session, '0xS:0x002:get')).value).toBe(first.value)
  })

  test('that fails is its outcome: with the error, where it stands in the log, and nothing changed', async () => {
    const { seq } = mesh.state.head
    const answer = await mesh.ask(mesh.root, '0xSW:0x001:say', { id: Buffer.alloc(16, 6) })
    expect(answer).toMatchObject({ status: 422, code: expect.stringMatching(/^CMESH_CONTRACT_/) })
    expect(answer.headers).toEqual(expect.arrayContaining([['content-type', 'application/cmesh-error+json'], ['x-cmesh-sequence', String(seq + 1)]]))
    expect((await mesh.ask(session, '0xS:0x001:blah_blah')).value).toBe('hi')
  })

  test.each<[fqmn: string, status: number, code: string]>([
    ['0xSW:0xfff:x', 404, 'CMESH_STATE_NO_CONTRACT'],
    ['0xSW:0x001:nothing', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xSW:0x001', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xSW:0x001:init', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xSW:0x000:genesis', 404, 'CMESH_STATE_NO_FUNCTION'],
    ['0xSW:0x000', 404, 'CMESH_STATE_NO_FUNCTION'],
  ])('of %s can only fail, and costs no place in the log', async (fqmn, status, code) => {
    const { head } = mesh.state
    expect(await mesh.ask(mesh.root, fqmn)).toMatchObject({ status, code })
    expect(mesh.state.head).toBe(head)
  })

  test('of a view is done as a transaction that changes nothing', async () => {
    const { seq } = mesh.state.head
    expect(await mesh.ask(mesh.root, '0xSW:0x001:hello_world:["x"]')).toMatchObject({ status: 200, value: 'Hello, x' })
    expect(mesh.state.head.seq).toBe(seq + 1)
  })

  test('keeps its body when the frame it came in is gone', async () => {
    const frame = mesh.frame(mesh.root, '0xSW:0x001:say', { body: '["kept"]' })
    const answered = new Promise(resolve => { mesh.frontDoor.handle(frame, { sid: mesh.root.sid, replySubject: '' }, resolve) })
    frame.fill(0x5d, frame.length - 8)
    await answered
    expect((await mesh.ask(session, '0xS:0x001:blah_blah')).value).toBe('kept')
  })

  test('emits what the contract said, on its channel, once it is durable', async () => {
    await mesh.ask(mesh.root, '0xSW:0x001:say:["heard"]')
    await mesh.outbox.flush()
    expect((await mesh.ask(session, '0xE:events.state.contracts.0x001.blah_blah')).value).toMatchObject({ data: '"heard"' })
  })
})

describe('a deployment', () => {
  const pkg = (): Buffer => deploymentOf(contractModule('(data (i32.const 0) "1") (func (export "call_one") (call $output (i32.const 0) (i32.const 1)))'), {}, mesh.operator)

  test('by the operator gives the contract its address, and it can be called', async () => {
    const { status, value } = await mesh.ask(mesh.root, '0xSW:0x000:deploy', { body: pkg() })
    const { address, name } = value as { address: string, name: string }
    expect(mesh.state.stats.contracts).toBe(3)
    expect({ status, address, name }).toEqual({ status: 200, address: expect.stringMatching(/^0x[0-9a-f]{64}$/), name: 'made' })
    expect(await mesh.ask(mesh.root, `0xSW:${address}:one`)).toMatchObject({ status: 200, value: 1 })
    expect(await mesh.ask(mesh.root, '0xSW:0x000:deploy', { body: pkg() })).toMatchObject({ status: 409, code: 'CMESH_DEPLOY_EXISTS' })
  })

  test.each<[string, () => Uint8Array, string]>([
    ['nothing', () => Buffer.alloc(0), 'CMESH_DEPLOY_MALFORMED'],
    ['noise', () => Buffer.from('noise'.repeat(20)), 'CMESH_DEPLOY_MALFORMED'],
    ['init arguments for a contract without init', () => deploymentOf(contractModule('(func (export "call_f"))'), { init: Buffer.from('[1]') }, mesh.operator), 'CMESH_DEPLOY_MALFORMED'],
  ])('of %s is refused, and leaves nothing', async (_what, body, code) => {
    expect(await mesh.ask(mesh.root, '0xSW:0x000:deploy', { body: body() })).toMatchObject({ status: 400, code })
  })

  test('whose init fails leaves no contract and no state', async () => {
    const module = contractModule(
      '(data (i32.const 0) "k") (func (export "call_init") (call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)) (unreachable)) (func (export "call_f"))', {
        abi: '{"abi":1,"sdk":"none","functions":[{"name":"init","mode":"init","params":[],"returns":"void"},{"name":"f","mode":"write","params":[],"returns":"void"}],"events":[]}',
      },
    )
    const spaces = new Set(mesh.store.spaces())
    expect(await mesh.ask(mesh.root, '0xSW:0x000:deploy', { body: deploymentOf(module, {}, mesh.operator) })).toMatchObject({ status: 422, code: 'CMESH_CONTRACT_TRAP' })
    for (const name of mesh.store.spaces()) if (!spaces.has(name)) expect([name, mesh.store.space(name).size]).toEqual([name, 0])
    const deployed = [...mesh.store.space('0x000').keys()].filter(key => key.startsWith('contract/'))
    for (const key of deployed) expect(mesh.engine.has(key.slice('contract/'.length))).toBe(true)
    // Sent again it fails again: nothing says that it is deployed already.
    expect(await mesh.ask(mesh.root, '0xSW:0x000:deploy', { body: deploymentOf(module, {}, mesh.operator) })).toMatchObject({ status: 422 })
  })
})

describe('consensus, asked by anyone with a session', () => {
  test('says who leads, how far the log is, and where state stands', async () => {
    const { value } = await mesh.ask(session, '0xC:status')
    const { seq, epoch, timeMs, chain } = mesh.state.head
    expect(value).toMatchObject({
      provider: 'mock', lastIndex: seq, commitIndex: seq, durability: 'memory', head: { seq, epoch, timeMs, chain: Buffer.from(chain).toString('hex') },
    })
    expect((await mesh.ask(session, '0xC:leader')).value).toEqual({ leader: (value as { leader: string }).leader, term: (value as { term: number }).term })
  })

  test('says what became of a transaction, and nothing of what was in it', async () => {
    await mesh.ask(mesh.root, '0xSW:0x001:say:["secret words"]', { id: Buffer.alloc(16, 8) })
    const { value } = await mesh.ask(session, `0xC:tx:${'08'.repeat(16)}`)
    expect(value).toEqual({ id: '08'.repeat(16), status: 200, gas: expect.stringMatching(/^\d+$/), seq: mesh.state.head.seq, timeMs: mesh.state.head.timeMs })
    expect(await mesh.ask(session, `0xC:tx:${'09'.repeat(16)}`)).toMatchObject({ status: 404, code: 'CMESH_CONSENSUS_NO_TX' })
    expect(await mesh.ask(session, '0xC:tx')).toMatchObject({ status: 404 })
  })

  test('takes no orders', async () => {
    expect(await mesh.ask(mesh.root, '0xCW:status')).toMatchObject({
      status: 405, code: 'CMESH_ROUTER_ACTION', message: 'The consensus service has no action status for writing.',
    })
  })
})

describe('when state halts', () => {
  test('whoever waits is told, reads and writes are refused, and the node hears of it once', async () => {
    const engine = new WasmEngine()
    const broken = await startMesh({ state: { engine } })
    const mine = await broken.open()
    await broken.ask(mine, '0xS:0x001:hello_world')
    const call = engine.call.bind(engine)
    engine.call = each => {
      if (each.view || each.function !== 'increment') return call(each)
      throw new CMeshError('CMESH_CONTRACT_HOST', { contract: each.address, reason: 'broken' })
    }
    const { head } = broken.state
    const waiting = [broken.ask(broken.root, '0xSW:0x001:say:["lost"]'), broken.ask(broken.root, '0xSW:0x002:increment')]
    // Both are ordered: another member may execute them.
    for (const each of waiting) expect(await each).toMatchObject({ status: 504, code: 'CMESH_ROUTER_UNKNOWN_OUTCOME' })
    expect(broken.halts.map(error => error.code)).toEqual(['CMESH_CONTRACT_HOST'])
    expect(broken.state.halted?.code).toBe('CMESH_CONTRACT_HOST')
    expect(broken.state.head).toBe(head)
    // What the batch had done before it broke stands in memory alone, and is shown to nobody.
    expect(await broken.ask(mine, '0xS:0x001:blah_blah')).toMatchObject({ status: 503, code: 'CMESH_STATE_HALTED' })
    expect(await broken.ask(mine, '0xS:0x001:hello_world')).toMatchObject({ status: 503, code: 'CMESH_STATE_HALTED' })
    expect(await broken.ask(broken.root, '0xSW:0x001:say:["later"]')).toMatchObject({ status: 500 })
    await broken.stop()
    engine.close()
  })

  test('because the disk is full, the writer is told so', async () => {
    const store = new MockStateStore()
    const full = await startMesh({ state: { store } })
    store.commit = () => Promise.reject(new CMeshError('CMESH_STATE_FULL', { reason: 'no space left on device' }))
    expect(await full.ask(full.root, '0xSW:0x002:increment')).toMatchObject({ status: 507, code: 'CMESH_STATE_FULL' })
    expect(full.halts.map(error => error.code)).toEqual(['CMESH_STATE_FULL'])
    await full.stop()
  })
})

describe('back-pressure', () => {
  test('writes are refused while too many events wait to get out', async () => {
    const idle = { add: () => undefined, goesOnBehind: () => undefined, flush: async () => undefined, stop: async () => undefined }
    const outbox = { ...idle, pending: 4_097 } as unknown as Outbox
    const slow = await startMesh({ state: { outbox } })
    expect(await slow.ask(slow.root, '0xSW:0x002:increment')).toMatchObject({
      status: 429, code: 'CMESH_ROUTER_BUSY', message: 'the outbox of events has 4096 requests in flight already; try again in 1000 ms.',
    })
    expect(await slow.ask(slow.root, '0xS:0x002:get')).toMatchObject({ status: 200 })
    await slow.stop()
  })
})

describe('the life of State', () => {
  const parts = (more: Partial<StateServiceParts> = {}): StateServiceParts => {
    const events = new MockEvents()
    return {
      store: new MockStateStore(), engine: new WasmEngine(), consensus: new MockConsensus({ now: () => 0 }), guard: mesh.guard,
      outbox: new Outbox({ events, watermark: memoryWatermark(), log: keptLog() }), names: new NameTransactions(), member: memberOf(MEMBER),
      clock: testClock(), log: keptLog(), onHalt: () => undefined, ...more,
    }
  }
  const genesis = (): Genesis => ({ operator: OPERATOR.did, members: [MEMBER.did], contracts: [], meter: METER })

  test('starts once, however often it is asked, and knows its beginning only then', async () => {
    const state = new StateService(parts())
    expect(() => state.genesis).toThrow('The genesis transaction is refused: state is not open.')
    const first = state.start(genesis)
    expect(state.start(() => { throw new Error('asked twice') })).toBe(first)
    await first
    expect(state.genesis).toEqual({ operator: OPERATOR.did, members: [MEMBER.did] })
    expect(state.stop()).toBe(state.stop())
    await state.stop()
  })

  test('a start that fails closes what it opened', async () => {
    const closed: string[] = []
    for (const failing of ['consensus', 'genesis'] as const) {
      const made = parts()
      for (const [name, part] of [['store', made.store], ['engine', made.engine]] as const) {
        const close = part.close.bind(part) as () => Promise<void>
        part.close = () => {
          closed.push(`${failing} ${name}`)
          return close()
        }
      }
      if (failing === 'consensus') made.consensus.start = () => Promise.reject(new CMeshError('CMESH_CONSENSUS_SECOND_NODE', { node: 'x' }))
      const state = new StateService(made)
      const bad = { operator: OPERATOR.did, members: [MEMBER.did], contracts: [{ address: '0x001', pkg: Buffer.from('noise') }], meter: METER }
      const failure = await failureOf(() => state.start(() => bad))
      expect(failure.code).toBe(failing === 'consensus' ? 'CMESH_CONSENSUS_SECOND_NODE' : 'CMESH_DEPLOY_MALFORMED')
    }
    expect(closed).toEqual(['consensus store', 'consensus engine', 'genesis store', 'genesis engine'])
  })

  test('opened again it holds what it held, and answers for transactions of before', async () => {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-state-'))
    try {
      const key = KeyPair.generate()
      const first = await startMesh({ key, state: { store: new HypercoreStateStore({ dir }) } })
      const id = Buffer.alloc(16, 7)
      await first.ask(first.root, '0xSW:0x002:increment:[41]', { id })
      await first.register(first.root, first.operator, 'kept.mcom', '0xS:0x002')
      const { value: manifest } = await first.ask(first.root, '0xSW:0x000:deploy', { body: deploymentOf(contractModule('(data (i32.const 0) "7") (func (export "call_seven") (call $output (i32.const 0) (i32.const 1)))'), {}, first.operator) })
      const { head } = first.state
      await first.stop()

      const again = await startMesh({ key, state: { store: new HypercoreStateStore({ dir }) }, genesis: () => { throw new Error('there is a beginning already') } })
      expect({ ...again.state.head }).toEqual({ ...head })
      expect(again.state.genesis.operator).toBe(first.operator.did)
      expect(again.state.stats.contracts).toBe(3)
      again.grants.set(first.operator.did, again.grants.get(again.operator.did) ?? [])
      const root = await again.open({ identity: first.operator })
      expect(await again.ask(root, '0xR:kept.mcom:get')).toMatchObject({ status: 200, value: 41 })
      expect(await again.ask(root, `0xSW:${(manifest as { address: string }).address}:seven`)).toMatchObject({ status: 200, value: 7 })
      expect(await again.ask(root, `0xC:tx:${id.toString('hex')}`)).toMatchObject({ value: { status: 200, seq: 2 } })
      // The same write sent again is known, and not done twice.
      expect(await again.ask(root, '0xSW:0x002:increment:[41]', { id })).toMatchObject({ status: 200, value: 41 })
      expect(await again.ask(root, '0xSW:0x002:increment:[1]', { id })).toMatchObject({ status: 409 })
      expect(await again.ask(root, '0xS:0x002:get')).toMatchObject({ value: 41 })
      await again.stop()
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })

  test('on a log that was set back, events of what is written from then on are published', async () => {
    const events = new MockEvents()
    const watermark = memoryWatermark(1_000)
    const again = await startMesh({ state: { outbox: new Outbox({ events, watermark, log: keptLog() }) } })
    await again.ask(again.root, '0xSW:0x001:say:["heard"]')
    await again.stop()
    expect(Buffer.from(events.latest('events.state.contracts.0x001.blah_blah')?.data ?? []).toString()).toBe('"heard"')
    expect(watermark.read()).toBeLessThan(1_000)
  })

  test('tells consensus what its log ends with, and how far the log holds; what is in memory alone holds nothing', async () => {
    const dir = await mkdtemp(path.join(os.tmpdir(), 'cmesh-state-'))
    try {
      const heads: LogHead[] = []
      const entries: LogEntry[] = []
      const run = async (store: StateStore): Promise<{ readonly trimmed: number[], readonly head: number }> => {
        const trimmed: number[] = []
        const made = parts({ store })
        const { consensus } = made
        const start = consensus.start.bind(consensus)
        consensus.start = (from, deliver) => {
          heads.push(from)
          return start(from, (entry) => {
            entries.push(entry)
            deliver(entry)
          })
        }
        consensus.trim = seq => { trimmed.push(seq) }
        const state = new StateService(made)
        await state.start(genesis)
        await state.orderOwn('0xSW:0x000:nothing', {}).catch(() => undefined)
        const head = state.head.seq
        await state.stop()
        return { trimmed, head }
      }
      expect(await run(new HypercoreStateStore({ dir }))).toEqual({ trimmed: [1, 2], head: 2 })
      const newest = entries.at(-1)?.data
      expect(await run(new HypercoreStateStore({ dir }))).toEqual({ trimmed: [3], head: 3 })
      expect(await run(new MockStateStore())).toEqual({ trimmed: [], head: 2 })
      expect(heads).toMatchObject([{ epoch: 0, seq: 0, begun: false }, { epoch: 0, seq: 2, data: newest, begun: true }, { epoch: 0, seq: 0, begun: false }])
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  })

  test('stops though consensus settles nothing until it is stopped itself', async () => {
    const made = parts({ drainMs: 1 })
    const state = new StateService(made)
    await state.start(genesis)
    const { consensus } = made
    const unknown = new CMeshError('CMESH_ROUTER_UNKNOWN_OUTCOME', { tx: 'x' })
    const stop = consensus.stop.bind(consensus)
    const stopped = new Promise<void>(resolve => {
      consensus.stop = () => {
        resolve()
        return stop()
      }
    })
    consensus.propose = () => stopped.then(() => { throw unknown })
    const under = expect(state.orderOwn('0xSW:0x000:nothing', {})).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME' })
    await state.stop()
    await under
  })

  test('makes no beginning where the order holds one already', async () => {
    const message = batchOf([genesisTransaction()])
    const made = parts()
    const start = made.consensus.start.bind(made.consensus)
    made.consensus.start = async (from, deliver) => {
      deliver({ epoch: 0, seq: 1, id: '0'.repeat(32), data: message })
      await start({ epoch: 0, seq: 1 }, deliver)
    }
    const state = new StateService(made)
    await state.start(() => { throw new Error('there is a beginning already') })
    expect(state.head.seq).toBe(1)
    expect(state.genesis).toEqual({ operator: OPERATOR.did, members: [MEMBER.did] })
    await state.stop()
  })

  test('stops though a quorum is away that what it ordered waits for', async () => {
    const made = parts({ drainMs: 1, replication: { bus: new HandBus(), quorum: true, version: '', out: () => 0 } })
    const state = new StateService(made)
    const other = KeyPair.generate().did
    const started = expect(state.start(() => ({ ...genesis(), members: [MEMBER.did, other] }))).rejects.toMatchObject({ code: 'CMESH_ROUTER_UNKNOWN_OUTCOME' })
    await until('the beginning is ordered', () => state.head.seq === 1)
    expect(state.pendingWrites).toBe(1)
    await state.stop()
    await started
    expect(state.pendingWrites).toBe(0)
  })

  test('claims no more than is durable: neither what the order had for it, nor what comes while that is stored', async () => {
    const store = new MockStateStore()
    const bus = new HandBus()
    const claimed: { readonly seq: number, readonly durable: number }[] = []
    const waiting: (() => void)[] = []
    let durable = 0
    const commit = store.commit.bind(store)
    store.commit = block => {
      void commit(block)
      return new Promise(resolve => { waiting.push(resolve) })
    }
    const store1 = (): void => {
      durable++
      waiting.shift()?.()
    }
    bus.onPublish = (_, data) => { claimed.push({ seq: decodeClaim(data)?.seq ?? 0, durable }) }
    const made = parts({ store, replication: { bus, quorum: true, version: '', out: () => 0 } })
    const start = made.consensus.start.bind(made.consensus)
    made.consensus.start = async (from, deliver) => {
      const entry = (seq: number): LogEntry => ({ epoch: 0, seq, id: '0'.repeat(32), data: batchOf(seq === 1 ? [genesisTransaction()] : [], { proposedMs: 1 }) })
      for (const seq of [1, 2, 3]) deliver(entry(seq))
      store.flush = async () => {
        store.flush = () => Promise.resolve()
        for (const seq of [4, 5]) deliver(entry(seq))
        for (let i = 0; i < 4; i++) store1()
      }
      await start({ epoch: 0, seq: 3 }, deliver)
    }
    const state = new StateService(made)
    await state.start(genesis)
    expect(claimed).toEqual([{ seq: 4, durable: 4 }])
    store1()
    await state.stop()
    expect(claimed.at(-1)).toEqual({ seq: 5, durable: 5 })
  })

  test('a log that does not start with genesis is not opened', async () => {
    const store = new MockStateStore()
    await store.open()
    await store.commit({ epoch: 0, seq: 1, timeMs: 0, message: Buffer.alloc(0), transactions: [] })
    const failure = await failureOf(() => new StateService(parts({ store })).start(genesis))
    expect({ code: failure.code, message: failure.message }).toEqual({
      code: 'CMESH_STATE_GENESIS', message: 'The genesis transaction is refused: the log does not start with it.',
    })
  })

  test('a log from before gas was counted is not opened, and says why', async () => {
    const store = new MockStateStore()
    await store.open()
    const value = Buffer.from(JSON.stringify({ operator: OPERATOR.did, members: [MEMBER.did] }))
    store.space('0x000').set('genesis', value)
    const record = { id: '1'.repeat(32), status: 200, gas: 0n, output: Buffer.alloc(0), events: [], writes: [{ space: '0x000', key: 'genesis', value }] }
    await store.commit({ epoch: 0, seq: 1, timeMs: 0, message: batchOf([transactionOf('0xSW:0x000:genesis', { id: record.id })]), transactions: [record] })
    const failure = await failureOf(() => new StateService(parts({ store })).start(genesis))
    expect({ code: failure.code, message: failure.message }).toEqual({
      code: 'CMESH_STATE_GENESIS', message: 'The genesis transaction is refused: the log is of a version before gas was counted.',
    })
  })

  test('a stop answers what is under way and refuses what is new', async () => {
    const draining = await startMesh()
    await draining.ask(draining.root, '0xC:status')
    const writes = Array.from({ length: 20 }, () => draining.ask(draining.root, '0xSW:0x002:increment:[1]'))
    const stopped = draining.state.stop()
    const late = draining.ask(draining.root, '0xSW:0x002:increment:[1]')
    expect((await Promise.all(writes)).map(answer => answer.status)).toEqual(writes.map(() => 200))
    expect(await late).toMatchObject({ status: 503, code: 'CMESH_ROUTER_DRAINING' })
    await stopped
    expect(draining.state.pendingWrites).toBe(0)
    expect(draining.state.head.seq).toBe(2)
    await draining.stop()
  })
})

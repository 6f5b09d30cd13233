/** A member that begins again with nothing, on a stream that has its beginning no more: State on real logs, streams of a real broker. */
import { mkdtemp, rm } from 'node:fs/promises'
import os from 'node:os'
import path from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test } from '@jest/globals'
import { jetstreamManager, type StreamState } from '@nats-io/jetstream'
import { CMeshError } from '../../cmtp/errors.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { connectNats, type NatsBus } from '../../providers/bus/nats.ts'
import { JetStreamConsensus } from '../../providers/consensus/jetstream.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { MockEvents } from '../../providers/events/mock.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { turnClock } from '../../services/clock.ts'
import { IdentityTransactions } from '../../services/iam/transactions.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { NameTransactions } from '../../services/registrar/transactions.ts'
import { decodeBlock } from '../../services/state/block.ts'
import { catchUp } from '../../services/state/catch-up/catch-up.ts'
import { Outbox } from '../../services/state/outbox.ts'
import { StateService } from '../../services/state/service.ts'
import type { StateServiceParts } from '../../services/state/service-parts.ts'
import { until } from '../client/support/until.ts'
import { ExternalBroker } from '../support/external-broker.ts'
import { honestGiver } from '../support/giving.ts'
import { memberOf, memoryWatermark } from '../support/mesh.ts'
import { METER } from '../support/replica.ts'

const KEY = KeyPair.generate()
const STREAM = 'REJOIN'
/** Entries that stay in the stream. */
const KEEP = 5

let broker: ExternalBroker
let root: string
let bus: NatsBus
/** The log of the member that is there, and how far it goes. */
let kept: HypercoreStateStore
let granted: string[]
let begin = 0

const undo: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const step of undo.splice(0).reverse()) await step()
})

function serviceIn(dir: string, parts: Partial<StateServiceParts> = {}): StateService {
  return new StateService({
    store: new HypercoreStateStore({ dir: path.join(root, dir) }),
    consensus: new JetStreamConsensus(
      { bus, nodeId: KEY.did, log: SILENT_LOG, onFailed: error => { throw error } }, { stream: STREAM, maxBytes: 64 * 1024 * 1024, checkMs: 50, keep: KEEP },
    ),
    engine: new WasmEngine(),
    guard: { confirm: () => undefined, authorise: () => { throw new Error('nobody asks') }, tokenOf: () => new Uint8Array() },
    outbox: new Outbox({ events: new MockEvents({}), watermark: memoryWatermark(), log: SILENT_LOG }),
    names: new NameTransactions(), identities: new IdentityTransactions(), member: memberOf(KEY),
    clock: turnClock(), log: SILENT_LOG, onHalt: error => { throw error }, ...parts,
  })
}

const genesis = { operator: KEY.did, members: [KEY.did], contracts: [], meter: METER }
const grant = (state: StateService, did: string): Promise<void> => state.orderOwn('0xIW:grant', { did, permission: 'read 0xS:0x001:>' })
const streamState = async (): Promise<StreamState> => (await (await jetstreamManager(bus.connection)).streams.info(STREAM)).state

beforeAll(async () => {
  broker = await ExternalBroker.start()
  root = await mkdtemp(path.join(os.tmpdir(), 'cmesh-rejoin-'))
  bus = await connectNats({ servers: broker.url, onError: () => undefined })
  const state = serviceIn('first')
  await state.start(() => genesis)
  granted = Array.from({ length: 20 }, () => KeyPair.generate().did)
  for (const did of granted) await grant(state, did)
  await until('the stream is trimmed as far as it is going to be', async () => {
    const { first_seq: first, last_seq: last } = await streamState()
    begin = first
    return first === last - KEEP + 1
  }, 30_000)
  await state.stop()
  kept = new HypercoreStateStore({ dir: path.join(root, 'first') })
  await kept.open(() => {})
})
afterAll(async () => {
  await kept.close()
  await bus.close()
  await broker.stop()
  await rm(root, { recursive: true, force: true })
})

/** A member with an empty directory, which takes blocks from whoever is there. */
function empty(dir: string, asked: number[] = []): StateService {
  const store = new HypercoreStateStore({ dir: path.join(root, dir) })
  const state = serviceIn(dir, {
    store,
    catchUp: (upTo, onBlock) => {
      asked.push(upTo)
      return catchUp({ bus, did: KEY.did, store, log: SILENT_LOG, answerMs: 300, rounds: 1 }, { trusted: kept.head, onBlock })
    },
  })
  undo.push(() => state.stop())
  return state
}

describe('a member whose log lacks what the stream has no more', () => {
  test('takes it from another, executes the rest, and writes', async () => {
    const giver = honestGiver(bus, 'did:key:other', kept)
    undo.push(() => giver.stop())
    const asked: number[] = []
    const state = empty('empty', asked)
    await state.start(() => { throw new Error('the mesh began long ago') })
    expect(asked).toEqual([begin - 1])
    expect(state.head).toEqual(kept.head)
    expect(state.genesis.operator).toBe(KEY.did)
    for (const did of granted) expect(state.system.get(`grants/${did}`)).toBeDefined()
    const [transaction] = (await kept.replica.read(9, 9, 1)).flatMap(bytes => decodeBlock(bytes).transactions)
    expect(state.outcome(transaction?.id ?? '')).toMatchObject({ seq: 9, status: transaction?.status })

    const { did } = KeyPair.generate()
    await grant(state, did)
    expect(state.system.get(`grants/${did}`)).toBeDefined()
    expect(state.head.seq).toBe(kept.head.seq + 1)
    await state.stop()
    const again = empty('empty')
    await again.start(() => { throw new Error('the mesh began long ago') })
    expect(again.system.get(`grants/${did}`)).toBeDefined()
  })

  test('is stopped before it takes up the order where no quorum vouches for what it has', async () => {
    const error = new CMeshError('CMESH_STATE_UNVOUCHED', { seq: 7 })
    const state = serviceIn('unvouched', { vouch: () => Promise.reject(error), catchUp: () => { throw new Error('it was asked') } })
    await expect(state.start(() => genesis)).rejects.toBe(error)
  })

  test('stops where nobody has it, and where it has no way to ask, and its log stays empty', async () => {
    const refusal = (state: StateService): Promise<unknown> => state.start(() => genesis).then(() => 'it started', (error: unknown) => error)
    expect(await refusal(empty('alone'))).toMatchObject({
      code: 'CMESH_STATE_CATCH_UP', detail: { reason: 'none that has them answered' },
    })
    const other = await refusal(serviceIn('mute'))
    expect(other).toBeInstanceOf(CMeshError)
    expect(other).toMatchObject({ code: 'CMESH_CONSENSUS_STREAM_AHEAD', detail: { head: 0 } })
  })
})

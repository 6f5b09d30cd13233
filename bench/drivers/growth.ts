/**
 * Drives reads and writes of a contract that has many keys, inside the node: State with its log on disk, its order and its engine, without
 * a broker, a client or a token on the way. The keys come there by the order, each put by the contract.
 */
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { encodePackage, packageManifest } from '../../cmtp/package.ts'
import { genesisOf } from '../../node/genesis.ts'
import { MockConsensus } from '../../providers/consensus/mock.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { SYSTEM_CLOCK } from '../../services/clock.ts'
import type { AuthContext } from '../../services/iam/guard.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { NameTransactions } from '../../services/registrar/transactions.ts'
import { Passage } from '../../services/router/passage.ts'
import { Outbox } from '../../services/state/outbox.ts'
import { StateService } from '../../services/state/service.ts'
import { inParallel } from '../harness.ts'
import { keyOf, valueOf } from '../store-contract.ts'
import type { Driver } from './index.ts'

export interface GrowthOptions {
  /** Where the log is kept; the driver's own. */
  readonly dir: string
  /** Seed of the node's key. */
  readonly seed: Uint8Array
  /** The store contract's module. */
  readonly module: Uint8Array
  readonly keys: number
}

const CONTRACT = '0x003'
const NOTHING = new Uint8Array(0)
/** Writes under way, while keys are filled and while writes are measured. */
const AT_ONCE = 512
/** Distinct keys that are asked for, spread over all of them: as many however many there are. */
const ASKED = 1_000

/** Two ways: `read`, uncached views, and `write`. */
export async function openGrowth(options: GrowthOptions): Promise<Driver> {
  const { state, start } = stateOf(options)
  await start()
  const { keys } = options
  const put = (key: number, value: number): Promise<void> => state.orderOwn(`0xSW:${CONTRACT}:put`, [keyOf(key), valueOf(value)])
  await inParallel(keys, AT_ONCE, i => put(i, i))

  const asked = Array.from({ length: Math.min(ASKED, keys) }, (_, i) => Math.floor(i * keys / Math.min(ASKED, keys)))
  const routes = asked.map(key => parseFqmn(`0xS:${CONTRACT}:get:["${keyOf(key)}"]`))
  const envelope = { receipt: 'hash', token: Buffer.alloc(0), deadlineMs: Date.now() + 3_600_000, hops: 0 } as const
  const origin = { sid: '', replySubject: '' }
  const notes = { gas: 0n, before: undefined, after: undefined }
  const passages = routes.map(route => new Passage(envelope, new Uint8Array(16), NOTHING, NOTHING, origin, route, 0))
  return {
    burst: async (count, way) => {
      if (way === 'write') return inParallel(count, AT_ONCE, i => put(asked[i % asked.length] as number, i))
      for (let i = 0; i < count; i++) {
        const reply = await state.read(passages[i % passages.length] as Passage, AUTH, notes)
        if (reply.status !== 200) throw new Error(`a view gave ${reply.status}`)
      }
    },
    close: () => state.stop(),
  }
}

/** Opens the log that a growth driver has left, once: `burst` resolves when State is open. */
export function openReopen(options: GrowthOptions): Promise<Driver> {
  const { state, start } = stateOf(options)
  return Promise.resolve({ burst: start, close: () => state.stop() })
}

/** Who is asked by this process itself. */
const AUTH = { sub: '' } as unknown as AuthContext

function stateOf({ dir, seed, module }: GrowthOptions): { readonly state: StateService, readonly start: () => Promise<void> } {
  const key = KeyPair.fromSeed(seed)
  const engine = new WasmEngine()
  const guard = { confirm: () => undefined, authorise: () => undefined, tokenOf: () => NOTHING } as unknown as ConstructorParameters<typeof StateService>[0]['guard']
  const fail = (error: Error): never => { throw error }
  const state = new StateService({
    store: new HypercoreStateStore({ dir }), consensus: new MockConsensus(), engine, guard, clock: SYSTEM_CLOCK, log: SILENT_LOG, onHalt: fail,
    outbox: new Outbox({ events: { publish: () => Promise.reject(new Error('there are no events')) }, watermark: { read: () => 0, write: () => undefined }, log: SILENT_LOG }),
    names: new NameTransactions(), viewCache: { entries: 0 },
    member: { did: key.did, sign: bytes => key.sign(bytes), verify: (did, bytes, signature) => did === key.did && key.publicKey.verify(bytes, signature) },
  })
  const manifest = packageManifest({ name: 'store', version: '1.0.0', compiler: 'assemblyscript', sdk: '1' })
  const pkg = encodePackage({ salt: Buffer.alloc(16), strategy: 'immutable', manifest, init: NOTHING, module })
  return {
    state,
    start: async () => {
      await state.start(() => {
        const genesis = genesisOf({ operator: key.did, node: key.did, meter: { ...engine.meter, transactionGas: 20_000_000 } })
        return { ...genesis, contracts: [...genesis.contracts, { address: CONTRACT, pkg }] }
      })
    },
  }
}

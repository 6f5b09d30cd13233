/**
 * A State service alone in its process, with its log on disk, its order and its engine, without a broker's sessions, a client or a token on
 * the way. It begins with one contract, the store that benchmarks write to.
 */
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { encodePackage, packageManifest } from '../../cmtp/package.ts'
import { genesisOf } from '../../node/genesis.ts'
import { MockConsensus } from '../../providers/consensus/mock.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { HypercoreStateStore } from '../../providers/state/hypercore.ts'
import { SYSTEM_CLOCK } from '../../services/clock.ts'
import type { ConsensusProvider } from '../../services/consensus/provider.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { NameTransactions } from '../../services/registrar/transactions.ts'
import { Outbox } from '../../services/state/outbox.ts'
import { StateService } from '../../services/state/service.ts'

export interface OwnStateOptions {
  /** Where the log is kept; the driver's own. */
  readonly dir: string
  /** Seed of the node's key. */
  readonly seed: Uint8Array
  /** The store contract's module. */
  readonly module: Uint8Array
  /** Who orders. Default: the mock Raft. */
  readonly consensus?: ConsensusProvider
}

/** Address of the store contract. */
export const CONTRACT = '0x003'

const NOTHING = new Uint8Array(0)

export function ownState({ dir, seed, module, consensus }: OwnStateOptions): { readonly state: StateService, readonly start: () => Promise<void> } {
  const key = KeyPair.fromSeed(seed)
  const engine = new WasmEngine()
  const guard = { confirm: () => undefined, authorise: () => undefined, tokenOf: () => NOTHING } as unknown as ConstructorParameters<typeof StateService>[0]['guard']
  const fail = (error: Error): never => { throw error }
  const state = new StateService({
    store: new HypercoreStateStore({ dir }), consensus: consensus ?? new MockConsensus(), engine, guard, clock: SYSTEM_CLOCK, log: SILENT_LOG, onHalt: fail,
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

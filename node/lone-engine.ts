/** An engine of contracts where no node runs: gas alone ends a call, and nobody watches beside it. */
import { Compilations, createProvider, type ProviderContext } from '../providers/registry.ts'
import type { ContractEngine } from '../services/contracts/provider.ts'
import { SILENT_LOG } from '../services/log.ts'

/** Engines of one process share what they compile: the same few modules. */
export function loneEngine(): ContractEngine {
  return createProvider('contracts', 'wasm', NO_NODE)
}

/** What a provider of contracts may ask of a node, where there is none. */
const NO_NODE: ProviderContext = {
  dir: '',
  node: '',
  get core(): never {
    throw new Error('where no node runs there is no broker')
  },
  log: SILENT_LOG,
  onFailed: (error) => { throw error },
  watch: { enter: ignore, leave: ignore },
  compilations: new Compilations(),
  options: { mockIdentity: false, issuers: [], durability: 'os', consensusMembers: 1, consensusReplicas: 1, consensusMaxBytes: 0, eventsMaxBytes: 0, logFile: '' },
}

function ignore(): void {
  // Nobody listens.
}

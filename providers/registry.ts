/**
 * The one list of providers: what can be chosen for each service, by name. The conformance suites run every entry of it, so
 * nothing can be listed untested, and only the node picks from it.
 */
import { CMeshError } from '../cmtp/errors.ts'
import type { AuditLog } from '../services/audit/provider.ts'
import type { ConsensusProvider } from '../services/consensus/provider.ts'
import type { ContractEngine } from '../services/contracts/provider.ts'
import type { EventsProvider } from '../services/events/provider.ts'
import type { IdentityProvider } from '../services/iam/provider.ts'
import type { Log } from '../services/log.ts'
import type { MinerSource } from '../services/miner/provider.ts'
import type { StateStore } from '../services/state/provider.ts'
import type { TraceExporter } from '../services/traces/provider.ts'
import { aheadIn, aheadOf } from './audit/ahead.ts'
import { HypercoreAuditLog } from './audit/hypercore.ts'
import { MockAuditLog } from './audit/mock.ts'
import { segmentsIn } from './audit/note-reader.ts'
import type { NatsBus } from './bus/nats.ts'
import { JetStreamConsensus } from './consensus/jetstream.ts'
import { MockConsensus } from './consensus/mock.ts'
import { OrderMigration, type MigrationPlan } from './consensus/order-migration.ts'
import { Compilations } from './contracts/compilation.ts'
import { WasmEngine } from './contracts/wasm.ts'
import { JetStreamEvents } from './events/jetstream.ts'
import { MockEvents } from './events/mock.ts'
import { DidIdentityProvider } from './iam/did.ts'
import { IrmaIdentityProvider } from './iam/irma.ts'
import { IRMA_CHECKS, readIrmaSettings, type IrmaSettings } from './iam/irma-settings.ts'
import { MockIdentityProvider } from './iam/mock.ts'
import { LogfileSource } from './miner/logfile.ts'
import { StreamSource } from './miner/stream.ts'
import { signatureCheck, signerOf } from './signatures.ts'
import { HypercoreStateStore } from './state/hypercore.ts'
import { HypercoreLog } from './state/log.ts'
import { LogCheck } from './state/log-check.ts'
import { LogCopy } from './state/log-copy.ts'
import { MockStateStore } from './state/mock.ts'
import { syncDirectory } from './sync-directory.ts'
import { MockTraces } from './traces/mock.ts'
import { OtlpTraces } from './traces/otlp.ts'
import { OTLP_CHECKS, type OtlpSettings } from './traces/otlp-settings.ts'

/** Checks of the settings that only a provider can read, for who keeps the settings. */
export { IRMA_CHECKS, OTLP_CHECKS }
/** For who runs many engines in one process. */
export { Compilations }
/** For who copies, checks or makes a log that no node runs on. */
export { HypercoreLog, LogCheck, LogCopy }
/** For who signs as a member, and checks what members signed. */
export { signatureCheck, signerOf }
/** For who makes files that a power cut must not take away. */
export { syncDirectory }
/** For who reads all that is kept beside an audit log, and what is on its way onto it. */
export { aheadIn, aheadOf, segmentsIn }
/** For who gives such a log a stream. */
export { OrderMigration, type MigrationPlan }

/** What a provider may be built from. */
export interface ProviderContext {
  /** The node's directory for this service; the provider makes it when it needs it. */
  readonly dir: string
  /** The node's DID. */
  readonly node: string
  /** The connection in the services' account. */
  readonly core: NatsBus
  readonly log: Log
  /** A provider failed for good and the node must stop. */
  readonly onFailed: (error: CMeshError) => void
  /** Told before and after any code of a contract runs. */
  readonly watch: { readonly enter: (address: string) => void, readonly leave: () => void }
  /** Compiled contracts, shared by the engines of one process. Default: each has its own. */
  readonly compilations?: Compilations
  readonly options: {
    /** How long a start waits for the broker where it is not ready, ms. Default 60,000. */
    readonly readyMs?: number
    readonly mockIdentity: boolean
    /** The settings under `iam.irma`. Default: none, and the provider of that name is refused. */
    readonly irma?: IrmaSettings
    /** DIDs whose credentials count. */
    readonly issuers: readonly string[]
    readonly durability: 'os' | 'disk'
    readonly consensusMembers: number
    readonly consensusReplicas: number
    readonly consensusMaxBytes: number
    /** Default: the provider's own. */
    readonly consensusStream?: string
    readonly eventsMaxBytes: number
    /** Of the events, and of the requests to be mined. Default 1. */
    readonly eventsReplicas?: number
    /** The log file that the `logfile` source reads. */
    readonly logFile: string
    /** Most bytes of layers kept beside the audit log. Default 1 GiB. */
    readonly receiptsMaxBytes?: number
    /** How long they are kept, ms. Default 7 days. */
    readonly receiptsMaxAgeMs?: number
    /** Where spans go. Default: none, and the provider `otlp` is refused. */
    readonly otlp?: OtlpSettings
  }
}

interface Kinds {
  readonly audit: AuditLog
  readonly iam: IdentityProvider
  readonly state: StateStore
  readonly consensus: ConsensusProvider
  readonly events: EventsProvider
  readonly contracts: ContractEngine
  readonly miner: MinerSource
  readonly traces: TraceExporter
}

export type ProviderKind = keyof Kinds
type Factory<P> = (context: ProviderContext) => P

export const REGISTRY: { readonly [K in ProviderKind]: Readonly<Record<string, Factory<Kinds[K]>>> } = {
  iam: {
    did: ({ options }) => new DidIdentityProvider({ issuers: options.issuers }),
    irma: ({ options }) => new IrmaIdentityProvider(readIrmaSettings(options.irma ?? {})),
    mock: ({ options }) => new MockIdentityProvider({ enabled: options.mockIdentity }),
  },
  state: {
    hypercore: ({ dir, options, onFailed, log }) => new HypercoreStateStore({ dir, durability: options.durability, onFailed, log }),
    mock: () => new MockStateStore(),
  },
  audit: {
    hypercore: ({ dir, options }) => new HypercoreAuditLog({ dir, durability: options.durability, ...retention(options) }),
    mock: ({ options }) => new MockAuditLog(retention(options)),
  },
  consensus: {
    jetstream: ({ node, core, options, log, onFailed }) => new JetStreamConsensus({ bus: core, nodeId: node, log, onFailed }, {
      replicas: options.consensusReplicas, maxBytes: options.consensusMaxBytes, ...readyOf(options),
      ...(options.consensusStream !== undefined && { stream: options.consensusStream }),
    }),
    mock: ({ node, core, options, log }) => new MockConsensus({ members: options.consensusMembers, nodeId: node, bus: core, log, ...readyOf(options) }),
  },
  events: {
    jetstream: ({ core, options, log }) => new JetStreamEvents(
      { bus: core, onFailure: error => { log.error({ err: error, code: error.code }, 'events failed') }, log },
      { maxBytes: options.eventsMaxBytes, replicas: options.eventsReplicas ?? 1, ...readyOf(options) },
    ),
    mock: () => new MockEvents(),
  },
  contracts: {
    wasm: ({ watch, compilations }) => new WasmEngine({ onEnter: watch.enter, onLeave: watch.leave, compilations }),
  },
  miner: {
    stream: ({ core, options, log }) => new StreamSource(
      { bus: core, onFailure: error => { log.error({ err: error, code: error.code }, 'the request stream failed') }, log },
      { replicas: options.eventsReplicas ?? 1, ...readyOf(options) },
    ),
    logfile: ({ dir, options, log }) => new LogfileSource(
      { onFailure: error => { log.error({ err: error, code: error.code }, 'the request log failed') } },
      { path: options.logFile, dataDir: dir },
    ),
  },
  traces: {
    otlp: ({ options }) => new OtlpTraces(options.otlp ?? {}),
    mock: () => new MockTraces(),
  },
}

function retention({ receiptsMaxBytes = 1024 ** 3, receiptsMaxAgeMs = 7 * 86_400_000 }: ProviderContext['options']): { readonly maxBytes: number, readonly maxAgeMs: number } {
  return { maxBytes: receiptsMaxBytes, maxAgeMs: receiptsMaxAgeMs }
}

function readyOf({ readyMs }: ProviderContext['options']): { readonly readyMs?: number } {
  return readyMs === undefined ? {} : { readyMs }
}

/** Makes the provider of that name. Throws `CMESH_CONFIG_PROVIDER` with the known ones. */
export function createProvider<K extends ProviderKind>(kind: K, name: string, context: ProviderContext): Kinds[K] {
  const known = REGISTRY[kind]
  const factory = Object.hasOwn(known, name) ? known[name] : undefined
  if (factory === undefined) throw new CMeshError('CMESH_CONFIG_PROVIDER', { service: kind, provider: name, known: Object.keys(known).join(', ') })
  return factory(context)
}

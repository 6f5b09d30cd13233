/**
 * What State is made of: its collaborators and what may be set of it, and what it counts.
 */
import type { CMeshError } from '../../cmtp/errors.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import type { Clock } from '../clock.ts'
import type { ConsensusProvider } from '../consensus/provider.ts'
import type { Delivered, OutboxMessage } from '../contracts/messages.ts'
import type { ContractEngine } from '../contracts/provider.ts'
import type { Guard } from '../iam/guard.ts'
import type { LaterRunnerParts } from '../later/runner.ts'
import type { Log } from '../log.ts'
import type { Authority } from './authority.ts'
import type { OrderBegun } from './catch-up/executed.ts'
import type { LastClaim } from './last-claim.ts'
import type { Outbox } from './outbox.ts'
import type { Block, LogAnchor, StateStore } from './provider.ts'
import type { ReplicationParts } from './replication.ts'
import type { KeptSkips } from './skips.ts'
import type { TransactionHandler } from './transaction.ts'
import type { ReadCheckOptions } from './checks/read-checks.ts'
import type { ViewCacheOptions } from './view-cache.ts'
import type { ViewStats } from './views.ts'

export interface StateServiceParts {
  readonly store: StateStore
  readonly consensus: ConsensusProvider
  readonly engine: ContractEngine
  readonly guard: Pick<Guard, 'confirm' | 'authorise' | 'tokenOf'>
  readonly outbox: Outbox
  /** What this node has said of its log. Default: nothing, and nothing is kept of it. */
  readonly lastClaim?: LastClaim
  /** Executes the Registrar's transactions. */
  readonly names: TransactionHandler
  /** Executes transactions on rights. Default: nobody does, and they are refused. */
  readonly identities?: TransactionHandler
  /** Who may have what, asked again where a transaction is ordered. Default: whatever was ordered is executed. */
  readonly authority?: Authority
  readonly member: {
    readonly did: string
    readonly sign: (bytes: Uint8Array) => Uint8Array
    readonly verify: (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean
  }
  /** What makes this node one of the mesh's, where its key is not the mesh's own. */
  readonly certificate?: Certificate | undefined
  /** Where members hear each other, and whether an acknowledgement waits for a quorum of them. Default: this node is alone. */
  readonly replication?: Pick<ReplicationParts, 'bus' | 'quorum' | 'version' | 'out'>
  /** How old the newest block grows before it is followed by an empty one, ms. Default 10,000. */
  readonly tickMs?: number
  /**
   * Brings the store up to sequence `upTo` at least, with the blocks of other members (`catch-up/own-log.ts`); rejects as that does.
   * Default: what the order has no more is missing.
   */
  readonly catchUp?: (upTo: number, onBlock: (block: Block) => void, begun?: OrderBegun) => Promise<unknown>
  /** At a start, where the log has blocks that no quorum of those vouched for that it names: asks those, and rejects as `catchUp` does. */
  readonly vouch?: (onBlock: (block: Block) => void) => Promise<void>
  /** The log stands where the order does, so that others can be given its blocks. Called once. */
  readonly onCaughtUp?: () => void
  /** Notes that the log differs from what the others claim at that place, and from where on; resolves with the error to stop with. Default: nothing is noted. */
  readonly diverged?: (place: LogAnchor) => Promise<CMeshError>
  /** Entries that the operator lets pass, and where this node halts. Default: none is passed. For an order that keeps its entries. */
  readonly skips?: KeptSkips
  readonly clock: Clock
  readonly log: Log
  readonly viewCache?: ViewCacheOptions
  /** How members check one another's reads (`checks/read-checks.ts`). Default: nobody is asked, and nobody answered. */
  readonly readChecks?: ReadCheckOptions
  /** Most gas one view may use. Default 2,000,000. */
  readonly viewGas?: number
  /** Asks whom a contract's message is for; see `CourierParts.deliver`. Default: nobody can be asked, and messages wait. */
  readonly deliver?: (message: OutboxMessage) => Promise<Delivered>
  /** Makes a delayed call, and keeps one that failed for good. Default: they wait. */
  readonly later?: Pick<LaterRunnerParts, 'call' | 'bury'>
  /** How long a stop waits for writes under way before it stops consensus, which settles those that are left, in ms. Default 5,000. */
  readonly drainMs?: number
  /** Told each block as soon as it is applied. */
  readonly onApplied?: (block: Block) => void
  /** Called once when state stops for good. */
  readonly onHalt: (error: CMeshError) => void
}

export interface StateStats extends ViewStats {
  transactions: number
  transactionGas: number
  blocks: number
  /** Contracts deployed, proxies included. */
  contracts: number
}

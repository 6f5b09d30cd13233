/**
 * The verbs of a client: names, events, contracts, delayed calls. Each is a call, under the client's session and with its defaults; none
 * knows of the connection's life. They end with the client.
 */
import type { CMeshError } from '../cmtp/errors.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { Channels, type EventRange, type GroupInfo, type Published } from './channels.ts'
import type { Connection } from './connection.ts'
import type {
  CodeOptions, ContractInfo, ContractVersion, Deployment, DeployOptions, DryDeployment, DryReplacement, DryRunOptions, ProxyContract, ProxyOptions, Replacement,
} from './contract-types.ts'
import { DeadLetters } from './dead-letters.ts'
import { Contracts } from './deployment.ts'
import type { GroupHandler, GroupMember, GroupOptions } from './group.ts'
import { DelayedCalls } from './later.ts'
import { Names, type NameRecord } from './names.ts'
import type { ChannelEvent, EventHandler, Subscription } from './subscription.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

interface VerbParts {
  readonly call: VerbCall
  readonly identity: KeyPair
  readonly connection: Connection
  readonly onWarning: (error: CMeshError) => void
}

export class MeshVerbs {
  readonly #call: VerbCall
  readonly #dlq: DeadLetters
  readonly #later: DelayedCalls
  readonly #names: Names
  readonly #channels: Channels
  readonly #contracts: Contracts

  protected constructor({ call, identity, connection, onWarning }: VerbParts) {
    this.#call = call
    this.#dlq = new DeadLetters(call)
    this.#later = new DelayedCalls(call)
    this.#names = new Names(call, identity)
    this.#contracts = new Contracts(call, identity)
    this.#channels = new Channels({ call, connection, onWarning })
  }

  /** What failed for good: events of groups, and delayed calls. */
  get dlq(): DeadLetters {
    return this.#dlq
  }

  /** Calls that the mesh makes for this identity at a time. */
  get later(): DelayedCalls {
    return this.#later
  }

  /** Claims a free name for an address; signs the record. Rejects with `CMESH_REGISTRAR_TAKEN`, `CMESH_NAME_*`. */
  register(name: string, target: string, options: VerbOptions = {}): Promise<NameRecord> {
    return this.#names.register(name, target, options)
  }

  /** The record of a name. Rejects with `CMESH_REGISTRAR_NOT_FOUND`. */
  resolve(name: string, options: VerbOptions = {}): Promise<NameRecord> {
    return this.#names.resolve(name, options)
  }

  /** Lets a name of one's own map to another address. Rejects with `CMESH_REGISTRAR_NOT_OWNER`. */
  update(name: string, target: string, options: VerbOptions = {}): Promise<NameRecord> {
    return this.#names.update(name, target, options)
  }

  /** Gives a name of one's own to another DID. Rejects with `CMESH_REGISTRAR_NOT_OWNER`. */
  transfer(name: string, owner: string, options: VerbOptions = {}): Promise<NameRecord> {
    return this.#names.transfer(name, owner, options)
  }

  /** Prolongs a name of one's own. */
  renew(name: string, options: VerbOptions = {}): Promise<NameRecord> {
    return this.#names.renew(name, options)
  }

  /** Gives a name of one's own up. */
  release(name: string, options: VerbOptions = {}): Promise<void> {
    return this.#names.release(name, options)
  }

  /** Publishes an event; at most 64 KiB. Rejects with `CMESH_EVENTS_RESERVED`, `CMESH_EVENTS_PAYLOAD`. */
  publish(channel: string, payload: Uint8Array | string, options: VerbOptions = {}): Promise<Published> {
    return this.#channels.publish(channel, payload, options)
  }

  /** The newest event of a channel. Rejects with `CMESH_EVENTS_NO_CHANNEL`. */
  latest(channel: string, options: VerbOptions = {}): Promise<ChannelEvent> {
    return this.#channels.latest(channel, options)
  }

  /**
   * The events of a channel from one sequence to another, both included: at most 1,000, and fewer when more would not fit into one
   * reply. For the rest ask again from behind the last one, until there is none.
   */
  range(channel: string, range: EventRange = {}, options: VerbOptions = {}): Promise<readonly ChannelEvent[]> {
    return this.#channels.range(channel, range, options)
  }

  /** How many events a channel keeps. */
  count(channel: string, options: VerbOptions = {}): Promise<number> {
    return this.#channels.count(channel, options)
  }

  /**
   * Hands each event that is published from now on to `handler`, in order. Resolves once the mesh serves the subscription;
   * it lasts until it is closed, its `signal` fires or the client closes, and outlives disconnects: what was published
   * meanwhile is read afterwards, as far as the channel keeps it. A handler that throws is reported as a warning.
   */
  subscribe(channel: string, handler: EventHandler, options: VerbOptions = {}): Promise<Subscription> {
    return this.#channels.subscribe(channel, handler, options)
  }

  /**
   * Makes this client a member of a group: each event of the channel goes to one member of it, and again to one of them when the handler
   * throws or takes longer than `ackWaitMs`; after `attempts` times it is a dead letter. The mesh keeps the group's position. Resolves once
   * the mesh has the group; lasts until it is closed, its `signal` fires or the client closes. A handler may be called twice for one event.
   */
  group(channel: string, group: string, handler: GroupHandler, options: GroupOptions = {}): Promise<GroupMember> {
    return this.#channels.group(channel, group, handler, options)
  }

  /** The groups of a channel. */
  groups(channel: string, options: VerbOptions = {}): Promise<readonly GroupInfo[]> {
    return this.#channels.groups(channel, options)
  }

  /** Ends a group, with its position. False where there was none. */
  removeGroup(channel: string, group: string, options: VerbOptions = {}): Promise<boolean> {
    return this.#channels.removeGroup(channel, group, options)
  }

  /** Deploys a contract; signs its package. Rejects with `CMESH_DEPLOY_*`, or with what its `init` failed with. */
  deploy(options: DeployOptions): Promise<Deployment> {
    return this.#contracts.deploy(options)
  }

  /**
   * Puts other code in the place of a contract's, which keeps address and state; `migrate` runs where the new code has one, and where
   * it fails nothing has changed. Replaceable again unless `strategy` says otherwise. Rejects with `CMESH_DEPLOY_*`.
   */
  replace(address: string, options: CodeOptions): Promise<Replacement> {
    return this.#contracts.replace(address, options)
  }

  /** A new contract that runs the code of `target`, replacements included, on a state of its own. */
  proxy(target: string, options: ProxyOptions = {}): Promise<ProxyContract> {
    return this.#contracts.proxy(target, options)
  }

  /** What stands at an address: its record and its ABI. Rejects with `CMESH_STATE_NO_CONTRACT`. */
  contract(address: string, options: VerbOptions = {}): Promise<ContractInfo> {
    return this.#contracts.info(address, options)
  }

  /** The versions of a contract, the oldest first, at most the last 128. */
  versions(address: string, options: VerbOptions = {}): Promise<readonly ContractVersion[]> {
    return this.#contracts.versions(address, options)
  }

  /** What was in force at a sequence of the log. Rejects with `CMESH_STATE_NO_CONTRACT` for one before the deployment. */
  versionAt(address: string, seq: number, options: VerbOptions = {}): Promise<ContractVersion> {
    return this.#contracts.versionAt(address, seq, options)
  }

  /** A module by its hash, as it was deployed. Rejects with `CMESH_STATE_NO_CODE`. */
  code(codeHash: string, options: VerbOptions = {}): Promise<Buffer> {
    return this.#contracts.code(codeHash, options)
  }

  /** What a deployment would do, without doing it. Takes the permission to deploy. */
  dryDeploy(options: DeployOptions): Promise<DryDeployment> {
    return this.#contracts.dryDeploy(options)
  }

  /** What a replacement would do, and where recorded calls would end otherwise than they do now. For who may replace the contract. */
  dryReplace(address: string, options: DryRunOptions): Promise<DryReplacement> {
    return this.#contracts.dryReplace(address, options)
  }

  /** Who the mesh takes this client for. */
  async whoami(options: VerbOptions = {}): Promise<Readonly<Record<string, unknown>>> {
    return (await this.#call('0xI:whoami', options)).json()
  }

  /** What consensus says of the mesh's state. */
  async status(options: VerbOptions = {}): Promise<Readonly<Record<string, unknown>>> {
    return (await this.#call('0xC:status', options)).json()
  }

  /** Resolves when subscriptions and memberships of groups have ended. */
  protected endSubscriptions(): Promise<void> {
    return this.#channels.close()
  }
}

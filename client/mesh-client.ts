/**
 * A client of one mesh, under one identity: what a program calls. It owns its session, and the connection too unless another
 * client opened it there (`as`), and closes what it owns; every method is safe to call concurrently.
 *
 *   connect → open → closing (waits for what is in flight) → closed
 *
 * Errors are `CMeshError`: branch on `code`. Unless stated otherwise a method rejects with the error of the mesh's reply, or
 * with `CMESH_BUS_DISCONNECTED`, `CMESH_BUS_TIMEOUT`, `CMESH_BUS_BUSY`, `CMESH_ROUTER_UNKNOWN_OUTCOME` (a write that got no
 * answer), `CMESH_CLIENT_ABORTED`, `CMESH_CLIENT_CLOSED` or `CMESH_CLIENT_USAGE`.
 */
import type { BatchEntryFields } from '../cmtp/batch.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { parseFqmn } from '../cmtp/fqmn.ts'
import { encodeHeaders, type HeaderList } from '../cmtp/headers.ts'
import { KeyPair } from '../cmtp/identity/keys.ts'
import { needsProof } from '../cmtp/identity/request-proof.ts'
import { LIMITS } from '../cmtp/limits.ts'
import type { MessageIds } from '../cmtp/message-id.ts'
import { Coalescer } from './coalescer.ts'
import type { ConnectOptions } from './connect.ts'
import type { Connection, ConnectionStatus } from './connection.ts'
import type {
  CodeOptions, ContractInfo, ContractVersion, Deployment, DeployOptions, DryDeployment, DryReplacement, DryRunOptions, ProxyContract, ProxyOptions, Replacement,
} from './contract-types.ts'
import { Contracts } from './deployment.ts'
import { DeadLetters } from './dead-letters.ts'
import { EncodedEntries } from './encoded-entries.ts'
import { Channels, type EventRange, type GroupInfo, type Published } from './channels.ts'
import type { GroupHandler, GroupMember, GroupOptions } from './group.ts'
import { DelayedCalls } from './later.ts'
import { Names, type NameRecord } from './names.ts'
import {
  anything, checkOptions, readLevel, REQUEST_CHECKS, text, usage, type ReadLevel, type RequestDefaults, type ResolvedRequestDefaults,
} from './options.ts'
import type { Reply } from './reply.ts'
import type { Ask } from './attempt.ts'
import { Requester, type RequestParts } from './requester.ts'
import { SessionKeeper } from './session.ts'
import type { ChannelEvent, EventHandler, Subscription } from './subscription.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

export interface CallOptions extends RequestDefaults {
  /** Bytes, or text that is sent as UTF-8. At most 1 MiB. Excludes `args`. */
  readonly body?: Uint8Array | string | undefined
  /** Arguments of a contract's function, sent in the body as a JSON array. The address must have none then. */
  readonly args?: readonly unknown[] | undefined
  /** Names are sent in lower case. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Gives the call up. What was sent may still be executed. */
  readonly signal?: AbortSignal | undefined
  /** The `idempotency-key` header. */
  readonly idempotencyKey?: string | undefined
  /**
   * How fresh a view has to be. `local` (default): what the node that answers has applied. `session`: at least what this client's
   * acknowledged writes did. `linear`: at least everything that was acknowledged to anybody before the call.
   */
  readonly read?: ReadLevel | undefined
}

/** One request of a batch. */
export interface BatchEntry {
  readonly fqmn: string
  readonly body?: Uint8Array | string | undefined
  readonly args?: readonly unknown[] | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export interface BatchOptions {
  /** As in `CallOptions`, for the whole batch. */
  readonly timeoutMs?: number | undefined
  readonly receipt?: RequestDefaults['receipt']
  readonly retry?: boolean | undefined
  readonly resendMs?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** What the clients on one connection have in common. */
export interface SharedParts {
  readonly connection: Connection
  readonly ids: MessageIds
  readonly entries: EncodedEntries
  /** `undefined`: each request has a frame of its own. */
  readonly coalescer: Coalescer | undefined
  /** Session of the client that owns the connection. */
  readonly gateway: SessionKeeper
  /** Clients that were opened on the connection beside its owner, and are not closed. */
  readonly carried: Set<MeshClient>
  readonly defaults: ResolvedRequestDefaults
  readonly drainMs: number
  readonly onWarning: (error: CMeshError) => void
}

export interface MeshClientParts extends SharedParts {
  /** The gateway's own, or one that it carries. */
  readonly sessions: SessionKeeper
  readonly identity: KeyPair
  /** Aborted by `close`. */
  readonly closing: AbortController
}

export function shareConnection({ coalesce, ...parts }: Omit<SharedParts, 'entries' | 'coalescer' | 'carried'> & { readonly coalesce: boolean }): SharedParts {
  const entries = new EncodedEntries()
  return { ...parts, entries, carried: new Set(), coalescer: coalesce ? new Coalescer({ ...parts, entries }) : undefined }
}

/** Where all addresses begin that need a signature of their own. */
const SYSTEM_WRITES = '0xSW:0x000:'
const IAM_WRITES = '0xIW:'
const BATCH_CHECKS = { timeoutMs: REQUEST_CHECKS.timeoutMs, receipt: REQUEST_CHECKS.receipt, retry: REQUEST_CHECKS.retry, resendMs: REQUEST_CHECKS.resendMs, signal: anything }
const ENTRY_CHECKS = { fqmn: text, body: anything, args: anything, headers: anything }
const LETTER_W = 0x57
const CALL_CHECKS = { ...REQUEST_CHECKS, body: anything, args: anything, headers: anything, signal: anything, idempotencyKey: text, read: readLevel }

export class MeshClient {
  readonly #dlq: DeadLetters
  readonly #later: DelayedCalls
  readonly #parts: MeshClientParts
  readonly #requester: Requester
  /** How a request without options is asked. */
  readonly #plain: Ask
  readonly #verb: VerbCall
  readonly #names: Names
  readonly #channels: Channels
  readonly #contracts: Contracts
  #closed: Promise<void> | undefined
  /** The highest sequence at which a write of this client was acknowledged. */
  #seen = 0

  /** Use `connect`. */
  constructor(parts: MeshClientParts) {
    this.#parts = parts
    this.#requester = new Requester({ ...parts, closing: parts.closing.signal, now: Date.now })
    this.#plain = Object.freeze({ ...parts.defaults, signal: undefined })
    // Not `this.call`: a subscription still says good-bye when the client takes no more calls.
    const call: VerbCall = (fqmn, options) => this.#send(fqmn, { ...options, throwOnError: true })
    this.#verb = call
    this.#dlq = new DeadLetters(call)
    this.#later = new DelayedCalls(call)
    this.#names = new Names(call, parts.identity)
    this.#contracts = new Contracts(call, parts.identity)
    this.#channels = new Channels({ call, connection: parts.connection, onWarning: parts.onWarning })
  }

  /** The DID this client acts as. */
  get did(): string {
    return this.#parts.identity.did
  }

  /** The mesh's DID; `undefined` until the first session. */
  get mesh(): string | undefined {
    return this.#parts.sessions.mesh
  }

  /** The broker's URL. */
  get url(): string {
    return this.#parts.connection.url
  }

  get connection(): ConnectionStatus {
    return this.#parts.connection.status
  }

  /** What failed for good: events of groups, and delayed calls. */
  get dlq(): DeadLetters {
    return this.#dlq
  }

  /** Calls that the mesh makes for this identity at a time. */
  get later(): DelayedCalls {
    return this.#later
  }

  /** Requests in flight. */
  get pending(): number {
    return this.#parts.connection.pending
  }

  /** Settled requests of this client that were sent more than once: nobody had answered them, or not for good. */
  get resent(): number {
    return this.#requester.resent
  }

  /**
   * Calls an address and resolves with its reply. A status of 400 and above rejects with its `CMeshError`, unless
   * `throwOnError` is false.
   */
  call(fqmn: string, options?: CallOptions): Promise<Reply> {
    if (this.#closed !== undefined) return Promise.reject(new CMeshError('CMESH_CLIENT_CLOSED'))
    const reply = options === undefined && !isSigned(fqmn) ? this.#requester.request(fqmn, undefined, this.#plain) : this.#send(fqmn, options ?? {})
    return isWrite(fqmn) ? reply.then(this.#noted) : reply
  }

  /** How far the log went when a write was acknowledged, for views that have to show it. */
  readonly #noted = (reply: Reply): Reply => {
    const seq = Number(reply.header('x-cmesh-sequence') ?? 0)
    if (seq > this.#seen) this.#seen = seq
    return reply
  }

  /** The options with the headers that say how fresh the view has to be. */
  #fresh(options: CallOptions): CallOptions {
    const { read = 'local', headers } = options
    if (read === 'local') return options
    return { ...options, headers: { ...headers, 'x-cmesh-read': read, ...(read === 'session' && { 'x-cmesh-after': String(this.#seen) }) } }
  }

  #send(fqmn: string, options: CallOptions): Promise<Reply> {
    try {
      checkOptions('a call', options, CALL_CHECKS)
      const parts = partsOf(this.#fresh(options), options.idempotencyKey)
      return this.#requester.request(fqmn, isSigned(fqmn) ? { ...parts, signer: this.#parts.identity } : parts, this.#ask(options))
    } catch (thrown) {
      return Promise.reject(CMeshError.from(thrown, 'the client'))
    }
  }

  /**
   * Sends 1 to 1,024 independent requests in one message and resolves with their replies, in order. An entry that fails has
   * its status and error in its reply; the batch rejects only when it fails as a whole.
   */
  async batch(entries: readonly BatchEntry[], options: BatchOptions = {}): Promise<Reply[]> {
    if (this.#closed !== undefined) throw new CMeshError('CMESH_CLIENT_CLOSED')
    checkOptions('a batch', options, BATCH_CHECKS)
    if (entries.length === 0 || entries.length > LIMITS.batchEntries) throw usage(`A batch has 1 to ${LIMITS.batchEntries} entries, not ${entries.length}.`)
    const fields = entries.map((entry): BatchEntryFields => {
      const bare = plain(entry)
      if (bare !== undefined) return bare
      checkOptions('an entry of a batch', entry, ENTRY_CHECKS)
      return { fqmn: entry.fqmn, ...partsOf(entry, undefined) }
    })
    return await this.#requester.batch(fields, this.#ask(options))
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

  /** Ends a group, with its position. */
  removeGroup(channel: string, group: string, options: VerbOptions = {}): Promise<void> {
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

  /**
   * A client under another identity on the same connection: for gateways, which act for many. It has the defaults of this one and a
   * session of its own, which it renews; its reads may leave in one frame with those of the others. Closing it ends nobody else, and
   * what it has in flight is still answered; closing the client that `connect` gave ends all. One handshake, not tried again: rejects with
   * what that fails with (`CMESH_IAM_*`, `CMESH_BUS_*`), `CMESH_CLIENT_USAGE` or `CMESH_CLIENT_CLOSED`. `onChallenge` is as for `connect`,
   * for the person behind this identity.
   */
  async as(identity: KeyPair, options: Pick<ConnectOptions, 'onChallenge'> = {}): Promise<MeshClient> {
    checkOptions('as', options, { onChallenge: anything })
    if (this.#closed !== undefined) throw new CMeshError('CMESH_CLIENT_CLOSED')
    if (!(identity instanceof KeyPair)) throw usage('The identity of another client on this connection is a KeyPair.')
    const { gateway, connection, ids, carried, onWarning } = this.#parts
    const person = options.onChallenge === undefined ? {} : { onChallenge: options.onChallenge }
    const sessions = new SessionKeeper({ connection, ids, identity, mesh: this.mesh, memory: undefined, gateway, person, onWarning, now: Date.now })
    try {
      await sessions.ensure()
      if (this.#closing()) throw new CMeshError('CMESH_CLIENT_CLOSED')
    } catch (error) {
      sessions.close()
      throw this.#closing() ? new CMeshError('CMESH_CLIENT_CLOSED', {}, { cause: error }) : error
    }
    const client = new MeshClient({ ...this.#parts, sessions, identity, closing: new AbortController() })
    carried.add(client)
    return client
  }

  /** Who the mesh takes this client for. */
  async whoami(options: VerbOptions = {}): Promise<Readonly<Record<string, unknown>>> {
    return (await this.#verb('0xI:whoami', options)).json()
  }

  /** What consensus says of the mesh's state. */
  async status(options: VerbOptions = {}): Promise<Readonly<Record<string, unknown>>> {
    return (await this.#verb('0xC:status', options)).json()
  }

  /**
   * Closes, and ends the session at the mesh, where it would otherwise live until it expires; a kept one is forgotten. For who has
   * nothing in flight: that ends too. Rejects with what the mesh says, and is closed all the same. Memoised with `close`.
   */
  hangup(): Promise<void> {
    this.#closed ??= this.#close(true)
    return this.#closed
  }

  /**
   * Takes no new calls, ends subscriptions, waits up to `drainMs` for what is in flight, closes the connection. A client that `as` gave
   * leaves the connection and what is in flight on it alone. Idempotent.
   */
  close(): Promise<void> {
    this.#closed ??= this.#close(false)
    return this.#closed
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(hangup: boolean): Promise<void> {
    const { closing, sessions, gateway, carried, connection, drainMs } = this.#parts
    const owner = sessions === gateway
    closing.abort()
    if (owner) await Promise.all([...carried].map((client) => client.close()))
    else carried.delete(this)
    await this.#channels.close()
    try {
      // Once it has ended it is not to be followed by another.
      if (hangup || !owner) sessions.close()
      if (hangup) await sessions.hangup()
    } finally {
      if (owner) {
        // What was asked in this turn leaves at its end.
        await new Promise((resolve) => { setImmediate(resolve) })
        await connection.drain(drainMs)
        sessions.close()
      }
    }
  }

  #closing(): boolean {
    return this.#closed !== undefined
  }

  #ask(options: CallOptions): Ask {
    const { defaults } = this.#parts
    return {
      timeoutMs: options.timeoutMs ?? defaults.timeoutMs,
      receipt: options.receipt ?? defaults.receipt,
      retry: options.retry ?? defaults.retry,
      resendMs: options.resendMs ?? defaults.resendMs,
      throwOnError: options.throwOnError ?? defaults.throwOnError,
      signal: options.signal,
    }
  }
}

/** Whether an address needs the signature of its caller beside the session (`cmtp/identity/request-proof.ts`). What is no address needs none. */
function isSigned(fqmn: string): boolean {
  if (!fqmn.startsWith(SYSTEM_WRITES) && !fqmn.startsWith(IAM_WRITES)) return false
  try {
    return needsProof(parseFqmn(fqmn))
  } catch {
    // The mesh says what is wrong with it.
    return false
  }
}

/** Whether the outer opcode is one of writing: `0xSW:` and the like. */
function isWrite(fqmn: string): boolean {
  return fqmn.charCodeAt(3) === LETTER_W
}

/** An entry that is its address and nothing else, as most are: there is nothing to check then. */
function plain(entry: BatchEntry): BatchEntryFields | undefined {
  for (const key in entry) if (key !== 'fqmn') return undefined
  return typeof entry.fqmn === 'string' ? entry as { readonly fqmn: string } : undefined
}

/** The variable parts of a request; `undefined` when it has none, which is what a template is for. */
function partsOf({ body, args, headers }: Omit<BatchEntry, 'fqmn'>, idempotencyKey: string | undefined): RequestParts | undefined {
  if (body !== undefined && args !== undefined) throw usage('A call has a body or args, not both: args are sent in the body.')
  const list: HeaderList = [
    ...Object.entries(headers ?? {}).map(([name, value]): [string, string] => [name.toLowerCase(), value]),
    ...(idempotencyKey === undefined ? [] : [['idempotency-key', idempotencyKey]] as const),
  ]
  const bytes = args === undefined ? body : JSON.stringify(args)
  if (bytes === undefined && list.length === 0) return undefined
  return {
    ...(list.length > 0 && { headers: encodeHeaders(list) }),
    ...(bytes !== undefined && { body: typeof bytes === 'string' ? Buffer.from(bytes, 'utf8') : bytes }),
  }
}

/**
 * A whole mesh in one process, without a bus and with a clock that the test moves: the real services on the memory providers
 * and the real engine. Frames go in at the front door and come out of it, as they do behind the router.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { encodeRequest, ReplyFrame, type RequestFields } from '../../cmtp/frame.ts'
import { decodeHeaders, encodeHeaders, type HeaderList } from '../../cmtp/headers.ts'
import { KeyPair, PublicKey } from '../../cmtp/identity/keys.ts'
import type { Session } from '../../cmtp/identity/login.ts'
import { makeRequestProof, needsProof, PROOF_HEADER } from '../../cmtp/identity/request-proof.ts'
import { signNameRecord } from '../../cmtp/identity/name-record.ts'
import { decodeLayers, SALT_BYTES, type DecodedLayer } from '../../cmtp/layer.ts'
import { formatMessageId, MessageIds } from '../../cmtp/message-id.ts'
import { OPERATOR_SET } from '../../cmtp/permission.ts'
import { Salts } from '../../cmtp/salts.ts'
import { genesisOf } from '../../node/genesis.ts'
import { MockConsensus } from '../../providers/consensus/mock.ts'
import { WasmEngine } from '../../providers/contracts/wasm.ts'
import { MockEvents } from '../../providers/events/mock.ts'
import { MockStateStore } from '../../providers/state/mock.ts'
import type { Clock } from '../../services/clock.ts'
import { Batcher } from '../../services/audit/batcher.ts'
import { OutcomesAsker } from '../../services/audit/claims/asker.ts'
import { EvidenceMaker } from '../../services/audit/evidence.ts'
import type { AuditLog } from '../../services/audit/provider.ts'
import { ReceiptWriter } from '../../services/audit/receipts.ts'
import { ConsensusService } from '../../services/consensus/service.ts'
import { deliver } from '../../services/contracts/delivery.ts'
import type { Genesis } from '../../services/contracts/genesis.ts'
import { readMembers } from '../../services/contracts/members.ts'
import { Endpoint, type ServiceHandler } from '../../services/endpoint.ts'
import { EventsService } from '../../services/events/service.ts'
import { Groups } from '../../services/events/groups.ts'
import { Letters } from '../../services/events/letters.ts'
import { callLater, resendLater } from '../../services/later/delivery.ts'
import { Tails } from '../../services/events/tails.ts'
import { GrantBook } from '../../services/iam/grant-book.ts'
import type { Guard } from '../../services/iam/guard.ts'
import { iamHandler } from '../../services/iam/handler.ts'
import { IdentityTransactions } from '../../services/iam/transactions.ts'
import type { Log } from '../../services/log.ts'
import { RegistrarService } from '../../services/registrar/service.ts'
import { NameTransactions } from '../../services/registrar/transactions.ts'
import { Deadlines } from '../../services/router/deadlines.ts'
import { Dispatcher, type DispatcherParts, type ServiceName } from '../../services/router/dispatcher.ts'
import { FrontDoor } from '../../services/router/front-door.ts'
import type { Traces } from '../../services/router/sealing.ts'
import { Outbox, type Watermark } from '../../services/state/outbox.ts'
import { LoggedOutcomes } from '../../services/state/logged-outcomes.ts'
import { StateService } from '../../services/state/service.ts'
import type { StateServiceParts } from '../../services/state/service-parts.ts'
import { startIam, type IamFixture } from './iam.ts'

/** Time in a test: stands still until moved; µs rise with each look. */
export interface TestClock extends Clock {
  ms: number
  /** µs stand still too, and all salts are the same; they move by one with each look otherwise. */
  still: boolean
}

export function testClock(source: { ms: number } = { ms: 1_800_000_000_000 }): TestClock {
  let us = 0
  return {
    get ms() { return source.ms },
    set ms(ms) { source.ms = ms },
    nowMs: () => source.ms,
    still: false,
    nowUs() { return source.ms * 1_000 + (this.still ? 0 : us++) },
  }
}

/** A log that keeps what was said, for tests of what must be told. */
export interface KeptLog extends Log {
  readonly lines: { readonly level: string, readonly fields: Record<string, unknown>, readonly message: string }[]
}

export function keptLog(): KeptLog {
  const lines: KeptLog['lines'] = []
  const at = (level: string) => (fields: object, message: string): void => { lines.push({ level, fields: fields as Record<string, unknown>, message }) }
  return { lines, debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

export function memoryWatermark(seq = 0): Watermark & { seq: number } {
  return { seq, read() { return this.seq }, write(next) { this.seq = next } }
}

/** A member of a mesh: signs batches, and checks the signatures of any. */
export function memberOf(key: KeyPair): StateServiceParts['member'] {
  return {
    did: key.did,
    sign: bytes => key.sign(bytes),
    verify: (did, bytes, signature) => PublicKey.fromDid(did).verify(bytes, signature),
  }
}

export interface Answer {
  readonly status: number
  /** The body as JSON; `undefined` when it is empty. */
  readonly value: unknown
  /** The code of an error. */
  readonly code: string | undefined
  /** The message of an error. */
  readonly message: string | undefined
  readonly headers: HeaderList
  /** Only at level `full`. */
  readonly layers: readonly DecodedLayer[]
  readonly frame: ReplyFrame
}

export function readAnswer(bytes: Uint8Array): Answer {
  const frame = ReplyFrame.decode(bytes)
  const value: unknown = frame.body.length === 0 ? undefined : JSON.parse(frame.body.toString('utf8'))
  const { code, message } = (frame.status >= 400 ? value : {}) as { code?: string, message?: string }
  return {
    status: frame.status, value, code, message, frame,
    headers: decodeHeaders(frame.headers),
    layers: frame.layers.length === 0 ? [] : decodeLayers(frame.layers).layers,
  }
}

export type AskFields = Partial<Omit<RequestFields, 'fqmn' | 'body'>> & {
  readonly body?: Uint8Array | string
  /** The session of the subject, where it is not the token's own. */
  readonly sid?: string
  readonly replySubject?: string
}

export interface TestMesh extends IamFixture {
  readonly time: TestClock
  readonly log: KeptLog
  readonly node: string
  readonly store: MockStateStore
  readonly engine: WasmEngine
  readonly consensus: MockConsensus
  readonly events: MockEvents
  readonly outbox: Outbox
  readonly tails: Tails
  readonly groups: Groups
  readonly state: StateService
  readonly registrar: RegistrarService
  readonly deadlines: Deadlines
  readonly dispatcher: Dispatcher
  readonly endpoints: Readonly<Record<ServiceName, Endpoint>>
  readonly frontDoor: FrontDoor
  readonly halts: CMeshError[]
  /** Feeds the audit log, where there is one. */
  readonly batcher: Batcher | undefined
  /** Root records so far. */
  readonly roots: readonly Buffer[]
  /** What was published to inboxes of tails. */
  readonly published: { readonly subject: string, readonly data: Uint8Array }[]
  /** Holds every right. */
  readonly operator: KeyPair
  /** A session of the operator. */
  readonly root: Session
  /** A request frame of a session; without one it carries no token. */
  frame(session: Session | undefined, fqmn: string, fields?: AskFields): Buffer
  /** One request through the front door, its body left as it is. */
  askRaw(session: Session | undefined, fqmn: string, fields?: AskFields): Promise<{ readonly status: number, readonly frame: ReplyFrame }>
  /** One request through the front door. */
  ask(session: Session | undefined, fqmn: string, fields?: AskFields): Promise<Answer>
  /** Registers a name as its owner would. */
  register(session: Session, owner: KeyPair, name: string, target: string): Promise<Answer>
  stop(): Promise<void>
}

export interface TestMeshOptions {
  /** The mesh's key, where several nodes are to be of one mesh. */
  readonly key?: KeyPair
  /** The node's own key, which makes it a member. Default: the mesh's. */
  readonly nodeKey?: KeyPair
  /** Where requests are recorded. Default: nowhere. */
  readonly auditLog?: AuditLog
  /** Where requests are traced. Default: nowhere. */
  readonly traces?: Traces
  /** Why its clock is not to be gone by. Default: it is. */
  readonly clockApart?: () => CMeshError | undefined
  /** Changes to the parts of State. */
  readonly state?: Partial<StateServiceParts>
  /** Handlers in the place of the real ones. */
  readonly handlers?: Partial<Record<ServiceName, ServiceHandler>>
  /** Services that are not on this node, and who answers for them. */
  readonly remote?: (mesh: { readonly guard: Guard, readonly time: TestClock }) => DispatcherParts['remote']
  readonly absent?: readonly ServiceName[]
  readonly genesis?: (genesis: Genesis) => Genesis
}

/** Whose sessions these are: their requests to deploy, replace and proxy are signed as a client's are. */
const SIGNERS = new Map<string, KeyPair>()

/** The header that signs a request for its whole token. */
export function proofHeaders({ id, token, ...request }: Pick<RequestFields, 'id' | 'fqmn' | 'token' | 'deadlineMs'> & { readonly body: Uint8Array }, signer: KeyPair): Buffer {
  return encodeHeaders([[PROOF_HEADER, makeRequestProof({ id: formatMessageId(id), token, ...request }, signer)]])
}

export async function startMesh(options: TestMeshOptions = {}): Promise<TestMesh> {
  const iam = await startIam(options.key === undefined ? {} : { signer: options.key })
  const { guard, mesh: key, clock, grants } = iam
  const time = testClock(clock)
  const log = keptLog()
  const nodeKey = options.nodeKey ?? key
  const node = nodeKey.did
  const operator = KeyPair.generate()
  grants.set(operator.did, OPERATOR_SET)

  const store = new MockStateStore()
  const engine = new WasmEngine()
  const consensus = new MockConsensus({ now: time.nowMs })
  const events = new MockEvents({ now: time.nowMs })
  const outbox = new Outbox({ events, watermark: memoryWatermark(), log, retryMs: 1 })
  const published: TestMesh['published'] = []
  const tails = new Tails({ provider: events, bus: { publish: (subject, data) => { published.push({ subject, data }) } }, clock: time, guard })
  const halts: CMeshError[] = []
  const deadlines = new Deadlines(time)
  const state: StateService = new StateService({
    deliver: message => deliver(message, { guard, registrar, dispatcher, deadlines, clock: time }),
    later: {
      call: (later, attempt) => callLater(later, attempt, { guard, registrar, dispatcher, deadlines, clock: time }),
      bury: (later, failure) => letters.ofCall(later, failure),
    },
    store, engine, consensus, guard, outbox, names: new NameTransactions(), identities: new IdentityTransactions(), member: memberOf(nodeKey), clock: time, log,
    onHalt: error => { halts.push(error) }, ...options.state,
  })
  const book = new GrantBook({ records: () => state.system, node, operator: operator.did, now: time.nowMs })
  const registrar = new RegistrarService({ state, guard })
  const letters = new Letters({
    provider: events, guard, isOperator: did => did === operator.did, now: time.nowMs,
    resend: (letter, call, auth, notes) => resendLater(letter, { call, auth, notes }, { guard, state }),
  })
  const groups = new Groups({ provider: events, letters, guard, now: time.nowMs })
  const { auditLog } = options
  const sign = (bytes: Uint8Array): Uint8Array => nodeKey.sign(bytes)
  const roots: Buffer[] = []
  const batcher = auditLog && new Batcher({
    log: auditLog, mesh: node, node, certificate: undefined, sign, clock: time, onRoot: record => { roots.push(record) },
    onFailed: error => { halts.push(error) },
  })
  const asker = new OutcomesAsker({
    bus: undefined, mesh: node, certificate: undefined, member: memberOf(nodeKey), members: () => readMembers(state.system), level: 'memory', clock: time, log,
  })
  const outcomes = new LoggedOutcomes({ store, outcome: id => state.outcome(id), applied: (seq, deadlineMs) => state.applied(seq, deadlineMs) })
  const receipts = auditLog && new ReceiptWriter({ log: auditLog, certificate: undefined, guard, evidence: new EvidenceMaker({ outcomes, asker }) })
  const handlers: Record<ServiceName, ServiceHandler> = {
    iam: iamHandler({
      iam: iam.iam, guard, book, state, now: time.nowMs,
      resolve: route => (RegistrarService.isByName(route) ? registrar.resolve(route) : route),
    }),
    consensus: new ConsensusService({ provider: options.state?.consensus ?? consensus, state, ...(receipts !== undefined && { receipts }) }).handle,
    state: (call, auth, notes) => (call.route.write ? state.write(call, auth, notes) : state.read(call, auth, notes)),
    registrar: registrar.handle,
    events: new EventsService({ provider: events, tails, groups, letters }).handle,
    ...options.handlers,
  }
  const endpoints = Object.fromEntries(Object.entries(handlers).map(([hop, handler]) => [
    hop, new Endpoint({ hop: hop as ServiceName, node, guard, clock: time, log, handler }),
  ])) as Record<ServiceName, Endpoint>
  const dispatcher = new Dispatcher({
    remote: options.remote?.({ guard, time }) ?? (service => Promise.reject(new CMeshError('CMESH_ROUTER_NO_SERVICE', { service }))),
  })
  for (const [service, endpoint] of Object.entries(endpoints)) {
    if (!(options.absent ?? []).includes(service as ServiceName)) dispatcher.attach(service as ServiceName, endpoint.call)
  }
  await batcher?.start()
  const frontDoor = new FrontDoor({
    node, guard, registrar, dispatcher, deadlines, clock: time, clockApart: options.clockApart ?? (() => undefined), log, salts: saltsWith(time),
    ...(batcher !== undefined && receipts !== undefined && { audit: { batcher, receipts } }), traces: options.traces,
  })

  await events.start()
  const genesis = genesisOf({ operator: operator.did, node, meter: { ...engine.meter, transactionGas: 20_000_000 } })
  await state.start(() => options.genesis?.(genesis) ?? genesis)
  state.courier.start()
  state.later.start()
  await outbox.flush()
  const open: TestMesh['open'] = async (fields = {}) => {
    const identity = fields.identity ?? KeyPair.generate()
    const session = await iam.open({ ...fields, identity })
    SIGNERS.set(session.sid, identity)
    return session
  }
  const root = await open({ identity: operator })
  const ids = new MessageIds(time.nowMs)

  const frame: TestMesh['frame'] = (session, fqmn, { sid: _sid, replySubject: _reply, body, ...fields } = {}) => {
    const request = {
      id: ids.next(), fqmn, token: Buffer.from(session?.token ?? ''), deadlineMs: time.ms + 5_000, receipt: 'hash' as const, ...fields,
      body: Buffer.from(body ?? ''),
    }
    const signer = session === undefined ? undefined : SIGNERS.get(session.sid)
    const signs = fields.headers === undefined && signer !== undefined && /^0x(?:SW:0x000|IW):/.test(fqmn) && needsProof(parseFqmn(fqmn))
    return encodeRequest(signs ? { ...request, headers: proofHeaders(request, signer) } : request)
  }
  const send = (session: Session | undefined, fqmn: string, fields: AskFields): Promise<Buffer> => new Promise(resolve => {
    const origin = { sid: fields.sid ?? session?.sid ?? '', replySubject: fields.replySubject ?? '' }
    frontDoor.handle(frame(session, fqmn, fields), origin, resolve)
  })
  const ask: TestMesh['ask'] = async (session, fqmn, fields = {}) => readAnswer(await send(session, fqmn, fields))
  const askRaw: TestMesh['askRaw'] = async (session, fqmn, fields = {}) => {
    const reply = ReplyFrame.decode(await send(session, fqmn, fields))
    return { status: reply.status, frame: reply }
  }
  return {
    ...iam, open, time, log, node, store, engine, consensus, events, outbox, tails, groups, state,
    registrar, deadlines, dispatcher, endpoints, frontDoor, halts, batcher, roots,
    published, operator, root, frame, ask, askRaw,
    register: (session, owner, name, target) => ask(session, `0xRW:register:${name}:${target}`, { body: nameBody(owner, name, target, 1) }),
    stop: async () => {
      tails.stop()
      await batcher?.stop()
      await state.stop()
      await events.stop()
      await iam.iam.stop()
    },
  }
}

/** The body of a registrar's write: the record signed by `signer`, who owns it unless `owner` says otherwise. */
export function nameBody(signer: KeyPair, name: string, target: string, sequence: number, owner = signer.did): string {
  return JSON.stringify({ sequence, signature: signNameRecord({ name: name.toLowerCase(), target, owner, sequence }, signer) })
}

/** Random salts, and the same one always while time stands still. */
function saltsWith(time: Pick<TestClock, 'still'>): Pick<Salts, 'next' | 'put'> {
  const salts = new Salts()
  return {
    next: () => time.still ? Buffer.alloc(SALT_BYTES) : salts.next(),
    put: (target, at) => {
      if (time.still) target.fill(0, at, at + SALT_BYTES)
      else salts.put(target, at)
    },
  }
}

/**
 * The mesh on one node: every service built from its provider and its collaborators, wired, and nothing started. The one
 * place where the parts meet; the node (`node.ts`) decides when each starts and stops.
 */
import os from 'node:os'
import path from 'node:path'
import { CMeshError } from '../cmtp/errors.ts'
import type { Certificate } from '../cmtp/identity/certificate.ts'
import { PublicKey, type KeyPair } from '../cmtp/identity/keys.ts'
import { createProvider, signatureCheck, signerOf, type ProviderContext, type ProviderKind } from '../providers/registry.ts'
import { turnClock } from '../services/clock.ts'
import { Batcher } from '../services/audit/batcher.ts'
import { OutcomesAnswerer } from '../services/audit/claims/answerer.ts'
import { OutcomesAsker } from '../services/audit/claims/asker.ts'
import { EvidenceMaker } from '../services/audit/evidence.ts'
import { ReceiptFinder } from '../services/audit/finder.ts'
import { ReceiptWriter } from '../services/audit/receipts.ts'
import { RootStream } from '../services/audit/root-stream.ts'
import { ConsensusService } from '../services/consensus/service.ts'
import { deliver } from '../services/contracts/delivery.ts'
import { changesMembers, readMembers } from '../services/contracts/members.ts'
import { Endpoint, type ServiceHandler } from '../services/endpoint.ts'
import { AUDIT_CHANNEL } from '../services/events/channel.ts'
import { EventsService } from '../services/events/service.ts'
import { Groups } from '../services/events/groups.ts'
import { Letters } from '../services/events/letters.ts'
import { Tails } from '../services/events/tails.ts'
import { GrantBook } from '../services/iam/grant-book.ts'
import { parseGrants } from '../services/iam/grants.ts'
import { Feed } from '../services/iam/feed.ts'
import { Guard } from '../services/iam/guard.ts'
import { iamHandler } from '../services/iam/handler.ts'
import { KeyRing } from '../services/iam/key-ring.ts'
import { parseIssuers } from '../services/iam/issuers.ts'
import { IamListener } from '../services/iam/listener.ts'
import { MemberKeys } from '../services/iam/member-keys.ts'
import type { Revocation } from '../services/iam/revocations.ts'
import { IamService } from '../services/iam/service.ts'
import { REFRESH_GRACE_MS } from '../services/iam/sessions.ts'
import { IdentityTransactions } from '../services/iam/transactions.ts'
import { callLater, resendLater } from '../services/later/delivery.ts'
import type { Log } from '../services/log.ts'
import { RegistrarService } from '../services/registrar/service.ts'
import { NameTransactions } from '../services/registrar/transactions.ts'
import { Deadlines } from '../services/router/deadlines.ts'
import { Dispatcher, type ServiceName } from '../services/router/dispatcher.ts'
import { FrontDoor } from '../services/router/front-door.ts'
import { RemoteCalls, ServiceListener } from '../services/router/remote.ts'
import { Router } from '../services/router/service.ts'
import type { OrderBegun } from '../services/state/catch-up/executed.ts'
import { OwnLog } from '../services/state/catch-up/own-log.ts'
import { BlockServer } from '../services/state/catch-up/server.ts'
import type { ReadCheckMode } from '../services/state/checks/read-checks.ts'
import { OrderedAuthority } from '../services/state/authority.ts'
import { LoggedOutcomes } from '../services/state/logged-outcomes.ts'
import { Outbox } from '../services/state/outbox.ts'
import type { Block, LogAnchor } from '../services/state/provider.ts'
import { StateService } from '../services/state/service.ts'
import { Tracer } from '../services/traces/tracer.ts'
import type { Buses } from './bus.ts'
import { packageVersion } from './descriptor.ts'
import { FileKeyStore } from './key-store.ts'
import { FileLastClaim } from './last-claim.ts'
import { MemberKeyFile } from './member-key-file.ts'
import { RevocationFile } from './revocation-file.ts'
import { FileSkips } from './skips.ts'
import type { Config } from './settings.ts'
import { Watchdog } from './watchdog.ts'
import { FileWatermark } from './watermark.ts'

export interface MeshParts {
  readonly config: Config
  /** The node's own key. */
  readonly identity: KeyPair
  /** What says that the node speaks for a mesh; none where its own key is the mesh's. */
  readonly certificate?: Certificate | undefined
  readonly buses: Buses
  readonly log: Log
  /** A part failed for good: the node must stop. */
  readonly onHalt: (error: CMeshError) => void
}

export type Mesh = ReturnType<typeof buildMesh>

/** Longest life of a session token with its grace, ms: so long a revocation is remembered, and a key verifies that was replaced. */
const TOKEN_LIFE_MS = 300_000 + REFRESH_GRACE_MS

/** Throws `CMESH_CONFIG_PROVIDER` for a provider nobody knows, `CMESH_CONFIG_INVALID` for settings that do not go together. */
export function buildMesh({ config, identity, certificate, buses, log, onHalt }: MeshParts) {
  const clock = turnClock(() => os.uptime() * 1_000)
  const now = clock.nowMs
  const node = identity.did
  const mesh = certificate?.mesh ?? node
  const dir = (name: string): string => path.join(config['data.dir'], name)
  const quorum = isQuorum(config)
  const checked = readCheckMode(config)
  const watchdog = new Watchdog({ limitMs: config['contracts.callLimitMs'] })
  const provide = <K extends ProviderKind>(kind: K, name: string): ReturnType<typeof createProvider<K>> => createProvider(kind, name, {
    dir: dir(kind),
    node,
    core: buses.core,
    log,
    onFailed: onHalt,
    watch: { enter: watchdog.enter, leave: watchdog.leave },
    options: {
      readyMs: config['bus.readyMs'],
      mockIdentity: config['iam.mockEnabled'],
      irma: {
        url: config['iam.irma.url'], requestor: config['iam.irma.requestor'], key: config['iam.irma.key'],
        serverKey: config['iam.irma.serverKey'], disclose: config['iam.irma.disclose'], timeoutMs: config['iam.irma.timeoutMs'],
      },
      issuers: parseIssuers(config['iam.issuers'] ?? ''),
      durability: ownLevel(config),
      consensusMembers: config['consensus.members'],
      consensusReplicas: config['consensus.replicas'],
      consensusMaxBytes: config['consensus.maxBytes'],
      eventsMaxBytes: config['events.maxBytes'],
      eventsReplicas: config['events.replicas'],
      logFile: config['miner.logFile'] ?? '',
      receiptsMaxBytes: config['receipts.maxBytes'],
      receiptsMaxAgeMs: config['receipts.maxAgeMs'],
      otlp: { endpoint: config['traces.endpoint'], headers: config['traces.headers'], version: packageVersion() },
    },
  } satisfies ProviderContext)

  const granted = parseGrants(config['iam.grants'] ?? '')
  // Before the log is read its certificate alone says who speaks for the mesh.
  const isMember = (did: string): boolean => {
    const members = readMembers(state.system)
    return members.length === 0 || members.includes(did)
  }
  const book = new GrantBook({ records: () => state.system, node, operator: config.operator ?? mesh, now })
  const ring = new KeyRing({ root: identity, certificate, store: new FileKeyStore(dir('iam')), now, tokenLifeMs: TOKEN_LIFE_MS })
  const feed: Feed = new Feed({
    bus: buses.core, signer: identity, certificate, revocations: new RevocationFile(dir('iam'), TOKEN_LIFE_MS, now), keepMs: TOKEN_LIFE_MS, isMember, log, now,
    keys: { own: () => ring.keySet, take: (did, set) => { keys.take(did, set) }, known: () => keys.known, hear: known => { keys.hear(known) } },
    onEntry: ({ atMs, ...revocation }) => {
      guard.revoke(revocation, atMs)
      const { kid } = revocation
      if (kid === undefined) return
      keys.drop(kid)
      // On the word of another node.
      if (ring.has(kid)) ring.drop(kid)
    },
  })
  ring.onRotate(() => { feed.announce() })
  ring.onDrop(() => { feed.announce() })
  const keys: MemberKeys = new MemberKeys({
    mesh, node, own: ring, ask: () => feed.askForKeys(), anybody: () => feed.present.length > 0, store: new MemberKeyFile(dir('iam')), tokenLifeMs: TOKEN_LIFE_MS,
    isMember,
    onAdded: () => { guard.keysAdded() },
    onLost: () => { guard.keysChanged() },
    onReturned: kid => { feed.publish({ kid }).catch((error: unknown) => { log.warn({ err: error }, 'a dropped key could not be written to the revocations') }) },
    log, now,
  })
  const guard: Guard = new Guard({
    key: PublicKey.fromDid(mesh), keys, heardMs: feed.heardMs, tokenLifeMs: TOKEN_LIFE_MS, grantsOf: book.grantsOf, changesAt: book.changesAt, now,
  })
  const iamParts = {
    provider: provide('iam', config['iam.provider']), signer: identity, certificate, ring, keys, revoke: (revocation: Revocation) => feed.publish(revocation), guard,
    grantsOf: book.possible, barred: book.barred, node, now, sessionTtlMs: config['iam.sessionTtlMs'],
  }
  const iam = new IamService({
    ...iamParts, ...(buses.sessions !== undefined && { connections: buses.sessions }), connectionTtlMs: config['iam.connectionTtlMs'],
  })
  // Where a person must act the node cannot log in. It knows its own key, so that proof will do; nothing from outside gets here.
  const ownIam = iamParts.provider.patienceMs === undefined ? iam : new IamService({ ...iamParts, provider: provide('iam', 'did') })

  const events = provide('events', config['events.provider'])
  const tails = new Tails({ provider: events, bus: buses.mesh, clock, guard })
  const letters = new Letters({
    provider: events, guard, isOperator: did => book.operator === did, now,
    resend: (letter, call, auth, notes) => resendLater(letter, { call, auth, notes }, { guard, state }),
  })
  const groups = new Groups({ provider: events, letters, guard, now })
  const watermark = new FileWatermark(dir('outbox'), error => { log.warn({ err: error }, 'how far the events of blocks are out could not be written down') })
  const lastClaim = new FileLastClaim(config['data.dir'], error => { log.warn({ err: error }, 'how far the log goes could not be written down') })
  const outbox = new Outbox({
    events, watermark, log, duty: () => state.duty,
  })
  const consensus = provide('consensus', config['consensus.provider'])
  const engine = provide('contracts', config['contracts.provider'])
  const deadlines = new Deadlines(clock)
  const store = provide('state', config['state.provider'])
  const [sign, verify] = [signerOf(identity), signatureCheck()]
  const ownLog = new OwnLog({
    bus: buses.core, did: node, store, log, verify, members: () => readMembers(state.system), present: () => feed.present, forget: () => lastClaim.forget(),
  })
  const state: StateService = new StateService({
    store,
    consensus,
    engine,
    guard,
    outbox,
    lastClaim,
    names: new NameTransactions(),
    identities: new IdentityTransactions(),
    authority: new OrderedAuthority(),
    member: { did: node, sign, verify },
    certificate,
    // Mock consensus serves one node, which nobody hears.
    ...(config['consensus.provider'] !== 'mock' && {
      skips: new FileSkips(config['data.dir'], log),
      replication: { bus: buses.core, quorum, version: packageVersion(), out: () => outbox.out },
      readChecks: {
        mode: checked, oneIn: config['consensus.sample'], bus: buses.core, guard, audit: (data: Uint8Array, id: string) => events.publish(AUDIT_CHANNEL, data, { id }),
      },
      catchUp: (upTo: number, onBlock: (block: Block) => void, begun?: OrderBegun) => ownLog.catchUp(upTo, onBlock, begun),
      vouch: (onBlock: (block: Block) => void) => ownLog.vouch(onBlock),
      diverged: (place: LogAnchor) => ownLog.diverged(place),
    }),
    // Before it waits for any of them: they may need what it has before they can be there.
    onCaughtUp: () => { blocks?.start() },
    clock,
    log,
    viewCache: { entries: config['state.viewCache'] },
    viewGas: config['contracts.viewGas'],
    deliver: message => deliver(message, { guard, registrar, dispatcher, deadlines, clock }),
    later: {
      call: (later, attempt) => callLater(later, attempt, { guard, registrar, dispatcher, deadlines, clock }),
      bury: (later, failure) => letters.ofCall(later, failure),
    },
    onApplied: block => {
      // On disk as well: lifting the ban revives no session of before, whenever the node was started again.
      followRights(block, book, guard, sub => {
        feed.publish({ sub }).catch((error: unknown) => { log.warn({ err: error }, 'a ban could not be written to the revocations') })
      })
      if (!changesMembers(block)) return
      // Tokens of who left count no more; those of who joined do before it serves.
      keys.membersChanged()
      void feed.askForKeys()
    },
    onHalt,
  })
  // What other members lack they get from any of them.
  const blocks = store.replica && new BlockServer({ bus: buses.core, did: node, replica: store.replica, head: () => store.head, log })
  const registrar = new RegistrarService({ state, guard })

  const remote = new RemoteCalls({ bus: buses.core, clock, tokenOf: auth => guard.tokenOf(auth) })
  const dispatcher = new Dispatcher({ remote: remote.call })
  const roots = new RootStream({ events, log })
  const auditLog = provide('audit', config['receipts.provider'])
  const batcher = new Batcher({
    log: auditLog, mesh, node, certificate, sign, clock, onRoot: record => { roots.add(record) }, onFailed: onHalt,
  })
  const outcomes = new LoggedOutcomes({ store, outcome: id => state.outcome(id), applied: (seq, deadlineMs) => state.applied(seq, deadlineMs) })
  // What a member claims for receipts, and asks the others to.
  const claiming = {
    mesh, certificate, member: { did: node, sign, verify },
    members: () => readMembers(state.system), level: store.durability, clock, log,
  }
  const isAlone = config['consensus.provider'] === 'mock'
  const asker = new OutcomesAsker({ ...claiming, bus: isAlone ? undefined : buses.core })
  const answerer = isAlone ? undefined : new OutcomesAnswerer({ ...claiming, bus: buses.core, outcomes, refusal: () => state.halted })
  const evidence = new EvidenceMaker({ outcomes, asker })
  const receipts = new ReceiptWriter({ log: auditLog, certificate, guard, evidence })
  const finder = new ReceiptFinder({ receipts, bus: buses.core, did: node, members: () => readMembers(state.system), guard, clock, log })
  const tracer = config['traces.endpoint'] === undefined ? undefined : new Tracer({ exporter: provide('traces', 'otlp'), log, oneIn: config['traces.sample'] })
  const { clockApart } = state
  const frontDoor = new FrontDoor({ node, guard, registrar, dispatcher, deadlines, clock, clockApart, log, audit: { batcher, receipts }, traces: tracer })
  const hello = new IamListener({ buses: [buses.door, buses.mesh], iam, node, clock, clockApart, log, audit: { batcher, receipts } })
  const router = new Router({ bus: buses.mesh, frontDoor, log, perSession: config['router.perSession'], inAll: config['router.inAll'] })

  const handlers: Record<ServiceName, ServiceHandler> = {
    iam: iamHandler({ iam, guard, book, state, now, resolve: route => (RegistrarService.isByName(route) ? registrar.resolve(route) : route) }),
    consensus: new ConsensusService({ provider: consensus, state, receipts: finder }).handle,
    state: (call, auth, notes) => (call.route.write ? state.write(call, auth, notes) : state.read(call, auth, notes)),
    registrar: registrar.handle,
    events: new EventsService({ provider: events, tails, groups, letters }).handle,
  }
  const endpoints = Object.fromEntries(Object.entries(handlers).map(([hop, handler]) => [
    hop, new Endpoint({ hop: hop as ServiceName, node, guard, clock, log, handler }),
  ])) as Record<ServiceName, Endpoint>
  const listeners = (Object.keys(endpoints) as ServiceName[]).map(service => new ServiceListener({
    bus: buses.core, clock, log, service, handler: endpoints[service].call,
  }))

  return {
    node, mesh, book, granted, ring, feed, guard, iam, ownIam, hello, events, tails, groups, watermark, lastClaim, outbox, consensus, engine, state,
    registrar, dispatcher, blocks, frontDoor, router, endpoints, listeners, watchdog, provide, keys, batcher, roots, auditLog, asker, answerer, finder,
    tracer,
  }
}

/** Whether acknowledgements wait for a quorum of the members. */
function isQuorum(config: Config): boolean {
  const level = config['state.durability']
  const many = config['consensus.provider'] !== 'mock'
  if (level === 'auto') return many
  const quorum = level.startsWith('quorum-')
  if (quorum && !many) throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'state.durability', reason: 'a quorum needs other nodes, and consensus.provider mock serves one' })
  return quorum
}

/** Which reads other members check. */
function readCheckMode(config: Config): ReadCheckMode {
  const mode = config['consensus.reads'] as ReadCheckMode
  if (mode === 'none' || config['consensus.provider'] !== 'mock') return mode
  throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'consensus.reads', reason: 'a check needs other nodes, and consensus.provider mock serves one' })
}

/** What this node's own copy of the log survives. */
function ownLevel(config: Config): 'os' | 'disk' {
  return config['state.durability'].endsWith('disk') ? 'disk' : 'os'
}

/** What an applied block says of rights takes hold of the sessions there are, here and on every node that applies it. */
function followRights(block: Block, book: GrantBook, guard: Guard, revoke: (sub: string) => void): void {
  const change = GrantBook.changeOf(block)
  if (change === undefined) return
  for (const sub of change.banned) revoke(sub)
  if (change.sessions) for (const sid of book.revokedSessions) guard.revoke({ sid })
  guard.grantsChanged()
}

/**
 * The mesh on one node: every service built from its provider and its collaborators, wired, and nothing started. The one
 * place where the parts meet; the node (`node.ts`) decides when each starts and stops.
 */
import path from 'node:path'
import type { CMeshError } from '../cmtp/errors.ts'
import { PublicKey, type KeyPair } from '../cmtp/identity/keys.ts'
import { TwoGenerations } from '../cmtp/two-generations.ts'
import { createProvider, type ProviderContext, type ProviderKind } from '../providers/registry.ts'
import { turnClock } from '../services/clock.ts'
import { ConsensusService } from '../services/consensus/service.ts'
import { deliver } from '../services/contracts/delivery.ts'
import { Endpoint, type ServiceHandler } from '../services/endpoint.ts'
import { EventsService } from '../services/events/service.ts'
import { Tails } from '../services/events/tails.ts'
import { Grants, parseGrants } from '../services/iam/grants.ts'
import { Guard } from '../services/iam/guard.ts'
import { iamHandler } from '../services/iam/handler.ts'
import { IamListener } from '../services/iam/listener.ts'
import { IamService } from '../services/iam/service.ts'
import type { Log } from '../services/log.ts'
import { RegistrarService } from '../services/registrar/service.ts'
import { NameTransactions } from '../services/registrar/transactions.ts'
import { Deadlines } from '../services/router/deadlines.ts'
import { Dispatcher, type ServiceName } from '../services/router/dispatcher.ts'
import { FrontDoor } from '../services/router/front-door.ts'
import { RemoteCalls, ServiceListener } from '../services/router/remote.ts'
import { Router } from '../services/router/service.ts'
import { Outbox } from '../services/state/outbox.ts'
import { StateService } from '../services/state/service.ts'
import type { Buses } from './bus.ts'
import type { Config } from './settings.ts'
import { Watchdog } from './watchdog.ts'
import { FileWatermark } from './watermark.ts'

export interface MeshParts {
  readonly config: Config
  readonly identity: KeyPair
  readonly buses: Buses
  readonly log: Log
  /** A part failed for good: the node must stop. */
  readonly onHalt: (error: CMeshError) => void
}

export type Mesh = ReturnType<typeof buildMesh>

/** Throws `CMESH_CONFIG_PROVIDER` for a provider nobody knows. */
export function buildMesh({ config, identity, buses, log, onHalt }: MeshParts) {
  const clock = turnClock()
  const now = clock.nowMs
  const node = identity.did
  const dir = (name: string): string => path.join(config['data.dir'], name)
  const watchdog = new Watchdog({ limitMs: config['contracts.callLimitMs'] })
  const provide = <K extends ProviderKind>(kind: K, name: string): ReturnType<typeof createProvider<K>> => createProvider(kind, name, {
    dir: dir(kind),
    node,
    core: buses.core,
    log,
    onFailed: onHalt,
    watch: { enter: watchdog.enter, leave: watchdog.leave },
    options: {
      mockIdentity: config['iam.mockEnabled'],
      durability: config['state.durability'],
      consensusMembers: config['consensus.members'],
      eventsMaxBytes: config['events.maxBytes'],
      logFile: config['miner.logFile'] ?? '',
    },
  } satisfies ProviderContext)

  const grants = new Grants({ node, operator: config.operator ?? node, granted: parseGrants(config['iam.grants'] ?? '') })
  const guard = new Guard({ key: identity.publicKey, grantsOf: grants.grantsOf, now })
  const iam = new IamService({ provider: provide('iam', config['iam.provider']), signer: identity, guard, grantsOf: grants.grantsOf, node, now, sessionTtlMs: config['iam.sessionTtlMs'] })
  const hello = new IamListener({ bus: buses.mesh, iam, node, clock, log })

  const events = provide('events', config['events.provider'])
  const tails = new Tails({ provider: events, bus: buses.mesh, clock })
  const watermark = new FileWatermark(dir('outbox'), error => { log.warn({ err: error }, 'how far the events of blocks are out could not be written down') })
  const outbox = new Outbox({ events, watermark, log })
  const consensus = provide('consensus', config['consensus.provider'])
  const engine = provide('contracts', config['contracts.provider'])
  const deadlines = new Deadlines(clock)
  const state: StateService = new StateService({
    store: provide('state', config['state.provider']),
    consensus,
    engine,
    guard,
    outbox,
    names: new NameTransactions(),
    member: { did: node, sign: bytes => identity.sign(bytes), verify: signatureCheck() },
    clock,
    log,
    viewCache: { entries: config['state.viewCache'] },
    viewGas: config['contracts.viewGas'],
    deliver: message => deliver(message, { guard, registrar, dispatcher, deadlines, clock }),
    onHalt,
  })
  const registrar = new RegistrarService({ state, guard })

  const remote = new RemoteCalls({ bus: buses.core, clock, tokenOf: auth => guard.tokenOf(auth) })
  const dispatcher = new Dispatcher({ remote: remote.call })
  const frontDoor = new FrontDoor({ node, guard, registrar, dispatcher, deadlines, clock, log })
  const router = new Router({ bus: buses.mesh, frontDoor, log, perSession: config['router.perSession'], inAll: config['router.inAll'] })

  const handlers: Record<ServiceName, ServiceHandler> = {
    iam: iamHandler(iam),
    consensus: new ConsensusService({ provider: consensus, state }).handle,
    state: (call, auth, notes) => (call.route.write ? state.write(call, auth, notes) : state.read(call, auth, notes)),
    registrar: registrar.handle,
    events: new EventsService({ provider: events, tails }).handle,
  }
  const endpoints = Object.fromEntries(Object.entries(handlers).map(([hop, handler]) => [
    hop, new Endpoint({ hop: hop as ServiceName, node, guard, clock, log, handler }),
  ])) as Record<ServiceName, Endpoint>
  const listeners = (Object.keys(endpoints) as ServiceName[]).map(service => new ServiceListener({
    bus: buses.core, clock, log, service, handler: endpoints[service].call,
  }))

  return {
    node, grants, guard, iam, hello, events, tails, watermark, outbox, consensus, engine, state, registrar, dispatcher, frontDoor, router,
    endpoints, listeners, watchdog, provide,
  }
}

/** Checks members' signatures; a public key is decoded once. */
function signatureCheck(): (did: string, bytes: Uint8Array, signature: Uint8Array) => boolean {
  const keys = new TwoGenerations<string, PublicKey>({ entries: 64 })
  return (did, bytes, signature) => {
    let key = keys.get(did)
    if (key === undefined) keys.set(did, key = PublicKey.fromDid(did))
    return key.verify(bytes, signature)
  }
}

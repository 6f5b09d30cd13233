/**
 * IAM of several nodes of one mesh in this process, on a bus of which the test is the broker: it cuts nodes off and lets them back. Time stands
 * still until it is moved.
 */
import { issueCertificate, type Certificate } from '../../cmtp/identity/certificate.ts'
import { KeyPair, PublicKey } from '../../cmtp/identity/keys.ts'
import { login, refresh, type LoginOptions, type SendStep, type Session } from '../../cmtp/identity/login.ts'
import { NEWCOMER_READ_SET } from '../../cmtp/permission.ts'
import { DidIdentityProvider } from '../../providers/iam/did.ts'
import type { Bus, BusMessage, BusStatus } from '../../services/bus/provider.ts'
import type { BrokerSessions } from '../../services/iam/connections.ts'
import { Feed } from '../../services/iam/feed.ts'
import { Guard, type AuthContext } from '../../services/iam/guard.ts'
import { KeyRing, type KeyStore, type RingState } from '../../services/iam/key-ring.ts'
import { MemberKeys, type MemberKeySet } from '../../services/iam/member-keys.ts'
import type { RevocationEntry } from '../../services/iam/revocation-log.ts'
import { IamService } from '../../services/iam/service.ts'
import { keptLog, type KeptLog } from './mesh.ts'

/** What stands between the nodes. */
export class Wire {
  readonly ends = new Set<WireEnd>()
  /** All that was published, with who did. */
  readonly published: { readonly subject: string, readonly data: Uint8Array }[] = []

  publish(from: WireEnd | undefined, subject: string, data: Uint8Array, reply = ''): void {
    this.published.push({ subject, data })
    let taken = false
    for (const end of [...this.ends]) {
      if (from === undefined || end === from || (!from.isolated && !end.isolated)) taken = end.bring({ subject, data, reply }) || taken
    }
    if (!taken && reply !== '') from?.bring({ subject: reply, data: new Uint8Array(), reply: '' })
  }
}

/** A node's connection. */
export class WireEnd implements Bus {
  readonly #wire: Wire
  readonly #handlers = new Map<string, Set<(message: BusMessage) => void>>()
  readonly #listeners = new Set<(status: BusStatus) => void>()
  status: BusStatus = 'connected'
  /** It hears itself and nobody else, and is heard by nobody: the broker's cluster has come apart. */
  isolated = false
  /** What comes waits here until it is let in. */
  held: BusMessage[] | undefined

  constructor(wire: Wire) {
    this.#wire = wire
    wire.ends.add(this)
  }

  bring(message: BusMessage): boolean {
    const handlers = this.#handlers.get(message.subject)
    if (this.status !== 'connected' || handlers === undefined || handlers.size === 0) return false
    if (this.held !== undefined) this.held.push(message)
    else for (const handler of [...handlers]) handler(message)
    return true
  }

  release(): void {
    const { held = [] } = this
    this.held = undefined
    for (const message of held) this.bring(message)
  }

  publish(subject: string, data: Uint8Array, reply?: string): void {
    if (this.status === 'connected') this.#wire.publish(this, subject, data, reply)
  }

  subscribe(subject: string, handler: (message: BusMessage) => void): { drain(): Promise<void>, unsubscribe(): void } {
    const handlers = this.#handlers.get(subject) ?? new Set()
    this.#handlers.set(subject, handlers.add(handler))
    const unsubscribe = (): void => { handlers.delete(handler) }
    return { unsubscribe, drain: async () => { unsubscribe() } }
  }

  request(): Promise<Uint8Array> {
    throw new Error('nothing here asks for one answer')
  }

  async flush(): Promise<void> {}

  onStatus(listener: (status: BusStatus) => void): () => void {
    this.#listeners.add(listener)
    return () => { this.#listeners.delete(listener) }
  }

  set(status: BusStatus): void {
    this.status = status
    for (const listener of this.#listeners) listener(status)
  }

  async close(): Promise<void> {
    this.#wire.ends.delete(this)
  }
}

/** What a node has on disk. */
export class Disk implements KeyStore {
  ring: RingState | undefined
  members: readonly MemberKeySet[] = []
  readonly entries: RevocationEntry[] = []
  load(): RingState | undefined { return this.ring }
  save(state: RingState): void { this.ring = state }
}

export interface IamNodeOptions {
  /** Default: a key of its own that the mesh certified. */
  readonly key?: KeyPair
  readonly certificate?: Certificate | undefined
  readonly disk?: Disk
  /** A connection to a real broker. Default: to the wire. */
  readonly bus?: Bus
  readonly connections?: BrokerSessions
}

export interface IamNode {
  readonly did: string
  readonly key: KeyPair
  readonly ring: KeyRing
  readonly feed: Feed
  readonly keys: MemberKeys
  readonly guard: Guard
  readonly iam: IamService
  readonly end: WireEnd
  readonly disk: Disk
  readonly log: KeptLog
  readonly send: SendStep
  open(options?: Partial<LoginOptions>): Promise<Session>
  renew(session: Session): Promise<Session>
  enter(session: Pick<Session, 'token' | 'sid'>): Promise<AuthContext>
  stop(): Promise<void>
}

export class IamMesh {
  readonly wire = new Wire()
  readonly clock: { ms: number }
  readonly root = KeyPair.generate()
  /** DIDs of nodes that have left. */
  readonly left = new Set<string>()
  readonly #running = new Set<IamNode>()

  /** Default: a clock that stands still. */
  constructor(clock = { ms: 1_800_000_000_000 }) {
    this.clock = clock
  }

  /** A node whose key is the mesh's. */
  founder(options: IamNodeOptions = {}): Promise<IamNode> {
    return this.start({ key: this.root, certificate: undefined, ...options })
  }

  async start(options: IamNodeOptions = {}): Promise<IamNode> {
    const key = options.key ?? KeyPair.generate()
    const certificate = 'certificate' in options ? options.certificate : issueCertificate(key.did, this.root, this.clock.ms)
    const mesh = certificate?.mesh ?? key.did
    const { disk = new Disk() } = options
    const now = (): number => this.clock.ms
    const isMember = (did: string): boolean => !this.left.has(did)
    const log = keptLog()
    const end = new WireEnd(this.wire)
    const ring = new KeyRing({ root: key, certificate, store: disk, now })
    const feed: Feed = new Feed({
      bus: options.bus ?? end, signer: key, certificate, isMember, log, now,
      revocations: { load: () => disk.entries, append: async entry => { disk.entries.push(entry) } },
      keys: {
        own: () => ring.keySet, take: (did, set) => { keys.take(did, set) },
        known: () => keys.known, hear: known => { keys.hear(known) },
      },
      onEntry: ({ atMs, ...revocation }) => {
        guard.revoke(revocation, atMs)
        if (revocation.kid === undefined) return
        keys.drop(revocation.kid)
        if (ring.has(revocation.kid)) ring.drop(revocation.kid)
      },
    })
    ring.onRotate(() => { feed.announce() })
    ring.onDrop(() => { feed.announce() })
    const keys: MemberKeys = new MemberKeys({
      mesh, node: key.did, own: ring, isMember, ask: () => feed.askForKeys(), anybody: () => feed.present.length > 0, tokenLifeMs: 360_000, log, now,
      store: { load: () => disk.members, save: members => { disk.members = members } },
      onAdded: () => { guard.keysAdded() }, onLost: () => { guard.keysChanged() }, onReturned: kid => { void feed.publish({ kid }) },
    })
    const grantsOf = (): typeof NEWCOMER_READ_SET => NEWCOMER_READ_SET
    const guard: Guard = new Guard({ key: PublicKey.fromDid(mesh), keys, grantsOf, heardMs: feed.heardMs, now })
    const iam = new IamService({
      provider: new DidIdentityProvider(), signer: key, certificate, ring, keys, guard, grantsOf, node: key.did, now,
      revoke: revocation => feed.publish(revocation),
      ...(options.connections !== undefined && { connections: options.connections }),
    })
    await iam.start()
    await feed.start()
    const send: SendStep = (action, body) => iam.handle(action, body)
    const node: IamNode = {
      did: key.did, key, ring, feed, keys, guard, iam, end, disk, log, send,
      open: more => login({ identity: KeyPair.generate(), mesh, send, ...more }),
      renew: session => refresh(session, send, this.clock.ms),
      enter: async session => guard.check(Buffer.from(session.token), session.sid),
      stop: async () => {
        this.#running.delete(node)
        feed.stop()
        await end.close()
        await iam.stop()
      },
    }
    this.#running.add(node)
    return node
  }

  /** What makes a second pass: every node is heard. */
  beat(ms = 1_000): void {
    for (let left = ms; left > 0; left -= 1_000) {
      this.clock.ms += Math.min(left, 1_000)
      for (const { feed, end } of this.#running) if (end.status === 'connected') feed.announce()
    }
  }

  async stop(): Promise<void> {
    await Promise.all([...this.#running].map(node => node.stop()))
  }
}

/**
 * How sessions are opened, renewed and kept between runs of a program: the steps, and over which link they go. It owns what must hold
 * from one session to the next: which mesh it is, and how new its keys were. Which session is current is not its business.
 */
import { CMeshError } from '../cmtp/errors.ts'
import type { KeyEpochs } from '../cmtp/identity/key-set.ts'
import { hangup, login, refresh, type LoginOptions, type SendStep, type Session } from '../cmtp/identity/login.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { Nkey } from '../cmtp/identity/nats-keys.ts'
import type { MessageIds } from '../cmtp/message-id.ts'
import type { Connection } from './connection.ts'
import { stepsOver } from './steps.ts'

/** Where a session is kept between runs of a program. */
export interface SessionMemory {
  load(): Promise<Session | undefined>
  save(session: Session): Promise<void>
  forget(): Promise<void>
}

export interface HandshakeParts {
  readonly connection: Connection
  readonly ids: MessageIds
  readonly identity: KeyPair
  /** The mesh's DID, to refuse any other; `undefined` takes whatever mesh answers and keeps to it. */
  readonly mesh: string | undefined
  readonly memory: SessionMemory | undefined
  /** What a person has a say in at each handshake; a renewal asks nobody. Default: consents, and presents nothing. */
  readonly person?: Pick<LoginOptions, 'approve' | 'present' | 'onChallenge'>
  /** Longest wait for a step before there was any session, in ms: whoever connects has no longer. Default: as long as for any other. */
  readonly firstStepMs?: number
  readonly onWarning: (error: CMeshError) => void
  /** ms since 1970. */
  readonly now: () => number
}

/** A kept session with less life left than this, in ms, is not worth taking up. */
const WORTH_MS = 5_000

export class Handshakes {
  readonly #parts: HandshakeParts
  /** Steps over the current link. */
  readonly #send: SendStep
  #mesh: string | undefined
  /** There was a session. */
  #entered = false
  /** Of the keys of the mesh's nodes, as far as was seen: older ones are refused. */
  #keyEpochs: KeyEpochs | undefined

  constructor(parts: HandshakeParts) {
    this.#parts = parts
    this.#mesh = parts.mesh
    this.#send = stepsOver(parts.connection, parts.ids, parts.now)
  }

  /** The mesh's DID: the one to insist on, or the one that was met. */
  get mesh(): string | undefined {
    return this.#mesh
  }

  /** The session of an earlier run, if it is this identity's, this mesh's, can have a link and has life left. */
  async kept(): Promise<Session | undefined> {
    const { memory, identity, now } = this.#parts
    const kept = await memory?.load()
    if (kept?.nkey === undefined || kept.sub !== identity.did) return undefined
    if (this.#mesh !== undefined && kept.mesh !== this.#mesh) return undefined
    // Its epoch outlives it, where it is known to be this mesh's.
    if (this.#mesh !== undefined) this.#keyEpochs = kept.keyEpochs
    return kept.expires - now() < WORTH_MS ? undefined : kept
  }

  /** A new session: over a newcomer's link, for a link of its own; or over the current link, for the frames of the gateway's session `via`. */
  async open(via?: string): Promise<Session> {
    if (via !== undefined) return await this.#open(this.#send, { via })
    return await this.#asGuest((send) => this.#open(send, { nkey: Nkey.generate('user') }))
  }

  /** The same session under a new token; over the current link, or as a newcomer where there is none that works. */
  async renew(session: Session, how: 'current' | 'guest'): Promise<Session> {
    const work = (send: SendStep): Promise<Session> => refresh(session, send, this.#parts.now())
    const renewed = how === 'current' ? await work(this.#send) : await this.#asGuest(work)
    await this.#adopt(renewed)
    return renewed
  }

  /** Ends a session at the mesh; one that the mesh does not know has ended. */
  async hangup(session: Session): Promise<void> {
    try {
      await hangup(session, this.#send, this.#parts.now())
    } catch (thrown) {
      if (!(thrown instanceof CMeshError) || thrown.status !== 401) throw thrown
    }
    if (session.via === undefined) await this.#parts.memory?.forget()
  }

  async #open(send: SendStep, extra: Pick<LoginOptions, 'via' | 'nkey'>): Promise<Session> {
    const { identity, person } = this.#parts
    const session = await login({
      ...person, ...extra, identity, send,
      ...(this.#mesh !== undefined && { mesh: this.#mesh }), ...(this.#keyEpochs !== undefined && { keyEpochs: this.#keyEpochs }),
    })
    await this.#adopt(session)
    return session
  }

  /** Steps over a newcomer's link, which is gone afterwards: it takes a place that others wait for. */
  async #asGuest<T>(work: (send: SendStep) => Promise<T>): Promise<T> {
    const { connection, ids, now, firstStepMs } = this.#parts
    const link = await connection.knock()
    try {
      return await work(stepsOver(link, ids, now, this.#entered ? undefined : firstStepMs))
    } finally {
      void link.close()
    }
  }

  async #adopt(session: Session): Promise<void> {
    // From here on it is this mesh or none: another one under the same address is somebody else.
    this.#mesh = session.mesh
    this.#entered = true
    this.#keyEpochs = session.keyEpochs
    // One that goes over a gateway's link is worth nothing without it.
    if (session.via !== undefined) return
    try {
      await this.#parts.memory?.save(session)
    } catch (thrown) {
      // The session works all the same; the next run makes another.
      this.#parts.onWarning(CMeshError.from(thrown, 'the credentials store'))
    }
  }
}

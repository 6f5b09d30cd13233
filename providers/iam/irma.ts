/**
 * Identity by IRMA (Yivi): a DID that signs the handshake, and attributes which the person behind it disclosed to an IRMA server from
 * the app on their phone. Pairing is required: the code that the app shows comes back over the handshake, signed by the DID, so
 * that what a lured person discloses is of no use to who lured them.
 *
 * 1. The subject is the DID that signed, whatever was disclosed.
 * 2. A result counts for the one session that this provider started for this handshake, once, signed by the configured key.
 * 3. What was disclosed is compared here with what was asked for; the server's word for it is not enough.
 * 4. Sessions are bounded in number and time; each one that is not finished is ended at the server.
 */
import { hash, timingSafeEqual } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { checkPairedProof } from '../../cmtp/identity/paired-proof.ts'
import type { Challenge, IdentityContext, IdentityProvider, VerifiedIdentity } from '../../services/iam/provider.ts'
import { checkDisclosed } from './condiscon.ts'
import { IrmaClient, type IrmaSession, type StatusStream } from './irma-client.ts'
import type { IrmaOptions } from './irma-settings.ts'

/** Sessions begun and not yet verified; one more is refused. */
const MAX_OPEN = 1_000
/** People who have paired and are about to disclose. Fewer than the steps that the door works on at once, so that it stays open to others. */
const MAX_DISCLOSING = 32
/** For opening a session: two requests. Less than a client waits for the answer. */
const BEGIN_MS = 4_000
/** For ending one. */
const CANCEL_MS = 2_000

interface Open {
  readonly session: IrmaSession
  readonly pairing: string
  readonly transcript: string
  /** ms since 1970. */
  readonly untilMs: number
}

export class IrmaIdentityProvider implements IdentityProvider {
  readonly name = 'irma'
  readonly patienceMs: number
  readonly #options: IrmaOptions
  readonly #now: () => number
  readonly #client: IrmaClient
  readonly #open = new Map<string, Open>()
  /** Aborted by `stop`. */
  readonly #underWay = new Set<AbortController>()
  #beginning = 0
  #disclosing = 0
  #stopped: Promise<void> | undefined

  /** `now`: ms since 1970. Default `Date.now`. */
  constructor(options: IrmaOptions, now: () => number = Date.now) {
    this.patienceMs = options.timeoutMs
    this.#options = options
    this.#now = now
    this.#client = new IrmaClient(options, now)
  }

  /** The server is not asked for anything yet: it may come up later than the node. */
  start(): Promise<void> {
    return this.#client.open()
  }

  /** Rejects with `CMESH_IAM_UPSTREAM` when the server does not do its part, `CMESH_IAM_BUSY` at the limit. */
  async begin({ handshake, transcript }: IdentityContext): Promise<Challenge> {
    if (this.#open.size + this.#beginning >= MAX_OPEN) throw busy()
    this.#beginning++
    try {
      const { session, pairing } = await this.#within(BEGIN_MS, upstream('it took too long to open a session'), async signal => {
        const opened = await this.#client.startSession(signal)
        try {
          return { session: opened, pairing: await this.#client.requirePairing(opened, signal) }
        } catch (error) {
          void this.#end(opened)
          throw error
        }
      })
      const before = this.#open.get(handshake)
      if (before !== undefined) void this.#end(before.session)
      this.#open.set(handshake, { session, pairing, transcript, untilMs: this.#now() + this.#options.timeoutMs })
      return { challenge: transcript, ui: { kind: 'qr', value: session.link } }
    } finally {
      this.#beginning--
    }
  }

  /** Waits until the person has disclosed. Rejects with `CMESH_IAM_HANDSHAKE`, `_FORGED`, `_BUSY` or `_UPSTREAM`. */
  async verify(context: IdentityContext, proof: unknown): Promise<VerifiedIdentity> {
    const open = this.#open.get(context.handshake)
    this.#open.delete(context.handshake)
    try {
      const { did, pairing } = checkPairedProof(context, proof)
      if (open === undefined || open.transcript !== context.transcript) throw refused('nothing was asked of the IRMA server for it')
      const { jwt, claims } = await this.#disclosed(open, pairing)
      const attributes = this.#read(claims, open.session)
      return {
        // `user`: a person was there and acted (RFC 8176, 2).
        sub: did, attributes, amr: ['swk', 'user'], aal: 2,
        evidenceHash: hash('sha256', canonicalJson({ context: { ...context }, did, result: jwt }), 'base64url'),
      }
    } catch (error) {
      if (open !== undefined) void this.#end(open.session)
      throw error
    }
  }

  async cancel({ handshake }: IdentityContext): Promise<void> {
    const open = this.#open.get(handshake)
    this.#open.delete(handshake)
    if (open !== undefined) await this.#end(open.session)
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  async #stop(): Promise<void> {
    for (const controller of this.#underWay) controller.abort(new CMeshError('CMESH_ROUTER_DRAINING'))
    await Promise.all([...this.#open.values()].map(({ session }) => this.#end(session)))
    this.#open.clear()
    await this.#client.close()
  }

  async #disclosed({ session, pairing, untilMs }: Open, given: string): ReturnType<IrmaClient['result']> {
    if (this.#disclosing >= MAX_DISCLOSING) throw busy()
    this.#disclosing++
    const leftMs = Math.max(1, untilMs - this.#now())
    try {
      return await this.#within(leftMs, refused('nothing was disclosed in time'), async signal => {
        // The stream says what changes from now on, the status what is: in this order nothing falls between the two.
        const stream = await this.#client.follow(session, signal)
        try {
          if (await this.#client.status(session, signal) !== 'PAIRING') throw refused('no app is waiting for its pairing code')
          if (!sameText(given, pairing)) throw refused('the pairing code is not the one that the app shows')
          await this.#client.completePairing(session, signal)
          await finished(stream)
        } finally {
          stream.close()
        }
        return await this.#client.result(session, signal)
      })
    } finally {
      this.#disclosing--
    }
  }

  #read(claims: Readonly<Record<string, unknown>>, session: IrmaSession): VerifiedIdentity['attributes'] {
    const { token, status, type, proofStatus, disclosed } = claims
    // The result names no audience and no nonce of ours: the session is what binds it to this handshake.
    if (typeof token !== 'string' || !sameText(token, session.token)) throw refused('the result belongs to another session')
    if (status !== 'DONE' || type !== 'disclosing') throw refused('the result is of something else than a finished disclosure')
    if (proofStatus !== 'VALID') throw refused('what was disclosed is not proven')
    return checkDisclosed(this.#options.disclose, disclosed)
  }

  /** Tells the server that nobody waits any more. A server that does not hear it ends the session by itself. */
  async #end(session: IrmaSession): Promise<void> {
    try {
      await this.#within(CANCEL_MS, upstream('it took too long to end a session'), signal => this.#client.cancel(session, signal))
    } catch (error) {
      if (!(error instanceof CMeshError)) throw error
    }
  }

  async #within<T>(ms: number, late: CMeshError, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController()
    const timer = setTimeout(() => { controller.abort(late) }, ms)
    this.#underWay.add(controller)
    try {
      return await work(controller.signal)
    } finally {
      clearTimeout(timer)
      this.#underWay.delete(controller)
    }
  }
}

/** Resolves when the session is done. */
async function finished(stream: StatusStream): Promise<void> {
  for await (const status of stream) {
    if (status === 'DONE') return
    if (status === 'CANCELLED') throw refused('the person declined, or the app could not do it')
    if (status === 'TIMEOUT') throw refused('nothing was disclosed in time')
  }
  throw upstream('its status stream ended before the session did')
}

function sameText(one: string, other: string): boolean {
  return timingSafeEqual(hash('sha256', one, 'buffer'), hash('sha256', other, 'buffer'))
}

function busy(): CMeshError {
  return new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: 1_000 })
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'confirm', reason })
}

function upstream(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_UPSTREAM', { server: 'IRMA server', reason })
}

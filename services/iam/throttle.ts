/**
 * What bad tokens may cost: a budget of failed verifications for each session, and the last failure's answer, so that the same
 * bad token sent again is refused without being verified again. Bounded: the sessions least recently at fault are forgotten.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'

export interface ThrottleOptions {
  /** ms since 1970. */
  readonly now: () => number
  /** Failures allowed in a row. */
  readonly burst: number
  /** Until one more is allowed, ms. */
  readonly refillMs: number
  /** Most sessions remembered, at least the half of them last at fault. */
  readonly max: number
}

interface Fault {
  budget: number
  sinceMs: number
  digest: string
  error: CMeshError | undefined
}

export class Throttle {
  readonly #options: ThrottleOptions
  readonly #faults: TwoGenerations<string, Fault>

  constructor(options: ThrottleOptions) {
    this.#options = options
    this.#faults = new TwoGenerations({ entries: Math.ceil(options.max / 2) })
  }

  /**
   * To be called before a token is verified; takes one from the session's budget. Throws the answer this token got before, or
   * `CMESH_IAM_NO_SESSION` when the budget is spent.
   */
  enter(sid: string, digest: string): void {
    const { now, burst, refillMs } = this.#options
    const nowMs = now()
    let fault = this.#faults.get(sid)
    if (fault === undefined) {
      fault = { budget: burst, sinceMs: nowMs, digest: '', error: undefined }
      this.#faults.set(sid, fault)
    }
    if (fault.error !== undefined && fault.digest === digest) throw new CMeshError(fault.error.code, fault.error.detail)
    const refill = Math.floor((nowMs - fault.sinceMs) / refillMs)
    if (refill > 0) {
      fault.budget = Math.min(burst, fault.budget + refill)
      fault.sinceMs += refill * refillMs
    }
    if (fault.budget === 0) {
      throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'too many bad tokens came for this session; wait a second' })
    }
    fault.budget--
  }

  /** Gives back what `enter` took, and forgets a session that has done no wrong. */
  succeeded(sid: string): void {
    const fault = this.#faults.get(sid)
    if (fault === undefined) return
    fault.budget = Math.min(this.#options.burst, fault.budget + 1)
    if (fault.budget === this.#options.burst && fault.error === undefined) this.#faults.delete(sid)
  }

  /** `error`: the answer this token will always get. */
  failed(sid: string, digest: string, error: CMeshError): void {
    const fault = this.#faults.get(sid)
    if (fault === undefined) return
    fault.digest = digest
    fault.error = error
  }

  clear(): void {
    this.#faults.clear()
  }
}

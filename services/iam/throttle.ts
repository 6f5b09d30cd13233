/**
 * What bad tokens may cost: a budget of failed verifications for each session, and the last failure's answer, so that the same
 * bad token sent again is refused without being verified again. Bounded: the sessions least recently at fault are forgotten.
 *
 * Invariant: whoever sent a token pays for it, which is the connection it came over. What a gateway's connection brings is paid by the
 * gateway, whatever session it says it carries: first by one budget for each session it names, then by one for all of them.
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
  /** Carried tokens of one gateway that may fail in a row or be under verification, and until one more may, ms. */
  readonly gateway: { readonly burst: number, readonly refillMs: number }
}

interface Budget {
  left: number
  sinceMs: number
}

interface Fault extends Budget {
  digest: string
  error: CMeshError | undefined
}

type Rate = Pick<ThrottleOptions, 'burst' | 'refillMs'>

export class Throttle {
  readonly #options: ThrottleOptions
  readonly #own: TwoGenerations<string, Fault>
  /** By gateway and session. Apart from the others, so that sessions which nobody has push out nothing of those. */
  readonly #carried: TwoGenerations<string, Fault>
  readonly #gateways: TwoGenerations<string, Budget>

  constructor(options: ThrottleOptions) {
    this.#options = options
    const entries = Math.ceil(options.max / 2)
    this.#own = new TwoGenerations({ entries })
    this.#carried = new TwoGenerations({ entries })
    this.#gateways = new TwoGenerations({ entries })
  }

  /**
   * To be called before a token of session `sid` is verified that came over its own connection, or over that of its gateway's session
   * `via`; takes one from the budget. Throws the answer this token got before, `CMESH_IAM_NO_SESSION` when the session's budget is spent,
   * or `CMESH_ROUTER_BUSY` when the gateway's is: the sessions that it carries are as good as before.
   */
  enter(sid: string, via: string | undefined, digest: string): void {
    const nowMs = this.#options.now()
    const faults = via === undefined ? this.#own : this.#carried
    const key = keyOf(sid, via)
    let fault = faults.get(key)
    if (fault?.error !== undefined && fault.digest === digest) throw new CMeshError(fault.error.code, fault.error.detail)
    if (fault !== undefined && !isLeft(fault, this.#options, nowMs)) {
      throw new CMeshError('CMESH_IAM_NO_SESSION', { reason: 'too many bad tokens came for this session; wait a second' })
    }
    if (via !== undefined) this.#enterGateway(via, nowMs)
    if (fault === undefined) {
      fault = { left: this.#options.burst, sinceMs: nowMs, digest: '', error: undefined }
      faults.set(key, fault)
    }
    fault.left--
  }

  #enterGateway(via: string, nowMs: number): void {
    const { gateway: rate } = this.#options
    let budget = this.#gateways.get(via)
    if (budget === undefined) {
      budget = { left: rate.burst, sinceMs: nowMs }
      this.#gateways.set(via, budget)
    }
    if (!isLeft(budget, rate, nowMs)) throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'This gateway', limit: rate.burst, retryAfterMs: rate.refillMs })
    budget.left--
  }

  /** Gives back what `enter` took, and forgets who has done no wrong. */
  succeeded(sid: string, via: string | undefined): void {
    const { burst, gateway } = this.#options
    const faults = via === undefined ? this.#own : this.#carried
    const key = keyOf(sid, via)
    const fault = faults.get(key)
    if (fills(fault, burst) && fault?.error === undefined) faults.delete(key)
    if (via !== undefined && fills(this.#gateways.get(via), gateway.burst)) this.#gateways.delete(via)
  }

  /** `error`: the answer this token will always get. */
  failed(sid: string, via: string | undefined, digest: string, error: CMeshError): void {
    const fault = (via === undefined ? this.#own : this.#carried).get(keyOf(sid, via))
    if (fault === undefined) return
    fault.digest = digest
    fault.error = error
  }

  clear(): void {
    this.#own.clear()
    this.#carried.clear()
    this.#gateways.clear()
  }
}

function keyOf(sid: string, via: string | undefined): string {
  return via === undefined ? sid : `${via} ${sid}`
}

/** Whether any is left, after what time has given back. */
function isLeft(budget: Budget, { burst, refillMs }: Rate, nowMs: number): boolean {
  const refill = Math.floor((nowMs - budget.sinceMs) / refillMs)
  if (refill > 0) {
    budget.left = Math.min(burst, budget.left + refill)
    budget.sinceMs += refill * refillMs
  }
  return budget.left > 0
}

/** Gives one back; whether all of it is there then. */
function fills(budget: Budget | undefined, burst: number): boolean {
  if (budget === undefined) return false
  budget.left = Math.min(burst, budget.left + 1)
  return budget.left === burst
}

/** Delayed calls, as a client asks for, lists and cancels them. The mesh makes them, in this identity's name, with what it may do then. */
import { usage } from './options.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

export interface DelayedCallOptions extends VerbOptions {
  /** When the call is due: a date, or ms since 1970. Excludes `inMs`. */
  readonly at?: Date | number | undefined
  /** How long from now on it is due, in ms. Excludes `at`. */
  readonly inMs?: number | undefined
  /** Bytes, or text that is sent as UTF-8. At most 64 KiB. Excludes `args`. */
  readonly body?: Uint8Array | string | undefined
  /** Arguments of a contract's function, sent in the body as a JSON array. */
  readonly args?: readonly unknown[] | undefined
}

export interface DelayedCallReceipt {
  readonly id: string
  /** When it is due by the mesh's own time, ms since 1970. */
  readonly atMs: number
}

export interface DelayedCallInfo extends DelayedCallReceipt {
  readonly did: string
  readonly fqmn: string
}

export class DelayedCalls {
  readonly #call: VerbCall

  /** Use `client.later`. */
  constructor(call: VerbCall) {
    this.#call = call
  }

  /** Asks for a call of an address at a time. Resolves when that is durable. Rejects with `CMESH_STATE_LATER`, `CMESH_IAM_DENIED`. */
  async call(fqmn: string, { at, inMs, body, args, ...options }: DelayedCallOptions): Promise<DelayedCallReceipt> {
    if ((at === undefined) === (inMs === undefined)) throw usage('A delayed call takes at or inMs.')
    if (body !== undefined && args !== undefined) throw usage('A call has a body or args, not both: args are sent in the body.')
    const bytes = args === undefined ? body : JSON.stringify(args)
    const payload = bytes instanceof Uint8Array ? { base64: Buffer.from(bytes).toString('base64') } : bytes
    const ask = { fqmn, body: payload, atMs: at instanceof Date ? at.getTime() : at, inMs }
    return (await this.#call('0xSW:0x000:later', { ...options, body: JSON.stringify(ask) })).json()
  }

  /** Your calls that are not made yet, by when they are due; everybody's for the operator. */
  async list(options: VerbOptions = {}): Promise<readonly DelayedCallInfo[]> {
    return (await this.#call('0xS:0x000:later', options)).json()
  }

  /** Takes a call back. False where it was made, cancelled or is not yours. */
  async cancel(id: string, options: VerbOptions = {}): Promise<boolean> {
    const reply = await this.#call(`0xSW:0x000:cancel:${JSON.stringify([id])}`, options)
    return reply.json<{ readonly cancelled: boolean }>().cancelled
  }
}

/**
 * What a client can be told, resolved once: argument, then environment, then the mesh's own descriptor, then default. The
 * caller's object is cloned and left alone; what comes out is frozen; a key that is not known here is refused.
 */
import { REQUEST } from '../cmtp/correlate.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { LIMITS } from '../cmtp/limits.ts'
import type { ReceiptLevel } from '../cmtp/wire.ts'
import { RESEND } from './retry.ts'

/** What holds for every request of a client unless the request says otherwise. */
export interface RequestDefaults {
  /** Deadline of a request in ms from now, 1 to 300,000. Default 5,000. */
  readonly timeoutMs?: number | undefined
  /** `hash`: replies carry their final hash (default). `full`: the layers too. `none`: neither. */
  readonly receipt?: ReceiptLevel | undefined
  /**
   * Whether a request that failed with an error of retry class is sent again, under the same message id, until its deadline.
   * Default true. A write is executed at most once however often it is sent: its message id is the transaction's id. That holds as long as it is
   * one of the last 65,536 transactions of the mesh: with a deadline of 5 s up to some 13,100 a second, of 300 s up to 218.
   */
  readonly retry?: boolean | undefined
  /**
   * How long a request waits for its answer before it is sent again, under the same message id, in ms, 50 to 300,000; then it waits twice
   * as long, and so on until its deadline. Whichever answer comes first counts. Default 1,000. One whose `timeoutMs` is not longer is sent
   * once, and so is every one without `retry`.
   */
  readonly resendMs?: number | undefined
  /** Whether a status of 400 and above rejects with its error (default), or resolves with the reply. */
  readonly throwOnError?: boolean | undefined
}

export interface ConnectionDefaults {
  /** What the broker's connection list shows. Default `cmesh client`. */
  readonly name?: string | undefined
  /** Longest wait for the first connection, and for each answer to its handshake, in ms, 100 to 60,000; a person who is asked has longer. Default 5,000. */
  readonly connectTimeoutMs?: number | undefined
  /** Most requests in flight, 1 to 1,048,576; one more is `CMESH_BUS_BUSY`. Default 65,536. */
  readonly maxInFlight?: number | undefined
  /** How long `close` waits for requests in flight, in ms, 0 to 300,000. Default 5,000. */
  readonly drainMs?: number | undefined
  /**
   * Whether reads that are asked in one turn of the event loop share a frame, and transactions of contracts another, each with its own
   * id, status and final hash. Default true; it costs a lone request nothing.
   */
  readonly coalesce?: boolean | undefined
}

type Resolved<T> = { readonly [K in keyof T]-?: Exclude<T[K], undefined> }
export type ResolvedRequestDefaults = Resolved<RequestDefaults>
export type ResolvedConnectionDefaults = Resolved<ConnectionDefaults>

const RECEIPTS: readonly unknown[] = ['hash', 'none', 'full']
const READ_LEVELS: readonly unknown[] = ['local', 'session', 'linear']

/** How fresh a view has to be: what the node that answers has applied, at least this client's own writes, at least everything acknowledged before. */
export type ReadLevel = 'local' | 'session' | 'linear'

/** Checks one value; gives what is wrong with it, or `undefined`. */
type Check = (value: unknown) => string | undefined

export const integer = (min: number, max: number): Check => (value) =>
  Number.isInteger(value) && (value as number) >= min && (value as number) <= max ? undefined : `must be an integer from ${min} to ${max}`
export const boolean: Check = (value) => (typeof value === 'boolean' ? undefined : 'must be true or false')
export const text: Check = (value) => (typeof value === 'string' && value !== '' ? undefined : 'must be a text that is not empty')
export const receipt: Check = (value) => (RECEIPTS.includes(value) ? undefined : 'must be hash, none or full')
export const readLevel: Check = (value) => (READ_LEVELS.includes(value) ? undefined : 'must be local, session or linear')
export const anything: Check = () => undefined

export const REQUEST_CHECKS = {
  timeoutMs: integer(1, REQUEST.timeoutMaxMs), receipt, retry: boolean, resendMs: integer(RESEND.leastMs, REQUEST.timeoutMaxMs), throwOnError: boolean,
} as const satisfies Record<keyof RequestDefaults, Check>

export const CONNECTION_CHECKS = {
  name: text, connectTimeoutMs: integer(100, 60_000), maxInFlight: integer(1, 1_048_576), drainMs: integer(0, 300_000), coalesce: boolean,
} as const satisfies Record<keyof ConnectionDefaults, Check>

const REQUEST_DEFAULTS: ResolvedRequestDefaults = { timeoutMs: LIMITS.deadlineDefaultMs, receipt: 'hash', retry: true, resendMs: RESEND.defaultMs, throwOnError: true }
const CONNECTION_DEFAULTS: ResolvedConnectionDefaults = {
  name: 'cmesh client', connectTimeoutMs: 5_000, maxInFlight: REQUEST.maxPending, drainMs: 5_000, coalesce: true,
}

/** Refuses keys that `checks` does not name and values it does not accept, with `CMESH_CLIENT_USAGE`. `undefined` is no value. */
export function checkOptions(what: string, options: object, checks: Readonly<Record<string, Check>>): void {
  for (const key of Object.keys(options)) {
    const value: unknown = options[key as keyof typeof options]
    const check = Object.hasOwn(checks, key) ? checks[key] : undefined
    if (check === undefined) throw usage(`${what} has no option ${key}. Known: ${Object.keys(checks).join(', ')}.`)
    const fault = value === undefined ? undefined : check(value)
    if (fault !== undefined) throw usage(`The option ${key} of ${what} ${fault}.`)
  }
}

/** The options that `checks` names, `undefined` ones filled from `defaults`. The options were checked before. */
function fill<T extends object>(options: { readonly [K in keyof T]?: T[K] | undefined }, defaults: T): T {
  const filled = { ...defaults }
  for (const key of Object.keys(defaults) as (keyof T)[]) filled[key] = options[key] ?? defaults[key]
  return Object.freeze(filled)
}

export function resolveRequestDefaults(options: RequestDefaults): ResolvedRequestDefaults {
  return fill(options, REQUEST_DEFAULTS)
}

export function resolveConnectionDefaults(options: ConnectionDefaults): ResolvedConnectionDefaults {
  return fill(options, CONNECTION_DEFAULTS)
}

export function usage(reason: string): CMeshError {
  return new CMeshError('CMESH_CLIENT_USAGE', { reason })
}

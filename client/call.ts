/** What a call is asked with, checked and put into a frame's parts: the pure side of the client. */
import type { BatchEntryFields } from '../cmtp/batch.ts'
import { parseFqmn } from '../cmtp/fqmn.ts'
import { encodeHeaders, type HeaderList } from '../cmtp/headers.ts'
import { needsProof } from '../cmtp/identity/request-proof.ts'
import { anything, checkOptions, readLevel, REQUEST_CHECKS, text, usage, type ReadLevel, type RequestDefaults } from './options.ts'
import type { RequestParts } from './requester.ts'

export interface CallOptions extends RequestDefaults {
  /** Bytes, or text that is sent as UTF-8. At most 1 MiB. Excludes `args`. */
  readonly body?: Uint8Array | string | undefined
  /** Arguments of a contract's function, sent in the body as a JSON array. The address must have none then. */
  readonly args?: readonly unknown[] | undefined
  /** Names are sent in lower case. */
  readonly headers?: Readonly<Record<string, string>> | undefined
  /** Gives the call up. What was sent may still be executed. */
  readonly signal?: AbortSignal | undefined
  /** The `idempotency-key` header. */
  readonly idempotencyKey?: string | undefined
  /**
   * How fresh a view has to be. `local` (default): what the node that answers has applied. `session`: at least what this client's
   * acknowledged writes did. `linear`: at least everything that was acknowledged to anybody before the call. For contracts' views and
   * for names, in an address too; other reads do not look at it.
   */
  readonly read?: ReadLevel | undefined
  /**
   * The write is for a contract that runs this code: SHA-256, 64 lower-case hex digits, as a contract's record gives it in `codeHash`. Rejects with
   * `CMESH_STATE_IF_MATCH` where another is in force, and does nothing then.
   */
  readonly ifMatch?: string | undefined
}

/**
 * Gives the headers that say which trace a request belongs to (`traceparent`, `tracestate`), none for none. Asked in the turn in which the
 * request is; what it throws the request rejects with.
 */
export type TraceHeaders = () => Readonly<Record<string, string>>

/** One request of a batch. */
export interface BatchEntry {
  readonly fqmn: string
  readonly body?: Uint8Array | string | undefined
  readonly args?: readonly unknown[] | undefined
  readonly headers?: Readonly<Record<string, string>> | undefined
}

export interface BatchOptions {
  /** As in `CallOptions`, for the whole batch. */
  readonly timeoutMs?: number | undefined
  readonly receipt?: RequestDefaults['receipt']
  readonly retry?: boolean | undefined
  readonly resendMs?: number | undefined
  readonly signal?: AbortSignal | undefined
}

/** Where all addresses begin that need a signature of their own. */
const SYSTEM_WRITES = '0xSW:0x000:'
const IAM_WRITES = '0xIW:'
export const BATCH_CHECKS = {
  timeoutMs: REQUEST_CHECKS.timeoutMs, receipt: REQUEST_CHECKS.receipt, retry: REQUEST_CHECKS.retry, resendMs: REQUEST_CHECKS.resendMs, signal: anything,
}
const ENTRY_CHECKS = { fqmn: text, body: anything, args: anything, headers: anything }
const LETTER_W = 0x57
export const CALL_CHECKS = {
  ...REQUEST_CHECKS, body: anything, args: anything, headers: anything, signal: anything, idempotencyKey: text, read: readLevel, ifMatch: text,
}

/** Whether an address needs the signature of its caller beside the session (`cmtp/identity/request-proof.ts`). What is no address needs none. */
export function isSigned(fqmn: string): boolean {
  if (!fqmn.startsWith(SYSTEM_WRITES) && !fqmn.startsWith(IAM_WRITES)) return false
  try {
    return needsProof(parseFqmn(fqmn))
  } catch {
    // The mesh says what is wrong with it.
    return false
  }
}

/** Whether the outer opcode is one of writing: `0xSW:` and the like. */
export function isWrite(fqmn: string): boolean {
  return fqmn.charCodeAt(3) === LETTER_W
}

/** An entry of a batch as it goes into the frame. Throws `CMESH_CLIENT_USAGE`. */
export function fieldsOf(entry: BatchEntry): BatchEntryFields {
  const bare = plain(entry)
  if (bare !== undefined) return bare
  checkOptions('an entry of a batch', entry, ENTRY_CHECKS)
  return { fqmn: entry.fqmn, ...partsOf(entry, undefined) }
}

/** An entry that is its address and nothing else, as most are: there is nothing to check then. */
function plain(entry: BatchEntry): BatchEntryFields | undefined {
  for (const key in entry) if (key !== 'fqmn') return undefined
  return typeof entry.fqmn === 'string' ? entry as { readonly fqmn: string } : undefined
}

/** The variable parts of a request; `undefined` when it has none, which is what a template is for. */
export function partsOf({ body, args, headers }: Omit<BatchEntry, 'fqmn'>, idempotencyKey: string | undefined): RequestParts | undefined {
  if (body !== undefined && args !== undefined) throw usage('A call has a body or args, not both: args are sent in the body.')
  const content = args === undefined ? body : JSON.stringify(args)
  if (headers === undefined && idempotencyKey === undefined) return content === undefined ? undefined : { body: content }
  const list: HeaderList = [
    ...Object.entries(headers ?? {}).map(([name, value]): [string, string] => [name.toLowerCase(), value]),
    ...(idempotencyKey === undefined ? [] : [['idempotency-key', idempotencyKey]] as const),
  ]
  if (content === undefined && list.length === 0) return undefined
  return { ...(list.length > 0 && { headers: encodeHeaders(list) }), ...(content !== undefined && { body: content }) }
}

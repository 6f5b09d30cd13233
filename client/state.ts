/**
 * State by key, asked of a mesh: the value now, with a proof, or as it was, and what changed. Long questions are asked page by page. Bytes
 * are written as text where they are text, else as `hex:` and digits; what is written so is read back as the same bytes.
 */
import { isUtf8 } from 'node:buffer'
import { CMeshError } from '../cmtp/errors.ts'
import { verifyStateProof, type ProvenState } from '../cmtp/state-proof.ts'
import type { MeshClient } from './mesh-client.ts'
import { usage } from './options.ts'

export interface StateValue {
  /** `undefined`: there is none. */
  readonly value: Buffer | undefined
  /** The block that this is the state after; of an earlier one also the block that wrote it, 0 where none did. */
  readonly seq: number
  readonly written?: number
}

export interface StateChange {
  readonly contract: string
  readonly key: Buffer
  /** Of the last write. */
  readonly seq: number
  /** `undefined`: it was deleted, or is told of by its hash alone. */
  readonly value: Buffer | undefined
  readonly long?: { readonly bytes: number, readonly sha256: string }
}

/** Blocks after `from` up to `to`, of one contract or of all. */
export interface StateSpan {
  readonly from: number
  readonly to: number
  readonly contract?: string | undefined
}

interface Asked {
  readonly signal?: AbortSignal | undefined
  /** Told how far a long question has come. */
  readonly onProgress?: (seq: number) => void
}

interface WireChange {
  readonly contract: string
  readonly key: string
  readonly seq: number
  readonly value?: string | null
  readonly bytes?: number
  readonly sha256?: string
}

/** The value now. */
export async function stateValue(client: MeshClient, contract: string, key: Uint8Array, { signal }: Asked = {}): Promise<StateValue> {
  const { value, seq } = (await client.call(address('get', contract, hex(key)), { signal })).json<{ readonly value: string | null, readonly seq: number }>()
  return { value: bytesOf(value), seq }
}

/** The text of a proof, once it holds for the mesh that the client is connected to, and for what was asked. */
export async function stateProof(
  client: MeshClient, contract: string, key: Uint8Array, { signal }: Asked = {},
): Promise<{ readonly text: string, readonly proven: ProvenState }> {
  const text = Buffer.from((await client.call(address('proof', contract, hex(key)), { signal })).body).toString('utf8')
  const proven = verifyStateProof(text, client.mesh ?? '')
  if (proven.contract !== contract || Buffer.compare(proven.key, key) !== 0) throw new CMeshError('CMESH_STATE_PROOF', { reason: 'it is of another key' })
  return { text, proven }
}

/** The value after block `seq`. */
export async function stateAt(client: MeshClient, contract: string, key: Uint8Array, seq: number, { signal, onProgress }: Asked = {}): Promise<StateValue> {
  for (let from = seq; ;) {
    const page = (await client.call(address('at', contract, hex(key), seq, from), { signal }))
      .json<{ readonly value?: string | null, readonly written?: number, readonly next?: number }>()
    if (page.next === undefined) return { value: bytesOf(page.value), seq, written: page.written ?? 0 }
    if (page.next >= from) throw endless()
    from = page.next
    onProgress?.(from)
  }
}

/** What blocks after `from` up to `to` changed, by contract and key; `hidden` counts writes to contracts that the caller may not read. */
export async function stateChanges(
  client: MeshClient, { from, to, contract }: StateSpan, { signal, onProgress }: Asked = {},
): Promise<{ readonly changes: readonly StateChange[], readonly hidden: number }> {
  const changes = new Map<string, StateChange>()
  let hidden = 0
  for (let begin: readonly number[] = []; ;) {
    const page = (await client.call(address('diff', from, to, contract ?? null, ...begin), { signal }))
      .json<{ readonly changes: readonly WireChange[], readonly hidden: number, readonly next?: { readonly seq: number, readonly skip: number } }>()
    for (const each of page.changes) changes.set(`${each.contract} ${each.key}`, changeOf(each))
    hidden += page.hidden
    const { next } = page
    if (next === undefined) break
    const [seq = 0, skip = 0] = begin
    if (next.seq < seq || (next.seq === seq && next.skip <= skip)) throw endless()
    begin = [next.seq, next.skip]
    onProgress?.(next.seq)
  }
  const order = ([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number => (a < b ? -1 : 1)
  return { changes: [...changes].sort(order).map(([, change]) => change), hidden }
}

function changeOf({ contract, key, seq, value, bytes, sha256 }: WireChange): StateChange {
  const change = { contract, key: Buffer.from(key, 'base64url'), seq, value: bytesOf(value) }
  return bytes === undefined || sha256 === undefined ? change : { ...change, long: { bytes, sha256 } }
}

function address(read: string, ...args: readonly unknown[]): string {
  return `0xS:0x000:${read}:${JSON.stringify(args)}`
}

function bytesOf(text: string | null | undefined): Buffer | undefined {
  return text === null || text === undefined ? undefined : Buffer.from(text, 'base64url')
}

function endless(): CMeshError {
  return new CMeshError('CMESH_CLIENT_REPLY', { id: 'a page of state', reason: 'the next page does not come after it' })
}

// --- bytes as text

/** The bytes that a person means: `hex:` and digits, `json:` and a JSON string, `text:` and text, or text. Throws `CMESH_CLIENT_USAGE`. */
export function bytesFrom(given: string): Buffer {
  if (given.startsWith('text:')) return Buffer.from(given.slice(5))
  if (given.startsWith('hex:')) {
    const digits = given.slice(4)
    if (!/^(?:[0-9a-f]{2})*$/i.test(digits)) throw usage(`"${given}" is not an even number of hex digits behind hex:.`)
    return Buffer.from(digits, 'hex')
  }
  if (given.startsWith('json:')) {
    let value: unknown
    try {
      value = JSON.parse(given.slice(5))
    } catch {
      value = undefined
    }
    if (typeof value !== 'string') throw usage(`"${given}" is not a JSON string behind json:.`)
    return Buffer.from(value)
  }
  return Buffer.from(given)
}

/** As `bytesFrom` reads it. */
export function bytesText(bytes: Buffer): string {
  const text = bytes.toString('utf8')
  // Control characters, and what would be read as something else.
  return isUtf8(bytes) && !/\p{Cc}|^(?:hex|json|text):/u.test(text) ? text : `hex:${hex(bytes)}`
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex')
}

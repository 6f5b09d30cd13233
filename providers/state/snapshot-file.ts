/**
 * The form of a snapshot: every key of every space at one sequence, sorted, and a hash over all of it.
 *
 *   snapshot  'CMESHSN1' · header (u32 LE length, JSON) · count of entries (u32 LE) · entry… · SHA-256 of what is before
 *   entry     length of the space (u16 LE), of the key (u32 LE), of the value (i32 LE; −1, only on its way to the file: the key is
 *             gone) · space (UTF-8) · key (latin1) · value
 *
 * Entries are in the order of (length of the space, space, key), byte by byte, each key once. The reader believes nothing before the
 * hash is right. What writes the file is the thread of `snapshot-thread.ts`.
 */
import { hash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import type { Recollection, StateHead } from '../../services/state/provider.ts'
import { emptySpace } from './image.ts'
import type { ByteSpace } from './packed-space.ts'

export const SNAPSHOT_MAGIC = 'CMESHSN1'
const ENTRY_BYTES = 10
const HASH_BYTES = 32

/** Chains and root in hex. */
interface Header {
  readonly v: 1
  readonly head: Omit<StateHead, 'chain'> & { readonly chain: string }
  /** The hash over the tree of the log's first `head.seq` blocks. */
  readonly root: string
  readonly since: Omit<Recollection, 'before'> & { readonly before: { readonly epoch: number, readonly seq: number, readonly chain: string } }
}

export interface Snapshot {
  readonly head: StateHead
  readonly root: string
  /** From where blocks are to be seen again, though their writes are in the spaces. */
  readonly since: Recollection
  readonly spaces: ReadonlyMap<string, ByteSpace>
}

export function snapshotHeader(head: StateHead, root: Uint8Array, since: Recollection): string {
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
  const { before } = since
  return JSON.stringify({
    v: 1, head: { ...head, chain: hex(head.chain) }, root: hex(root), since: { ...since, before: { ...before, chain: hex(before.chain) } },
  } satisfies Header)
}

/** Bytes that an entry takes. */
export function entryBytes(space: string, key: string, value: Uint8Array | undefined): number {
  return ENTRY_BYTES + Buffer.byteLength(space) + key.length + (value?.length ?? 0)
}

/** Writes an entry at `at` and gives where it ends. */
export function writeEntry(bytes: Buffer, at: number, space: string, key: string, value: Uint8Array | undefined): number {
  const spaceBytes = bytes.write(space, at + ENTRY_BYTES)
  bytes.writeUInt16LE(spaceBytes, at)
  bytes.writeUInt32LE(key.length, at + 2)
  bytes.writeInt32LE(value?.length ?? -1, at + 6)
  const end = at + ENTRY_BYTES + spaceBytes + bytes.write(key, at + ENTRY_BYTES + spaceBytes, 'latin1')
  if (value === undefined) return end
  bytes.set(value, end)
  return end + value.length
}

/** Rejects with an error that says what is wrong with the file. */
export async function readSnapshot(path: string): Promise<Snapshot> {
  const bytes = await readFile(path)
  const body = bytes.subarray(0, -HASH_BYTES)
  if (bytes.length < HASH_BYTES || hash('sha256', body, 'hex') !== bytes.subarray(-HASH_BYTES).toString('hex')) {
    throw new Error('its hash is not that of its contents')
  }
  let at = SNAPSHOT_MAGIC.length
  if (body.toString('latin1', 0, at) !== SNAPSHOT_MAGIC) throw new Error('it is of another form')
  const headerEnd = at + 4 + body.readUInt32LE(at)
  const { v, head, root, since } = JSON.parse(body.toString('utf8', at + 4, headerEnd)) as Header
  if ((v as number) !== 1) throw new Error('it is of another version')
  const count = body.readUInt32LE(headerEnd)
  at = headerEnd + 4
  const spaces = new Map<string, ByteSpace>()
  let last = ''
  let space: { readonly name: string, readonly keys: ByteSpace } | undefined
  for (let i = 0; i < count; i++) {
    const keyAt = at + ENTRY_BYTES + body.readUInt16LE(at)
    const valueAt = keyAt + body.readUInt32LE(at + 2)
    const end = valueAt + body.readInt32LE(at + 6)
    const order = body.toString('latin1', at, at + 2) + body.toString('latin1', at + ENTRY_BYTES, valueAt)
    if (end < valueAt || end > body.length || order <= last) throw new Error(`its entry ${i} is out of order`)
    last = order
    const name = body.toString('utf8', at + ENTRY_BYTES, keyAt)
    if (space?.name !== name) spaces.set(name, (space = { name, keys: emptySpace(name) }).keys)
    space.keys.setBytes(body, keyAt, valueAt - keyAt, valueAt, end - valueAt)
    at = end
  }
  if (at !== body.length) throw new Error('something comes behind its entries')
  const bin = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'))
  return { head: { ...head, chain: bin(head.chain) }, root, since: { ...since, before: { ...since.before, chain: bin(since.before.chain) } }, spaces }
}

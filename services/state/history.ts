/**
 * State as it was, read back from the log: the value of a key at a sequence, and what changed between two. There is no index: a question is
 * answered in pages, each of which reads so many blocks and says where the next one begins.
 */
import { createHash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Block, StateStore } from './provider.ts'

/** Blocks and bytes of blocks that one page reads, about. */
const PAGE_BLOCKS = 1_024
const PAGE_BYTES = 4 * 1024 * 1024
/** Blocks that are read at once; the thread is anybody's between them. */
const SLICE_BLOCKS = 64
/** About how many bytes of changes one page gives. */
const PAGE_REPLY_BYTES = 262_144
/** A longer value is told of by its hash. */
const VALUE_BYTES = 256
/** Pages that are read at the same time. */
const MOST_AT_ONCE = 4
const RETRY_AFTER_MS = 200

export interface ValueThen {
  /** `null`: it was not there. */
  readonly value: string | null
  /** Sequence of the write that made it so; 0 where none did. */
  readonly written: number
}

export interface Change {
  readonly contract: string
  /** base64url. */
  readonly key: string
  /** Of the last write between the two. */
  readonly seq: number
  /** base64url; `null` deletes. Missing where it is long. */
  readonly value?: string | null
  /** Instead of a long value. */
  readonly bytes?: number
  readonly sha256?: string
}

/** Where the next page of changes begins: how many writes of which block were told of. */
export interface ChangesFrom {
  readonly seq: number
  readonly skip: number
}

export interface ChangesPage {
  /** In the order of their last writes; of one key, a later page says later. */
  readonly changes: readonly Change[]
  /** Writes to contracts that the caller may not read. */
  readonly hidden: number
  /** Missing on the last page. */
  readonly next?: ChangesFrom
}

export class History {
  readonly #store: Pick<StateStore, 'head' | 'readBack'>
  #reading = 0

  constructor(store: Pick<StateStore, 'head' | 'readBack'>) {
    this.#store = store
  }

  /** The value after block `seq`, from its newest write at or before `from`; or `next`, before which to go on. */
  async at(contract: string, key: string, seq: number, from = seq): Promise<ValueThen | { readonly next: number }> {
    this.#check(seq)
    let upTo = Math.min(from, seq)
    const page = new Page()
    return this.#exclusive(async readBack => {
      while (upTo > 0) {
        if (page.full) return { next: upTo }
        const first = Math.max(1, upTo - SLICE_BLOCKS + 1)
        let found: ValueThen | undefined
        await readBack(first, upTo, block => {
          page.add(block)
          for (const { writes } of block.transactions) {
            for (const { space, key: written, value } of writes) {
              if (written === key && space === contract) found = { value: value === undefined ? null : base64url(value), written: block.seq }
            }
          }
        })
        if (found !== undefined) return found
        upTo = first - 1
      }
      return { value: null, written: 0 }
    })
  }

  /** What blocks after `from` up to `to` changed; `sees` says of which contracts. */
  async changes({ from, to }: { readonly from: number, readonly to: number }, sees: (contract: string) => boolean, begin?: ChangesFrom): Promise<ChangesPage> {
    this.#check(from)
    this.#check(to)
    if (from > to) throw new CMeshError('CMESH_STATE_SEQUENCE', { seq: from, reason: `it is after ${to}` })
    const changes = new Map<string, Change>()
    const page = new Page()
    let [next, skip, hidden, replyBytes] = [Math.max(begin?.seq ?? 0, from + 1), begin?.skip ?? 0, 0, 0]
    const take = (block: Block): void => {
      if (replyBytes >= PAGE_REPLY_BYTES) return
      page.add(block)
      let told = 0
      for (const { writes } of block.transactions) {
        for (const { space, key, value } of writes) {
          if (replyBytes >= PAGE_REPLY_BYTES) {
            skip = told
            return
          }
          if (++told <= skip) continue
          if (!sees(space)) {
            hidden++
            continue
          }
          const change = changeOf(space, key, value, block.seq)
          const name = `${space} ${key}`
          changes.delete(name)
          changes.set(name, change)
          replyBytes += 128 + change.key.length + (change.value?.length ?? 0)
        }
      }
      skip = 0
      next = block.seq + 1
    }
    await this.#exclusive(async readBack => {
      while (next <= to && !page.full && replyBytes < PAGE_REPLY_BYTES) await readBack(next, Math.min(to, next + SLICE_BLOCKS - 1), take)
    })
    return { changes: [...changes.values()], hidden, ...(next <= to && { next: { seq: next, skip } }) }
  }

  #check(seq: number): void {
    const { head } = this.#store
    if (seq > head.seq) throw new CMeshError('CMESH_STATE_SEQUENCE', { seq, reason: `the log ends at ${head.seq}` })
  }

  async #exclusive<T>(read: (readBack: NonNullable<StateStore['readBack']>) => Promise<T>): Promise<T> {
    const store = this.#store
    if (store.readBack === undefined) throw new CMeshError('CMESH_STATE_NO_HISTORY')
    if (this.#reading >= MOST_AT_ONCE) throw new CMeshError('CMESH_ROUTER_BUSY', { what: 'the history of state', limit: MOST_AT_ONCE, retryAfterMs: RETRY_AFTER_MS })
    this.#reading++
    try {
      return await read((from, to, each) => (store as Required<typeof store>).readBack(from, to, each))
    } finally {
      this.#reading--
    }
  }
}

/** How much of the log one page has read. */
class Page {
  #blocks = 0
  #bytes = 0

  get full(): boolean {
    return this.#blocks >= PAGE_BLOCKS || this.#bytes >= PAGE_BYTES
  }

  add({ message, transactions }: Block): void {
    this.#blocks++
    this.#bytes += message.length
    for (const { writes, output } of transactions) {
      this.#bytes += output.length
      for (const { value } of writes) this.#bytes += value?.length ?? 0
    }
  }
}

function changeOf(contract: string, key: string, value: Uint8Array | undefined, seq: number): Change {
  const change = { contract, key: base64url(Buffer.from(key, 'latin1')), seq }
  if (value === undefined) return { ...change, value: null }
  if (value.length <= VALUE_BYTES) return { ...change, value: base64url(value) }
  return { ...change, bytes: value.length, sha256: createHash('sha256').update(value).digest('hex') }
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64url')
}

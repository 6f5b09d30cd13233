/**
 * The bytes of a block, and the chain over them. The bytes follow from the block alone (no clock, no host), so replicas
 * that executed one order hold equal logs; they are canonical (binary.ts), so whatever decodes encodes to the same bytes.
 *
 *   block       'S' · 1 · epoch · seq · timeMs · message · count · transaction…
 *   block       'S' · 2 · root (32) · epoch (u64 LE) · seq (u64 LE) · timeMs (u64 LE) · message · count · transaction…
 *   transaction id (16) · status · gas (u64 LE) · writes · write… · events · event… · output
 *   write       space (table) · key (latin1) · value length + 1, or 0 for a deletion · value
 *   event       contract (table) · topic (UTF-8) · data
 *
 * A block that carries a state root is one of version 2, any other one of version 1: a log from before there were roots is of version 1
 * throughout.
 */
import { createHash, hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { CHECKPOINT_HEAD_BYTES, checkpointChain, checkpointHead, HASH_BYTES } from '../../cmtp/state-hash.ts'
import { BOUND, ByteReader, ByteWriter, type Refuse } from './binary.ts'
import type { Block, BlockHolds, EmittedEvent, TransactionRecord, Write } from './provider.ts'

const MAGIC = 0x53
const PLAIN_VERSION = 1
const ROOTED_VERSION = 2

/**
 * Largest block in bytes: what Hypercore appends and sends in one piece (its `MAX_SUGGESTED_BLOCK_SIZE`). Who fills a
 * block adds up `recordBytes` and `BLOCK_OVERHEAD_BYTES + message.length` to stay below it.
 */
export const BLOCK_BYTES = 15 * 1024 * 1024
export const BLOCK_OVERHEAD_BYTES = CHECKPOINT_HEAD_BYTES + 2 * BOUND.integer

/** Smallest encodings, so that a count in hostile bytes allocates nothing the bytes could not hold. */
const LEAST = Object.freeze({ transaction: 28, write: 3, event: 3 })

/** Up to here joining bytes costs less than a hash object. */
const HASH_AT_ONCE = 4_096
const CHAIN_BYTES = 32

/** An upper bound of what one transaction adds to a block, in bytes; follows from the record alone. */
export function recordBytes(record: TransactionRecord): number {
  let size = BOUND.id + BOUND.u64 + 3 * BOUND.integer + BOUND.bytes(record.output.length)
  for (const write of record.writes) {
    size += BOUND.text(write.space) + BOUND.bytes(write.key.length) + BOUND.bytes(write.value?.length ?? 0)
  }
  for (const event of record.events) size += BOUND.text(event.contract) + BOUND.text(event.topic) + BOUND.bytes(event.data.length)
  return size
}

/** The bytes of a block, the caller's to keep. Throws `CMESH_STATE_BLOCK` for what has no encoding and past `BLOCK_BYTES`. */
export function encodeBlock(block: Block): Uint8Array {
  const refuse = (_: number, expected: string): never => {
    throw new CMeshError('CMESH_STATE_BLOCK', { seq: block.seq, reason: `it holds a value that is not ${expected}` })
  }
  let size = BLOCK_OVERHEAD_BYTES + block.message.length
  for (const record of block.transactions) size += recordBytes(record)
  const out = new ByteWriter(size, refuse)
  if (block.root === undefined) {
    out.u8(MAGIC)
    out.u8(PLAIN_VERSION)
    out.integer(block.epoch)
    out.integer(block.seq)
    out.integer(block.timeMs)
  } else {
    if (block.root.length !== HASH_BYTES || ![block.epoch, block.seq, block.timeMs].every(isCount)) refuse(0, 'the head of a block')
    out.raw(checkpointHead({ ...block, root: block.root }))
  }
  out.bytes(block.message)
  out.integer(block.transactions.length)
  for (const record of block.transactions) writeRecord(out, record)
  const bytes = out.written()
  if (bytes.length > BLOCK_BYTES) {
    const reason = `it has ${bytes.length} bytes, at most ${BLOCK_BYTES} fit`
    throw new CMeshError('CMESH_STATE_BLOCK', { seq: block.seq, reason })
  }
  return bytes
}

function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0
}

function writeRecord(out: ByteWriter, record: TransactionRecord): void {
  out.id(record.id)
  out.integer(record.status)
  out.u64(record.gas)
  out.integer(record.writes.length)
  for (const write of record.writes) {
    out.reference(write.space)
    out.latin1(write.key)
    out.integer(write.value === undefined ? 0 : write.value.length + 1)
    if (write.value !== undefined) out.raw(write.value)
  }
  out.integer(record.events.length)
  for (const event of record.events) {
    out.reference(event.contract)
    out.utf8(event.topic)
    out.bytes(event.data)
  }
  out.bytes(record.output)
}

/** Where bytes came from, for the error that names them. */
export interface BlockSource {
  readonly path: string
  /** Index in the log, from 0. */
  readonly block: number
}

/**
 * The block in `bytes`. Its message is a view that keeps all of `bytes` alive; values, event data and outputs are copies of
 * their own, since they live on in the state. Throws `CMESH_STATE_CORRUPT` with the source and the offset for anything that
 * `encodeBlock` does not write.
 */
export function decodeBlock(bytes: Uint8Array, source: BlockSource = { path: 'memory', block: 0 }): Block {
  const from = new ByteReader(bytes, refusalOf(source))
  const head = readHead(from)
  const transactions = new Array<TransactionRecord>(from.count(LEAST.transaction, 'a count of transactions'))
  for (let i = 0; i < transactions.length; i++) transactions[i] = readRecord(from)
  from.done()
  return { ...head, transactions }
}

/** Takes a write as ranges of the block's bytes; `valueAt` is −1 for a deletion. */
export type ScanWrite = (space: string, keyAt: number, keyBytes: number, valueAt: number, valueBytes: number) => void

/**
 * The same for a block whose writes alone are wanted: `write` gets each, and the transactions are decoded when somebody asks for them, which
 * nobody does for most blocks of a log that is read back. Refuses what `decodeBlock` refuses.
 */
export function scanBlock(bytes: Uint8Array, source: BlockSource, write: ScanWrite): ReadBlock {
  const from = new ByteReader(bytes, refusalOf(source))
  const head = readHead(from)
  const transactions = from.count(LEAST.transaction, 'a count of transactions')
  let [writes, events, outputBytes] = [0, 0, 0]
  for (let i = 0; i < transactions; i++) {
    from.pass(BOUND.id, 'a transaction id')
    from.integer('a status')
    from.pass(BOUND.u64, 'gas')
    const written = from.count(LEAST.write, 'a count of writes')
    for (let w = 0; w < written; w++) {
      const space = from.reference('a space')
      const keyBytes = from.integer('a key')
      const keyAt = from.pass(keyBytes, 'a key')
      const length = from.integer('a length of a value')
      if (length === 0) write(space, keyAt, keyBytes, -1, 0)
      else write(space, keyAt, keyBytes, from.pass(length - 1, 'a value'), length - 1)
    }
    const emitted = from.count(LEAST.event, 'a count of events')
    for (let e = 0; e < emitted; e++) readEvent(from)
    const output = from.integer('an output')
    from.pass(output, 'an output')
    writes += written
    events += emitted
    outputBytes += output
  }
  from.done()
  return new ScannedBlock(head, { transactions, writes, events, outputBytes, bytes: bytes.length }, bytes)
}

/** A block that says how much it holds. */
export type ReadBlock = Block & Required<Pick<Block, 'holds'>>

type BlockHead = Omit<Block, 'transactions' | 'holds'>

/** A block that was read through. Its transactions are decoded anew for each who asks, so that it keeps no more memory than its bytes. */
class ScannedBlock implements ReadBlock {
  readonly epoch: number
  readonly seq: number
  readonly timeMs: number
  readonly message: Uint8Array
  readonly root?: Uint8Array
  readonly holds: BlockHolds
  readonly #bytes: Uint8Array

  constructor({ epoch, seq, timeMs, message, root }: BlockHead, holds: BlockHolds, bytes: Uint8Array) {
    this.epoch = epoch
    this.seq = seq
    this.timeMs = timeMs
    this.message = message
    if (root !== undefined) this.root = root
    this.holds = holds
    this.#bytes = bytes
  }

  get transactions(): readonly TransactionRecord[] {
    return decodeBlock(this.#bytes).transactions
  }
}

function refusalOf(source: BlockSource): Refuse {
  return (offset, expected) => {
    throw new CMeshError('CMESH_STATE_CORRUPT', { ...source, offset, reason: `byte ${offset} is not ${expected}` })
  }
}

function readHead(from: ByteReader): BlockHead {
  if (from.u8('a block') !== MAGIC) from.fail('the start of a block', 0)
  const version = from.u8('a version')
  if (version !== PLAIN_VERSION && version !== ROOTED_VERSION) from.fail(`version ${PLAIN_VERSION} or ${ROOTED_VERSION} of a block`, 1)
  const rooted = version === ROOTED_VERSION
  const root = rooted ? new Uint8Array(from.raw(HASH_BYTES, 'a state root')) : undefined
  const readCount = (expected: string): number => rooted ? wideInteger(from, expected) : from.integer(expected)
  const epoch = readCount('an epoch')
  const seq = readCount('a sequence')
  const timeMs = readCount('a time')
  const message = from.bytes('a message')
  return root === undefined ? { epoch, seq, timeMs, message } : { epoch, seq, timeMs, message, root }
}

function wideInteger(from: ByteReader, expected: string): number {
  const value = from.u64(expected)
  return value > BigInt(Number.MAX_SAFE_INTEGER) ? from.fail(`${expected} below 2^53`) : Number(value)
}

const NO_EVENTS: readonly EmittedEvent[] = Object.freeze([])
const NOTHING = new Uint8Array(0)

function readRecord(from: ByteReader): TransactionRecord {
  const id = from.id('a transaction id')
  const status = from.integer('a status')
  const gas = from.u64('gas')
  const writes = new Array<Write>(from.count(LEAST.write, 'a count of writes'))
  for (let i = 0; i < writes.length; i++) {
    const space = from.reference('a space')
    const key = from.latin1('a key')
    const length = from.integer('a length of a value')
    writes[i] = { space, key, value: length === 0 ? undefined : new Uint8Array(from.raw(length - 1, 'a value')) }
  }
  const count = from.count(LEAST.event, 'a count of events')
  const events = count === 0 ? NO_EVENTS : Array.from({ length: count }, () => readEvent(from))
  const output = from.bytes('an output')
  return { id, status, gas, writes, events, output: output.length === 0 ? NOTHING : new Uint8Array(output) }
}

function readEvent(from: ByteReader): EmittedEvent {
  const contract = from.reference('a contract')
  const topic = from.utf8('a topic')
  return { contract, topic, data: new Uint8Array(from.bytes('the data of an event')) }
}

/** The chain value of the empty log. */
export function emptyChain(): Uint8Array {
  return new Uint8Array(CHAIN_BYTES)
}

/** chain(i) = SHA-256(chain(i−1) ‖ block(i)), as 32 bytes of its own; of a block with a state root as `checkpointChain` says. */
export function chainAfter(previous: Uint8Array, block: Uint8Array): Uint8Array {
  if (block[1] === ROOTED_VERSION) return checkpointChain(previous, block.subarray(0, CHECKPOINT_HEAD_BYTES), restHash(block))
  if (block.length > HASH_AT_ONCE) return new Uint8Array(createHash('sha256').update(previous).update(block).digest())
  // One call into OpenSSL on joined bytes takes a third of a hash object's time, and as text less than as a buffer.
  const joined = Buffer.allocUnsafe(previous.length + block.length)
  joined.set(previous)
  joined.set(block, previous.length)
  const chain = new Uint8Array(CHAIN_BYTES)
  Buffer.from(chain.buffer).write(hash('sha256', joined, 'binary'), 'latin1')
  return chain
}

/** Of a block with a state root: the SHA-256 of what follows its head. */
export function restHash(block: Uint8Array): Uint8Array {
  return createHash('sha256').update(block.subarray(CHECKPOINT_HEAD_BYTES)).digest()
}

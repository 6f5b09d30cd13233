/**
 * What replicas ask one another about their logs, and the answers. A question has one answer of one message; who asks says how much of it
 * it wants, so that nobody is sent more than it asked for. Blocks go as they stand in the log. Integers and byte strings as in `binary.ts`.
 *
 *   question  'C' · 1 · kind · heads: nothing | chains: first · step · count | blocks: seq · to · offset · bytes
 *   answer    'C' · 1 · kind · heads: DID · epoch · seq · chain (32) | chains: chain (32) … | blocks: 0 · count · block … , or of a block
 *             that is larger than what was asked for: 1 · its length · bytes from the offset on | refused: reason
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import { BLOCK_BYTES } from '../block.ts'
import { BOUND, ByteReader, ByteWriter } from '../binary.ts'
import { CHAIN_STEP, type LogAnchor } from '../provider.ts'

/** Most bytes of blocks in one answer: with what goes around them below the 1 MiB that NATS takes by default. */
export const ANSWER_BYTES = 960 * 1024
/** Most chain values in one answer. */
export const CHAINS_MOST = 4_096

const MAGIC = 0x43
const VERSION = 1
const CHAIN_BYTES = 32
const DID_BYTES = 256
const REASON_BYTES = 300
const KIND = Object.freeze({ heads: 1, chains: 2, blocks: 3, refused: 4 })

export type Question =
  | { readonly kind: 'heads' }
  /** The chain value behind `first`, or those behind `first`, `first + step`, … where both are multiples of `CHAIN_STEP`. */
  | { readonly kind: 'chains', readonly first: number, readonly step: number, readonly count: number }
  /** Blocks from `seq`, whole ones up to `to`, or of one that is larger than `bytes` the piece from `offset` on. */
  | { readonly kind: 'blocks', readonly seq: number, readonly to: number, readonly offset: number, readonly bytes: number }

export type Answer =
  | { readonly kind: 'heads', readonly did: string, readonly head: LogAnchor }
  | { readonly kind: 'chains', readonly chains: readonly Uint8Array[] }
  /** Views into the answer. */
  | { readonly kind: 'blocks', readonly blocks: readonly Uint8Array[] }
  | { readonly kind: 'piece', readonly length: number, readonly bytes: Uint8Array }
  | { readonly kind: 'refused', readonly reason: string }

const refuse = (offset: number, expected: string): never => {
  throw new CMeshError('CMESH_STATE_CATCH_UP', { reason: `a message among replicas is malformed: byte ${offset} is not ${expected}` })
}

export function encodeQuestion(question: Question): Uint8Array {
  const out = new ByteWriter(3 + 4 * BOUND.integer, refuse)
  begin(out, KIND[question.kind])
  if (question.kind === 'chains') for (const value of [question.first, question.step, question.count]) out.integer(value)
  if (question.kind === 'blocks') for (const value of [question.seq, question.to, question.offset, question.bytes]) out.integer(value)
  return out.written()
}

/** Throws `CMESH_STATE_CATCH_UP` for anything that `encodeQuestion` does not write, and for what asks for too much. */
export function decodeQuestion(bytes: Uint8Array): Question {
  const from = new ByteReader(bytes, refuse)
  const question = readQuestion(from, readKind(from))
  from.done()
  return question
}

function readQuestion(from: ByteReader, kind: number): Question {
  if (kind === KIND.heads) return { kind: 'heads' }
  if (kind === KIND.chains) {
    const [first, step, count] = [from.integer('a sequence'), from.integer('a step'), from.integer('a count')]
    if (count < 1 || count > CHAINS_MOST || !Number.isSafeInteger(first + step * count)) from.fail(`a count of 1 to ${CHAINS_MOST} chain values`)
    // Any other one may cost who is asked a reading of its log.
    if (count > 1 && (step < 1 || step % CHAIN_STEP !== 0 || first % CHAIN_STEP !== 0)) from.fail(`one chain value, or those of multiples of ${CHAIN_STEP}`)
    return { kind: 'chains', first, step, count }
  }
  if (kind !== KIND.blocks) from.fail('a question')
  const [seq, to, offset, most] = [from.integer('a sequence'), from.integer('a sequence'), from.integer('an offset'), from.integer('a size')]
  if (seq < 1 || to < seq || offset >= BLOCK_BYTES || most < 1 || most > ANSWER_BYTES) from.fail(`a range of up to ${ANSWER_BYTES} bytes`)
  return { kind: 'blocks', seq, to, offset, bytes: most }
}

export function encodeAnswer(answer: Answer): Uint8Array {
  const out = new ByteWriter(3 + sizeOf(answer), refuse)
  begin(out, KIND[answer.kind === 'piece' ? 'blocks' : answer.kind])
  if (answer.kind === 'heads') {
    out.utf8(answer.did)
    out.integer(answer.head.epoch)
    out.integer(answer.head.seq)
    out.raw(answer.head.chain)
  } else if (answer.kind === 'chains') {
    for (const chain of answer.chains) out.raw(chain)
  } else if (answer.kind === 'blocks') {
    out.u8(0)
    out.integer(answer.blocks.length)
    for (const block of answer.blocks) out.bytes(block)
  } else if (answer.kind === 'piece') {
    out.u8(1)
    out.integer(answer.length)
    out.bytes(answer.bytes)
  } else {
    out.utf8(answer.reason.slice(0, REASON_BYTES / 3))
  }
  return out.written()
}

function sizeOf(answer: Answer): number {
  if (answer.kind === 'heads') return BOUND.text(answer.did) + 2 * BOUND.integer + CHAIN_BYTES
  if (answer.kind === 'chains') return answer.chains.length * CHAIN_BYTES
  if (answer.kind === 'blocks') return answer.blocks.reduce((sum, block) => sum + BOUND.bytes(block.length), 1 + BOUND.integer)
  return answer.kind === 'piece' ? 1 + BOUND.integer + BOUND.bytes(answer.bytes.length) : BOUND.text(answer.reason)
}

/** Throws `CMESH_STATE_CATCH_UP` for anything that `encodeAnswer` does not write. */
export function decodeAnswer(bytes: Uint8Array): Answer {
  const from = new ByteReader(bytes, refuse)
  const answer = readAnswer(from, readKind(from), bytes.length)
  from.done()
  return answer
}

function readAnswer(from: ByteReader, kind: number, length: number): Answer {
  if (kind === KIND.heads) {
    const did = from.utf8('a DID')
    if (did.length === 0 || did.length > DID_BYTES) from.fail('a DID')
    const [epoch, seq] = [from.integer('an epoch'), from.integer('a sequence')]
    return { kind: 'heads', did, head: { epoch, seq, chain: new Uint8Array(from.raw(CHAIN_BYTES, 'a chain value')) } }
  }
  if (kind === KIND.chains) {
    const chains: Uint8Array[] = []
    while (from.offset < length) chains.push(new Uint8Array(from.raw(CHAIN_BYTES, 'a chain value')))
    return { kind: 'chains', chains }
  }
  if (kind === KIND.refused) return { kind: 'refused', reason: from.utf8('a reason').replace(/[^\x20-\x7e]/g, '?').slice(0, REASON_BYTES) }
  if (kind !== KIND.blocks) from.fail('an answer')
  const form = from.u8('whole blocks or a piece')
  if (form > 1) from.fail('whole blocks or a piece')
  if (form === 0) return { kind: 'blocks', blocks: Array.from({ length: from.count(1, 'a count of blocks') }, () => from.bytes('a block')) }
  const whole = from.integer('a length')
  return { kind: 'piece', length: whole, bytes: from.bytes('a piece of a block') }
}

function begin(out: ByteWriter, kind: number): void {
  out.u8(MAGIC)
  out.u8(VERSION)
  out.u8(kind)
}

function readKind(from: ByteReader): number {
  if (from.u8('a message among replicas') !== MAGIC) refuse(0, 'the start of a message among replicas')
  if (from.u8('a version') !== VERSION) refuse(1, `version ${VERSION}`)
  return from.u8('a kind')
}

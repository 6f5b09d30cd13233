/**
 * What members ask one another about a read, and what they answer. Who is asked checks the caller's token and right itself, and answers with
 * a hash: the result stays where it is. The answer is signed over the question's hash, so that it is good for that question alone, a random
 * number in it included. Integers and byte strings as in `binary.ts`; both directions are total.
 *
 *   question  'Q' · 1 · nonce (16) · deadline, ms since 1970 · at · wish · patience, ms · gas limit · session · token · address · body
 *   answer    'A' · 1 · 1 · from · to · hash (32) · signature (64)     the result, and the blocks behind which it is this one
 *             'A' · 1 · 2 · reason                                     it was not made
 *
 * The signature is over `CMesh/1 check\n`, the SHA-256 of the question, and the answer up to it.
 */
import { createHash } from 'node:crypto'
import { CMeshError } from '../../../cmtp/errors.ts'
import { sha256 } from '../../../cmtp/layer.ts'
import type { Reply } from '../../call.ts'
import { BOUND, ByteReader, ByteWriter } from '../binary.ts'

/** Largest question, in bytes: a read with more arguments is not checked. */
export const QUESTION_BYTES = 256 * 1024
/** Largest answer, in bytes. */
const ANSWER_BYTES = 256
/** Longest that a question may ask to wait for a block that need not come, in ms. */
export const MOST_PATIENCE_MS = 1_000

const VERSION = 1
const MARK = Object.freeze({ question: 0x51, answer: 0x41 })
const KIND = Object.freeze({ result: 1, refused: 2 })
const NONCE_BYTES = 16
const HASH_BYTES = 32
const SIGNATURE_BYTES = 64
const REASON = /^[\x20-\x7e]{1,64}$/
const DOMAIN = Buffer.from('CMesh/1 check\n')
const VIEW_DOMAIN = 'CMesh/1 view\n'

export interface CheckQuestion {
  readonly nonce: Uint8Array
  /** ms since 1970. */
  readonly deadlineMs: number
  /** The answer is of this block's state or later. */
  readonly at: number
  /** Where possible it is of this block's, waited for so long; at least `at`. */
  readonly wish: number
  readonly patienceMs: number
  /** What the asker let the view use: the result may hang on it. */
  readonly gasLimit: number
  readonly sid: string
  readonly token: Uint8Array
  readonly fqmn: string
  readonly body: Uint8Array
}

export interface CheckResult {
  /** First and last block behind which the result is this one, as far as the member knows. */
  readonly from: number
  readonly to: number
  /** 64 lower-case hex digits. */
  readonly hash: string
}

export type CheckAnswer = ({ readonly kind: 'result' } & CheckResult) | { readonly kind: 'refused', readonly reason: string }

const refuse = (offset: number, expected: string): never => {
  throw new CMeshError('CMESH_FRAME_MALFORMED', { offset, expected })
}

/** Throws `CMESH_FRAME_TOO_LARGE` where it has more than `QUESTION_BYTES`. */
export function encodeQuestion({ nonce, deadlineMs, at, wish, patienceMs, gasLimit, sid, token, fqmn, body }: CheckQuestion): Buffer {
  const size = 2 + NONCE_BYTES + 5 * BOUND.integer + BOUND.text(sid) + BOUND.bytes(token.length) + BOUND.text(fqmn) + BOUND.bytes(body.length)
  const out = new ByteWriter(size, refuse)
  out.u8(MARK.question)
  out.u8(VERSION)
  out.raw(nonce)
  for (const value of [deadlineMs, at, wish, patienceMs, gasLimit]) out.integer(value)
  out.utf8(sid)
  out.bytes(token)
  out.utf8(fqmn)
  out.bytes(body)
  const bytes = out.written()
  if (bytes.length > QUESTION_BYTES) throw new CMeshError('CMESH_FRAME_TOO_LARGE', { part: 'read to be checked by other members', bytes: bytes.length, limit: QUESTION_BYTES })
  return bytes
}

/** Throws `CMESH_FRAME_MALFORMED` for anything that `encodeQuestion` does not write. What it gives are views into the bytes. */
export function decodeQuestion(bytes: Uint8Array): CheckQuestion {
  if (bytes.length > QUESTION_BYTES) refuse(QUESTION_BYTES, 'the end')
  const from = new ByteReader(bytes, refuse)
  begin(from, MARK.question, 'a question')
  const nonce = from.raw(NONCE_BYTES, 'a nonce')
  const deadlineMs = from.integer('a deadline')
  const at = from.integer('a sequence')
  const wish = from.integer('a sequence')
  if (wish < at) from.fail('a sequence that is not before the other')
  const patienceMs = from.integer('a patience')
  if (patienceMs > MOST_PATIENCE_MS) from.fail(`a patience of up to ${MOST_PATIENCE_MS} ms`)
  const gasLimit = from.integer('a gas limit')
  if (gasLimit === 0) from.fail('a gas limit of 1 and up')
  const question = {
    nonce, deadlineMs, at, wish, patienceMs, gasLimit, sid: from.utf8('a session'), token: from.bytes('a token'), fqmn: from.utf8('an address'), body: from.bytes('a body'),
  }
  from.done()
  return question
}

/** An answer to the question of those bytes, signed by `sign`. */
export function encodeAnswer({ from, to, hash }: CheckResult, question: Uint8Array, sign: (bytes: Uint8Array) => Uint8Array): Buffer {
  const out = new ByteWriter(3 + 2 * BOUND.integer + HASH_BYTES + SIGNATURE_BYTES, refuse)
  for (const value of [MARK.answer, VERSION, KIND.result]) out.u8(value)
  out.integer(from)
  out.integer(to)
  out.raw(Buffer.from(hash, 'hex'))
  out.raw(sign(signedBytes(question, out.written())))
  return out.written()
}

/** Tells that there is no answer. Nobody signs it: it counts for nothing. */
export function encodeRefusal(reason: string): Buffer {
  const out = new ByteWriter(3 + BOUND.text(reason), refuse)
  for (const value of [MARK.answer, VERSION, KIND.refused]) out.u8(value)
  out.utf8(reason)
  return out.written()
}

/** Throws `CMESH_FRAME_MALFORMED` for what is no answer to the question of those bytes by whom `verify` knows. */
export function decodeAnswer(bytes: Uint8Array, question: Uint8Array, verify: (bytes: Uint8Array, signature: Uint8Array) => boolean): CheckAnswer {
  if (bytes.length > ANSWER_BYTES) refuse(ANSWER_BYTES, 'the end')
  const reader = new ByteReader(bytes, refuse)
  begin(reader, MARK.answer, 'an answer')
  const kind = reader.u8('a kind')
  if (kind === KIND.refused) {
    const reason = reader.utf8('a reason')
    if (!REASON.test(reason)) reader.fail('a reason in ASCII')
    reader.done()
    return { kind: 'refused', reason }
  }
  if (kind !== KIND.result) reader.fail('an answer')
  const [from, to] = [reader.integer('a sequence'), reader.integer('a sequence')]
  if (to < from) reader.fail('a sequence that is not before the other')
  const hash = Buffer.from(reader.raw(HASH_BYTES, 'a hash')).toString('hex')
  const signed = signedBytes(question, bytes.subarray(0, reader.offset))
  if (!verify(signed, reader.raw(SIGNATURE_BYTES, 'a signature'))) reader.fail('the member\'s signature')
  reader.done()
  return { kind: 'result', from, to, hash }
}

/**
 * What two members compare, 64 lower-case hex digits: status, headers and body; of an error its code and detail, not how it is worded.
 * The gas that was used stands in the headers.
 */
export function resultHash({ status, headers, body, bodyHash }: Reply): string {
  const hash = createHash('sha256').update(VIEW_DOMAIN).update(Buffer.of(status >> 8, status & 0xff)).update(sha256(headers), 'latin1')
  if (status < 400) return hash.update(bodyHash ?? sha256(body), 'latin1').digest('hex')
  const { code, detail } = JSON.parse(Buffer.from(body).toString('utf8')) as { readonly code: string, readonly detail: object }
  return hash.update(JSON.stringify([code, detail])).digest('hex')
}

function begin(from: ByteReader, mark: number, what: string): void {
  if (from.u8(what) !== mark) refuse(0, `the start of ${what}`)
  if (from.u8('a version') !== VERSION) refuse(1, `version ${VERSION}`)
}

function signedBytes(question: Uint8Array, answer: Uint8Array): Buffer {
  return Buffer.concat([DOMAIN, createHash('sha256').update(question).digest(), answer])
}

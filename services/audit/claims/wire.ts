/**
 * What members ask one another for receipts, and what they answer: a signature over the outcomes of some writes, which each takes from its own
 * log. Nothing of an outcome goes over the wire: who asks knows them as well, or has no use for the answer. Both directions are total.
 *
 *   question  'O' · 1 · count (u16) · ( sequence u64 · id (16) · salt (16) )…
 *   answer    'o' · 1 · level (1) · members (u16) · time, ms since 1970 (u64) · signature (64) · [certificate of the member (72)]
 *             'o' · 0                                                        it cannot say so
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import { readUint64, writeUint64 } from '../../../cmtp/frame.ts'
import { SALT_BYTES } from '../../../cmtp/layer.ts'
import { MESSAGE_ID_BYTES } from '../../../cmtp/message-id.ts'
import { decodeBareCertificate, encodeBareCertificate, type BareCertificate } from '../../../cmtp/receipt/bare-certificate.ts'
import { CLAIM_LEVELS } from '../../../cmtp/receipt/evidence.ts'
import { MOST_OUTCOMES, type OutcomesClaim } from '../../../cmtp/receipt/outcome.ts'
import { Reader } from '../../../cmtp/reader.ts'

export interface AskedOutcome {
  /** Of the block that the transaction is in. */
  readonly seq: number
  readonly id: Uint8Array
  readonly salt: Uint8Array
}

export interface OutcomesAnswer extends Pick<OutcomesClaim, 'level' | 'members' | 'timeMs'> {
  readonly signature: Uint8Array
  /** Of the member; none where its key is the mesh's. */
  readonly certificate: BareCertificate | undefined
}

const QUESTION = 0x4f
const ANSWER = 0x6f
const VERSION = 1
const HEAD_BYTES = 4
const ITEM_BYTES = 8 + MESSAGE_ID_BYTES + SALT_BYTES
const ANSWER_BYTES = 2 + 1 + 2 + 8 + 64

/** `asked`: 1 to `MOST_OUTCOMES`. */
export function encodeQuestion(asked: readonly AskedOutcome[]): Buffer {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + asked.length * ITEM_BYTES)
  bytes[0] = QUESTION
  bytes[1] = VERSION
  bytes.writeUInt16BE(asked.length, 2)
  asked.forEach(({ seq, id, salt }, i) => {
    const at = HEAD_BYTES + i * ITEM_BYTES
    writeUint64(bytes, seq, at)
    bytes.set(id, at + 8)
    bytes.set(salt, at + 8 + MESSAGE_ID_BYTES)
  })
  return bytes
}

/** Throws `CMESH_FRAME_MALFORMED` for anything that `encodeQuestion` does not write. What it gives are views into the bytes. */
export function decodeQuestion(data: Uint8Array): AskedOutcome[] {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.length)
  if (bytes.length < HEAD_BYTES || bytes[0] !== QUESTION || bytes[1] !== VERSION) throw refused(0, 'a question for outcomes, version 1')
  const count = bytes.readUInt16BE(2)
  if (count === 0 || count > MOST_OUTCOMES) throw refused(2, `1 to ${MOST_OUTCOMES} transactions`)
  if (bytes.length !== HEAD_BYTES + count * ITEM_BYTES) throw refused(bytes.length, 'the end')
  return Array.from({ length: count }, (_, i) => {
    const at = HEAD_BYTES + i * ITEM_BYTES
    const seq = readUint64(bytes, at)
    if (!Number.isSafeInteger(seq)) throw refused(at, 'a sequence')
    return { seq, id: bytes.subarray(at + 8, at + 8 + MESSAGE_ID_BYTES), salt: bytes.subarray(at + 8 + MESSAGE_ID_BYTES, at + ITEM_BYTES) }
  })
}

export function encodeAnswer(answer: OutcomesAnswer | undefined): Buffer {
  if (answer === undefined) return Buffer.of(ANSWER, 0)
  const bytes = Buffer.alloc(ANSWER_BYTES)
  bytes[0] = ANSWER
  bytes[1] = VERSION
  bytes[2] = CLAIM_LEVELS.indexOf(answer.level)
  bytes.writeUInt16BE(answer.members, 3)
  writeUint64(bytes, answer.timeMs, 5)
  bytes.set(answer.signature, 13)
  return answer.certificate === undefined ? bytes : Buffer.concat([bytes, encodeBareCertificate(answer.certificate)])
}

/** `undefined` where the member cannot say so. Throws `CMESH_FRAME_MALFORMED`; whose signature it is, is not looked at. */
export function decodeAnswer(data: Uint8Array): OutcomesAnswer | undefined {
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.length)
  if (bytes[0] !== ANSWER) throw refused(0, 'an answer about outcomes')
  if (bytes.length === 2 && bytes[1] === 0) return undefined
  const level = CLAIM_LEVELS[bytes[2] ?? CLAIM_LEVELS.length]
  if (bytes.length < ANSWER_BYTES || bytes[1] !== VERSION || level === undefined) throw refused(1, 'an answer of version 1')
  const timeMs = readUint64(bytes, 5)
  if (!Number.isSafeInteger(timeMs)) throw refused(5, 'a time')
  const reader = new Reader(bytes.subarray(ANSWER_BYTES), ANSWER_BYTES, refused)
  const certificate = bytes.length === ANSWER_BYTES ? undefined : decodeBareCertificate(reader)
  return reader.end({ level, members: bytes.readUInt16BE(3), timeMs, signature: bytes.subarray(13, ANSWER_BYTES), certificate })
}

function refused(offset: number, expected: string): CMeshError {
  return new CMeshError('CMESH_FRAME_MALFORMED', { offset, expected })
}

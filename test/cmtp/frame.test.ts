import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { encodeReply, encodeRequest, ReplyFrame, RequestFrame, salvageMessageId } from '../../cmtp/frame.ts'
import { decodeHeaders, encodeHeaders, type HeaderList } from '../../cmtp/headers.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { frameKind, type ReceiptLevel } from '../../cmtp/wire.ts'
import { damaged, decodeTotally, everyBitFlip, everyTruncation } from '../support/damage.ts'
import {
  anyBytes, anyFqmn, anyHash, anyHeaders, anyLevel, anyMessageId, anyStatus, anyTime, anyToken,
} from '../support/messages.ts'
import { refusal } from '../support/refusal.ts'
import { runs } from '../support/runs.ts'
import { bytesOf, readVectors, type CodecVectors } from '../support/vectors.ts'

interface RequestMeaning {
  readonly id: string
  readonly fqmn: string
  readonly token: string
  readonly receipt: ReceiptLevel
  readonly bundle: boolean
  readonly hops: number
  readonly deadlineMs: number
  readonly headers: HeaderList
  readonly body: string
}
interface ReplyMeaning {
  readonly id: string
  readonly status: number
  readonly receipt: ReceiptLevel
  readonly finalHash: string
  readonly headers: HeaderList
  readonly layers: string
  readonly body: string
}
const REQUESTS = readVectors<CodecVectors<RequestMeaning>>('cmtp/request.json')
const REPLIES = readVectors<CodecVectors<ReplyMeaning>>('cmtp/reply.json')

const requestMeaning = (frame: RequestFrame): RequestMeaning => ({
  id: frame.id.toString('hex'), fqmn: frame.fqmn, token: frame.token.toString('latin1'), receipt: frame.receipt, bundle: frame.bundle, hops: frame.hops,
  deadlineMs: frame.deadlineMs, headers: decodeHeaders(frame.headers), body: frame.body.toString('hex'),
})
const replyMeaning = (frame: ReplyFrame): ReplyMeaning => ({
  id: frame.id.toString('hex'), status: frame.status, receipt: frame.receipt, finalHash: frame.finalHash.toString('hex'),
  headers: decodeHeaders(frame.headers), layers: frame.layers.toString('hex'), body: frame.body.toString('hex'),
})
const requestBytes = (meaning: RequestMeaning): Buffer => encodeRequest({
  ...meaning, id: bytesOf(meaning.id), token: Buffer.from(meaning.token), headers: encodeHeaders(meaning.headers),
  body: bytesOf(meaning.body),
})
const replyBytes = (meaning: ReplyMeaning): Buffer => encodeReply({
  ...meaning, id: bytesOf(meaning.id), finalHash: bytesOf(meaning.finalHash).toString('latin1'),
  headers: encodeHeaders(meaning.headers), layers: bytesOf(meaning.layers), body: bytesOf(meaning.body),
})

const anyRequest = fc.record({
  id: anyMessageId, fqmn: anyFqmn, token: anyToken, deadlineMs: anyTime, receipt: anyLevel, bundle: fc.boolean(), hops: fc.nat(LIMITS.hops),
  headers: anyHeaders.map(encodeHeaders), body: anyBytes,
})
const anyReply = fc.record({
  id: anyMessageId, status: anyStatus, receipt: anyLevel, finalHash: anyHash, headers: anyHeaders.map(encodeHeaders),
  layers: anyBytes, body: anyBytes,
})

/** Reads every part of a frame, so that a bad offset shows. */
const readRequest = (bytes: Buffer): unknown => {
  const { id, fqmn, token, headers, body, deadlineMs, hops } = RequestFrame.decode(bytes)
  return [id.length, fqmn, token, headers, body, deadlineMs, hops]
}
const readReply = (bytes: Buffer): unknown => {
  const { id, status, finalHash, headers, layers, body } = ReplyFrame.decode(bytes)
  return [id.length, status, finalHash, headers, layers, body]
}

describe('the request frame', () => {
  test.each(REQUESTS.accepted)('$name', ({ hex, meaning }) => {
    expect(requestMeaning(RequestFrame.decode(bytesOf(hex)))).toEqual(meaning)
    expect(requestBytes(meaning).toString('hex')).toBe(hex)
  })

  test.each(REQUESTS.refused)('refused: $name', ({ hex, code, detail }) => {
    expect(refusal(() => RequestFrame.decode(bytesOf(hex)))).toMatchObject({ code, detail })
  })

  test('whatever is encoded decodes to the same', () => {
    fc.assert(fc.property(anyRequest, fields => {
      const frame = RequestFrame.decode(encodeRequest(fields))
      expect({
        id: new Uint8Array(frame.id), fqmn: frame.fqmn, token: new Uint8Array(frame.token), deadlineMs: frame.deadlineMs,
        receipt: frame.receipt, bundle: frame.bundle,
        hops: frame.hops, headers: frame.headers, body: new Uint8Array(frame.body),
      }).toEqual({ ...fields, token: new Uint8Array(fields.token) })
    }))
  })

  test('a body of text is its UTF-8, and is measured as such', () => {
    fc.assert(fc.property(anyRequest, fc.string({ unit: 'binary', maxLength: 40 }), (fields, body) => {
      expect(encodeRequest({ ...fields, body })).toEqual(encodeRequest({ ...fields, body: Buffer.from(body) }))
    }))
    const fields = { id: Buffer.alloc(16), fqmn: '0xC:status', token: Buffer.alloc(0), deadlineMs: 0, receipt: 'hash' as const }
    expect(RequestFrame.decode(encodeRequest({ ...fields, body: 'a\ud800b' })).body.toString('hex')).toBe('61efbfbd62')
    expect(refusal(() => encodeRequest({ ...fields, body: '\u20ac'.repeat(349_526) })).detail).toEqual({ part: 'body', bytes: 1_048_578, limit: 1_048_576 })
  })

  test('any bytes give a request, or a coded error with its offset', () => {
    fc.assert(fc.property(damaged(anyRequest.map(encodeRequest)), bytes => { decodeTotally(readRequest, bytes) }),
      { numRuns: runs(3_000) })
    for (const { hex } of REQUESTS.accepted.slice(0, 3)) {
      for (const bytes of everyBitFlip(bytesOf(hex))) decodeTotally(readRequest, bytes)
      for (const bytes of everyTruncation(bytesOf(hex))) expect(decodeTotally(readRequest, bytes).refusal).toBeDefined()
    }
  })

  test('a decoder copies nothing: every part is a view into the frame', () => {
    // Memory of its own: small Buffers, copies too, share a pool.
    const bytes = new Uint8Array(bytesOf((REQUESTS.accepted[1] as { hex: string }).hex))
    const frame = RequestFrame.decode(bytes)
    for (const part of [frame.bytes, frame.id, frame.token, frame.headers, frame.body]) {
      expect(part.length).toBeGreaterThan(0)
      expect(part.buffer).toBe(bytes.buffer)
    }
  })

  test('what is over a limit is not encoded', () => {
    const base = { id: Buffer.alloc(16), fqmn: '0xC:status', token: Buffer.alloc(0), deadlineMs: 0, receipt: 'hash' as const }
    expect(refusal(() => encodeRequest({ ...base, fqmn: 'é'.repeat(2_049) })))
      .toMatchObject({ code: 'CMESH_FQMN_TOO_LONG', detail: { bytes: 4_098, limit: 4_096 } })
    const tooLarge = (part: string, bytes: number, limit: number): object =>
      ({ code: 'CMESH_FRAME_TOO_LARGE', detail: { part, bytes, limit } })
    expect(refusal(() => encodeRequest({ ...base, token: Buffer.alloc(4_097) }))).toMatchObject(tooLarge('token', 4_097, 4_096))
    expect(refusal(() => encodeRequest({ ...base, headers: Buffer.alloc(16_385) })))
      .toMatchObject(tooLarge('header block', 16_385, 16_384))
    expect(refusal(() => encodeRequest({ ...base, body: Buffer.alloc(1_048_577) })))
      .toMatchObject(tooLarge('body', 1_048_577, 1_048_576))
  })

  test('everything at its limit fits one frame', () => {
    const fields = {
      id: Buffer.alloc(16), fqmn: 'c'.repeat(LIMITS.fqmnBytes), token: Buffer.alloc(LIMITS.tokenBytes, 'x'), deadlineMs: 0,
      receipt: 'hash' as const,
      headers: Buffer.alloc(LIMITS.headerBytes), body: Buffer.alloc(LIMITS.bodyBytes),
    }
    expect(RequestFrame.decode(encodeRequest(fields)).body).toHaveLength(LIMITS.bodyBytes)
  })

  test('a frame over the limit is refused before anything else is read', () => {
    const huge = Buffer.alloc(LIMITS.frameBytes + 1)
    huge.write('CM\0\x01', 'latin1')
    expect(refusal(() => RequestFrame.decode(huge))).toMatchObject({
      code: 'CMESH_FRAME_TOO_LARGE', message: 'The frame has 1179649 bytes; at most 1179648 are allowed.',
    })
  })

  test('the id of a malformed request can be salvaged when it is long enough to have one', () => {
    const request = bytesOf((REQUESTS.accepted[0] as { hex: string }).hex)
    expect(salvageMessageId(request.subarray(0, 32))?.toString('hex')).toBe('0190f3a1b2c300112233445500000007')
    expect(salvageMessageId(request.subarray(0, 31))).toBeUndefined()
    expect(salvageMessageId(Buffer.concat([Buffer.from('XX'), request.subarray(2)]))).toBeUndefined()
  })
})

describe('the reply frame', () => {
  test.each(REPLIES.accepted)('$name', ({ hex, meaning }) => {
    expect(replyMeaning(ReplyFrame.decode(bytesOf(hex)))).toEqual(meaning)
    expect(replyBytes(meaning).toString('hex')).toBe(hex)
  })

  test.each(REPLIES.refused)('refused: $name', ({ hex, code, detail }) => {
    expect(refusal(() => ReplyFrame.decode(bytesOf(hex)))).toMatchObject({ code, detail })
  })

  test('whatever is encoded decodes to the same', () => {
    fc.assert(fc.property(anyReply, fields => {
      const frame = ReplyFrame.decode(encodeReply(fields))
      expect({
        id: new Uint8Array(frame.id), status: frame.status, receipt: frame.receipt, finalHash: frame.finalHash.toString('latin1'),
        headers: frame.headers, layers: new Uint8Array(frame.layers), body: new Uint8Array(frame.body),
      }).toEqual({ ...fields, finalHash: fields.receipt === 'none' ? '' : fields.finalHash })
    }))
  })

  test('any bytes give a reply, or a coded error with its offset', () => {
    fc.assert(fc.property(damaged(anyReply.map(encodeReply)), bytes => { decodeTotally(readReply, bytes) }), { numRuns: runs(3_000) })
    for (const { hex } of REPLIES.accepted.slice(0, 3)) {
      for (const bytes of everyBitFlip(bytesOf(hex))) decodeTotally(readReply, bytes)
      for (const bytes of everyTruncation(bytesOf(hex))) expect(decodeTotally(readReply, bytes).refusal).toBeDefined()
    }
  })

  test('a reply that promises a final hash is not made without one', () => {
    const fields = { id: Buffer.alloc(16), status: 200, receipt: 'hash' as const }
    expect(() => encodeReply(fields)).toThrow('a reply that promises a final hash needs its 32 bytes')
    expect(() => encodeReply({ ...fields, finalHash: 'x'.repeat(31) })).toThrow(RangeError)
  })
})

describe('the first four bytes', () => {
  test.each([1, 2, 3, 4])('name kind %i', kind => {
    expect(frameKind(Buffer.of(0x43, 0x4d, 0, kind))).toBe(kind)
  })

  test('an unknown major version is 505, whatever stands behind it', () => {
    for (let version = 1; version < 256; version++) {
      expect(refusal(() => frameKind(Buffer.of(0x43, 0x4d, version, 0xff)))).toMatchObject({
        code: 'CMESH_FRAME_VERSION', message: `The frame has major version ${version}; this node speaks CMTP/0.`,
      })
    }
  })
})

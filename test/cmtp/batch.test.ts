import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { assembleBatch, BATCH_ID_AT, BatchFrame, encodeBatch, encodeBatchEntry } from '../../cmtp/batch.ts'
import { BatchReplyWriter, decodeBatchReply, type BatchReply } from '../../cmtp/batch-reply.ts'
import { decodeHeaders, encodeHeaders, type HeaderList } from '../../cmtp/headers.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import type { EntryPart } from '../../cmtp/receipt/shared-part.ts'
import type { ReceiptLevel } from '../../cmtp/wire.ts'
import { damaged, decodeTotally, everyBitFlip, everyTruncation } from '../support/damage.ts'
import {
  anyBytes, anyFqmn, anyHash, anyHeaders, anyLevel, anyMessageId, anyStatus, anyTime, anyToken,
} from '../support/messages.ts'
import { refusal } from '../support/refusal.ts'
import { runs } from '../support/runs.ts'
import { bytesOf, readVectors, type CodecVectors } from '../support/vectors.ts'

interface BatchMeaning {
  readonly id: string
  readonly token: string
  readonly receipt: ReceiptLevel
  readonly hops: number
  readonly deadlineMs: number
  readonly entries: readonly { readonly fqmn: string, readonly headers: HeaderList, readonly body: string }[]
  /** Of the entries' own tokens, in a gateway's frame. */
  readonly references?: readonly string[]
}
interface ReplyMeaning {
  readonly id: string
  readonly receipt: ReceiptLevel
  readonly entries: readonly EntryMeaning[]
}
interface EntryMeaning {
  readonly status: number
  readonly finalHash: string
  readonly headers: HeaderList
  readonly layers: string
  readonly body: string
  /** Written as a repetition of this entry. */
  readonly repeats?: number
}
const BATCHES = readVectors<CodecVectors<BatchMeaning>>('cmtp/batch-request.json')
const REPLIES = readVectors<CodecVectors<ReplyMeaning>>('cmtp/batch-reply.json')

const batchMeaning = (frame: BatchFrame): BatchMeaning => ({
  id: frame.id.toString('hex'), token: frame.token.toString('latin1'), receipt: frame.receipt, hops: frame.hops,
  deadlineMs: frame.deadlineMs,
  entries: frame.entries.map(({ fqmnStart, fqmnEnd, headersEnd, end }) => ({
    fqmn: frame.bytes.toString('utf8', fqmnStart, fqmnEnd),
    headers: decodeHeaders(frame.bytes.subarray(fqmnEnd, headersEnd)),
    body: frame.bytes.toString('hex', headersEnd, end),
  })),
  ...(frame.ownTokens && { references: frame.entries.map(entry => frame.referenceOf(entry).toString('hex')) }),
})
const batchBytes = (meaning: BatchMeaning): Buffer => {
  const envelope = { ...meaning, token: Buffer.from(meaning.token) }
  const entries = meaning.entries.map(({ fqmn, headers, body }) => ({ fqmn, headers: encodeHeaders(headers), body: bytesOf(body) }))
  if (meaning.references === undefined) return encodeBatch({ ...envelope, id: bytesOf(meaning.id), entries })
  const frame = assembleBatch(envelope, entries.map(encodeBatchEntry), meaning.references.map(bytesOf))
  frame.set(bytesOf(meaning.id), BATCH_ID_AT)
  return frame
}
const replyMeaning = ({ id, receipt, entries }: BatchReply): ReplyMeaning => ({
  id: id.toString('hex'), receipt,
  entries: entries.map(entry => ({
    status: entry.status, finalHash: entry.finalHash.toString('hex'), headers: decodeHeaders(entry.headers),
    layers: entry.ownPart.toString('hex'), body: entry.body.toString('hex'),
  })),
})
const replyBytes = ({ id, receipt, entries }: ReplyMeaning): Buffer => {
  const writer = new BatchReplyWriter(bytesOf(id), entries.length, receipt)
  for (const { status, finalHash, headers, layers, body, repeats } of entries) {
    if (repeats !== undefined) writer.repeat(repeats, bytesOf(finalHash), 0, ownPart(bytesOf(layers))?.index)
    else writer.add(status, bytesOf(finalHash).toString('latin1'), encodeHeaders(headers), ownPart(bytesOf(layers)), bytesOf(body))
  }
  return writer.finish()
}

const ownPart = (bytes: Buffer): EntryPart | undefined => (bytes.length === 0 ? undefined : {
  head: bytes.readUInt16BE(0), root: bytes.readUInt16BE(2), index: bytes.readUInt32BE(4),
})

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const anyPlainBatch: fc.Arbitrary<BatchMeaning> = fc.record({
  id: anyMessageId.map(hex), token: anyToken.map(token => Buffer.from(token).toString()), receipt: anyLevel,
  hops: fc.nat(LIMITS.hops), deadlineMs: anyTime,
  entries: fc.array(fc.record({ fqmn: anyFqmn, headers: anyHeaders, body: anyBytes.map(hex) }), { minLength: 1, maxLength: 5 }),
})
const anyBatch = fc.tuple(anyPlainBatch, fc.option(fc.array(anyMessageId.map(hex), { minLength: 5, maxLength: 5 })))
  .map(([meaning, references]): BatchMeaning => (references === null ? meaning : { ...meaning, references: references.slice(0, meaning.entries.length) }))
const anyOwnPart = fc.oneof(fc.constant(''), fc.uint8Array({ minLength: 8, maxLength: 8 }).map(hex))
const anyReply: fc.Arbitrary<ReplyMeaning> = anyLevel.chain(receipt => fc.record({
  id: anyMessageId.map(hex), receipt: fc.constant(receipt),
  entries: fc.array(fc.record({
    status: anyStatus,
    finalHash: receipt === 'none' ? fc.constant('') : anyHash.map(hash => Buffer.from(hash, 'latin1').toString('hex')),
    headers: anyHeaders, layers: (receipt === 'full' ? anyOwnPart : fc.constant('')), body: anyBytes.map(hex),
  }), { maxLength: 5 }),
}))

/** The same with entries behind them that repeat some of those which may be. */
const anyRepeating: fc.Arbitrary<ReplyMeaning> = fc.tuple(anyReply, fc.array(fc.tuple(fc.nat(), anyHash, fc.nat({ max: 0xffff_ffff })), { maxLength: 6 }))
  .map(([reply, picks]) => {
    const { entries, receipt } = reply
    const fit = entries.flatMap((entry, i) => (receipt === 'full' && entry.layers === '' ? [] : [{ ...entry, repeats: i }]))
    const repeated = fit.length === 0 ? [] : picks.map(([pick, hash, index]): EntryMeaning => {
      const entry = fit[pick % fit.length] as EntryMeaning
      const layers = receipt === 'full' ? `${entry.layers.slice(0, 8)}${index.toString(16).padStart(8, '0')}` : ''
      return { ...entry, layers, finalHash: receipt === 'none' ? '' : Buffer.from(hash, 'latin1').toString('hex') }
    })
    return { ...reply, entries: [...entries, ...repeated] }
  })
const told = ({ entries, ...reply }: ReplyMeaning): ReplyMeaning => ({ ...reply, entries: entries.map(({ repeats: _, ...entry }) => entry) })

/** Reads every entry, so that a bad offset shows. Headers are the reader's to decode, and may be malformed. */
const readBatch = (bytes: Buffer): unknown => {
  const frame = BatchFrame.decode(bytes)
  for (const { fqmnStart, fqmnEnd, headersEnd, end } of frame.entries) {
    expect([fqmnStart <= fqmnEnd, fqmnEnd <= headersEnd, headersEnd <= end, end <= bytes.length])
      .toEqual([true, true, true, true])
  }
  if (frame.ownTokens) for (const entry of frame.entries) expect(frame.referenceOf(entry)).toHaveLength(16)
  return frame
}

describe('the batch request frame', () => {
  test.each(BATCHES.accepted)('$name', ({ hex: bytes, meaning }) => {
    expect(batchMeaning(BatchFrame.decode(bytesOf(bytes)))).toEqual(meaning)
    expect(batchBytes(meaning).toString('hex')).toBe(bytes)
  })

  test.each(BATCHES.refused)('refused: $name', ({ hex: bytes, code, detail }) => {
    expect(refusal(() => BatchFrame.decode(bytesOf(bytes)))).toMatchObject({ code, detail })
  })

  test('whatever is encoded decodes to the same', () => {
    fc.assert(fc.property(anyBatch, meaning => {
      expect(batchMeaning(BatchFrame.decode(batchBytes(meaning)))).toEqual(meaning)
    }))
  })

  test('any bytes give a batch, or a coded error with its offset', () => {
    fc.assert(fc.property(damaged(anyBatch.map(batchBytes)), bytes => { decodeTotally(readBatch, bytes) }), { numRuns: runs(3_000) })
    for (const { hex: bytes } of BATCHES.accepted) {
      for (const flipped of everyBitFlip(bytesOf(bytes))) decodeTotally(readBatch, flipped)
      for (const cut of everyTruncation(bytesOf(bytes))) expect(decodeTotally(readBatch, cut).refusal).toBeDefined()
    }
  })

  test('a batch has one entry at least and as many as the limit at most', () => {
    const batch = (count: number): Buffer => encodeBatch({
      id: Buffer.alloc(16), token: Buffer.alloc(0), deadlineMs: 0, receipt: 'hash',
      entries: Array.from({ length: count }, () => ({ fqmn: '0xC:status' })),
    })
    expect(BatchFrame.decode(batch(LIMITS.batchEntries)).entries).toHaveLength(1_024)
    expect(refusal(() => batch(0))).toMatchObject({ code: 'CMESH_FRAME_MALFORMED', detail: { expected: 'at least one entry' } })
    expect(refusal(() => batch(1_025)))
      .toMatchObject({ code: 'CMESH_FRAME_TOO_LARGE', detail: { part: 'batch', bytes: 1_025, limit: 1_024 } })
  })

  test('an encoded entry serves in any number of frames, whose ids are zero until they are written', () => {
    const entry = encodeBatchEntry({ fqmn: '0xC:status' })
    const envelope = { token: Buffer.from('t'), deadlineMs: 7, receipt: 'none' as const, hops: 2 }
    const assembled = assembleBatch(envelope, [entry, entry])
    expect(BatchFrame.decode(assembled).id).toEqual(Buffer.alloc(16))
    assembled.fill(0xab, BATCH_ID_AT, BATCH_ID_AT + 16)
    const fields = { ...envelope, id: Buffer.alloc(16, 0xab), entries: [{ fqmn: '0xC:status' }, { fqmn: '0xC:status' }] }
    expect(assembled).toEqual(encodeBatch(fields))
  })

  test('a frame has the same bytes whether its entries are encoded before or with it, and their bodies are text or bytes', () => {
    const texts = fc.string({ unit: 'binary', maxLength: 40 })
    const fqmns = fc.oneof(fc.constantFrom('0xC:status', '0xR:n\u00e4me'), anyFqmn)
    const entry = fc.record({ fqmn: fqmns, headers: anyHeaders.map(encodeHeaders), body: texts, own: fc.nat(2) })
    const entries = fc.array(entry, { minLength: 1, maxLength: 12 })
    fc.assert(fc.property(entries, fc.boolean(), (asked, ownTokens) => {
      const envelope = { token: Buffer.from('t'), deadlineMs: 7, receipt: 'hash' as const }
      const references = ownTokens ? asked.map((_, i) => Buffer.alloc(16, i + 1)) : undefined
      const known = asked.map(({ fqmn, headers, body }) => encodeBatchEntry({ fqmn, headers, body: Buffer.from(body) }))
      const mixed = asked.map(({ fqmn, headers, body, own }, i) =>
        own === 0 ? known[i] as Buffer : { fqmn, ...(headers.length > 0 && { headers }), body: own === 1 ? body : Buffer.from(body) })
      expect(assembleBatch(envelope, mixed, references)).toEqual(assembleBatch(envelope, known, references))
      expect(asked.map(({ fqmn, headers, body }) => encodeBatchEntry({ fqmn, headers, body }))).toEqual(known)
    }))
  })

  test('a text that is no Unicode stands in a frame as Buffer makes it bytes', () => {
    const envelope = { token: Buffer.from('t'), deadlineMs: 7, receipt: 'hash' as const }
    const frame = assembleBatch(envelope, [{ fqmn: '0xC:status', body: 'a\ud800b' }, { fqmn: '0xC:status', body: '\udc00' }])
    expect(BatchFrame.decode(frame).entries.map(({ headersEnd, end }) => frame.toString('hex', headersEnd, end))).toEqual(['61efbfbd62', 'efbfbd'])
  })

  test('a frame of own tokens is not assembled without a reference of 16 bytes for each entry', () => {
    const entry = encodeBatchEntry({ fqmn: '0xC:status' })
    const envelope = { token: Buffer.from('t'), deadlineMs: 7, receipt: 'hash' as const }
    for (const lengths of [[], [16], [16, 15], [17, 16], [16, 300]]) {
      const references = lengths.map(length => Buffer.alloc(length))
      expect(() => assembleBatch(envelope, [entry, entry], references)).toThrow('an entry with its own token needs the 16 bytes of its reference')
    }
    expect(BatchFrame.decode(assembleBatch(envelope, [entry, entry], [Buffer.alloc(16), Buffer.alloc(16)])).ownTokens).toBe(true)
  })

  test('what is over a limit is not encoded', () => {
    const batch = (...entries: { fqmn: string, headers?: Buffer, body?: Buffer | string }[]): Buffer =>
      encodeBatch({ id: Buffer.alloc(16), token: Buffer.alloc(0), deadlineMs: 0, receipt: 'hash', entries })
    expect(refusal(() => batch({ fqmn: 'c'.repeat(4_097) })).code).toBe('CMESH_FQMN_TOO_LONG')
    expect(refusal(() => batch({ fqmn: '', headers: Buffer.alloc(16_385) })).detail['part']).toBe('header block')
    expect(refusal(() => batch({ fqmn: '', body: Buffer.alloc(1_048_577) })).detail['part']).toBe('body')
    expect(refusal(() => batch({ fqmn: '', body: '\u20ac'.repeat(349_526) })).detail).toEqual({ part: 'body', bytes: 1_048_578, limit: 1_048_576 })
    const half = { fqmn: '', body: Buffer.alloc(600_000) }
    expect(BatchFrame.decode(batch(half)).entries).toHaveLength(1)
    expect(refusal(() => batch(half, half)).detail).toEqual({ part: 'frame', bytes: 1_200_052, limit: 1_179_648 })
  })
})

describe('the batch reply frame', () => {
  test.each(REPLIES.accepted)('$name', ({ hex: bytes, meaning }) => {
    expect(replyMeaning(decodeBatchReply(bytesOf(bytes)))).toEqual(told(meaning))
    expect(replyBytes(meaning).toString('hex')).toBe(bytes)
  })

  test.each(REPLIES.refused)('refused: $name', ({ hex: bytes, code, detail }) => {
    expect(refusal(() => decodeBatchReply(bytesOf(bytes)))).toMatchObject({ code, detail })
  })

  test('whatever is written decodes to the same', () => {
    fc.assert(fc.property(anyRepeating, meaning => {
      expect(replyMeaning(decodeBatchReply(replyBytes(meaning)))).toEqual(told(meaning))
    }))
  })

  test('any bytes give the replies, or a coded error with its offset', () => {
    fc.assert(fc.property(damaged(anyRepeating.map(replyBytes)), bytes => { decodeTotally(decodeBatchReply, bytes) }),
      { numRuns: runs(3_000) })
    for (const { hex: bytes } of REPLIES.accepted) {
      for (const flipped of everyBitFlip(bytesOf(bytes))) decodeTotally(decodeBatchReply, flipped)
      for (const cut of everyTruncation(bytesOf(bytes))) expect(decodeTotally(decodeBatchReply, cut).refusal).toBeDefined()
    }
  })

  test('repetitions that come to more than 64 frames are refused', () => {
    const writer = new BatchReplyWriter(Buffer.alloc(16), 1_024, 'none')
    writer.add(200, '', Buffer.alloc(0), undefined, Buffer.alloc(1_000_000))
    for (let i = 0; i < 75; i++) writer.repeat(0, Buffer.alloc(0), 0)
    const frame = (entries: number): Buffer => {
      const bytes = Buffer.from(writer.finish())
      bytes.writeUInt16BE(entries, 6)
      return bytes.subarray(0, 24 + 12 + 1_000_000 + 4 * (entries - 1))
    }
    expect(decodeBatchReply(frame(76)).entries).toHaveLength(76)
    writer.repeat(0, Buffer.alloc(0), 0)
    expect(refusal(() => decodeBatchReply(frame(77))).detail).toMatchObject({ expected: 'repetitions of at most 75497472 bytes' })
  })

  test('who changes the body of a repetition changes no other entry, and whoever changes the first no repetition that was read', () => {
    const writer = new BatchReplyWriter(Buffer.alloc(16), 3, 'none')
    writer.add(200, '', Buffer.alloc(0), undefined, Buffer.from('told'))
    writer.repeat(0, Buffer.alloc(0), 0)
    writer.repeat(0, Buffer.alloc(0), 0)
    const bodies = decodeBatchReply(writer.finish()).entries.map(({ body }) => body)
    bodies[1]?.fill('x')
    expect(bodies.map(String)).toEqual(['told', 'xxxx', 'told'])
    bodies[0]?.fill('y')
    expect(bodies.map(String)).toEqual(['yyyy', 'xxxx', 'told'])
  })

  test('evidence of an entry without layers is refused', () => {
    const writer = new BatchReplyWriter(Buffer.alloc(16), 1, 'full')
    writer.add(413, '\0'.repeat(32), Buffer.alloc(0), undefined, Buffer.alloc(0))
    const frame = writer.finish([], [], [{ entry: 0, flags: 4, bytes: Buffer.alloc(10) }])
    expect(() => decodeBatchReply(frame)).toThrow(expect.objectContaining({ code: 'CMESH_FRAME_MALFORMED', message: expect.stringContaining('evidence of entries that have layers, and not of 0') }))
  })

  test('the writer grows with its entries and loses none of them', () => {
    const writer = new BatchReplyWriter(Buffer.alloc(16, 7), 3, 'none')
    const bodies = [10, 100_000, 1].map(length => Buffer.alloc(length, length))
    const lengths = bodies.map(body => {
      writer.add(200, '', Buffer.alloc(0), undefined, body)
      return writer.length
    })
    expect(lengths).toEqual([46, 100_058, 100_071])
    expect(decodeBatchReply(writer.finish()).entries.map(entry => entry.body)).toEqual(bodies)
  })

  test('an entry that promises a final hash is not written without one', () => {
    const nothing = Buffer.alloc(0)
    expect(() => new BatchReplyWriter(Buffer.alloc(16), 1, 'hash').add(200, 'short', nothing, undefined, nothing))
      .toThrow('an entry that promises a final hash needs its 32 bytes')
  })
})

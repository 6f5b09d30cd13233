/** What members say to one another of reads: every question and answer comes back as it was, and nothing else is taken for one. */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { CMeshError } from '../../../../cmtp/errors.ts'
import { KeyPair } from '../../../../cmtp/identity/keys.ts'
import { errorReply, jsonReply } from '../../../../services/call.ts'
import {
  decodeAnswer, decodeQuestion, encodeAnswer, encodeQuestion, encodeRefusal, QUESTION_BYTES, resultHash, type CheckQuestion,
} from '../../../../services/state/checks/wire.ts'

const [ME, OTHER] = [KeyPair.fromSeed(Buffer.alloc(32, 1)), KeyPair.fromSeed(Buffer.alloc(32, 2))]
const by = (key: KeyPair) => (bytes: Uint8Array, signature: Uint8Array): boolean => key.publicKey.verify(bytes, signature)
const sign = (bytes: Uint8Array): Uint8Array => ME.sign(bytes)
const HASH = 'ab'.repeat(32)

const seq = fc.nat({ max: 2 ** 40 })
const bytes = fc.uint8Array({ maxLength: 64 }).map(value => Buffer.from(value))
const questions: fc.Arbitrary<CheckQuestion> = fc.record({
  nonce: fc.uint8Array({ minLength: 16, maxLength: 16 }).map(value => Buffer.from(value)),
  deadlineMs: seq, at: seq, more: fc.nat(100), patienceMs: fc.nat(1_000), gasLimit: fc.integer({ min: 1 }), sid: fc.string({ unit: 'grapheme' }), token: bytes, fqmn: fc.string(), body: bytes,
}).map(({ more, ...question }) => ({ ...question, wish: question.at + more }))

const QUESTION: CheckQuestion = {
  nonce: Buffer.alloc(16, 7), deadlineMs: 1_800_000_000_000, at: 5, wish: 9, patienceMs: 20, gasLimit: 2_000_000, sid: 's', token: Buffer.from('t'), fqmn: '0xS:0x001:f', body: Buffer.from('[1]'),
}

describe('a question', () => {
  test('comes back as it was, and no prefix of it is one', () => {
    fc.assert(fc.property(questions, fc.nat(), (question, cut) => {
      const written = encodeQuestion(question)
      expect(decodeQuestion(written)).toEqual(question)
      expect(() => decodeQuestion(written.subarray(0, cut % written.length))).toThrow(CMeshError)
    }))
  })

  test('is read from no other bytes: any give one that is written by them, or a coded error', () => {
    const start = fc.constantFrom(Buffer.alloc(0), Buffer.of(0x51, 1))
    fc.assert(fc.property(start, fc.uint8Array({ maxLength: 200 }), (prefix, rest) => {
      const given = Buffer.concat([prefix, rest])
      try {
        expect(encodeQuestion(decodeQuestion(given))).toEqual(given)
      } catch (error) {
        expect(error).toMatchObject({ code: 'CMESH_FRAME_MALFORMED' })
      }
    }))
  })

  test.each<[string, Partial<CheckQuestion>, string]>([
    ['wishes for a block before the one it needs', { wish: 4 }, 'a sequence that is not before the other'],
    ['waits for long', { patienceMs: 1_001 }, 'a patience of up to 1000 ms'],
    ['lets the view use nothing', { gasLimit: 0 }, 'a gas limit of 1 and up'],
  ])('that %s is refused', (_, fields, expected) => {
    expect(() => decodeQuestion(encodeQuestion({ ...QUESTION, ...fields }))).toThrow(expected)
  })

  test('that is too large is neither written nor read', () => {
    const body = Buffer.alloc(QUESTION_BYTES)
    expect(() => encodeQuestion({ ...QUESTION, body })).toThrow(`The read to be checked by other members has ${encodeQuestion(QUESTION).length - 3 + 2 + QUESTION_BYTES} bytes; at most ${QUESTION_BYTES} are allowed.`)
    expect(() => decodeQuestion(Buffer.alloc(QUESTION_BYTES + 1))).toThrow(`The frame is malformed at byte ${QUESTION_BYTES}: expected the end.`)
  })
})

describe('an answer', () => {
  const question = encodeQuestion(QUESTION)

  test('comes back as it was, to the question that it was made for', () => {
    fc.assert(fc.property(seq, fc.nat(), fc.uint8Array({ minLength: 32, maxLength: 32 }), (from, more, hash) => {
      const result = { from, to: from + more, hash: Buffer.from(hash).toString('hex') }
      expect(decodeAnswer(encodeAnswer(result, question, sign), question, by(ME))).toEqual({ kind: 'result', ...result })
    }), { numRuns: 30 })
    expect(decodeAnswer(encodeRefusal('CMESH_IAM_DENIED'), question, by(ME))).toEqual({ kind: 'refused', reason: 'CMESH_IAM_DENIED' })
  })

  const answer = encodeAnswer({ from: 3, to: 9, hash: HASH }, question, sign)
  const changed = Buffer.from(answer)
  changed[4] = 8
  test.each<[string, Uint8Array, Uint8Array, KeyPair, string]>([
    ['to another question', answer, encodeQuestion({ ...QUESTION, nonce: Buffer.alloc(16, 8) }), ME, 'the member\'s signature'],
    ['by somebody else', answer, question, OTHER, 'the member\'s signature'],
    ['that was changed on its way', changed, question, ME, 'the member\'s signature'],
    ['whose end is before its beginning', encodeAnswer({ from: 9, to: 3, hash: HASH }, question, sign), question, ME, 'a sequence that is not before the other'],
    ['with something behind it', Buffer.concat([answer, Buffer.of(0)]), question, ME, 'the end'],
    ['that is too large', Buffer.alloc(257), question, ME, 'the end'],
    ['of a kind that there is not', Buffer.of(0x41, 1, 3), question, ME, 'an answer'],
    ['of another version', Buffer.of(0x41, 2, 1), question, ME, 'version 1'],
    ['with a reason in no letters', encodeRefusal('a\nb'), question, ME, 'a reason in ASCII'],
    ['that is a question', question, question, ME, 'the start of an answer'],
  ])('%s counts for nothing', (_, given, asked, key, expected) => {
    expect(() => decodeAnswer(given, asked, by(key))).toThrow(expected)
  })

  test('is nothing but an answer, whatever the bytes', () => {
    fc.assert(fc.property(fc.constantFrom(Buffer.alloc(0), Buffer.of(0x41, 1, 1), Buffer.of(0x41, 1, 2)), fc.uint8Array({ maxLength: 300 }), (prefix, rest) => {
      try {
        expect(decodeAnswer(Buffer.concat([prefix, rest]), question, by(ME)).kind).toBe('refused')
      } catch (error) {
        expect(error).toMatchObject({ code: 'CMESH_FRAME_MALFORMED' })
      }
    }))
  })
})

describe('results', () => {
  const same = jsonReply({ a: 1 })
  test('are the same by status, headers and body, whether the hash of the body is known or not', () => {
    expect(resultHash({ ...same, body: Buffer.from(same.body) })).toBe(resultHash(same))
    const others = [jsonReply({ a: 2 }), jsonReply({ a: 1 }, 201), { ...same, headers: Buffer.of(1) }, errorReply(new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: '0xfff' }))]
    expect(new Set([same, ...others].map(resultHash)).size).toBe(5)
  })

  test('that are errors are the same by code and detail, however they are worded', () => {
    const error = new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: '0xfff' }).toWire()
    const worded = { ...errorReply(new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: '0xfff' })), body: Buffer.from(JSON.stringify({ ...error, message: 'Other words.' })) }
    expect(resultHash(worded)).toBe(resultHash(errorReply(CMeshError.fromWire(error))))
    expect(resultHash(errorReply(new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: '0xffe' })))).not.toBe(resultHash(worded))
    expect(resultHash(errorReply(new CMeshError('CMESH_STATE_NO_CODE', { contract: '0xfff' })))).not.toBe(resultHash(worded))
  })
})

import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { CMeshError } from '../../../cmtp/errors.ts'
import { BLOCK_BYTES } from '../../../services/state/block.ts'
import {
  ANSWER_BYTES, CHAINS_MOST, decodeAnswer, decodeQuestion, encodeAnswer, encodeQuestion, type Answer, type Question,
} from '../../../services/state/catch-up/wire.ts'

const anySeq = fc.oneof(fc.nat(100_000), fc.integer({ min: 0, max: 2 ** 40 }))
const anyChain = fc.uint8Array({ minLength: 32, maxLength: 32 })

const anyQuestion: fc.Arbitrary<Question> = fc.oneof(
  fc.constant({ kind: 'heads' } as const),
  anySeq.map(first => ({ kind: 'chains', first, step: 0, count: 1 } as const)),
  fc.tuple(fc.nat(10_000), fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: CHAINS_MOST }))
    .map(([first, step, count]) => ({ kind: 'chains', first: first * 256, step: step * 256, count } as const)),
  fc.tuple(anySeq, fc.nat(1_000), fc.nat(BLOCK_BYTES - 1), fc.integer({ min: 1, max: ANSWER_BYTES }))
    .map(([seq, more, offset, bytes]) => ({ kind: 'blocks', seq: seq + 1, to: seq + 1 + more, offset, bytes } as const)),
)
const anyAnswer: fc.Arbitrary<Answer> = fc.oneof(
  fc.tuple(fc.string({ minLength: 1, maxLength: 80, unit: 'grapheme' }), anySeq, anySeq, anyChain)
    .map(([did, epoch, seq, chain]) => ({ kind: 'heads', did, head: { epoch, seq, chain } } as const)),
  fc.array(anyChain, { maxLength: 8 }).map(chains => ({ kind: 'chains', chains } as const)),
  fc.array(fc.uint8Array({ maxLength: 64 }), { maxLength: 8 }).map(blocks => ({ kind: 'blocks', blocks } as const)),
  fc.tuple(anySeq, fc.uint8Array({ maxLength: 64 })).map(([length, bytes]) => ({ kind: 'piece', length, bytes } as const)),
  fc.string({ maxLength: 80 }).map(reason => ({ kind: 'refused', reason } as const)),
)

/** Plain arrays for views. */
const plain = (value: unknown): unknown => JSON.parse(JSON.stringify(value, (_, each: unknown) => (
  each instanceof Uint8Array ? Buffer.from(each).toString('hex') : typeof each === 'object' && each !== null && 'type' in each && each.type === 'Buffer'
    ? Buffer.from((each as unknown as { data: number[] }).data).toString('hex') : each
)))

function refusal(read: () => unknown): CMeshError {
  try {
    read()
  } catch (thrown) {
    if (thrown instanceof CMeshError) return thrown
    throw thrown
  }
  throw new Error('it was read')
}

describe('questions among replicas', () => {
  test('are read as they were written, and whatever is cut off or goes on is refused', () => {
    fc.assert(fc.property(anyQuestion, fc.nat(), (question, cut) => {
      const bytes = encodeQuestion(question)
      expect(decodeQuestion(bytes)).toEqual(question)
      expect(refusal(() => decodeQuestion(bytes.subarray(0, cut % bytes.length))).code).toBe('CMESH_STATE_CATCH_UP')
      expect(refusal(() => decodeQuestion(Buffer.concat([bytes, Buffer.of(0)]))).code).toBe('CMESH_STATE_CATCH_UP')
    }))
  })

  test.each<[string, Question, string]>([
    ['more bytes than an answer holds', { kind: 'blocks', seq: 1, to: 2, offset: 0, bytes: ANSWER_BYTES + 1 }, 'a range of up to'],
    ['nothing', { kind: 'blocks', seq: 1, to: 2, offset: 0, bytes: 0 }, 'a range of up to'],
    ['what is before the first block', { kind: 'blocks', seq: 0, to: 2, offset: 0, bytes: 1 }, 'a range of up to'],
    ['a range that goes back', { kind: 'blocks', seq: 3, to: 2, offset: 0, bytes: 1 }, 'a range of up to'],
    ['an offset no block has', { kind: 'blocks', seq: 3, to: 3, offset: BLOCK_BYTES, bytes: 1 }, 'a range of up to'],
    ['too many chain values', { kind: 'chains', first: 0, step: 256, count: CHAINS_MOST + 1 }, 'a count of 1 to'],
    ['no chain value', { kind: 'chains', first: 0, step: 256, count: 0 }, 'a count of 1 to'],
    ['many chain values that each cost a reading', { kind: 'chains', first: 0, step: 255, count: 2 }, 'one chain value, or those of multiples of 256'],
    ['many of them from a place that costs a reading', { kind: 'chains', first: 1, step: 256, count: 2 }, 'one chain value, or those of multiples of 256'],
  ])('that ask for %s are refused', (_, question, why) => {
    expect(refusal(() => decodeQuestion(encodeQuestion(question))).message).toContain(why)
  })
})

describe('answers among replicas', () => {
  test('are read as they were written, and whatever is cut off is refused or shorter', () => {
    fc.assert(fc.property(anyAnswer, fc.nat(), (answer, cut) => {
      const bytes = encodeAnswer(answer)
      const read = decodeAnswer(bytes)
      if (answer.kind !== 'refused') expect(plain(read)).toEqual(plain(answer))
      const short = bytes.subarray(0, cut % bytes.length)
      if (answer.kind !== 'chains') expect(refusal(() => decodeAnswer(short)).code).toBe('CMESH_STATE_CATCH_UP')
    }))
  })

  test('any bytes are an answer and a question, or CMESH_STATE_CATCH_UP', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), fc.boolean(), (tail, begun) => {
      const bytes = begun ? Buffer.concat([Buffer.of(0x43, 1), tail]) : tail
      for (const decode of [decodeAnswer, decodeQuestion]) {
        try {
          decode(bytes)
        } catch (thrown) {
          expect(thrown).toMatchObject({ code: 'CMESH_STATE_CATCH_UP' })
        }
      }
    }), { numRuns: 1_000 })
  })

  test('a reason of another replica is cut and printable', () => {
    const read = decodeAnswer(encodeAnswer({ kind: 'refused', reason: `\u001b[2J${'x'.repeat(1_000)}` }))
    expect(read).toEqual({ kind: 'refused', reason: `?[2J${'x'.repeat(96)}` })
  })
})

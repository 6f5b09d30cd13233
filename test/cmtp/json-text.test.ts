import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { findJsonArrayFault } from '../../cmtp/json-text.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { runs } from '../support/runs.ts'

/** What the platform's parser says: the text is JSON, and an array that begins at once. */
function isArrayText(text: string): boolean {
  try {
    return text.startsWith('[') && Array.isArray(JSON.parse(text))
  } catch (error) {
    if (error instanceof SyntaxError) return false
    throw error
  }
}

/** The platform accepts two things that this scanner refuses: halves of surrogate pairs, and any depth. */
const STRICTER = /well-formed Unicode|levels of nesting/

function expectAgreement(text: string): void {
  const fault = findJsonArrayFault(text, 0)
  if (fault === undefined) expect([text, isArrayText(text)]).toEqual([text, true])
  else {
    expect(fault.index).toBeGreaterThanOrEqual(0)
    expect(fault.index).toBeLessThanOrEqual(text.length)
    if (!STRICTER.test(fault.expected)) expect([text, isArrayText(text)]).toEqual([text, false])
  }
}

const anyArray = fc.array(fc.jsonValue({ stringUnit: 'binary' }), { maxLength: 5 })
const anyArrayText = fc.tuple(anyArray, fc.constantFrom(undefined, 1, '\t', '\r\n'))
  .map(([value, indent]) => JSON.stringify(value, null, indent))
/** JSON with pieces put in, taken out and doubled: most are nearly JSON. */
const mutated = fc.tuple(anyArrayText, fc.array(fc.tuple(
  fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(3),
  fc.constantFrom('', '', ',', ':', '"', '\\', '[', ']', '{', '}', '0', '-', '.', 'e', '1', 'null', 'tru', ' ', '\n', '\u00a0',
    '\u0001', '\ud800', '\\u12', '\\x', '/'),
), { minLength: 1, maxLength: 3 })).map(([text, edits]) => edits.reduce((current, [where, removed, added]) => {
  const at = Math.floor(where * current.length)
  return current.slice(0, at) + added + current.slice(at + removed)
}, text))

describe('the check of JSON arrays', () => {
  test('accepts whatever JSON.stringify writes', () => {
    fc.assert(fc.property(anyArrayText, text => {
      expect(findJsonArrayFault(text, 0)).toBeUndefined()
    }), { numRuns: 1_000 })
  })

  test('agrees with JSON.parse on texts that are nearly JSON', () => {
    fc.assert(fc.property(mutated, expectAgreement), { numRuns: runs(10_000) })
  })

  test('agrees with JSON.parse on any text', () => {
    fc.assert(fc.property(fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string({ unit: fc.constantFrom(...'[]{},:"\\/0123456789-+.eEuntrfalsb \t\n'), maxLength: 16 }).map(tail => `[${tail}`),
    ), expectAgreement), { numRuns: runs(10_000) })
  })

  test('starts where it is told, and runs to the end of the text', () => {
    fc.assert(fc.property(fc.string({ unit: 'grapheme', maxLength: 8 }), anyArrayText, (before, text) => {
      expect(findJsonArrayFault(before + text, before.length)).toBeUndefined()
      expect(findJsonArrayFault(`${before}${text}x`, before.length))
        .toEqual({ index: before.length + text.length, expected: 'the end of the address' })
    }))
  })

  test.each([
    ['{}', 0, '"["'], [' []', 0, '"["'], ['', 0, '"["'],
    ['[', 1, 'a JSON value'], ['[,]', 1, 'a JSON value'], ['[1 2]', 3, '"," or "]"'], ['[tru]', 1, 'a JSON value'],
    ['[truee]', 5, '"," or "]"'],
    ['[{]', 2, 'a string as key'], ['[{"a"}]', 5, '":"'], ['[{"a":1,}]', 8, 'a string as key'],
    ['[{"a":1 "b":2}]', 8, '"," or "}"'],
    ['["', 2, 'a closing quote'], ['["\\', 2, 'a JSON escape'], ['["\\"]', 5, 'a closing quote'],
    ['["\u001f"]', 2, 'control characters to be escaped'],
    ['["\\x"]', 2, 'a JSON escape'], ['["\\u123"]', 2, 'a JSON escape'], ['["\\u123g"]', 2, 'a JSON escape'],
    ['["\\u00g0"]', 2, 'a JSON escape'], ['["\\U0000"]', 2, 'a JSON escape'],
    ['["\ud800"]', 2, 'well-formed Unicode'], ['["\udc00"]', 2, 'well-formed Unicode'],
    ['["\ud800\ud800"]', 2, 'well-formed Unicode'],
    ['[00]', 2, '"," or "]"'], ['[+1]', 1, 'a JSON value'], ['[1.e1]', 3, 'a digit'], ['[1e+]', 4, 'a digit'],
    ['[-a]', 2, 'a digit'],
    ['[] []', 3, 'the end of the address'], ['[]\f', 2, 'the end of the address'],
  ])('%j fails at %i for want of %s', (text, index, expected) => {
    expect(findJsonArrayFault(text, 0)).toEqual({ index, expected })
  })

  test.each([
    '[]', '[ ]', '[1]', '[-0]', '[0.5e-7]', '[1E5]', '["\\u0000\\ud800"]', '["\u2028\u007f"]', '[[],{}]', '[{"":null,"":true}]',
    '[\t\r\n ]\n',
  ])('%j has no fault', text => {
    expect(findJsonArrayFault(text, 0)).toBeUndefined()
  })

  test('nesting has a limit, so that the parser behind cannot be driven into its stack limit', () => {
    const nested = (levels: number, open: string, close: string): string =>
      `[${open.repeat(levels - 1)}${close.repeat(levels - 1)}]`
    expect(findJsonArrayFault(nested(LIMITS.argumentDepth, '[', ']'), 0)).toBeUndefined()
    expect(findJsonArrayFault(nested(LIMITS.argumentDepth + 1, '[', ']'), 0))
      .toEqual({ index: 64, expected: 'at most 64 levels of nesting' })
    expect(findJsonArrayFault('[{"a":'.repeat(100_000), 0)).toMatchObject({ expected: 'at most 64 levels of nesting' })
  })
})

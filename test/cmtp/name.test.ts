import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { confusables } from '../../cmtp/confusables.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { isMeshName, nameSkeleton, normaliseName } from '../../cmtp/name.ts'
import { attempt, refusal } from '../support/refusal.ts'
import { runs } from '../support/runs.ts'
import { readVectors } from '../support/vectors.ts'

const ACCEPTED = readVectors<{ name: string, normal: string }[]>('name/accepted.json')
const REFUSED = readVectors<{ name: string, reason: string }[]>('name/refused.json')
const LOOKALIKES = readVectors<{ about: string, name: string, like: string }[]>('name/lookalikes.json')
/** Readable in a test's title: invisible characters spelled out, long names cut. */
const titled = <V extends { name: string }>(vectors: readonly V[]): [string, V][] => vectors.map(vector => {
  const spell = (character: string): string => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  return [JSON.stringify(vector.name.slice(0, 40)).replace(/[^ -~]/g, spell), vector]
})

/** Text of the characters that decide over names, so that random names come near the rules. */
const nameText = fc.oneof(
  fc.string({ unit: fc.constantFrom(...'abcmolxnA019-.', ...'üßорοı日か한ש१', '\u0301', '\u200d'), maxLength: 24 }),
  fc.string({ unit: 'binary', maxLength: 12 }),
  fc.stringMatching(/^xn--[a-z0-9-]{1,12}$/),
  fc.string({ unit: 'grapheme', maxLength: 12 }),
).chain(text => fc.constantFrom(text, `${text}.mcom`, `${text}.MCOM`))

describe('the normal form of a name', () => {
  test.each(titled(ACCEPTED))('%s is a name', (_title, { name, normal }) => {
    expect(normaliseName(name)).toBe(normal)
    expect(normaliseName(normal)).toBe(normal)
  })

  test.each(titled(REFUSED))('%s is refused and the reason named', (_title, { name, reason }) => {
    const { code, detail, message } = refusal(() => normaliseName(name))
    expect({ code, reason: detail['reason'] }).toEqual({ code: 'CMESH_NAME_INVALID', reason })
    expect(message).toBe(`The name ${detail['name']} is not valid: ${reason}.`)
  })

  test('any text gives a normal form or CMESH_NAME_INVALID, and the normal form is its own', () => {
    fc.assert(fc.property(nameText, text => {
      const { value, refusal: refused } = attempt(() => normaliseName(text))
      if (value === undefined) expect(refused?.code).toBe('CMESH_NAME_INVALID')
      else expect(normaliseName(value)).toBe(value)
    }), { numRuns: runs(5_000) })
  })

  test('is one segment of an address', () => {
    fc.assert(fc.property(nameText, text => {
      const { value } = attempt(() => normaliseName(text))
      if (value !== undefined) expect(parseFqmn(`0xR:${value}`).segments).toEqual([value])
    }), { numRuns: 1_000 })
  })

  test('does not depend on the case of ASCII or on composition', () => {
    fc.assert(fc.property(nameText, text => {
      const { value } = attempt(() => normaliseName(text))
      if (value === undefined) return
      expect(normaliseName(text.replace(/[a-z]/g, c => c.toUpperCase()))).toBe(value)
      expect(normaliseName(text.normalize('NFC'))).toBe(value)
    }), { numRuns: 1_000 })
  })

  test('an error quotes a hostile name without its invisible characters and no longer than it needs', () => {
    expect(refusal(() => normaliseName('\u202e\u0007evil.mcom')).detail['name']).toBe('<U+202E><U+0007>evil.mcom')
    expect(refusal(() => normaliseName('x'.repeat(5_000))).detail['name']).toBe(`${'x'.repeat(64)}…`)
    expect(refusal(() => normaliseName(`${'x'.repeat(63)}😀${'x'.repeat(100)}`)).detail['name']).toBe(`${'x'.repeat(63)}<U+D83D>…`)
  })
})

describe('telling names from other segments', () => {
  test.each(['a.mcom', 'helloWorld.mcom', 'HELLO.MCOM', 'xn--bcher-kva.mcom', '..mcom'])('%s claims to be a name', segment => {
    expect(isMeshName(segment)).toBe(true)
  })

  test.each(['resolve', 'register', 'google.com', 'mcom', '.mcom', 'a.mcom.', 'a-mcom', ''])('%s does not', segment => {
    expect(isMeshName(segment)).toBe(false)
  })

  test('whatever is a name claims to be one', () => {
    for (const { normal } of ACCEPTED) expect(isMeshName(normal)).toBe(true)
  })
})

describe('lookalikes', () => {
  test.each(LOOKALIKES)('$about: $name looks like $like', ({ name, like }) => {
    expect(normaliseName(name)).not.toBe(normaliseName(like))
    expect(nameSkeleton(normaliseName(name))).toBe(nameSkeleton(normaliseName(like)))
  })

  test.each([['app1.mcom', 'appl.mcom'], ['c0rn.mcom', 'corn.mcom'], ['modern.mcom', 'modem.mcom'], ['vv.mcom', 'w.mcom']])(
    'ASCII stands for itself: %s and %s may both be registered', (a, b) => {
      expect(nameSkeleton(a)).toBe(a)
      expect(nameSkeleton(b)).toBe(b)
    })

  test.each([['bücher.mcom', 'bucher.mcom'], ['łódź.mcom', 'lodz.mcom'], ['россия.mcom', 'россии.mcom'], ['東京.mcom', '京東.mcom']])(
    '%s and %s can be told apart', (a, b) => {
      expect(nameSkeleton(normaliseName(a))).not.toBe(nameSkeleton(normaliseName(b)))
    })

  test('a prototype has no prototype, so that one pass makes the whole skeleton', () => {
    for (const [character, prototype] of confusables()) {
      expect([...character]).toHaveLength(1)
      expect(character.charCodeAt(0)).toBeGreaterThan(0x7f)
      expect([character, character.normalize('NFD')]).toEqual([character, character])
      expect([prototype, prototype.normalize('NFD')]).toEqual([prototype, prototype])
      for (const part of prototype) expect([character, confusables().get(part)]).toEqual([character, undefined])
    }
  })
})

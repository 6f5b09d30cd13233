import { describe, expect, test } from '@jest/globals'
import { LIMITS } from '../../cmtp/limits.ts'
import { projectFile, sourceText } from '../support/sources.ts'

/** Rows of the tables of `docs/limits.md`: name, value, what it bounds. */
function readDocs(): [string, number, string][] {
  const text = projectFile('docs/limits.md')
  const rows = text.matchAll(/^\| `(\w+)` \| ([\d,]+) \| ([^|]+) \|/gm)
  return Array.from(rows, ([, name = '', value = '', bounds = '']) => [name, Number(value.replaceAll(',', '')), bounds.trim()])
}

describe('the limits and their page', () => {
  test('docs/limits.md tells every limit with its value, once, and no other', () => {
    const rows = readDocs()
    expect(rows).toHaveLength(Object.keys(LIMITS).length)
    expect(Object.fromEntries(rows.map(([name, value]) => [name, value]))).toEqual({ ...LIMITS })
    for (const [name, , bounds] of rows) expect([name, bounds.length > 5]).toEqual([name, true])
  })

  test('nobody can move a limit while the process runs', () => {
    expect(() => { (LIMITS as { hops: number }).hops = 99 }).toThrow(TypeError)
    expect(LIMITS.hops).toBe(16)
  })

  test('every limit is a positive integer', () => {
    expect(Object.entries(LIMITS).filter(([, value]) => !Number.isSafeInteger(value) || value <= 0)).toEqual([])
  })

  test('a frame has room for one message with everything at its limit', () => {
    const message = LIMITS.fqmnBytes + LIMITS.tokenBytes + LIMITS.headerBytes + LIMITS.bodyBytes
    expect(LIMITS.frameBytes).toBeGreaterThan(message + 42)
  })

  test('every limit is kept somewhere', () => {
    const sources = sourceText('cmtp/limits.ts')
    expect(Object.keys(LIMITS).filter(name => !sources.includes(`LIMITS.${name}`))).toEqual([])
  })
})

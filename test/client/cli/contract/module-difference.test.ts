import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { moduleDifference } from '../../../../client/cli/contract/module-difference.ts'

const leb = (value: number): number[] => (value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...leb(value >>> 7)])
const text = (value: string): number[] => [...leb(value.length), ...Buffer.from(value)]
const section = (id: number, content: readonly number[]): number[] => [id, ...leb(content.length), ...content]
const list = (items: readonly (readonly number[])[]): number[] => [...leb(items.length), ...items.flat()]
const body = (...code: readonly number[]): number[] => [...leb(code.length + 2), 0, ...code, 0x0b]

interface ModuleParts {
  readonly first?: readonly number[]
  readonly second?: readonly number[]
  readonly functions?: number
  readonly abi?: string
  readonly data?: readonly number[]
}

/** A module that imports one function and has two, the second exported. */
function module(parts: ModuleParts = {}): Uint8Array {
  const { first = body(), second = body(), functions = 2, abi = '{}', data } = parts
  return Uint8Array.from([
    0, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    ...section(1, list([[0x60, 0, 0]])),
    ...section(2, list([[...text('cmesh'), ...text('x'), 0, 0]])),
    ...section(3, list(Array.from({ length: functions }, () => [0]))),
    ...section(7, list([[...text('call_f'), 0, functions]])),
    ...section(10, [...leb(functions), ...first, ...second]),
    ...(data === undefined ? [] : section(11, data)),
    ...section(0, [...text('cmesh.abi'), ...Buffer.from(abi)]),
  ])
}

describe('the difference of two modules', () => {
  test('is none when they are the same', () => {
    expect(moduleDifference(module(), module())).toBeUndefined()
  })

  test('names the function by its export, its size, and the first byte', () => {
    const [left, right] = [module(), module({ second: body(0x01) })]
    expect(moduleDifference(left, right)).toEqual({
      parts: [{ part: 'section code', left: 7, right: 8 }, { part: 'function call_f', left: 2, right: 3 }],
      functions: [2, 2], offset: left.indexOf(10, 40) + 1, at: 'section code',
    })
  })

  test('says in which part the first byte is that differs', () => {
    const [left, right] = [module({ first: body(0x01) }), module({ first: body(0x1a) })]
    const found = moduleDifference(left, right)
    expect(found).toMatchObject({ at: 'function 1', parts: [{ part: 'section code' }, { part: 'function 1' }] })
    expect(left[found?.offset as number]).toBe(0x01)
    expect(right[found?.offset as number]).toBe(0x1a)
  })

  test('tells exported functions alone by name where one module has more than the other', () => {
    const more = moduleDifference(module(), module({ first: [...body(), ...body()], functions: 3, second: body(0x01) }))
    expect(more).toMatchObject({ functions: [2, 3] })
    expect(more?.parts.map(({ part }) => part)).toEqual(['section function', 'section export', 'section code', 'function call_f'])
  })

  test('tells sections that only one has, and custom sections by name', () => {
    expect(moduleDifference(module({ data: [0] }), module({ abi: '[]' }))?.parts).toEqual([
      { part: 'section data', left: 1, right: null }, { part: 'section cmesh.abi', left: 12, right: 12 },
    ])
  })

  test('a module and its beginning part at the end', () => {
    const whole = module()
    expect(moduleDifference(whole.subarray(0, 4), whole)).toMatchObject({ offset: 4, at: 'the header' })
  })

  test('is found of any bytes whatever', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), fc.uint8Array({ maxLength: 64 }), fc.boolean(), (a, b, headed) => {
      const [left, right] = headed ? [a, b].map((bytes) => Buffer.concat([module().subarray(0, 8), bytes])) as [Buffer, Buffer] : [a, b]
      const found = moduleDifference(left, right)
      expect(found === undefined).toBe(Buffer.compare(left, right) === 0)
      if (found !== undefined) expect(left[found.offset]).not.toBe(right[found.offset])
    }), { seed: 11, numRuns: 500 })
  })
})

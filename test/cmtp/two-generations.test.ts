import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { TwoGenerations } from '../../cmtp/two-generations.ts'

type Step = readonly ['set' | 'get' | 'peek' | 'delete' | 'clear', number]

const anyStep: fc.Arbitrary<Step> = fc.tuple(fc.constantFrom('set', 'set', 'set', 'get', 'get', 'peek', 'delete'), fc.nat(20))
const anySteps = fc.array(anyStep, { maxLength: 120 })

describe('two generations', () => {
  test('keep at least the last entries used, at most twice as many, and never give a value that was replaced', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 6 }), anySteps, (entries, steps) => {
      const map = new TwoGenerations<number, string>({ entries })
      const last = new Map<number, string>()
      /** What a list of the keys last used would keep, the newest at the end: what fell off it does not come back when another is deleted. */
      let used: number[] = []
      steps.forEach(([step, key], i) => {
        const known = map.peek(key)
        if (known !== undefined) expect(known).toBe(last.get(key))
        switch (step) {
          case 'set':
            map.set(key, `${key} at ${i}`)
            last.set(key, `${key} at ${i}`)
            used = [...used.filter(other => other !== key), key]
            break
          case 'get':
            expect(map.get(key)).toBe(known)
            if (known !== undefined) used = [...used.filter(other => other !== key), key]
            break
          case 'delete':
            map.delete(key)
            last.delete(key)
            used = used.filter(other => other !== key)
            expect(map.peek(key)).toBeUndefined()
            break
          default:
        }
        used = used.slice(-entries)
        for (const kept of used) expect(map.peek(kept)).toBe(last.get(kept))
        expect(map.size).toBeLessThanOrEqual(2 * entries)
      })
    }), { numRuns: 300, examples: [[1, [['set', 0], ['set', 4], ['set', 4], ['delete', 4]]]] })
  })

  test('keep no more than twice the weight, whatever is used again and again', () => {
    const weightOf = (value: string): number => value.length
    fc.assert(fc.property(anySteps, fc.array(fc.integer({ min: 1, max: 10 }), { minLength: 21, maxLength: 21 }), fc.boolean(), (steps, weights, made) => {
      const map = new TwoGenerations<number, string>({ entries: 1_000, weight: 10 })
      for (const [step, key] of steps) {
        const weight = weights[key] ?? 1
        if (step === 'set') map.set(key, 'x'.repeat(weight), weight)
        else if (step === 'get') map.get(key, made ? weightOf : weight)
        const held = weights.reduce((sum, each, i) => sum + (map.peek(i) === undefined ? 0 : each), 0)
        expect(held).toBeLessThanOrEqual(20)
      }
    }), { numRuns: 300 })
  })

  test('keep the same for whoever makes the same calls', () => {
    fc.assert(fc.property(anySteps, steps => {
      const [a, b] = [new TwoGenerations<number, number>({ entries: 3 }), new TwoGenerations<number, number>({ entries: 3 })]
      for (const map of [a, b]) steps.forEach(([step, key], i) => { if (step === 'set') map.set(key, i); else if (step === 'get') map.get(key) })
      for (let key = 0; key <= 20; key++) expect(a.peek(key)).toBe(b.peek(key))
    }))
  })

  test('a look with peek keeps nothing longer, a look with get does', () => {
    const looked = (look: 'peek' | 'get'): number | undefined => {
      const map = new TwoGenerations<string, number>({ entries: 2 })
      map.set('a', 1)
      map.set('b', 2)
      map.set('c', 3)
      map[look]('a')
      map.set('d', 4)
      map.set('e', 5)
      return map.peek('a')
    }
    expect(looked('peek')).toBeUndefined()
    expect(looked('get')).toBe(1)
  })

  test('an entry heavier than allowed is kept alone', () => {
    const map = new TwoGenerations<string, number>({ entries: 10, weight: 5 })
    map.set('heavy', 1, 6)
    expect(map.peek('heavy')).toBe(1)
    map.set('light', 2, 1)
    map.set('other', 3, 5)
    expect([map.peek('heavy'), map.peek('light'), map.peek('other')]).toEqual([undefined, 2, 3])
  })

  test('are empty after a clear, weight included', () => {
    const map = new TwoGenerations<string, number>({ entries: 10, weight: 5 })
    map.set('a', 1, 5)
    map.set('b', 2, 5)
    map.clear()
    expect([map.size, map.peek('a'), map.peek('b')]).toEqual([0, undefined, undefined])
    map.set('c', 3, 3)
    map.set('d', 4, 2)
    map.set('e', 5, 5)
    expect([map.peek('c'), map.peek('d'), map.peek('e')]).toEqual([3, 4, 5])
  })
})

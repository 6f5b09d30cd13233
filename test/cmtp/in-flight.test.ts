import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { InFlight } from '../../cmtp/in-flight.ts'

const anyStep = fc.tuple(fc.constantFrom('add', 'add', 'delete', 'take'), fc.nat(12))

describe('what is in flight', () => {
  test('is there from when it was taken in until it was taken out, in the order in which it came', () => {
    fc.assert(fc.property(fc.array(anyStep, { maxLength: 80 }), steps => {
      const inFlight = new InFlight<number, { readonly n: number }>()
      const expected = new Map<number, { readonly n: number }>()
      for (const [n, [does, key]] of steps.entries()) {
        if (does === 'delete') expect(inFlight.delete(key)).toBe(expected.delete(key))
        else if (does === 'take') {
          expect(inFlight.take(key)).toBe(expected.get(key))
          expected.delete(key)
        } else if (!expected.has(key)) {
          const value = { n }
          inFlight.add(key, value)
          expected.set(key, value)
        }
        expect(inFlight.size).toBe(expected.size)
        for (let any = 0; any <= 12; any++) expect(inFlight.get(any)).toBe(expected.get(any))
        expect(inFlight.values()).toEqual([...expected.values()])
      }
    }))
  })

  test('is held no longer than it is there', async () => {
    const collect = (setFlagsFromString('--expose-gc'), runInNewContext('gc') as () => void)
    const inFlight = new InFlight<string, object>()
    const goneIn = (): WeakRef<object> => {
      const value = { large: true }
      inFlight.add('a', value)
      inFlight.delete('a')
      return new WeakRef(value)
    }
    const gone = goneIn()
    // A reference that was just made holds until the turn ends.
    await new Promise(resolve => { setImmediate(resolve) })
    collect()
    expect(gone.deref()).toBeUndefined()
  })
})

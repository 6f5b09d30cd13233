import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { FairQueue } from '../../services/fair-queue.ts'

const push = fc.record({ does: fc.constant('push' as const), key: fc.constantFrom('a', 'b', 'c') })
const shift = fc.record({ does: fc.constant('shift' as const) })
const putBack = fc.record({ does: fc.constant('putBack' as const), count: fc.nat(3) })

describe('a fair queue', () => {
  test('gives each its turn, and each its own in the order in which they came', () => {
    const queue = new FairQueue<string>()
    for (const item of ['a1', 'a2', 'a3', 'b1', 'c1', 'c2']) queue.push(item.charAt(0), item)
    expect([queue.size, queue.sizeOf('a'), queue.sizeOf('d'), queue.peek()]).toEqual([6, 3, 0, 'a1'])
    expect(queue.drain()).toEqual(['a1', 'b1', 'c1', 'a2', 'c2', 'a3'])
    expect([queue.size, queue.peek(), queue.shift()]).toEqual([0, undefined, undefined])
  })

  test('keeps a newcomer waiting for one of each other, however many they have', () => {
    const queue = new FairQueue<string>()
    for (let i = 0; i < 1_000; i++) queue.push('a', `a${i}`)
    queue.push('b', 'b0')
    expect([queue.shift(), queue.shift()]).toEqual(['a0', 'b0'])
  })

  test('takes back what it gave: each one\'s where it stood, behind the turn of whoever waits', () => {
    const queue = new FairQueue<string>()
    const order = (item: string): number => Number(item.slice(1))
    for (const item of ['a1', 'a2', 'a3', 'b1']) queue.push(item.charAt(0), item)
    const taken = [queue.shift(), queue.shift(), queue.shift()] as string[]
    expect(taken).toEqual(['a1', 'b1', 'a2'])
    queue.push('c', 'c1')
    queue.putBack(taken, item => item.charAt(0), order)
    expect([queue.size, queue.peek()]).toEqual([5, 'a1'])
    expect(queue.drain()).toEqual(['a1', 'c1', 'b1', 'a2', 'a3'])
  })

  test('takes back a thousand of one without anybody else waiting for them', () => {
    const queue = new FairQueue<number>()
    queue.push('b', 0)
    queue.putBack(Array.from({ length: 1_000 }, (_, i) => i + 1), () => 'a', item => item)
    expect([queue.shift(), queue.shift()]).toEqual([0, 1])
  })

  test('holds nothing of what was taken, while others of the same one wait', async () => {
    const collect = (setFlagsFromString('--expose-gc'), runInNewContext('gc') as () => void)
    const queue = new FairQueue<object>()
    for (let i = 0; i < 3; i++) queue.push('a', { i })
    const takenOf = (): WeakRef<object> => new WeakRef(queue.shift() as object)
    const taken = takenOf()
    // A reference that was just made holds until the turn ends.
    await new Promise(resolve => { setImmediate(resolve) })
    collect()
    expect([taken.deref(), queue.size]).toEqual([undefined, 2])
  })

  test('loses nothing, doubles nothing and keeps each one\'s order, whatever is done to it', () => {
    fc.assert(fc.property(fc.array(fc.oneof(push, shift, putBack)), steps => {
      const queue = new FairQueue<{ readonly key: string, readonly n: number }>()
      const out: { readonly key: string, readonly n: number }[] = []
      let n = 0
      for (const step of steps) {
        if (step.does === 'push') queue.push(step.key, { key: step.key, n: n++ })
        else if (step.does === 'putBack') queue.putBack(out.splice(Math.max(0, out.length - step.count)), item => item.key, item => item.n)
        else {
          const ahead = queue.peek()
          const item = queue.shift()
          expect(item).toBe(ahead)
          if (item !== undefined) out.push(item)
        }
        expect(queue.size + out.length).toBe(n)
      }
      out.push(...queue.drain())
      expect(new Set(out.map(item => item.n)).size).toBe(n)
      for (const key of ['a', 'b', 'c']) {
        const own = out.filter(item => item.key === key).map(item => item.n)
        expect(own).toEqual(own.toSorted((one, other) => one - other))
      }
    }))
  })
})

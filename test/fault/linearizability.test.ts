/** The checker of histories: right about histories that are known to be good or bad, and about all small ones as trying every order is. */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import {
  checkHistory, COUNTER, REGISTER, type CounterInput, type Model, type Operation, type RegisterInput, type Verdict,
} from './support/linearizability.ts'

type Registered = Operation<RegisterInput, number>
type Counted = Operation<CounterInput, number>

const write = (value: number, start: number, end?: number): Registered => ({ input: { kind: 'write', value }, output: end === undefined ? undefined : value, start, end: end ?? 0 })
const read = (value: number, start: number, end: number): Operation<{ readonly kind: 'read' }, number> => ({ input: { kind: 'read' }, output: value, start, end })
const increment = (value: number | undefined, start: number, end = 0): Counted => ({ input: { kind: 'increment' }, output: value, start, end })

describe('a history of a register', () => {
  test.each<[string, readonly Registered[]]>([
    ['nothing at all', []],
    ['reads of what it holds at first', [read(0, 0, 1), read(0, 2, 3)]],
    ['a read of the old value beside a write', [write(1, 0, 10), read(0, 1, 2), read(1, 3, 4)]],
    ['writes beside each other, seen in another order than they began', [write(1, 0, 10), write(2, 1, 10), read(2, 2, 3), read(1, 4, 5)]],
    ['a write of unknown outcome that took effect much later', [write(1, 0), write(2, 1, 2), read(2, 3, 4), read(1, 5, 6)]],
    ['a write of unknown outcome that never took effect', [write(1, 0), write(2, 1, 2), read(2, 3, 4)]],
    ['a read that ends when a write begins', [read(1, 0, 5), write(1, 5, 6)]],
  ])('%s: is linearizable', (_, history) => {
    expect(checkHistory(history, REGISTER)).toBe('linearizable')
  })

  test.each<[string, readonly Registered[]]>([
    ['a stale read', [write(1, 0, 1), write(2, 2, 3), read(1, 4, 5)]],
    ['a lost update', [write(1, 0, 1), read(0, 2, 3)]],
    ['a read from the future', [read(1, 0, 1), write(1, 2, 3)]],
    ['a read from the future of a write of unknown outcome', [read(1, 0, 1), write(1, 2)]],
    ['a value that nobody wrote', [write(1, 0, 1), read(7, 2, 3)]],
    ['two reads that see two writes in two orders', [write(1, 0, 10), write(2, 0, 10), read(1, 1, 2), read(2, 3, 4), read(1, 5, 6)]],
    ['a write of unknown outcome that took effect twice', [write(1, 0), write(2, 1, 2), read(1, 3, 4), write(3, 5, 6), read(3, 7, 8), read(1, 9, 10)]],
    ['two readers that disagree about what came last', [write(1, 0, 1), write(2, 2, 20), read(2, 3, 4), read(1, 5, 6)]],
    ['a write that was undone by a restart', [write(1, 0, 1), read(1, 2, 3), read(0, 4, 5)]],
  ])('%s: is not', (_, history) => {
    expect(checkHistory(history, REGISTER)).toBe('impossible')
  })
})

describe('a history of a counter', () => {
  test.each<[string, readonly Counted[]]>([
    ['increments in turn', [increment(1, 0, 1), increment(2, 2, 3), read(2, 4, 5)]],
    ['increments beside each other', [increment(2, 0, 10), increment(1, 0, 10), increment(3, 0, 10), read(1, 1, 9)]],
    ['one of unknown outcome that counted', [increment(undefined, 0), increment(2, 1, 2), read(2, 3, 4)]],
    ['one of unknown outcome that did not', [increment(undefined, 0), increment(1, 1, 2), read(1, 3, 4)]],
    ['one of unknown outcome that counted after a read', [increment(undefined, 0), read(0, 1, 2), read(1, 3, 4)]],
    ['many of unknown outcome, some of which counted', [...Array.from({ length: 40 }, (_, i) => increment(undefined, i)), read(0, 41, 42), read(17, 43, 44), read(40, 45, 46)]],
  ])('%s: is linearizable', (_, history) => {
    expect(checkHistory(history, COUNTER)).toBe('linearizable')
  })

  test.each<[string, readonly Counted[]]>([
    ['a duplicate increment', [increment(1, 0, 1), read(2, 2, 3)]],
    ['a lost increment', [increment(1, 0, 1), increment(1, 2, 3)]],
    ['one value given to two', [increment(1, 0, 10), increment(1, 0, 10)]],
    ['a hole', [increment(1, 0, 1), increment(3, 2, 3)]],
    ['one of unknown outcome that counted twice', [increment(undefined, 0), read(2, 1, 2)]],
    ['a count that goes back', [increment(1, 0, 1), increment(2, 2, 3), read(2, 4, 5), read(1, 6, 7)]],
    ['a read from the future', [read(1, 0, 1), increment(1, 2, 3)]],
    ['an increment of unknown outcome that began after it was seen', [read(1, 0, 1), increment(undefined, 2)]],
    ['more than all of unknown outcome', [...Array.from({ length: 40 }, (_, i) => increment(undefined, i)), read(41, 41, 42)]],
  ])('%s: is not', (_, history) => {
    expect(checkHistory(history, COUNTER)).toBe('impossible')
  })
})

test('a search that takes too long says that it did not decide', () => {
  const history = [...Array.from({ length: 12 }, (_, i) => write(i + 1, 0, 100)), read(99, 101, 102)]
  expect(checkHistory(history, REGISTER, 1_000)).toBe('undecided')
  expect(checkHistory(history, REGISTER)).toBe('impossible')
})

/** Tries every order of every choice of the operations whose outcome is unknown. */
function bruteForce<I>(history: readonly Operation<I, number>[], model: Model<number, I, number>): Verdict {
  const follows = (state: number, left: readonly Operation<I, number>[]): boolean => {
    if (left.every(({ output }) => output === undefined)) return true
    return left.some(operation => {
      // Nothing that ended before this one began is left.
      if (left.some(other => other !== operation && other.output !== undefined && other.end < operation.start)) return false
      const next = model.step(state, operation.input, operation.output)
      return next !== undefined && follows(next, left.filter(other => other !== operation))
    })
  }
  return follows(model.initial, history) ? 'linearizable' : 'impossible'
}

const spans = fc.tuple(fc.nat(12), fc.nat(5)).map(([start, length]) => ({ start, end: start + length }))
const outputs = fc.option(fc.nat(4), { nil: undefined, freq: 4 })

test('of every small history of a register it says what trying every order says', () => {
  const one = fc.tuple(spans, fc.boolean(), outputs)
  const verdicts = new Set<string>()
  fc.assert(fc.property(fc.array(one, { maxLength: 7 }), drawn => {
    const history = drawn.map(([span, isWrite, output], i): Registered => (isWrite
      ? { ...span, input: { kind: 'write', value: i % 4 + 1 }, output: output === undefined ? undefined : i % 4 + 1 }
      : { ...span, input: { kind: 'read' }, output }))
    const verdict = checkHistory(history, REGISTER)
    verdicts.add(verdict)
    expect(verdict).toBe(bruteForce(history, REGISTER))
  }), { numRuns: 2_000 })
  expect([...verdicts].sort()).toEqual(['impossible', 'linearizable'])
})

test('of every small history of a counter it says what trying every order says', () => {
  const one = fc.tuple(spans, fc.boolean(), outputs)
  const verdicts = new Set<string>()
  fc.assert(fc.property(fc.array(one, { maxLength: 7 }), drawn => {
    const history = drawn.map(([span, isIncrement, output]): Counted => ({ ...span, input: { kind: isIncrement ? 'increment' : 'read' }, output }))
    const verdict = checkHistory(history, COUNTER)
    verdicts.add(verdict)
    expect(verdict).toBe(bruteForce(history, COUNTER))
  }), { numRuns: 2_000 })
  expect([...verdicts].sort()).toEqual(['impossible', 'linearizable'])
})

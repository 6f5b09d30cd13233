/** The ledger that the drills are judged by: it finds each kind of wrong, and nothing where nothing is. */
import { beforeEach, expect, test } from '@jest/globals'
import { Ledger, ReplicaBook, type LoggedWrite } from './support/ledger.ts'

let ledger: Ledger
let book: ReplicaBook
beforeEach(() => {
  ledger = new Ledger()
  book = new ReplicaBook(ledger, 'node-1')
})

const increment = (number: number, seq: number, answer: number): LoggedWrite => ({ kind: 'increment', key: 'k', number, seq, answer })
/** Asks for increments 1 to `count`, and acknowledges the first of them, each in a block of its own. */
function asked(count: number, acknowledged: number): void {
  for (let number = 1; number <= count; number++) {
    expect(ledger.begin({ kind: 'increment', key: 'k' })).toBe(number)
    if (number <= acknowledged) ledger.acknowledge(number, { seq: number, answer: number })
  }
}
const kinds = (writes: readonly LoggedWrite[]): string[] => [...writes.flatMap(write => book.take(write)), ...book.level()].map(({ kind, number }) => `${kind} ${number}`)

test('finds nothing where each acknowledged write is there once, and those of unknown outcome are there or not', () => {
  asked(5, 3)
  expect(kinds([increment(1, 1, 1), increment(2, 2, 2), increment(3, 3, 3), increment(5, 4, 4)])).toEqual([])
  expect(ledger.counts).toEqual({ asked: 5, acknowledged: 3, refused: 0, unknown: 2 })
  expect(book.held).toBe(4)
})

test('finds what was acknowledged and is not there, and looks each up once', () => {
  asked(3, 3)
  expect(kinds([increment(1, 1, 1), increment(3, 3, 2)])).toEqual(['lost 2', 'altered 3'])
  expect(book.level()).toEqual([])
})

test('finds what is there twice', () => {
  asked(2, 1)
  expect(kinds([increment(1, 1, 1), increment(1, 2, 2)])).toEqual(['duplicated 1'])
  expect(kinds([increment(2, 3, 3), increment(2, 4, 4)])).toEqual(['duplicated 2'])
})

test('finds what stands elsewhere than was said', () => {
  asked(1, 1)
  expect(kinds([increment(1, 7, 1)])).toEqual(['moved 1'])
})

test('finds an answer that does not follow from what stands before it', () => {
  asked(3, 0)
  expect(kinds([increment(1, 1, 1), increment(2, 2, 1)])).toEqual(['altered 2'])
  const put = ledger.begin({ kind: 'put', key: 'r' })
  expect(kinds([{ kind: 'put', key: 'r', number: put, seq: 3, answer: put }])).toEqual([])
  expect(kinds([{ kind: 'put', key: 'r', number: 3, seq: 4, answer: 3 }])).toEqual(['altered 3'])
})

test('finds what nobody asked for', () => {
  expect(kinds([increment(1, 1, 1)])).toEqual(['foreign 1'])
})

test('finds what was done though it was refused', () => {
  asked(1, 0)
  ledger.refuse(1, 'CMESH_ROUTER_DEADLINE')
  expect(ledger.counts).toEqual({ asked: 1, acknowledged: 0, refused: 1, unknown: 0 })
  const [fault] = book.take(increment(1, 9, 1))
  expect(fault).toEqual({ kind: 'refused', replica: 'node-1', number: 1, says: 'block 9 has it, and CMESH_ROUTER_DEADLINE said that nothing was done' })
})

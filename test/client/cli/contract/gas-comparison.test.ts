import { describe, expect, test } from '@jest/globals'
import { compareGas, gasLines } from '../../../../client/cli/contract/gas-comparison.ts'
import type { FunctionGas, GasReport } from '../../../../client/cli/contract/kit-process.ts'
import { capture } from '../../support/capture.ts'

const gas = (median: number, min = median, max = median): FunctionGas => ({ calls: 3, min, median, max })
const report = (functions: Readonly<Record<string, FunctionGas>>, contract = 'token'): GasReport =>
  ({ meter: 1, schedule: 1, contracts: { [contract]: { bytes: 100, functions } } })

describe('a comparison of gas', () => {
  test.each<[string, FunctionGas, FunctionGas, number, string]>([
    ['nothing changed', gas(100), gas(100), 0, 'same'],
    ['one more', gas(100), gas(101), 0, 'more'],
    ['one less', gas(100), gas(99), 0, 'less'],
    ['as much as the threshold', gas(100), gas(105), 5, 'same'],
    ['more than the threshold', gas(100), gas(106), 5, 'more'],
    ['only the dearest call', gas(100, 90, 200), gas(100, 90, 300), 0, 'more'],
    ['only the cheapest call', gas(100, 90, 200), gas(100, 10, 200), 0, 'less'],
    ['the cheapest by less than the dearest', gas(100, 90, 200), gas(100, 89, 300), 0, 'more'],
    ['from nothing', gas(0), gas(1), 50, 'more'],
    ['more calls of the same cost', { ...gas(100), calls: 1 }, gas(100), 0, 'same'],
  ])('%s', (_, before, now, threshold, verdict) => {
    expect(compareGas(report({ f: before }), report({ f: now }), threshold)).toMatchObject([{ contract: 'token', function: 'f', before, now, verdict }])
  })

  test('names what came and what went, in order', () => {
    const changes = compareGas(report({ a: gas(1), b: gas(2) }), report({ c: gas(3), b: gas(2) }), 0)
    expect(changes.map(({ function: name, verdict, percent }) => [name, verdict, percent])).toEqual([['a', 'gone', null], ['b', 'same', 0], ['c', 'new', null]])
  })

  test('with nothing to compare with finds nothing changed', () => {
    expect(compareGas(undefined, report({ a: gas(1) }), 0)).toMatchObject([{ function: 'a', verdict: 'same' }])
  })

  test('is a table, with the contract where there are several', () => {
    const { terminal } = capture()
    const now: GasReport = { meter: 1, schedule: 1, contracts: { ...report({ f: gas(1_234) }).contracts, ...report({ f: gas(7) }, 'escrow').contracts } }
    expect(gasLines(terminal, compareGas(report({ f: gas(1_000) }), now, 0))).toEqual([
      '  function  calls    min  median    max  change',
      '  escrow.f      3      7       7      7  new',
      '  token.f       3  1,234   1,234  1,234  +23.4 %, was 1,000',
    ])
    expect(gasLines(terminal, compareGas(report({ f: gas(8) }), report({}), 0))[1]).toBe('  f             0    0       0    0  gone, was 8')
  })
})

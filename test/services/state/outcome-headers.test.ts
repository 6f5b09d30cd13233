import { expect, test } from '@jest/globals'
import fc from 'fast-check'
import { encodeHeaders } from '../../../cmtp/headers.ts'
import { OutcomeHeaders, outcomeHeaders } from '../../../services/state/outcome-headers.ts'

test('the headers of results are those that encoding them one by one gives, in any order of blocks, and are not changed by later ones', () => {
  const outcome = fc.record({ gas: fc.bigInt({ min: 0n, max: 3n }), seq: fc.integer({ min: 1, max: 3 }), id: fc.stringMatching(/^[0-9a-f]{32}$/) })
  fc.assert(fc.property(fc.array(outcome), outcomes => {
    const headers = new OutcomeHeaders('os')
    expect(outcomes.map(each => headers.ofResult(each)))
      .toEqual(outcomes.map(each => encodeHeaders([['content-type', 'application/json'], ...outcomeHeaders('os', each)])))
  }))
})

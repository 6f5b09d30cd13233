import { beforeAll, beforeEach, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { Sandbox, type SandboxContract } from '../../node/kit/index.ts'
import { shipped } from './support/compiled.ts'

const MOST = 2n ** 64n - 1n

let code: Uint8Array
let sandbox: Sandbox
let counter: SandboxContract

beforeAll(async () => {
  code = await shipped('counter')
})
beforeEach(() => {
  sandbox = new Sandbox()
  counter = sandbox.deploy(code)
})

test('counts from 0 by 1, or from and by what it is told', () => {
  expect([counter.view('get'), counter.call('increment').value, counter.call('increment', [41]).value, counter.view('get')]).toEqual([0, 1, 42, 42])
  expect(sandbox.deploy(code, { init: [5] }).call('increment').value).toBe(6)
})

test('tells the world each number', () => {
  expect(counter.call('increment', [3]).events).toEqual([{ contract: counter.address, topic: 'incremented', data: 3 }])
})

test('ends at the last u64 and goes no further', () => {
  expect(counter.call('increment', [MOST]).value).toBe(String(MOST))
  counter.expectRevert('the counter ends at 18446744073709551615', 'increment')
  expect(counter.call('increment', [0]).value).toBe(String(MOST))
})

test('never goes down, whatever it is told', () => {
  const number = fc.oneof(fc.bigInt(0n, MOST), fc.constantFrom(0n, 1n, MOST, 2n ** 53n))
  const start = sandbox.snapshot()
  fc.assert(fc.property(fc.array(number, { maxLength: 8 }), (steps) => {
    sandbox.restore(start)
    let model = 0n
    for (const by of steps) {
      const { ok } = counter.attempt('increment', [by])
      expect(ok).toBe(model + by <= MOST)
      if (ok) model += by
      expect(BigInt(counter.view<number | string>('get'))).toBe(model)
    }
  }), { numRuns: 60, seed: 1 })
})

test.each([-1, 0.5, '1e3', true])('by %p is refused', (by) => {
  counter.expectRevert('argument 1 (by): expected a whole number', 'increment', [by])
})

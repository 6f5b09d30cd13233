/** The order of the test files. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from '@jest/globals'
import { ROOT } from '../support/sources.ts'
import LongestFirst, { LONGEST } from '../sequencer.mjs'

test('the files that take longest are there, and come first, whatever order they are found in', async () => {
  expect(LONGEST.filter((name) => !existsSync(join(ROOT, name)))).toEqual([])
  const context = { config: { cacheDirectory: join(ROOT, 'none'), id: 'none' }, hasteFS: { getSize: () => 1 } }
  const found = ['test/ci/results.test.ts', ...LONGEST.toReversed(), 'test/cmtp/did.test.ts'].map((name) => ({ path: join(ROOT, name), context }))
  const sequencer = new LongestFirst({} as never)
  const ordered = (await sequencer.sort(found as never)).map(({ path }) => path.slice(ROOT.length).replace(/^\//, ''))
  expect(ordered.slice(0, LONGEST.length)).toEqual(LONGEST)
  expect(ordered).toHaveLength(LONGEST.length + 2)
})

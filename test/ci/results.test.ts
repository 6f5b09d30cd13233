/** The line that sums a test run up counts what went wrong, however it went wrong. */
import { expect, test } from '@jest/globals'
import { countsLine } from '../results.mjs'

const file = (status: string, ...tests: string[]): Parameters<typeof countsLine>[0]['testResults'][number] =>
  ({ name: 'a.test.ts', status, startTime: 0, endTime: 1, assertionResults: tests.map(outcome => ({ status: outcome, fullName: 'a' })) })

test.each([
  ['passed and failed tests', { numPassedTests: 7, numFailedTests: 2, numPendingTests: 0, numTodoTests: 0, testResults: [file('failed', 'failed')] }, '7 passed, 2 failed'],
  ['skipped ones and those to come, when there are any', { numPassedTests: 7, numFailedTests: 0, numPendingTests: 1, numTodoTests: 2, testResults: [] }, '7 passed, 0 failed, 3 skipped'],
  ['a file that did not load', { numPassedTests: 7, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0, testResults: [file('failed'), file('passed', 'passed')] }, '7 passed, 1 failed'],
  ['a file that failed outside its tests', { numPassedTests: 1, numFailedTests: 0, numPendingTests: 0, numTodoTests: 0, testResults: [file('failed', 'passed')] }, '1 passed, 1 failed'],
])('the line counts %s', (_what, results, line) => {
  expect(countsLine(results)).toBe(line)
})

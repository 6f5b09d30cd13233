/** The line that sums a test run up, from jest's own result file. A file that fails without a failed test counts as one failure. */

/**
 * @typedef {object} Results
 * @property {number} numPassedTests
 * @property {number} numFailedTests
 * @property {number} numPendingTests
 * @property {number} numTodoTests
 * @property {{ name: string, status: string, startTime: number, endTime: number,
 *   assertionResults: { status: string, fullName: string }[] }[]} testResults
 */

/**
 * `N passed, N failed`, and `, N skipped` when there are any.
 *
 * @param {Results} results
 */
export function countsLine({ numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults }) {
  const broken = testResults.filter(({ status, assertionResults }) => status === 'failed' && !assertionResults.some((test) => test.status === 'failed'))
  const skipped = numPendingTests + numTodoTests
  return `${numPassedTests} passed, ${numFailedTests + broken.length} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
}

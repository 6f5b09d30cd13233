/**
 * The order of the test files: those that take longest come first, so that none of them runs alone at the end. Which they are stands here,
 * because a fresh clone has no durations to go by; the others follow as jest orders them.
 */
import Sequencer from '@jest/test-sequencer'

/** Its types call the class what imports it by `require` would see. */
const Base = /** @type {typeof Sequencer.default} */ (/** @type {unknown} */ (Sequencer))

/** A quarter of a minute and more on a machine of two cores. Those that wait most stand beside those that work most. */
export const LONGEST = [
  'integration/cluster', 'determinism/determinism', 'integration/contract-cli', 'fault/cluster-drills', 'docs/contracts', 'integration/boot',
  'conformance/registry', 'fault/jetstream-consensus', 'docs/shipped-contracts', 'providers/consensus-cluster', 'integration/mining', 'integration/drain',
  'providers/state-catch-up', 'integration/rotation', 'integration/client', 'fault/state-log', 'integration/refresh-under-load', 'integration/migration',
  'integration/backup-cli', 'integration/bad-input', 'providers/meter/properties', 'integration/authz', 'integration/cli', 'providers/contracts',
  'client/contract-compile', 'client/contract-lint',
].map((name) => `test/${name}.test.ts`)

export default class LongestFirst extends Base {
  /**
   * @override
   * @param {import('@jest/test-result').Test[]} tests
   * @returns {Promise<import('@jest/test-result').Test[]>}
   */
  async sort(tests) {
    const place = (/** @type {{ readonly path: string }} */ { path }) => {
      const known = LONGEST.findIndex((name) => path.endsWith(`/${name}`))
      return known === -1 ? LONGEST.length : known
    }
    return [...await super.sort(tests)].sort((a, b) => place(a) - place(b))
  }
}

/** The calls whose gas `cmesh contract gas` reports, and compares with `gas.json`. What a call costs includes what the token costs in it. */
const TOKEN = new URL('../../dist/contracts/token.wasm', import.meta.url)
const DAY_MS = 86_400_000

export default function scenario({ sandbox, deploy }) {
  const [alice, bob, judge] = ['alice', 'bob', 'judge'].map((name) => sandbox.identity(name))
  const token = sandbox.deploy(TOKEN, { init: ['Mesh Token', 'MTK', 2, 1_000_000], as: alice })
  const escrow = deploy()
  token.call('approve', [escrow, 1_000_000], { as: alice })
  for (let i = 0; i < 14; i++) escrow.call('deposit', [token, 100, bob, sandbox.timeMs + DAY_MS + i, judge], { as: alice })
  escrow.view('get', [1])
  escrow.call('release', [1], { as: alice })
  escrow.call('release', [2], { as: judge })
  escrow.call('refund', [3], { as: bob })
  sandbox.advance({ ms: 2 * DAY_MS })
  escrow.view('due')
  escrow.call('sweep', [1])
  escrow.call('sweep', [10])
  escrow.call('sweep')
}

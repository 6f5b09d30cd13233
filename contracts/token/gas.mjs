/** The calls whose gas `cmesh contract gas` reports, and compares with `gas.json`. */
export default function scenario({ sandbox, deploy }) {
  const [alice, bob, carol] = ['alice', 'bob', 'carol'].map((name) => sandbox.identity(name))
  const token = deploy({ init: ['Mesh Token', 'MTK', 2, 1_000_000], as: alice })
  // To somebody who had none, and to somebody who had some.
  token.call('transfer', [bob, 500], { as: alice })
  token.call('transfer', [bob, 500], { as: alice })
  token.call('approve', [carol, 300], { as: bob })
  token.call('transferFrom', [bob, alice, 100], { as: carol })
  token.call('mint', [bob, 1], { as: alice })
  token.call('burn', [1], { as: bob })
  token.call('setMinter', [bob], { as: alice })
  token.view('balanceOf', [bob])
  token.view('allowance', [bob, carol])
  token.view('totalSupply')
  token.view('info')
  token.view('minterOf')
}

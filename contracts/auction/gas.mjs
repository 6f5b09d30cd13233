/** The calls whose gas `cmesh contract gas` reports, and compares with `gas.json`. What a call costs includes what the token costs in it. */
const TOKEN = new URL('../../dist/contracts/token.wasm', import.meta.url)
const HOUR_MS = 3_600_000

export default function scenario({ sandbox, deploy }) {
  const [seller, alice, bob, judge] = ['seller', 'alice', 'bob', 'judge'].map((name) => sandbox.identity(name))
  const token = sandbox.deploy(TOKEN, { init: ['Mesh Token', 'MTK', 2, 1_000_000], as: alice })
  const auction = deploy({ init: [token, judge] })
  token.call('transfer', [bob, 1_000], { as: alice })
  for (const bidder of [alice, bob]) token.call('approve', [auction, 1_000], { as: bidder })
  for (let i = 0; i < 3; i++) {
    auction.call('offer', [`n${i}.mcom`, 10, HOUR_MS], { as: seller })
    registrar(sandbox, seller, 1)
  }
  for (const [amount, as] of [[10, alice], [20, bob], [30, alice], [40, bob]]) auction.call('bid', [1, amount], { as })
  auction.call('bid', [2, 10], { as: bob })
  auction.view('lot', [1])
  auction.view('bidsOf', [1])
  auction.view('endingNext')
  sandbox.advance({ ms: HOUR_MS })
  for (const lot of [1, 3]) auction.call('settle', [lot])
  registrar(sandbox, bob, 2)
  auction.view('creditOf', [seller])
  auction.call('withdraw', [], { as: seller })
  auction.call('decide', [2, false], { as: judge })
  auction.call('offer', ['n2.mcom', 10, HOUR_MS], { as: seller })
  registrar(sandbox, seller, 1)
  auction.call('bid', [4, 10], { as: alice })
  sandbox.advance({ ms: 80 * HOUR_MS })
  auction.call('reclaim', [4])
}

/** Answers what the auction has asked: who owns the name. */
function registrar(sandbox, owner, sequence) {
  sandbox.deliver(({ fqmn }) => ({ value: { name: fqmn.slice('0xR:resolve:'.length), owner: owner.did, sequence } }))
}

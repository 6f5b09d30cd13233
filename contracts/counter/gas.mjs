/** The calls whose gas `cmesh contract gas` reports, and compares with `gas.json`. */
export default function scenario({ deploy }) {
  const contract = deploy()
  contract.call('increment')
  contract.call('increment', [5])
  contract.call('increment', [10n ** 19n])
  contract.view('get')
}

/** The calls whose gas `cmesh contract gas` reports, and compares with `gas.json`. */
export default function scenario({ deploy }) {
  const contract = deploy()
  contract.call('sign', ['I was here'])
  contract.call('sign', ['x'.repeat(280)])
  contract.view('entry', [1])
  contract.view('entry', [2])
  contract.view('signer', [1])
  contract.view('last')
  contract.view('count')
}

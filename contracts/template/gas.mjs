/** The calls whose gas `cmesh contract gas` reports, and compares with `gas.json`. */
export default function scenario({ deploy }) {
  const contract = deploy()
  contract.call('cheer', ['Dexter'])
  contract.call('cheer', ['Dexter'])
  contract.call('cheer', ['a name of sixty-four characters, which is as long as it may be...'.slice(0, 64)])
  contract.view('cheersFor', ['Dexter'])
  contract.view('count')
}

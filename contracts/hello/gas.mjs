/** The calls whose gas `cmesh contract gas` reports, and compares with `gas.json`. */
export default function scenario({ deploy }) {
  const contract = deploy()
  contract.view('hello_world')
  contract.view('hello_world', ['Dexter'])
  contract.view('blah_blah')
  contract.call('say', ['something else'])
  contract.view('blah_blah')
}

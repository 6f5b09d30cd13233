import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import { Sandbox } from 'cmesh/testing'

let sandbox
let contract
beforeEach(() => {
  sandbox = new Sandbox()
  contract = sandbox.deploy(`${import.meta.dirname}/../build/__NAME__.wasm`)
})

test('a cheer is counted, and the world is told', () => {
  const alice = sandbox.identity('alice')
  contract.call('cheer', ['Dexter'])
  const { value, events } = contract.call('cheer', ['Dexter'], { as: alice })
  assert.equal(value, 2)
  assert.deepEqual(events, [{ contract: contract.address, topic: 'Cheered', data: { whom: 'Dexter', by: alice.did, cheers: 2 } }])
  assert.equal(contract.view('cheersFor', ['Dexter']), 2)
  assert.equal(contract.view('cheersFor', ['Mandark']), 0)
  assert.equal(contract.view('count'), 2)
})

test('a cheer for nobody is refused and changes nothing', () => {
  contract.expectRevert('say whom you cheer for', 'cheer', [''])
  assert.equal(contract.view('count'), 0)
})

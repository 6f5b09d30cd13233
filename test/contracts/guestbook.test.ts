import { beforeAll, beforeEach, expect, test } from '@jest/globals'
import { Sandbox, type SandboxContract } from '../../node/kit/index.ts'
import { shipped } from './support/compiled.ts'

let code: Uint8Array
let sandbox: Sandbox
let guestbook: SandboxContract

beforeAll(async () => {
  code = await shipped('guestbook')
})
beforeEach(() => {
  sandbox = new Sandbox()
  guestbook = sandbox.deploy(code)
})

test('keeps what was written and who wrote it, in order', () => {
  const [alice, bob] = [sandbox.identity('alice'), sandbox.identity('bob')]
  expect(guestbook.call('sign', ['first'], { as: alice }).value).toBe(1)
  const { value, events } = guestbook.call('sign', ['second "quoted"'], { as: bob })
  expect(value).toBe(2)
  expect(events).toEqual([{ contract: guestbook.address, topic: 'signed', data: { entry: 2, by: bob.did, message: 'second "quoted"' } }])
  expect([1, 2].map((entry) => [guestbook.view('entry', [entry]), guestbook.view('signer', [entry])])).toEqual([
    ['first', alice.did], ['second "quoted"', bob.did],
  ])
  expect([guestbook.view('last'), guestbook.view('count')]).toEqual(['second "quoted"', 2])
})

test('an empty one says so', () => {
  guestbook.expectRevert('nobody has signed yet', 'last')
  expect(guestbook.view('count')).toBe(0)
})

test.each([0, 2, '18446744073709551615'])('there is no entry %p', (entry) => {
  guestbook.call('sign', ['only'])
  const reason = `there is no entry ${typeof entry === 'string' ? `"${entry}"` : entry}`
  for (const name of ['entry', 'signer']) guestbook.expectRevert(reason, name, [entry])
})

test('a message has 1 to 280 characters, or nothing is written', () => {
  for (const message of ['', 'x'.repeat(281)]) guestbook.expectRevert('a message has 1 to 280 characters', 'sign', [message])
  expect(guestbook.view('count')).toBe(0)
  expect(guestbook.call('sign', ['x'.repeat(280)]).value).toBe(1)
})

import { beforeAll, beforeEach, expect, test } from '@jest/globals'
import { Sandbox, type SandboxContract } from '../../node/kit/index.ts'
import { shipped } from './support/compiled.ts'

let code: Uint8Array
let hello: SandboxContract

beforeAll(async () => {
  code = await shipped('hello')
})
beforeEach(() => {
  hello = new Sandbox().deploy(code)
})

test('greets the world, or whoever is named', () => {
  expect(hello.view('hello_world')).toBe('Hello, world')
  expect(hello.view('hello_world', ['Dexter'])).toBe('Hello, Dexter')
  expect(hello.view('hello_world', ['"Dexter" \n 😀'])).toBe('Hello, "Dexter" \n 😀')
})

test('says blah blah until it is told something else', () => {
  expect(hello.view('blah_blah')).toBe('blah blah')
  const { value, events } = hello.call('say', ['blah "blah" blah'])
  expect(value).toBeNull()
  expect(events).toEqual([{ contract: hello.address, topic: 'blah_blah', data: 'blah "blah" blah' }])
  expect(hello.view('blah_blah')).toBe('blah "blah" blah')
  hello.call('say', [''])
  expect(hello.view('blah_blah')).toBe('')
})

test.each<[string, unknown[], string]>([
  ['hello_world', ['a', 'b'], 'expected at most 1 argument'],
  ['hello_world', [7], 'argument 1 (name): expected a string'],
  ['say', [], 'argument 1 (text) is missing'],
])('%s(%j) is refused: %s', (name, args, reason) => {
  hello.expectRevert(reason, name, args as string[])
})

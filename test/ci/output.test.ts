/** How the check of the README compares what a page shows with what a command prints. */
import { describe, expect, test } from '@jest/globals'
import { contains, equals } from '../../.ci/output.mjs'

const DID = 'did:key:z6MkiugQtT9bVdTVJHkUuC7CBxwk8Dbd5TUj58YGf9jZYugp'
const OTHER = 'did:key:z6Mkj9r8oiX67nhSKR7EvzAdJc6ddThLLG3nLqTW6DD5UjB3'

describe('what a page shows', () => {
  test.each([
    ['the same text', 'a\nb', 'a\nb\n'],
    ['another DID', `owner  ${DID}`, `owner  ${OTHER}`],
    ['another hash and address', `address  0x${'a1'.repeat(32)}`, `address  0x${'b2'.repeat(32)}`],
    ['another time', 'expires  2027-11-21T09:03:33.767Z', 'expires  2031-01-01T00:00:00.000Z'],
    ['another port', 'ready nats://127.0.0.1:4222', 'ready nats://127.0.0.1:36495'],
    ['another width of columns', 'router  253 µs', 'router     9 µs'],
    ['colours', 'ok', '\u001b[32mok\u001b[39m'],
    ['progress before it', 'done', 'compiling index.ts (1 s)\ncompiling index.ts (2 s)\ndone'],
    ['any text where it says …', 'took … in all', 'took 3 hours in all'],
    ['any lines where a line says …', 'a\n…\nz', 'a\nb\nc\nz'],
    ['no line where a line says …', 'a\n…\nz', 'a\nz'],
  ])('is met by %s', (_what, shown, actual) => {
    expect(equals(shown, actual)).toBe(true)
  })

  test.each([
    ['another text', '"Hello, Dexter"', '"Hello, Dextre"'],
    ['a missing line', 'a\nb', 'a'],
    ['a further line', 'a', 'a\nb'],
    ['another number', 'failed  0', 'failed  15,000'],
    ['text where a dot is shown', 'a.b', 'axb'],
    ['nothing', 'a', ''],
  ])('is not met by %s', (_what, shown, actual) => {
    expect(equals(shown, actual)).toBe(false)
  })

  test('may have other figures only where it says that figures differ', () => {
    expect(equals('ratio  0.50', 'ratio  1.09')).toBe(false)
    expect(equals('ratio  0.50', 'ratio  1.09', true)).toBe(true)
    expect(equals('ratio  0.50', 'ration  1.09', true)).toBe(false)
  })

  test('may be a part of what a command that stays has printed so far', () => {
    expect(contains('…\nready nats://127.0.0.1:1', 'building\nready nats://127.0.0.1:36495\nmesh')).toBe(true)
    expect(contains('…\nready nats://127.0.0.1:1', 'building\n')).toBe(false)
  })
})

import { PassThrough } from 'node:stream'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { consentFields } from '../../../client/cli/consent.ts'
import { Terminal } from '../../../client/cli/terminal.ts'
import type { GrantMessage } from '../../../cmtp/identity/messages.ts'

const grant: GrantMessage = {
  step: 'grant', handshake: 'h', audience: 'did:key:zMesh', sub: 'did:key:zMe', perms: ['read 0xS:>', 'write 0xRW:register'],
  claims: [{ id: 'https://example.org/age#over_18', value: 'true', issuer: 'did:key:zIssuer' }], purpose: 'a session with this mesh', via: 'gateway-1',
  lifetimeMs: 300_000, amr: ['swk', 'vc'], aal: 2, signature: 's',
}

describe('what a person consents to', () => {
  test('is all that the grant grants and keeps, a line each', () => {
    expect(consentFields(grant)).toEqual([
      ['mesh', 'did:key:zMesh'], ['you', 'did:key:zMe'], ['for', 'a session with this mesh'],
      ['may', 'read 0xS:>'], ['', 'write 0xRW:register'],
      ['keeps', 'https://example.org/age#over_18 = true, said by did:key:zIssuer'],
      ['carried by', 'session gateway-1'],
      ['proven by', 'swk, vc (assurance 2 of 2)'], ['lasts', '300 s, and is renewed while it is used'],
    ])
  })

  test('without attributes says so', () => {
    expect(consentFields({ ...grant, claims: [] })).toContainEqual(['keeps', 'no attributes of you'])
  })

  test('is shown without a character that could make it look like something else', () => {
    expect(consentFields({ ...grant, purpose: 'a\u001b[2Jb\nyou  c\u202ed' })).toContainEqual(['for', 'a\\u{1b}[2Jb\\u{a}you  c\\u{202e}d'])
    fc.assert(fc.property(fc.string({ unit: 'binary' }), text => {
      for (const [, value] of consentFields({ ...grant, purpose: text, perms: [text], claims: [{ id: text, value: text, issuer: text }] })) {
        expect(value).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]/u)
      }
    }))
  })
})

/** A terminal with a person, who answers what `stdin` is written. */
function person(): { readonly terminal: Terminal, readonly stdin: PassThrough, readonly said: () => string, readonly interrupt: AbortController } {
  const interrupt = new AbortController()
  const [stdin, stderr] = [Object.assign(new PassThrough(), { isTTY: true }), Object.assign(new PassThrough(), { isTTY: true })]
  let text = ''
  stderr.on('data', (chunk: Buffer) => { text += chunk.toString() })
  return { terminal: new Terminal({ stdin, stdout: new PassThrough(), stderr, env: {}, interrupted: interrupt.signal }), stdin, said: () => text, interrupt }
}

describe('a question', () => {
  test.each([['y\n', true], ['yes\n', true], [' Y \n', true], ['n\n', false], ['\n', false], ['yep\n', false], ['no y\n', false], ['n\ny\n', false]])(
    'answered by %j is %s', async (answer, yes) => {
      const { terminal, stdin, said } = person()
      expect(terminal.answers).toBe(true)
      const asked = terminal.confirm('Sign it?')
      stdin.write(answer)
      expect(await asked).toBe(yes)
      expect(said()).toBe('Sign it? [y/N] ')
    })

  test('that meets the end of input is no', async () => {
    const { terminal, stdin } = person()
    const asked = terminal.confirm('Sign it?')
    stdin.end()
    expect(await asked).toBe(false)
  })

  test('that is interrupted is no, before and while it is asked', async () => {
    const { terminal, interrupt } = person()
    const asked = terminal.confirm('Sign it?')
    interrupt.abort()
    expect(await asked).toBe(false)
    expect(await terminal.confirm('Sign it?')).toBe(false)
  })

  test('is not put to nobody', async () => {
    const streams = { stdout: new PassThrough(), stderr: new PassThrough(), env: {}, interrupted: new AbortController().signal }
    for (const terminal of [new Terminal(streams), new Terminal({ ...streams, stdin: new PassThrough() })]) expect(terminal.answers).toBe(false)
    expect(await new Terminal(streams).confirm('Sign it?')).toBe(false)
  })
})

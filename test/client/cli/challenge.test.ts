import { PassThrough } from 'node:stream'
import { describe, expect, test } from '@jest/globals'
import { answerChallenge } from '../../../client/cli/challenge.ts'
import { Terminal } from '../../../client/cli/terminal.ts'
import { failureOf } from '../../support/iam.ts'
import { capture } from '../support/capture.ts'

const LINK = 'https://open.yivi.app/-/session#%7B%22u%22%3A%22https%3A%2F%2Firma.example%22%7D'
const CHALLENGE = { provider: 'irma', did: 'did:key:z6MkTest', kind: 'qr', value: LINK, expires: 0 } as const

/** A person who types these lines, one to each question, and then ends the input. */
function typing(...lines: readonly string[]): { readonly terminal: Terminal, readonly err: () => string } {
  const stdin = Object.assign(new PassThrough(), { isTTY: true })
  const { terminal: sink, err, interrupt } = capture({ tty: true })
  const left = [...lines]
  const stderr = Object.assign(new PassThrough(), { isTTY: true, columns: 80 })
  stderr.on('data', (text: Buffer) => {
    sink.scribble(text.toString())
    if (!text.toString().endsWith(': ')) return
    const line = left.shift()
    if (line === undefined) stdin.end()
    else stdin.write(`${line}\n`)
  })
  return { terminal: new Terminal({ stdin, stdout: stderr, stderr, env: {}, interrupted: interrupt.signal }), err }
}

describe('a challenge on a terminal', () => {
  test('shows the link, says who logs in, and takes the four digits', async () => {
    const { terminal, err } = typing(' 0421 ')
    await expect(answerChallenge(terminal, CHALLENGE)).resolves.toBe('0421')
    for (const part of [LINK, 'did:key:z6MkTest', 'Yivi', 'Now agree in the app.']) expect(err()).toContain(part)
  })

  test('asks again for what is no code, three times in all', async () => {
    await expect(answerChallenge(typing('42', '1234').terminal, CHALLENGE)).resolves.toBe('1234')
    const { terminal, err } = typing('42', '', 'abcd', '1234')
    expect(await failureOf(() => answerChallenge(terminal, CHALLENGE))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'no code was given' } })
    expect(err().split('The four digits').length - 1).toBe(3)
  })

  test('gives up where the input ends or nobody is there', async () => {
    for (const terminal of [typing().terminal, capture().terminal]) {
      expect(await failureOf(() => answerChallenge(terminal, CHALLENGE))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'no code was given' } })
    }
  })

  test.each(['http://irma.example', 'https://a\u001b[2J', 'https://a b', 'javascript:alert(1)', ''])('shows nothing that is no plain https link: %j', async value => {
    const { terminal, err } = typing('1234')
    expect(await failureOf(() => answerChallenge(terminal, { ...CHALLENGE, value }))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE' })
    expect(err()).toBe('')
  })
})

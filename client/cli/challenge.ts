/**
 * Where the mesh wants a person to act with an app on their phone: shows on stderr what to open there, and asks for the code that
 * the app then shows.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { PersonChallenge } from '../../cmtp/identity/paired-proof.ts'
import type { Terminal } from './terminal.ts'

/** How often somebody may mistype before it looks like something else. What has four digits is sent as it is, once. */
const TRIES = 3

/** Resolves with four digits. Rejects with `CMESH_IAM_HANDSHAKE` where none were given, or where there is nothing to open. */
export async function answerChallenge(terminal: Terminal, { provider, did, value }: PersonChallenge): Promise<string> {
  // What is shown comes from a mesh: only what a URL can be reaches the terminal.
  if (!/^https:\/\/[\x21-\x7e]+$/.test(value)) throw declined('what it wants opened is no https link')
  terminal.note(`This mesh wants you to show something about yourself with your ${provider === 'irma' ? 'Yivi (IRMA)' : provider} app, as ${did}.`)
  terminal.note('Open this link on your phone, or make it a QR code and scan that:')
  terminal.note(`  ${value}`)
  for (let tries = 1; tries <= TRIES; tries++) {
    const code = await terminal.ask('The four digits that the app shows: ')
    if (code === undefined) break
    if (/^\s*[0-9]{4}\s*$/.test(code)) {
      terminal.note('Now agree in the app.')
      return code.trim()
    }
  }
  throw declined('no code was given')
}

function declined(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'answer', reason })
}

/** What each member makes of an outcome in its own log before it signs: the same bytes on all of them, or they had different outcomes. */
import { hash } from 'node:crypto'
import { askedHash, outcomeLeaf, resultHash, type Outcome } from '../../../cmtp/receipt/outcome.ts'
import type { LoggedOutcome } from '../../state/logged-outcomes.ts'

export function saltedOutcome(id: Uint8Array, salt: Uint8Array, { status, gas, output, digest, after }: LoggedOutcome): Outcome {
  return {
    id, status, gas, after, asked: askedHash(salt, Buffer.from(digest, 'base64url')), result: resultHash(salt, hash('sha256', output, 'buffer')),
  }
}

export function leafOf(id: Uint8Array, salt: Uint8Array, logged: LoggedOutcome): Buffer {
  return outcomeLeaf(saltedOutcome(id, salt, logged))
}

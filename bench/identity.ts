/** `identity`: the guard, the handshake and many sessions at once. */
import type { Bench } from './harness.ts'

export const identity: Bench = {
  name: 'identity',
  what: 'the guard on a known and on a new token, against jose alone; a handshake over the broker; sessions held at once',
  run() {
    return Promise.resolve({ rounds: 0, figures: [], ratios: [], leftOut: ['everything: it measures nothing yet'] })
  },
}

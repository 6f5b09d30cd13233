import { describe, expect, test } from '@jest/globals'
import { encodeClaim, signClaim } from '../../../../cmtp/claim.ts'
import { KeyPair } from '../../../../cmtp/identity/keys.ts'
import type { BusMessage } from '../../../../services/bus/provider.ts'
import { isTrusted, trustedHead, type Trusted } from '../../../../services/state/catch-up/trusted.ts'
import { memberOf } from '../../../support/mesh.ts'

const KEYS = Array.from({ length: 4 }, () => KeyPair.generate())
const [ONE, TWO, THREE, STRANGER] = KEYS as [KeyPair, KeyPair, KeyPair, KeyPair]
const DIDS = [ONE, TWO, THREE].map(({ did }) => did)

interface Rig {
  readonly trusted: Promise<Trusted>
  readonly ended: () => boolean
  say(key: KeyPair, seq: number, chain?: string, did?: string): void
}

function rig(timeoutMs = 60_000): Rig {
  let hear: (message: BusMessage) => void = () => undefined
  let ended = false
  const trusted = trustedHead({
    bus: {
      subscribe: (_, handler) => {
        hear = handler
        return { unsubscribe: () => { ended = true }, drain: () => Promise.resolve() }
      },
    },
    members: () => DIDS, verify: memberOf(ONE).verify, timeoutMs,
  }, 10)
  return {
    trusted, ended: () => ended,
    say: (key, seq, chain = 'ab'.repeat(32), did = key.did) => {
      const claim = signClaim({ did, epoch: 1, seq, chain, level: 'os', out: 0, timeMs: 1, version: '1' }, key)
      hear({ subject: '', reply: '', data: encodeClaim(claim) })
    },
  }
}

describe('the place that a node trusts before it has the log', () => {
  test('is the first that a quorum of the members claims alike, at or behind what is missing', async () => {
    const { trusted, say, ended } = rig()
    say(ONE, 9)
    say(TWO, 9)
    say(ONE, 10)
    say(TWO, 11)
    say(ONE, 12)
    say(TWO, 12, 'cd'.repeat(32))
    expect(ended()).toBe(false)
    say(THREE, 12)
    expect(await trusted).toEqual({ epoch: 1, seq: 12, chain: Buffer.alloc(32, 0xab), by: [ONE.did, THREE.did] })
    expect(ended()).toBe(true)
  })

  test('is not what one says twice, what a stranger says, or what is said in another\'s name', async () => {
    const { trusted, say } = rig(20)
    say(ONE, 12)
    say(ONE, 12)
    say(STRANGER, 12)
    say(STRANGER, 12, undefined, TWO.did)
    await expect(trusted).rejects.toMatchObject({
      code: 'CMESH_STATE_CATCH_UP', detail: { reason: 'no quorum of the members claims the same place from sequence 10 on' },
    })
  })

  test('is found also where one of them claims thousands of others meanwhile', async () => {
    const { trusted, say } = rig()
    say(ONE, 12)
    for (let seq = 13; seq < 1_100; seq++) say(TWO, seq)
    say(THREE, 12)
    expect(await trusted).toMatchObject({ seq: 12, by: [ONE.did, THREE.did] })
  })

  test('counts for nothing when the log that comes of it names others', () => {
    const trusted = { epoch: 1, seq: 12, chain: Buffer.alloc(32), by: [ONE.did, TWO.did] }
    expect(isTrusted(trusted, DIDS)).toBe(true)
    expect(isTrusted(trusted, [ONE.did])).toBe(true)
    expect(isTrusted(trusted, [ONE.did, THREE.did, STRANGER.did])).toBe(false)
  })
})

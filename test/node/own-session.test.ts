import { describe, expect, test } from '@jest/globals'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { OwnSession } from '../../node/own-session.ts'
import { KeyRing } from '../../services/iam/key-ring.ts'
import { startIam } from '../support/iam.ts'

describe('the node\'s own session', () => {
  test('is one for as long as it is good, and another once it nears its end or its key was dropped', async () => {
    const root = KeyPair.generate()
    const clock = { ms: 1_800_000_000_000 }
    const ring = new KeyRing({ root, now: () => clock.ms })
    const { iam, enter } = await startIam({ signer: root, ring, keys: ring, now: () => clock.ms })
    const own = new OwnSession({ iam, identity: root, mesh: root.did, want: [], now: () => clock.ms, keys: ring })
    const first = await own.current()
    ring.rotate()
    expect(await own.current()).toBe(first)
    clock.ms += 240_000
    const second = await own.current()
    expect(second.sid).not.toBe(first.sid)
    ring.drop(ring.current.publicKey.thumbprint)
    const third = await own.current()
    await expect(enter(third)).resolves.toMatchObject({ sub: root.did })
    await iam.stop()
  })
})

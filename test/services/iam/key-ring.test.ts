import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { CMeshError } from '../../../cmtp/errors.ts'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import { checkKeySet, signKeySet, type KeySet } from '../../../cmtp/identity/key-set.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { refresh, type Session } from '../../../cmtp/identity/login.ts'
import { tokenKeyId } from '../../../cmtp/identity/token.ts'
import { KeyRing, type KeyStore, type RingState } from '../../../services/iam/key-ring.ts'
import { failureOf, startIam, type IamFixture } from '../../support/iam.ts'
import { refusal } from '../../support/refusal.ts'

const root = KeyPair.fromSeed(Buffer.alloc(32, 7))
const READ = parseFqmn('0xI:whoami')

class MemoryStore implements KeyStore {
  state: RingState | undefined
  load(): RingState | undefined { return this.state }
  save(state: RingState): void { this.state = structuredClone(state) }
}

function ringAt(ms: number, store?: KeyStore): { ring: KeyRing, clock: { ms: number } } {
  const clock = { ms }
  return { ring: new KeyRing({ root, now: () => clock.ms, ...(store !== undefined && { store }) }), clock }
}

/** An IAM that signs by a ring. */
async function ringed(): Promise<IamFixture & { readonly ring: KeyRing }> {
  const clock = { ms: 1_800_000_000_000 }
  const ring = new KeyRing({ root, now: () => clock.ms })
  const fixture = await startIam({ signer: root, ring, keys: ring, now: () => clock.ms })
  return { ...fixture, clock, ring }
}

describe('the ring', () => {
  test('signs by one key that is not the root, and names it in a set under the root\'s signature', () => {
    const { ring } = ringAt(1_000)
    const kid = ring.current.publicKey.thumbprint
    expect(kid).not.toBe(root.publicKey.thumbprint)
    expect(ring.keySet).toMatchObject({ version: 1, mesh: root.did, epoch: 1, keys: [{ kid, x: ring.current.publicKey.text, notAfter: 0 }] })
    expect([...checkKeySet(ring.keySet, root.did).keys()]).toEqual([kid])
    expect(ring.verifierOf(root.publicKey.thumbprint)).toBeUndefined()
  })

  test('keeps the last key verifying for one token life after a rotation, to the millisecond', () => {
    const { ring, clock } = ringAt(1_000)
    const old = ring.current.publicKey.thumbprint
    const fresh = ring.rotate()
    expect(ring.current.publicKey.thumbprint).toBe(fresh)
    expect(ring.keySet.keys.map(({ kid, notAfter }) => [kid, notAfter])).toEqual([[fresh, 0], [old, 361_000]])
    clock.ms = 360_999
    expect(ring.verifierOf(old)?.thumbprint).toBe(old)
    clock.ms = 361_000
    expect(ring.verifierOf(old)).toBeUndefined()
    expect(ring.keySet.keys.map(({ kid }) => kid)).toEqual([fresh])
    expect(ring.keySet.epoch).toBe(1)
  })

  test('lets a dropped key verify nothing, raises the epoch, and puts another in the place of the one that signs', () => {
    const { ring } = ringAt(1_000)
    let told = 0
    ring.onDrop(() => { told++ })
    const first = ring.current.publicKey.thumbprint
    expect(ring.drop(first)).toBe(2)
    const second = ring.current.publicKey.thumbprint
    expect([second === first, ring.verifierOf(first), told]).toEqual([false, undefined, 1])
    const third = ring.rotate()
    expect(ring.drop(second)).toBe(3)
    expect(ring.keySet).toMatchObject({ epoch: 3, keys: [{ kid: third, notAfter: 0 }] })
  })

  test('refuses to drop what is none of its keys, and to hold more keys than a set names', async () => {
    const { ring, clock } = ringAt(1_000)
    for (const kid of ['', '../../node.key', root.publicKey.thumbprint]) {
      expect(await failureOf(() => ring.drop(kid))).toMatchObject({ code: 'CMESH_IAM_KEY', message: 'The key is refused: this mesh signs by no key of that id.' })
    }
    for (let i = 0; i < 15; i++) ring.rotate()
    clock.ms += 1
    expect(await failureOf(() => ring.rotate())).toMatchObject({ code: 'CMESH_IAM_BUSY', detail: { retryAfterMs: 359_999 } })
    clock.ms += 359_999
    ring.rotate()
    expect(ring.keySet.keys).toHaveLength(2)
  })

  test('names no key by an id that a command line would take for an option', () => {
    const { ring } = ringAt(1_000)
    for (let i = 0; i < 500; i++) {
      const kid = ring.current.publicKey.thumbprint
      expect(kid.startsWith('-')).toBe(false)
      ring.drop(kid)
    }
  })

  test('comes back from its store as it was, without what was dropped', () => {
    const store = new MemoryStore()
    const { ring } = ringAt(1_000, store)
    const first = ring.current.publicKey.thumbprint
    const second = ring.rotate()
    const third = ring.rotate()
    ring.drop(second)
    const { ring: again } = ringAt(2_000, store)
    expect(again.current.publicKey.thumbprint).toBe(third)
    expect([first, second, third].map(kid => again.verifierOf(kid) !== undefined)).toEqual([true, false, true])
    expect(again.keySet.epoch).toBe(2)
  })

  test('changes nothing when its store fails', async () => {
    const store = new MemoryStore()
    const { ring } = ringAt(1_000, store)
    const before = ring.keySet
    store.save = () => { throw new Error('the disk is full') }
    expect((await failureOf(() => ring.rotate())).message).toBe('the disk is full')
    expect((await failureOf(() => ring.drop(ring.current.publicKey.thumbprint))).message).toBe('the disk is full')
    expect(ring.keySet).toEqual(before)
    expect(ring.current.publicKey.thumbprint).toBe(before.keys[0]?.kid)
  })
})

describe('a set of keys', () => {
  const { ring } = ringAt(1_000)
  const { signature: _, ...unsigned } = ring.keySet
  const stranger = KeyPair.generate()

  test('is refused from another mesh, under another key\'s signature, when it is older than one seen, and with a key under another\'s id', async () => {
    const forged = { code: 'CMESH_IAM_FORGED', message: 'The set of keys is not signed by the key it names.' }
    expect(await failureOf(() => checkKeySet(signKeySet(unsigned, stranger), root.did))).toMatchObject(forged)
    expect(await failureOf(() => checkKeySet(signKeySet({ ...unsigned, mesh: stranger.did }, stranger), root.did)))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'its keys are those of another mesh' } })
    expect(await failureOf(() => checkKeySet(ring.keySet, root.did, 2)))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'its keys are older than those seen before' } })
    const [key] = ring.keySet.keys
    const renamed = signKeySet({ ...unsigned, keys: [{ ...key as KeySet['keys'][number], kid: stranger.publicKey.thumbprint }] }, root)
    expect(await failureOf(() => checkKeySet(renamed, root.did)))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'a key of its set stands under another key\'s id' } })
  })

  test('does not survive a change of any field', () => {
    fc.assert(fc.property(
      fc.constantFrom('epoch', 'issued', 'version', 'x', 'kid', 'notAfter'), fc.integer({ min: 1_001, max: 1_000_000 }), (field, value) => {
        const [key] = ring.keySet.keys
        const changed = ['x', 'kid', 'notAfter'].includes(field)
          ? { ...ring.keySet, keys: [{ ...key, [field]: field === 'notAfter' ? value : `${value}` }] }
          : { ...ring.keySet, [field]: value }
        expect(refusal(() => checkKeySet(changed as KeySet, root.did)).code).toBe('CMESH_IAM_FORGED')
      }), { numRuns: 60 })
  })
})

describe('a session under a ring', () => {
  test('carries a token by the ring\'s key and the set that shows it, and remembers the epoch', async () => {
    const { open, ring, enter } = await ringed()
    const session = await open({ mesh: root.did })
    expect(tokenKeyId(session.token)).toBe(ring.current.publicKey.thumbprint)
    expect(session.keyEpochs).toEqual({ [root.did]: 1 })
    await expect(enter(session)).resolves.toMatchObject({ sub: session.sub })
  })

  test('is refused by a client that saw newer keys: a mesh that went back, or somebody who serves old ones', async () => {
    const { open } = await ringed()
    expect(await failureOf(() => open({ keyEpochs: { [root.did]: 2 } })))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'its keys are older than those seen before' } })
    const bare = await startIam({ signer: root })
    expect(await failureOf(() => bare.open({ keyEpochs: { [root.did]: 1 } })))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'its keys are older than those seen before' } })
  })

  test('goes on over a rotation without a new handshake, and its next token is by the new key', async () => {
    const { open, enter, ring, send, clock } = await ringed()
    const session = await open()
    const fresh = ring.rotate()
    await expect(enter(session)).resolves.toMatchObject({ sid: session.sid })
    const renewed = await refresh(session, send, clock.ms)
    expect(tokenKeyId(renewed.token)).toBe(fresh)
    clock.ms += 299_000
    await expect(enter(renewed)).resolves.toMatchObject({ sid: session.sid })
  })

  test('ends with the drop of its key: known token, context in use and refresh', async () => {
    const { open, enter, ring, send, clock, guard } = await ringed()
    const session = await open()
    const auth = await enter(session)
    ring.drop(tokenKeyId(session.token))
    const invalid = { code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the token is not valid' } }
    expect(await failureOf(() => enter(session))).toMatchObject(invalid)
    expect(await failureOf(() => guard.authorise(auth, READ))).toMatchObject(invalid)
    expect(await failureOf(() => refresh(session, send, clock.ms))).toMatchObject(invalid)
    await expect(open().then(enter)).resolves.toMatchObject({ aal: 1 })
  })

  test('whose token is under verification while its key is dropped gets nowhere', async () => {
    const { open, ring, guard } = await ringed()
    const session = await open()
    const pending = failureOf(() => guard.check(Buffer.from(session.token), session.sid))
    ring.drop(tokenKeyId(session.token))
    expect(await pending).toMatchObject({ code: 'CMESH_IAM_NO_SESSION' })
    expect(guard.size).toBe(0)
  })
})

describe('under load', () => {
  const CLIENTS = 50
  const ROUNDS = 100

  /** Asks as a client does: where its session does not count any more, it makes another and asks again, once. */
  async function ask(fixture: IamFixture, sessions: Session[], i: number, handshakes: { made: number }): Promise<void> {
    const once = async (): Promise<void> => { fixture.guard.authorise(await fixture.enter(sessions[i] as Session), READ) }
    try {
      await once()
    } catch (error) {
      if ((error as CMeshError).toWire().prompt !== 'identity') throw error
      handshakes.made++
      sessions[i] = await fixture.open()
      await once()
    }
  }

  async function load(fixture: IamFixture, at: (round: number) => void): Promise<{ made: number }> {
    const sessions = await Promise.all(Array.from({ length: CLIENTS }, () => fixture.open()))
    const handshakes = { made: 0 }
    for (let round = 0; round < ROUNDS; round++) {
      const asked = sessions.map((_, i) => ask(fixture, sessions, i, handshakes))
      // While they are under way.
      at(round)
      await Promise.all(asked)
    }
    return handshakes
  }

  test('ten rotations fail no request and make nobody start again', async () => {
    const fixture = await ringed()
    const handshakes = await load(fixture, round => { if (round % 10 === 5) fixture.ring.rotate() })
    expect(handshakes.made).toBe(0)
    expect(fixture.ring.keySet.keys).toHaveLength(11)
  })

  test('a drop of the key in use fails no request, at the price of one handshake a client', async () => {
    const fixture = await ringed()
    const handshakes = await load(fixture, round => { if (round === 50) fixture.ring.drop(fixture.ring.current.publicKey.thumbprint) })
    expect(handshakes.made).toBe(CLIENTS)
    expect(fixture.ring.keySet.epoch).toBe(2)
  })
})

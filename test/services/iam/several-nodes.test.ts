import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { canonicalBytes, parseCanonicalJson } from '../../../cmtp/identity/canonical-json.ts'
import { issueCertificate, speakerOf } from '../../../cmtp/identity/certificate.ts'
import { sign } from '../../../cmtp/identity/handshake.ts'
import { checkKeySet, signerOf, signKeySet, withEpochOf, type KeyEpochs, type KeySet } from '../../../cmtp/identity/key-set.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { login, type SendStep, type Session } from '../../../cmtp/identity/login.ts'
import { readMessage } from '../../../cmtp/identity/messages.ts'
import { Nkey } from '../../../cmtp/identity/nats-keys.ts'
import { decodeToken } from '../../../cmtp/identity/token.ts'
import { REVOKED_ASK_SUBJECT, REVOKED_SUBJECT } from '../../../cmtp/subject.ts'
import { readFeed, writeFeed, type Speaker } from '../../../services/iam/feed-message.ts'
import { signToken } from '../../../services/iam/session-token.ts'
import { failureOf } from '../../support/iam.ts'
import { Disk, IamMesh, type IamNode } from '../../support/iam-nodes.ts'

let mesh: IamMesh
let a: IamNode
let b: IamNode

beforeEach(async () => {
  mesh = new IamMesh()
  a = await mesh.founder()
  b = await mesh.start()
})
afterEach(() => mesh.stop())

const INVALID = { code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the token is not valid' } }
const REVOKED = { code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the session was revoked' } }

/** A token of a session that never was, by any key. */
function tokenBy(key: KeyPair, session: Session): string {
  return signToken({ ...decodeToken(session.token), jti: 'AAAAAAAAAAAA' }, key)
}

describe('a handshake with a node that the mesh certified', () => {
  test('opens a session with the mesh, whichever node answers, and whoever pins nothing learns the mesh', async () => {
    for (const node of [a, b]) {
      for (const pinned of [{ mesh: mesh.root.did }, {}]) {
        const session = await login({ identity: KeyPair.generate(), send: node.send, ...pinned })
        expect([session.mesh, session.node, decodeToken(session.token).iss]).toEqual([mesh.root.did, node.did, mesh.root.did])
      }
    }
  })

  test('sends no certificate where the node\'s key is the mesh\'s', async () => {
    const bodies: Record<string, unknown>[] = []
    await a.open({ send: async (action, body) => {
      const reply = await a.send(action, body, undefined)
      bodies.push(parseCanonicalJson(reply) as Record<string, unknown>)
      return reply
    } })
    expect(bodies.length).toBe(3)
    expect(bodies.map(({ certificate, keys }) => [certificate, (keys as KeySet | undefined)?.certificate])).toEqual(Array(3).fill([undefined, undefined]))
  })

  /** What b answers, changed and signed by that key. */
  const signedBy = (key: KeyPair) => (change: (answer: Record<string, unknown>) => object): SendStep => async (action, body) => {
    const reply = await b.send(action, body, undefined)
    if (action !== 'call') return reply
    const { signature: _, ...answer } = readMessage('answer', reply)
    return canonicalBytes(sign({ ...change(answer), step: 'answer' }, key))
  }

  test.each<[string, string, () => SendStep]>([
    ['without its certificate', 'CMESH_IAM_FORGED', () => signedBy(b.key)(({ certificate: _, ...answer }) => answer)],
    ['with the certificate of another mesh', 'CMESH_IAM_CERTIFICATE', () => signedBy(b.key)(answer => ({ ...answer, certificate: issueCertificate(b.did, KeyPair.generate(), 1) }))],
    ['with the certificate of another node', 'CMESH_IAM_CERTIFICATE', () => signedBy(b.key)(answer => ({ ...answer, certificate: issueCertificate(KeyPair.generate().did, mesh.root, 1) }))],
    ['with a certificate that the mesh did not sign', 'CMESH_IAM_CERTIFICATE', () => signedBy(b.key)(answer => (
      { ...answer, certificate: { ...issueCertificate(b.did, KeyPair.generate(), 1), mesh: mesh.root.did } }))],
    ['with a certificate that it made itself', 'CMESH_IAM_CERTIFICATE', () => signedBy(b.key)(answer => ({ ...answer, certificate: issueCertificate(b.did, b.key, 1) }))],
    ['under its certificate, by another key', 'CMESH_IAM_FORGED', () => signedBy(KeyPair.generate())(answer => answer)],
    ['whose certificate lost a field', 'CMESH_IAM_HANDSHAKE', () => signedBy(b.key)(answer => ({ ...answer, certificate: { v: 1 } }))],
  ])('is refused %s', async (_, code, send) => {
    const [identity, pinned] = [KeyPair.generate(), { mesh: mesh.root.did }]
    for (const options of [pinned, {}]) expect(await failureOf(() => login({ identity, send: send(), ...options }))).toMatchObject({ code })
  })

  test('takes the grant from the node that answered, and from no other', async () => {
    const other = await mesh.start()
    const send: SendStep = async (action, body) => {
      const reply = await b.send(action, body, undefined)
      if (action !== 'confirm') return reply
      const { signature: _, ...grant } = readMessage('grant', reply)
      return canonicalBytes(sign(grant, other.key))
    }
    expect(await failureOf(() => b.open({ send }))).toMatchObject({ code: 'CMESH_IAM_FORGED', detail: { what: 'grant' } })
  })

  test('shows keys of the node alone: under another mesh\'s certificate, or none, they are refused', async () => {
    const swapping = (change: (keys: KeySet) => KeySet): SendStep => async (action, body) => {
      const reply = await b.send(action, body, undefined)
      if (action !== 'consent') return reply
      const message = readMessage('session', reply)
      return canonicalBytes({ ...message, keys: change(message.keys as KeySet) })
    }
    const again = (change: Partial<KeySet>) => ({ signature: _, ...keys }: KeySet): KeySet => signKeySet({ ...keys, ...change }, b.key)
    const foreign = issueCertificate(b.did, KeyPair.generate(), 1)
    expect(await failureOf(() => b.open({ send: swapping(again({ certificate: foreign })) }))).toMatchObject({ code: 'CMESH_IAM_CERTIFICATE' })
    expect(await failureOf(() => b.open({ send: swapping(({ certificate: _, ...keys }) => again({})(keys)) }))).toMatchObject({ code: 'CMESH_IAM_FORGED' })
    await expect(b.open({ send: swapping(again({})) })).resolves.toMatchObject({ mesh: mesh.root.did })
  })
})

describe('a session of one node', () => {
  test('is one of every other: known, renewed and ended there', async () => {
    for (const [one, other] of [[a, b], [b, a]] as const) {
      const session = await one.open()
      await expect(other.enter(session)).resolves.toMatchObject({ sub: session.sub })
      mesh.beat()
      const renewed = await other.renew(session)
      expect(renewed.sid).toBe(session.sid)
      await expect(one.enter(renewed)).resolves.toMatchObject({ sub: session.sub })
      const auth = await other.enter(renewed)
      await other.iam.handle('hangup', Buffer.alloc(0), auth)
      for (const node of [one, other]) expect(await failureOf(() => node.enter(renewed))).toMatchObject(REVOKED)
    }
  })

  test('is renewed back and forth between nodes whose keys have other epochs', async () => {
    b.ring.drop(b.ring.current.publicKey.thumbprint)
    b.ring.drop(b.ring.current.publicKey.thumbprint)
    let session = await a.open()
    for (const node of [b, a, b, a]) {
      mesh.beat()
      session = await node.renew(session)
    }
    expect(session.keyEpochs).toEqual({ [a.did]: 1, [b.did]: 3 })
    const seen = { ...session, keyEpochs: { ...session.keyEpochs, [b.did]: 4 } }
    mesh.beat()
    expect(await failureOf(() => b.renew(seen))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'its keys are older than those seen before' } })
    await expect(a.renew(seen)).resolves.toMatchObject({ sid: session.sid })
  })

  test('is known to a node that comes later, in the moment in which it is there', async () => {
    const session = await b.open()
    const late = await mesh.start()
    await expect(late.enter(session)).resolves.toMatchObject({ sub: session.sub })
    await expect(a.enter(await late.open())).resolves.toBeDefined()
  })

  test('passes right after its node began to sign by a key of which the others have not heard', async () => {
    b.end.isolated = true
    b.ring.rotate()
    const session = await b.open()
    b.end.isolated = false
    const asked = mesh.wire.published.length
    await expect(a.enter(session)).resolves.toMatchObject({ sub: session.sub })
    expect(mesh.wire.published.slice(asked).map(({ subject }) => subject)[0]).toBe(REVOKED_ASK_SUBJECT)
  })

  test('outlives its node, and a restart of the one that looks, until its token has expired', async () => {
    const session = await b.open()
    await b.stop()
    mesh.beat(200_000)
    await expect(a.enter(session)).resolves.toMatchObject({ sub: session.sub })
    await a.stop()
    const again = await mesh.founder({ disk: a.disk })
    await expect(again.enter(session)).resolves.toMatchObject({ sub: session.sub })
    mesh.beat(250_000)
    expect(again.keys.verifierOf(b.ring.current.publicKey.thumbprint)).toBeUndefined()
  })
})

describe('a node that is gone', () => {
  test('is known by its keys to one that starts, from those who knew it', async () => {
    const session = await b.open()
    await b.stop()
    expect(a.feed.present).toEqual([])
    const late = await mesh.start()
    await expect(late.enter(session)).resolves.toMatchObject({ sub: session.sub })
  })

  test('and is heard again has its tokens taken that were refused meanwhile', async () => {
    b.end.isolated = true
    b.ring.rotate()
    const session = await b.open()
    mesh.beat(6_000)
    expect(await failureOf(() => a.enter(session))).toMatchObject(INVALID)
    b.end.isolated = false
    mesh.beat()
    await expect(a.enter(session)).resolves.toMatchObject({ sub: session.sub })
  })
})

describe('a node that is no member yet', () => {
  test('is not believed, and is as soon as it has joined; then it is told what it missed', async () => {
    const key = KeyPair.generate()
    mesh.left.add(key.did)
    const joining = await mesh.start({ key })
    const session = await joining.open()
    const ended = await a.open()
    mesh.beat()
    // It knows the others, and they do not know it.
    await expect(joining.enter(await a.open())).resolves.toBeDefined()
    expect(await failureOf(() => a.enter(session))).toMatchObject(INVALID)
    joining.end.isolated = true
    await a.feed.publish({ sid: ended.sid })
    joining.end.isolated = false
    mesh.left.delete(key.did)
    await a.feed.askForKeys()
    await expect(a.enter(session)).resolves.toMatchObject({ sub: session.sub })
    await joining.feed.catchUp()
    expect(await failureOf(() => joining.enter(ended))).toMatchObject(REVOKED)
  })
})

describe('a node that has left', () => {
  test('has its sessions and its word no more, at once', async () => {
    const session = await b.open()
    const auth = await a.enter(session)
    const victim = await a.open()
    mesh.left.add(b.did)
    expect(a.keys.verifierOf(b.ring.current.publicKey.thumbprint)).toBeUndefined()
    a.keys.membersChanged()
    expect(() => { a.guard.confirm(auth) }).toThrow('the token is not valid')
    expect(await failureOf(() => a.enter(session))).toMatchObject(INVALID)
    mesh.beat()
    await b.feed.publish({ sid: victim.sid })
    expect(await failureOf(() => a.enter(tokenOf(tokenBy(b.ring.current, victim), victim)))).toMatchObject(INVALID)
    await expect(a.enter(victim)).resolves.toMatchObject({ sid: victim.sid })
    expect(a.disk.members).toEqual([])
  })
})

function tokenOf(token: string, { sid }: Session): Pick<Session, 'token' | 'sid'> {
  return { token, sid }
}

describe('the word of a stranger', () => {
  const stranger = KeyPair.generate()

  /** Messages to all that name this mesh or another, under all that a stranger can come by. */
  const voices = (): readonly (readonly [string, Speaker, mesh?: string])[] => [
    ['nobody\'s', { signer: stranger }],
    ['another mesh\'s node', { signer: stranger, certificate: issueCertificate(stranger.did, KeyPair.generate(), 1) }],
    ['a node\'s under another\'s certificate', { signer: stranger, certificate: issueCertificate(b.did, mesh.root, 1) }],
    ['its own mesh\'s', { signer: stranger, certificate: issueCertificate(stranger.did, stranger, 1) }],
    ['one that says the mesh certified it', { signer: stranger, certificate: { ...issueCertificate(stranger.did, stranger, 1), mesh: mesh.root.did } }],
  ]

  test('revokes nothing and brings no key', async () => {
    const session = await a.open()
    const ring = KeyPair.generate()
    for (const [, speaker] of voices()) {
      const { certificate } = speaker
      const keys = signKeySet({
        version: 1, mesh: certificate?.mesh ?? speaker.signer.did, ...(certificate !== undefined && { certificate }), epoch: 9, issued: mesh.clock.ms,
        keys: [{ kid: ring.publicKey.thumbprint, x: ring.publicKey.text, notAfter: 0 }],
      }, stranger)
      const message = { boot: 'elsewhere', n: 1, timeMs: mesh.clock.ms, entries: [{ sid: session.sid, atMs: mesh.clock.ms }], keys }
      mesh.wire.publish(undefined, REVOKED_SUBJECT, writeFeed(message, speaker))
      a.keys.take(stranger.did, keys)
    }
    await expect(a.enter(session)).resolves.toMatchObject({ sid: session.sid })
    expect(await failureOf(() => a.enter(tokenOf(tokenBy(ring, session), session)))).toMatchObject(INVALID)
    expect(a.feed.present).toEqual([b.did])
  })

  test('is answered nothing when it asks', () => {
    const before = mesh.wire.published.length
    for (const [, speaker] of voices()) mesh.wire.publish(undefined, REVOKED_ASK_SUBJECT, writeFeed({ boot: 'elsewhere', n: 1, timeMs: 1, entries: [], ask: 'log' }, speaker))
    expect(mesh.wire.published.length).toBe(before + voices().length)
  })

  test('is not taken for a member\'s who says it: nobody brings the keys of another node', async () => {
    const session = await a.open()
    const ring = KeyPair.generate()
    const { signature: _, ...own } = b.ring.keySet
    const keys = signKeySet({ ...own, epoch: 9, keys: [{ kid: ring.publicKey.thumbprint, x: ring.publicKey.text, notAfter: 0 }] }, b.key)
    const certificate = issueCertificate(stranger.did, mesh.root, 1)
    mesh.wire.publish(undefined, REVOKED_SUBJECT, writeFeed({ boot: 'elsewhere', n: 1, timeMs: mesh.clock.ms, entries: [], keys }, { signer: stranger, certificate }))
    expect(await failureOf(() => a.enter(tokenOf(tokenBy(ring, session), session)))).toMatchObject(INVALID)
  })
})

describe('tokens under keys that nobody has', () => {
  test('make a node ask so often and no more, and hold no place that others need', async () => {
    const session = await a.open()
    const before = mesh.wire.published.length
    const flood = Array.from({ length: 400 }, (_, i) => failureOf(() => a.enter({ token: tokenBy(KeyPair.generate(), session), sid: `nobody-${i}-session` })))
    await expect(a.enter(session)).resolves.toMatchObject({ sid: session.sid })
    const failures = await Promise.all(flood)
    const asks = mesh.wire.published.slice(before).filter(({ subject }) => subject === REVOKED_ASK_SUBJECT)
    expect(asks.length).toBeLessThanOrEqual(3)
    expect(new Set(failures.map(({ code }) => code))).toEqual(new Set(['CMESH_IAM_NO_SESSION', 'CMESH_IAM_BUSY']))
    expect(failures.filter(({ code }) => code === 'CMESH_IAM_NO_SESSION').length).toBe(128)
    expect(failures.every(({ code, retry }) => code === 'CMESH_IAM_NO_SESSION' || retry === 'retry')).toBe(true)
  })

  test('are refused without a question where no other node is there', async () => {
    const session = await a.open()
    await b.stop()
    mesh.beat(6_000)
    const before = mesh.wire.published.length
    expect(await failureOf(() => a.enter(tokenOf(tokenBy(KeyPair.generate(), session), session)))).toMatchObject(INVALID)
    expect(mesh.wire.published.length).toBe(before)
  })
})

describe('a revocation', () => {
  test('reaches a node that was down when it was told', async () => {
    const session = await a.open()
    const c = await mesh.start()
    await expect(c.enter(session)).resolves.toBeDefined()
    await c.stop()
    await a.feed.publish({ sid: session.sid })
    await a.stop()
    // From the node that was there, after the one that told it is gone.
    const again = await mesh.start({ key: c.key, disk: c.disk })
    expect(await failureOf(() => again.enter(session))).toMatchObject(REVOKED)
    await again.stop()
    // And from its own disk.
    await b.stop()
    const alone = await mesh.start({ key: c.key, disk: again.disk })
    expect(await failureOf(() => alone.enter(session))).toMatchObject(REVOKED)
  })

  test('reaches those that are there from the disk of one that starts', async () => {
    const session = await b.open()
    const disk = new Disk()
    disk.entries.push({ sid: session.sid, atMs: mesh.clock.ms })
    await mesh.start({ disk })
    for (const node of [a, b]) expect(await failureOf(() => node.enter(session))).toMatchObject(REVOKED)
  })

  test('reaches a node that was cut off, when it is not any more', async () => {
    const session = await a.open()
    await b.enter(session)
    b.end.isolated = true
    await a.feed.publish({ sid: session.sid })
    mesh.beat(10_000)
    // It hears itself: nothing tells it that there is anything to hear.
    await expect(b.enter(session)).resolves.toBeDefined()
    b.end.isolated = false
    mesh.beat()
    expect(await failureOf(() => b.enter(session))).toMatchObject(REVOKED)
  })

  test('reaches a node before it lets anybody pass whose broker was away for long', async () => {
    const session = await a.open()
    await b.enter(session)
    b.end.set('disconnected')
    await a.feed.publish({ sid: session.sid })
    mesh.beat(6_000)
    expect(await failureOf(() => b.enter(session))).toMatchObject({ code: 'CMESH_IAM_STALE' })
    // The other takes its time to answer; meanwhile it hears itself.
    a.end.held = []
    b.end.set('connected')
    b.feed.announce()
    expect(await failureOf(() => b.enter(session))).toMatchObject({ code: 'CMESH_IAM_STALE' })
    a.end.release()
    await new Promise(resolve => { setImmediate(resolve) })
    mesh.beat()
    expect(await failureOf(() => b.enter(session))).toMatchObject(REVOKED)
  })

  test('of many sessions reaches a node that starts, in as many messages as it takes', async () => {
    for (let i = 0; i < 300; i++) await a.feed.publish({ sid: `session-number-${i}` })
    const c = await mesh.start()
    expect(c.disk.entries.length).toBe(300)
    expect(mesh.wire.published.every(({ data }) => data.length < 65_536)).toBe(true)
  })

  test('is told with the nkey, so that every node keeps the connection out, whichever made its login', async () => {
    const barred = new Map<string, string[]>()
    const connections = (name: string): { mint: () => string, bar: (nkeys: readonly string[]) => Promise<void> } => ({
      mint: () => 'a login', bar: async nkeys => { barred.set(name, [...barred.get(name) ?? [], ...nkeys]) },
    })
    const [c, d] = [await mesh.start({ connections: connections('c') }), await mesh.start({ connections: connections('d') })]
    const nkey = Nkey.generate('user')
    const session = await c.open({ nkey })
    const auth = await d.enter(session)
    await d.iam.handle('hangup', Buffer.alloc(0), auth)
    expect(Object.fromEntries(barred)).toEqual({ c: [nkey.text], d: [nkey.text] })
  })
})

describe('a key that was dropped', () => {
  test('is dropped by the node that has it, whichever node was told to', async () => {
    const session = await b.open()
    await a.enter(session)
    const kid = b.ring.current.publicKey.thumbprint
    await a.iam.changeKeys({ drop: kid })
    expect([b.ring.has(kid), a.keys.verifierOf(kid)]).toEqual([false, undefined])
    for (const node of [a, b]) expect((await failureOf(() => node.enter(session))).code).toBe('CMESH_IAM_NO_SESSION')
    await expect(a.enter(await b.open())).resolves.toBeDefined()
    expect(await failureOf(() => a.iam.changeKeys({ drop: KeyPair.generate().publicKey.thumbprint }))).toMatchObject({ code: 'CMESH_IAM_KEY' })
  })

  test('is dropped as well by a node that comes back long after that', async () => {
    const kid = b.ring.current.publicKey.thumbprint
    await b.stop()
    await a.iam.changeKeys({ drop: kid })
    mesh.beat(400_000)
    const again = await mesh.start({ key: b.key, disk: b.disk })
    mesh.beat()
    expect([again.ring.has(kid), a.keys.verifierOf(kid)]).toEqual([false, undefined])
    await expect(a.enter(await again.open())).resolves.toBeDefined()
  })

  test('does not come back with an older set of its node', async () => {
    const older = b.ring.keySet
    const kid = b.ring.current.publicKey.thumbprint
    b.ring.drop(kid)
    a.keys.take(b.did, older)
    expect(a.keys.verifierOf(kid)).toBeUndefined()
  })
})

describe('epochs and messages', () => {
  test('are remembered of each signer, and of so many', () => {
    const certified = (): KeySet => {
      const key = KeyPair.generate()
      const certificate = issueCertificate(key.did, mesh.root, 1)
      return { version: 1, mesh: mesh.root.did, certificate, epoch: 2, issued: 1, keys: [], signature: '' }
    }
    let seen: KeyEpochs = {}
    const sets = Array.from({ length: 70 }, certified)
    for (const set of sets) seen = withEpochOf(set, seen)
    expect([Object.keys(seen).length, seen[signerOf(sets[69] as KeySet)], seen[signerOf(sets[0] as KeySet)]]).toEqual([64, 2, undefined])
    expect(() => checkKeySet({ ...a.ring.keySet, epoch: 0 }, mesh.root.did)).toThrow('not signed')
    expect(speakerOf(mesh.root.did).did).toBe(mesh.root.did)
  })

  test('are read whole or not at all', () => {
    const whole = parseCanonicalJson(writeFeed({ boot: 'b', n: 1, timeMs: 1, entries: [], keys: b.ring.keySet, ask: 'log', answers: 'keys' }, { signer: b.key, certificate: issueCertificate(b.did, mesh.root, 1) })) as Record<string, unknown>
    expect(readFeed(canonicalBytes(whole))).toEqual(whole)
    fc.assert(fc.property(fc.constantFrom('certificate', 'keys', 'ask', 'answers', 'boot'), fc.jsonValue(), (name, value) => {
      const changed = { ...whole, [name]: value }
      const read = readFeed(canonicalBytes(changed))
      if (name === 'boot') expect(read === undefined).toBe(typeof value !== 'string' || value.length > 64)
      else if (value !== 'log' && value !== 'keys') expect(read).toBeUndefined()
    }))
  })
})

/** What is tried against sessions, one by one. Each attack runs beside a session that must not notice it. */
import { createHmac, sign as signWith } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import { canonicalBytes } from '../../../cmtp/identity/canonical-json.ts'
import { checkSession, makeRenewal } from '../../../cmtp/identity/handshake.ts'
import { signKeySet, type KeyEpochs, type KeySet } from '../../../cmtp/identity/key-set.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { hangup, login, refresh, type SendStep, type Session } from '../../../cmtp/identity/login.ts'
import { readMessage, type SessionMessage } from '../../../cmtp/identity/messages.ts'
import { Nkey } from '../../../cmtp/identity/nats-keys.ts'
import { decodeToken, tokenReference, writeClaims, type TokenClaims } from '../../../cmtp/identity/token.ts'
import { formatPermission } from '../../../cmtp/permission.ts'
import { KeyRing } from '../../../services/iam/key-ring.ts'
import { signToken } from '../../../services/iam/session-token.ts'
import { failureOf, startIam, type IamFixture } from '../../support/iam.ts'

const root = KeyPair.generate()
const mallory = KeyPair.generate()
const clock = { ms: 1_800_000_000_000 }
const ring = new KeyRing({ root, now: () => clock.ms })
const kid = ring.current.publicKey.thumbprint
let iam: IamFixture
let victim: Session

beforeAll(async () => {
  iam = { ...await startIam({ signer: root, ring, keys: ring, now: () => clock.ms }), clock }
  victim = await iam.open({ mesh: root.did })
})
afterAll(() => iam.iam.stop())

const base64url = (value: object | string): string => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url')
const HEADER = { alg: 'EdDSA', typ: 'cmesh-at+jwt', kid }
const claims = (): TokenClaims => decodeToken(victim.token)
const payload = (): Record<string, unknown> => writeClaims(claims())

/** A token of any header and payload under any signature. */
function craft(header: object | string, body: object, signature: (input: Buffer) => Uint8Array | string): string {
  const input = `${base64url(header)}.${base64url(body)}`
  const made = signature(Buffer.from(input))
  return `${input}.${typeof made === 'string' ? made : Buffer.from(made).toString('base64url')}`
}
const byRing = (input: Buffer): Buffer => ring.current.sign(input)
const byMallory = (input: Buffer): Buffer => mallory.sign(input)

/** A fresh session of the victim's name for each attempt, so that no answer is the throttle's. */
let attempts = 0
async function attack(token: string, sid = victim.sid): Promise<string> {
  const guard = iam.guard
  // The budget of failed verifications is a session's: time heals it.
  clock.ms += attempts++ % 8 === 0 ? 10_000 : 0
  const failure = await failureOf(async () => guard.check(Buffer.from(token), sid))
  return JSON.stringify(failure.toWire())
}

async function expectUntouched(): Promise<void> {
  if (victim.expires - clock.ms < 120_000) victim = await refresh(victim, iam.send, clock.ms)
  await expect(iam.enter(victim)).resolves.toMatchObject({ sub: victim.sub, sid: victim.sid })
}

const refusedAlike = JSON.stringify({
  code: 'CMESH_IAM_NO_SESSION', message: 'No valid session: the token is not valid. Start the identity handshake (`cmesh login`).',
  retry: 'terminal', detail: { reason: 'the token is not valid' }, prompt: 'identity',
})

describe('everything that only a holder of the key could get right is refused with the same bytes', () => {
  const key = ring.current.publicKey
  test.each<[string, () => string]>([
    ['alg none', () => craft({ ...HEADER, alg: 'none' }, payload(), () => '')],
    ['alg none, with the good signature', () => craft({ ...HEADER, alg: 'none' }, payload(), byRing)],
    ['alg NONE', () => craft({ ...HEADER, alg: 'NONE' }, payload(), () => '')],
    ['HMAC with the public key', () => craft({ ...HEADER, alg: 'HS256' }, payload(), input => createHmac('sha256', key.toBytes()).update(input).digest())],
    ['HMAC with the public key as text', () => craft({ ...HEADER, alg: 'HS256' }, payload(), input => createHmac('sha256', key.text).update(input).digest())],
    ['the algorithm by its other name', () => craft({ ...HEADER, alg: 'Ed25519' }, payload(), byRing)],
    ['a header that says EdDSA twice, the second time none', () => craft(`{"alg":"EdDSA","typ":"cmesh-at+jwt","kid":"${kid}","alg":"none"}`, payload(), byRing)],
    ['another algorithm, with the good signature', () => craft({ ...HEADER, alg: 'ES256' }, payload(), byRing)],
    ['the algorithm in other letters, with the good signature', () => craft({ ...HEADER, alg: 'EDDSA' }, payload(), byRing)],
    ['a typ as long, with the good signature', () => craft({ ...HEADER, typ: 'cmesh-xx+jwt' }, payload(), byRing)],
    ['typ JWT', () => craft({ ...HEADER, typ: 'JWT' }, payload(), byRing)],
    ['typ of a capability', () => craft({ ...HEADER, typ: 'cmesh-cap+jwt' }, payload(), byRing)],
    ['typ of a key binding', () => craft({ ...HEADER, typ: 'kb+jwt' }, payload(), byRing)],
    ['typ with its media type spelt out', () => craft({ ...HEADER, typ: 'application/cmesh-at+jwt' }, payload(), byRing)],
    ['no typ', () => craft({ alg: 'EdDSA', kid }, payload(), byRing)],
    ['crit of nothing', () => craft({ ...HEADER, crit: [] }, payload(), byRing)],
    ['crit of what nobody knows', () => craft({ ...HEADER, crit: ['x'], x: 1 }, payload(), byRing)],
    ['crit b64', () => craft({ ...HEADER, crit: ['b64'], b64: true }, payload(), byRing)],
    ['its own key in jwk', () => craft({ ...HEADER, jwk: mallory.publicKey.jwk }, payload(), byMallory)],
    ['a set of keys elsewhere', () => craft({ ...HEADER, jku: 'https://mallory.example/jwks' }, payload(), byMallory)],
    ['a certificate', () => craft({ ...HEADER, x5c: ['MIIB'] }, payload(), byMallory)],
    ['a stranger\'s signature', () => craft(HEADER, payload(), byMallory)],
    ['no signature', () => craft(HEADER, payload(), () => '')],
    ['a signature of zeros', () => craft(HEADER, payload(), () => Buffer.alloc(64))],
    ['the root\'s signature', () => craft(HEADER, payload(), input => root.sign(input))],
    ['the root\'s signature under the root\'s kid', () => craft({ ...HEADER, kid: root.publicKey.thumbprint }, payload(), input => root.sign(input))],
    ['the subject\'s own signature', () => craft(HEADER, payload(), input => victim.key.sign(input))],
    ['a signature made with a context', () => craft(HEADER, payload(), input => signWith(null, Buffer.concat([Buffer.from('CMesh/1 token\n'), input]), ring.current.privateKeyObject))],
    ['another mesh as issuer', () => craft(HEADER, { ...payload(), iss: mallory.did.slice(8) }, byRing)],
    ['another audience', () => craft(HEADER, { ...payload(), aud: 'http' }, byRing)],
    ['two audiences', () => craft(HEADER, { ...payload(), aud: ['cmtp', 'http'] }, byRing)],
    ['no kid', () => craft({ alg: 'EdDSA', typ: 'cmesh-at+jwt' }, payload(), byRing)],
    ...['', '.', '../../iam/keys.json', '/etc/passwd', 'https://mallory.example/key', '__proto__', 'constructor', `${kid}\u0000`, `${kid}A`, kid.slice(0, -1),
      kid.toLowerCase(), `${kid.slice(0, 42)} `, 'A'.repeat(4_000), '\'; DROP TABLE keys; --', mallory.publicKey.thumbprint]
      .map((id): [string, () => string] => [`kid ${JSON.stringify(id.slice(0, 50))}`, () => craft({ ...HEADER, kid: id }, payload(), byMallory)]),
    ['kid as a number', () => craft({ ...HEADER, kid: 1 }, payload(), byMallory)],
    ['kid as a list', () => craft({ ...HEADER, kid: [kid] }, payload(), byRing)],
    ['two dots too many', () => `${victim.token}..`],
    ['one part too few', () => victim.token.split('.').slice(0, 2).join('.')],
    ['an unsecured JWT', () => `${base64url({ alg: 'none' })}.${base64url(payload())}.`],
    ['JSON serialisation', () => JSON.stringify({ payload: base64url(payload()), protected: base64url(HEADER), signature: 'AA' })],
    ['a JWE', () => `${base64url({ alg: 'dir', enc: 'A256GCM' })}....`],
    ['noise', () => 'noise'],
  ])('%s', async (_, make) => {
    const token = make()
    if (token.length <= 4_096) expect(await attack(token)).toBe(refusedAlike)
    else expect(await attack(token)).toContain('too long')
    await expectUntouched()
  })

  test('and nothing of the token, the key or the library stands in the answer', async () => {
    const token = craft(HEADER, payload(), byMallory)
    const answer = await attack(token)
    for (const secret of [...token.split('.'), kid, victim.sid, 'jose', 'JWS']) expect(answer).not.toContain(secret)
  })
})

describe('one token has one spelling', () => {
  const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'

  test('the sixteen that a base64url decoder takes for the same signature are fifteen refusals and the token', async () => {
    await expectUntouched()
    const { token } = victim
    const last = ALPHABET.indexOf(token.at(-1))
    const spellings = Array.from({ length: 16 }, (_, i) => `${token.slice(0, -1)}${ALPHABET[(last & 0x30) | i]}`)
    const bytes = new Set(spellings.map(each => Buffer.from(each.split('.')[2] as string, 'base64url').toString('hex')))
    expect([bytes.size, spellings.includes(token)]).toEqual([1, true])
    for (const spelling of spellings) {
      if (spelling !== token) expect(await attack(spelling)).toBe(refusedAlike)
    }
    await expect(iam.enter({ ...victim, token })).resolves.toMatchObject({ sid: victim.sid })
  })

  test('padding, white space, the other alphabet and JSON that means the same are refused too', async () => {
    await expectUntouched()
    const [header, body, signature] = victim.token.split('.') as [string, string, string]
    const same = [
      `${victim.token}=`, `${victim.token}==`, ` ${victim.token}`, `${victim.token}\n`, `${header}=.${body}.${signature}`, `${header}.${body}=.${signature}`,
      `${base64url(`{"typ":"cmesh-at+jwt","alg":"EdDSA","kid":"${kid}"}`)}.${body}.${signature}`,
      `${base64url(`{"alg":"EdDSA","typ":"cmesh-at+jwt","kid":"${kid}" }`)}.${body}.${signature}`,
      `${header.slice(0, 5)} ${header.slice(5)}.${body}.${signature}`, `${header}.${body}.${signature.replaceAll('-', '+').replaceAll('_', '/')}`,
    ].filter(each => each !== victim.token)
    for (const spelling of same) expect(await attack(spelling)).toBe(refusedAlike)
  })

  test('characters beyond base64url are none of it, whatever byte they end in', async () => {
    await expectUntouched()
    const { token } = victim
    await expect(iam.guard.verify(token, 0)).resolves.toMatchObject({ sid: victim.sid })
    for (const at of [0, token.indexOf('.'), token.indexOf('.') + 5, token.lastIndexOf('.'), token.length - 1]) {
      const spelling = `${token.slice(0, at)}${String.fromCharCode(token.charCodeAt(at) + 0x100)}${token.slice(at + 1)}`
      expect(Buffer.from(spelling, 'latin1').toString('latin1')).toBe(token)
      expect(await failureOf(() => iam.guard.verify(spelling, 0))).toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the token is not valid' } })
    }
  })

  test('no bit of it can be turned, and no byte of it left out', async () => {
    await expectUntouched()
    const { token } = victim
    // Time passes between them, so that a hundred failures are not the throttle's to answer.
    await fc.assert(fc.asyncProperty(fc.nat(token.length - 1), fc.integer({ min: 0, max: 6 }), fc.boolean(), async (at, bit, cut) => {
      const bytes = Buffer.from(token)
      bytes[at] = (bytes[at] as number) ^ (1 << bit)
      const changed = cut ? Buffer.concat([Buffer.from(token.slice(0, at)), Buffer.from(token.slice(at + 1))]) : bytes
      clock.ms += 1_000
      expect(JSON.stringify((await failureOf(async () => iam.guard.check(changed, victim.sid))).toWire())).toBe(refusedAlike)
    }), { numRuns: 100 })
    await expectUntouched()
  })
})

describe('a good token at the wrong place or time', () => {
  const minted = (change: Partial<TokenClaims>): string => signToken({ ...claims(), jti: `minted-${attempts}`, ...change }, ring.current)

  test('on another session\'s subject is refused, and so is its reference', async () => {
    await expectUntouched()
    const thief = await iam.open({ mesh: root.did })
    expect(await attack(victim.token, thief.sid)).toContain('the token belongs to another session')
    expect((await failureOf(async () => iam.guard.check(tokenReference(Buffer.from(victim.token)), thief.sid))).code).toBe('CMESH_IAM_TOKEN')
    expect((await failureOf(async () => iam.guard.checkCarried(tokenReference(Buffer.from(victim.token)), thief.sid))).code).toBe('CMESH_IAM_TOKEN')
  })

  test('over another connection is refused, whose session it says it is for or not', async () => {
    await expectUntouched()
    const thief = await iam.open({ mesh: root.did })
    for (const via of [thief.sid, victim.sid, '']) {
      expect((await failureOf(() => iam.guard.check(Buffer.from(victim.token), victim.sid, via))).detail).toEqual({ reason: 'the token belongs to another session' })
    }
    // A gateway of its own choice does not stand in the victim's token, and it cannot put it there.
    const claimed = craft(HEADER, { ...payload(), via: thief.sid }, byMallory)
    expect((await failureOf(() => iam.guard.check(Buffer.from(claimed), victim.sid, thief.sid))).detail).toEqual({ reason: 'the token is not valid' })
    await expectUntouched()
  })

  test('is refused from the second of its expiry on: no leeway for anybody\'s clock', async () => {
    const seconds = Math.floor(clock.ms / 1_000) + 20
    const token = minted({ iat: seconds - 10, exp: seconds })
    clock.ms = seconds * 1_000 - 1
    await expect(Promise.resolve(iam.guard.check(Buffer.from(token), victim.sid))).resolves.toMatchObject({ sid: victim.sid })
    clock.ms++
    expect(await attack(token)).toContain('the token has expired')
  })

  test('says nothing by claims of the wrong type', async () => {
    await expectUntouched()
    for (const change of [{ exp: '9999999999' }, { exp: null }, { exp: 1e300 }, { iat: 'now' }, { sid: ['x'] }, { sub: {} }, { perms: 'operator' }, { aal: 3 }, { cnf: { jkt: 'x' } }]) {
      expect(await attack(craft(HEADER, { ...payload(), ...change }, byRing))).toBe(refusedAlike)
    }
  })

  test('of more than 4,096 bytes is refused unread, on any way in', async () => {
    const long = `${victim.token}${'A'.repeat(4_096)}`
    expect(await attack(long)).toContain('the token or the session id is too long')
    const renewal = makeRenewal('refresh', long, victim.key, clock.ms)
    expect(await failureOf(() => iam.iam.handle('refresh', canonicalBytes(renewal))))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'the field token is not valid' } })
  })

  test('can be replayed by its own session alone, and not at all after a hangup', async () => {
    const session = await iam.open({ mesh: root.did })
    await iam.enter(session)
    await hangup(session, iam.send, clock.ms)
    expect(await attack(session.token, session.sid)).toContain('the session was revoked')
  })
})

describe('a stolen token without its session key', () => {
  test('cannot be renewed or ended, by any key or by a renewal that was heard before', async () => {
    await expectUntouched()
    const heard: Uint8Array[] = []
    const listening: SendStep = (action, body, node) => {
      heard.push(body)
      return iam.send(action, body, node)
    }
    victim = await refresh(victim, listening, ++clock.ms)
    expect(await failureOf(() => iam.send('refresh', heard[0] as Uint8Array, undefined)))
      .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { reason: 'it is not newer than the last one of this session' } })
    for (const step of ['refresh', 'hangup'] as const) {
      const stolen = makeRenewal(step, victim.token, mallory, clock.ms + 1)
      expect(await failureOf(() => iam.send(step, canonicalBytes(stolen), undefined)))
        .toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { step, reason: 'its key is not the one of the session' } })
    }
    // A refresh is no hangup, though both say the same.
    const { signature, ...renewal } = makeRenewal('refresh', victim.token, victim.key, clock.ms + 2)
    expect(await failureOf(() => iam.send('hangup', canonicalBytes({ ...renewal, step: 'hangup', signature }), undefined))).toMatchObject({ code: 'CMESH_IAM_FORGED' })
    await expectUntouched()
  })

  test('cannot be given another key or connection: the swap breaks the mesh\'s signature', async () => {
    await expectUntouched()
    const nkey = Nkey.generate('user').text
    for (const cnf of [{ jkt: mallory.publicKey.thumbprint }, { ...claims().cnf, nkey }, { jkt: mallory.publicKey.thumbprint, nkey }]) {
      const [header, , signature] = victim.token.split('.') as [string, string, string]
      const token = `${header}.${base64url({ ...payload(), cnf })}.${signature}`
      expect(await attack(token)).toBe(refusedAlike)
      for (const signer of [mallory, victim.key]) {
        const renewal = makeRenewal('refresh', token, signer, clock.ms)
        expect(await failureOf(() => iam.iam.handle('refresh', canonicalBytes(renewal)))).toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the token is not valid' } })
      }
    }
    await expectUntouched()
  })
})

describe('a client that is lied to about the mesh\'s keys', () => {
  const swapping = (change: (message: SessionMessage) => SessionMessage): SendStep => async (action, body, node) => {
    const reply = await iam.send(action, body, node)
    return action === 'consent' || action === 'refresh' ? canonicalBytes(change(readMessage('session', reply))) : reply
  }
  const opening = (change: (message: SessionMessage) => SessionMessage, keyEpochs?: KeyEpochs): Promise<Session> =>
    login({ identity: KeyPair.generate(), mesh: root.did, send: swapping(change), ...(keyEpochs !== undefined && { keyEpochs }) })
  const resigned = (message: SessionMessage): string => signToken(decodeToken(message.token), mallory)
  const setOf = (mesh: string, signer: KeyPair): KeySet => {
    const { thumbprint, text } = mallory.publicKey
    return signKeySet({ version: 1, mesh, epoch: 9, issued: clock.ms, keys: [{ kid: thumbprint, x: text, notAfter: 0 }] }, signer)
  }

  test('takes no set of keys that the mesh did not sign, however well the token fits it', async () => {
    const token = resigned(readMessage('session', canonicalBytes({ step: 'session', sid: victim.sid, token: victim.token, issued: 1, expires: 2 })))
    for (const [keys, code] of [[setOf(root.did, mallory), 'CMESH_IAM_FORGED'], [setOf(mallory.did, mallory), 'CMESH_IAM_HANDSHAKE']] as const) {
      expect(await failureOf(() => opening(message => ({ ...message, token, keys })))).toMatchObject({ code })
    }
    // Nor a token by a key that stands in no set, or no set at all.
    expect(await failureOf(() => opening(message => ({ ...message, token })))).toMatchObject({ code: 'CMESH_IAM_FORGED' })
    expect(await failureOf(() => opening(({ keys: _, ...message }) => message))).toMatchObject({ code: 'CMESH_IAM_FORGED' })
  })

  test('takes no older set than it saw, at a handshake and at a refresh', async () => {
    const older = ring.keySet
    const before = readMessage('session', canonicalBytes({ step: 'session', sid: victim.sid, token: victim.token, issued: 1, expires: 2, keys: older }))
    expect(checkSession(before, root.did, victim.sub, victim.key.publicKey).sid).toBe(victim.sid)
    expect(await failureOf(() => checkSession(before, root.did, victim.sub, victim.key.publicKey, { [root.did]: older.epoch + 1 }))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE' })
    expect(await failureOf(() => opening(message => ({ ...message, keys: older }), { [root.did]: older.epoch + 1 })))
      .toMatchObject({ detail: { reason: 'its keys are older than those seen before' } })
    const session = { ...await iam.open({ mesh: root.did }), keyEpochs: { [root.did]: older.epoch + 1 } }
    expect(await failureOf(() => refresh(session, iam.send, clock.ms))).toMatchObject({ detail: { reason: 'its keys are older than those seen before' } })
  })
})

describe('what a session wants, and what a token says it may', () => {
  test('is never more than was granted: texts of rights do not become rights', async () => {
    const session = await iam.open({ mesh: root.did })
    const auth = await iam.enter(session)
    const held = auth.permissions.map(formatPermission)
    for (const want of ['write >', 'operator', 'write 0xSW:>', 'newcomer']) {
      const asked = await iam.open({ mesh: root.did, want: [want, 'read 0xI:>'] })
      const context = await iam.enter(asked)
      expect(await failureOf(() => iam.guard.authorise(context, parseFqmn('0xSW:0x001:increment')))).toMatchObject({ code: 'CMESH_IAM_DENIED' })
    }
    for (const want of ['write 0xSW:0x001:a|write >', 'read 0xS:>\nwrite >', 'write >,read >', 'exec']) {
      expect(await failureOf(() => iam.open({ mesh: root.did, want: [want] }))).toMatchObject({ code: 'CMESH_IAM_PERMISSION' })
    }
    for (const perms of [['newcomer', 'operator'], ['write >'], ['read 0xS:>\nwrite >'], ['write 0xSW:0x001:>|write >']]) {
      const token = signToken({ ...decodeToken(session.token), perms, jti: `greedy-${attempts++}` }, ring.current)
      const greedy = await failureOf(async () => {
        const context = await iam.guard.check(Buffer.from(token), session.sid)
        iam.guard.authorise(context, parseFqmn('0xSW:0x001:increment'))
      })
      expect(['CMESH_IAM_DENIED', 'CMESH_IAM_NO_SESSION']).toContain(greedy.code)
    }
    expect((await iam.enter(session)).permissions.map(formatPermission)).toEqual(held)
  })
})

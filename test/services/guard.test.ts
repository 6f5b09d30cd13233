import { createHmac } from 'node:crypto'
import { describe, expect, jest, test } from '@jest/globals'
import * as jose from 'jose'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { TokenClaims } from '../../cmtp/identity/token.ts'
import { tokenReference, writeClaims } from '../../cmtp/identity/token.ts'
import type { Permission } from '../../cmtp/permission.ts'
import { NEWCOMER_READ_SET, OPERATOR_SET, parsePermissions } from '../../cmtp/permission.ts'
import type { AuthContext, GuardParts } from '../../services/iam/guard.ts'
import { Guard } from '../../services/iam/guard.ts'
import * as guardModule from '../../services/iam/guard.ts'
import { signToken, TokenVerifier } from '../../services/iam/session-token.ts'
import { failureOf } from '../support/iam.ts'

const NOW = 1_800_000_000_000
const SID = 'session-of-the-caller'
const mesh = KeyPair.fromSeed(Buffer.alloc(32, 1))
const caller = KeyPair.fromSeed(Buffer.alloc(32, 2))
const read = parseFqmn('0xS:0x001:hello_world:["Dexter"]')
const write = parseFqmn('0xSW:0x001:hello_world')

const claimsOf = (change: Partial<TokenClaims> = {}): TokenClaims => ({
  iss: mesh.did, aud: 'cmtp', sub: caller.did, sid: SID, jti: 'token-one', iat: NOW / 1_000, exp: NOW / 1_000 + 300, ver: 1,
  cnf: { jkt: caller.publicKey.thumbprint }, perms: ['newcomer'], amr: ['swk'], aal: 1, ...change,
})
const tokenOf = async (
  change: Partial<TokenClaims> = {}, signer = mesh,
): Promise<Buffer> => Buffer.from(signToken(claimsOf(change), signer))

/** A token put together by hand: `signature` is over the signing input. */
function craft(header: object, payload: object, signature: (input: string) => string): Buffer {
  const input = [header, payload].map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  return Buffer.from(`${input}.${signature(input)}`)
}
const byMesh = (input: string): string => mesh.sign(Buffer.from(input)).toString('base64url')

interface Fixture {
  readonly guard: Guard, readonly clock: { ms: number }, readonly grants: { of: readonly Permission[] },
  readonly verifications: () => number,
}

function makeGuard(parts: Partial<GuardParts> = {}): Fixture {
  const clock = { ms: NOW }
  const grants = { of: NEWCOMER_READ_SET }
  const verify = jest.spyOn(TokenVerifier.prototype, 'verify')
  verify.mockClear()
  const guard = new Guard({ key: mesh.publicKey, grantsOf: () => grants.of, now: () => clock.ms, ...parts })
  return { guard, clock, grants, verifications: () => verify.mock.calls.length }
}

const noSession = (reason: string): object => ({ code: 'CMESH_IAM_NO_SESSION', status: 401, detail: { reason } })
const checked = async (guard: Guard, token: Uint8Array, sid = SID): Promise<AuthContext> => guard.check(token, sid)

describe('a check', () => {
  test('turns a token on its own subject into who asks', async () => {
    const { guard } = makeGuard()
    const auth = await checked(guard, await tokenOf())
    expect(auth)
      .toMatchObject({
        sub: caller.did, sid: SID, jti: 'token-one', issuedMs: NOW, expiresMs: NOW + 300_000, amr: ['swk'], aal: 1,
        jkt: caller.publicKey.thumbprint,
      })
    expect(auth.permissions).toEqual(NEWCOMER_READ_SET)
  })

  test('of the same bytes again is synchronous, gives the same context and verifies nothing', async () => {
    const { guard, verifications } = makeGuard()
    const token = await tokenOf()
    const auth = await checked(guard, token)
    const frame = Buffer.concat([Buffer.from('frame'), token, Buffer.from('rest')])
    expect(guard.check(frame.subarray(5, 5 + token.length), SID)).toBe(auth)
    expect(guard.check(new Uint8Array(token), SID)).toBe(auth)
    expect(verifications()).toBe(1)
  })

  test('does not depend on the bytes it was given staying what they were', async () => {
    const { guard } = makeGuard()
    const token = await tokenOf()
    const borrowed = Buffer.from(token)
    const pending = guard.check(borrowed, SID)
    borrowed.fill(0)
    const auth = await pending
    expect(guard.check(token, SID)).toBe(auth)
  })

  test('of a token that differs in one byte is no hit', async () => {
    const { guard } = makeGuard()
    const token = await tokenOf()
    await checked(guard, token)
    for (const at of [0, 40, 200, token.length - 20]) {
      const forged = Buffer.from(token)
      forged[at] = (forged[at] as number) === 0x41 ? 0x42 : 0x41
      expect((await failureOf(() => guard.check(forged, SID))).code).toBe('CMESH_IAM_NO_SESSION')
    }
    expect((await failureOf(() => guard.check(token.subarray(0, -1), SID))).code).toBe('CMESH_IAM_NO_SESSION')
  })

  test('of one token by many at once verifies it once', async () => {
    const { guard, verifications } = makeGuard()
    const token = await tokenOf()
    const contexts = await Promise.all(Array.from({ length: 50 }, () => checked(guard, Buffer.from(token))))
    expect(new Set(contexts).size).toBe(1)
    expect(verifications()).toBe(1)
  })

  test('takes a refreshed token in the place of the last one', async () => {
    const { guard, verifications } = makeGuard()
    const first = await checked(guard, await tokenOf())
    const next = await tokenOf({ jti: 'token-two' })
    const second = await checked(guard, next)
    expect(second).not.toBe(first)
    expect(guard.check(next, SID)).toBe(second)
    expect(verifications()).toBe(2)
    expect(guard.size).toBe(1)
  })

  test('verifies again after 60 s', async () => {
    const { guard, clock, verifications } = makeGuard()
    const token = await tokenOf()
    const auth = await checked(guard, token)
    clock.ms += 59_999
    expect(guard.check(token, SID)).toBe(auth)
    clock.ms += 1
    await checked(guard, token)
    expect(verifications()).toBe(2)
  })

  test('refuses a token the moment it expires, known or not', async () => {
    const { guard, clock } = makeGuard()
    const token = await tokenOf({ exp: NOW / 1_000 + 30 })
    const auth = await checked(guard, token)
    clock.ms += 29_999
    expect(guard.check(token, SID)).toBe(auth)
    clock.ms += 1
    expect(await failureOf(() => guard.check(token, SID))).toMatchObject(noSession('the token has expired'))
    expect(await failureOf(() => guard.authorise(auth, read))).toMatchObject(noSession('the token has expired'))
  })

  test('refuses a token on another session\'s subject', async () => {
    const { guard } = makeGuard()
    const token = await tokenOf()
    await checked(guard, token)
    expect(await failureOf(() => guard.check(token, 'somebody-elses-session')))
      .toMatchObject(noSession('the token belongs to another session'))
  })

  test('names what is missing when there is no token', async () => {
    const { guard } = makeGuard()
    const failure = await failureOf(() => guard.check(new Uint8Array(0), SID))
    expect(failure.message).toBe('No valid session: the request carries no token. Start the identity handshake (`cmesh login`).')
    expect(failure.toWire()).toMatchObject({ prompt: 'identity' })
  })

  test('refuses what is too long before it looks at it', async () => {
    const { guard, verifications } = makeGuard()
    expect(await failureOf(() => guard.check(Buffer.alloc(4_097, 'a'), SID)))
      .toMatchObject(noSession('the token or the session id is too long'))
    expect(await failureOf(() => guard.check(Buffer.from('a'), 's'.repeat(65))))
      .toMatchObject(noSession('the token or the session id is too long'))
    expect(verifications()).toBe(0)
  })

  test('forgets the sessions least recently seen when there are too many', async () => {
    const { guard, verifications } = makeGuard({ maxSessions: 4 })
    const sids = ['session-a', 'session-b', 'session-c', 'session-d', 'session-e']
    const tokens = await Promise.all(sids.map(sid => tokenOf({ sid })))
    for (const [i, sid] of sids.entries()) await checked(guard, tokens[i] as Buffer, sid)
    expect(guard.size).toBeLessThanOrEqual(4)
    expect(guard.check(tokens[4] as Buffer, 'session-e')).not.toBeInstanceOf(Promise)
    expect(guard.check(tokens[3] as Buffer, 'session-d')).not.toBeInstanceOf(Promise)
    await checked(guard, tokens[0] as Buffer, 'session-a')
    expect(verifications()).toBe(6)
  })
})

describe('the reference of a token', () => {
  test('does in the place of the token once that was verified', async () => {
    const { guard, verifications } = makeGuard()
    const token = await tokenOf()
    const auth = await checked(guard, token)
    expect(guard.check(tokenReference(token), SID)).toBe(auth)
    expect(guard.tokenOf(auth)).toEqual(token)
    expect(verifications()).toBe(1)
  })

  test('is verified again after 60 s like the token it stands for', async () => {
    const { guard, clock, verifications } = makeGuard()
    const token = await tokenOf()
    await checked(guard, token)
    clock.ms += 60_000
    await expect(checked(guard, tokenReference(token))).resolves.toMatchObject({ jti: 'token-one' })
    expect(verifications()).toBe(2)
    clock.ms += 240_000
    expect(await failureOf(() => guard.check(tokenReference(token), SID))).toMatchObject(noSession('the token has expired'))
  })

  test('is worth nothing where the token was not seen, was replaced, or belongs to another session', async () => {
    const { guard, verifications } = makeGuard()
    const token = await tokenOf()
    const unknown = { code: 'CMESH_IAM_TOKEN', status: 401, retry: 'retry' }
    const refusal = await failureOf(() => guard.check(tokenReference(token), SID))
    expect(refusal).toMatchObject(unknown)
    expect(refusal.toWire()).toMatchObject({ prompt: 'token' })
    await checked(guard, token)
    expect(await failureOf(() => guard.check(tokenReference(token), 'another-session'))).toMatchObject(unknown)
    const forged = tokenReference(token)
    forged.writeUInt8(forged.readUInt8(15) ^ 1, 15)
    expect(await failureOf(() => guard.check(forged, SID))).toMatchObject(unknown)
    await checked(guard, await tokenOf({ jti: 'token-two' }))
    expect(await failureOf(() => guard.check(tokenReference(token), SID))).toMatchObject(unknown)
    expect(verifications()).toBe(2)
  })

  test('of a revoked session is refused', async () => {
    const { guard } = makeGuard()
    const token = await tokenOf()
    const auth = await checked(guard, token)
    guard.revoke({ sid: SID })
    expect(await failureOf(() => guard.check(tokenReference(token), SID))).toMatchObject(noSession('the session was revoked'))
    expect(await failureOf(() => guard.tokenOf(auth))).toMatchObject(noSession('the session was revoked'))
  })
})

describe('a token that comes over a gateway\'s connection', () => {
  const GATEWAY = 'session-of-a-gateway'
  const elsewhere = noSession('the token belongs to another session')

  test('counts when it says that this gateway carries it: new, known, and by its reference', async () => {
    const { guard, verifications } = makeGuard()
    const token = await tokenOf({ via: GATEWAY })
    const auth = await guard.check(token, SID, GATEWAY)
    expect(auth).toMatchObject({ sub: caller.did, sid: SID })
    expect(guard.check(token, SID, GATEWAY)).toBe(auth)
    expect(guard.check(tokenReference(token), SID, GATEWAY)).toBe(auth)
    // Its own session may use it as well.
    expect(guard.check(token, SID)).toBe(auth)
    expect(verifications()).toBe(1)
  })

  test.each<[string, string | undefined]>([['another gateway', 'session-of-another'], ['no gateway', undefined]])('is refused when it names %s, known or not', async (_, via) => {
    for (const known of [false, true]) {
      const { guard, clock } = makeGuard()
      const token = await tokenOf(via === undefined ? {} : { via })
      if (known) await checked(guard, token)
      for (const bytes of [token, tokenReference(token)]) {
        const failure = await failureOf(() => guard.check(bytes, SID, GATEWAY))
        if (known || bytes === token) expect(failure).toMatchObject(elsewhere)
        expect(await failureOf(() => guard.check(token, SID, SID))).toMatchObject(elsewhere)
      }
      // Nor does it pass once it has to be verified again. One that only came this way was never remembered.
      clock.ms += 60_000
      expect(await failureOf(() => guard.check(tokenReference(token), SID, GATEWAY))).toMatchObject(known ? elsewhere : { code: 'CMESH_IAM_TOKEN' })
      expect(await failureOf(() => guard.check(token, SID, GATEWAY))).toMatchObject(elsewhere)
      expect(guard.size).toBe(known ? 1 : 0)
    }
  })

  test('and names another changes nothing that is remembered: no session, no reference, and nobody is told of it', async () => {
    const { guard } = makeGuard()
    const admitted: string[] = []
    guard.watch(({ jti }) => { admitted.push(jti) }, () => undefined)
    const [first, stolen] = [await tokenOf({ via: GATEWAY }), await tokenOf({ via: GATEWAY, jti: 'token-two' })]
    expect(await failureOf(() => guard.check(stolen, SID, 'session-of-a-thief'))).toMatchObject(elsewhere)
    expect([guard.size, guard.carried, admitted]).toEqual([0, 0, []])
    const auth = await checked(guard, first)
    expect(await failureOf(() => guard.check(stolen, SID, 'session-of-a-thief'))).toMatchObject(elsewhere)
    expect(guard.check(tokenReference(first), SID)).toBe(auth)
    expect(guard.checkCarried(tokenReference(first), GATEWAY)).toBe(auth)
    expect(admitted).toEqual(['token-one'])
  })

  test('is refused there while its own session asks for it in the same moment and gets in', async () => {
    const { guard } = makeGuard()
    const token = await tokenOf()
    const [own, stolen] = await Promise.allSettled([guard.check(token, SID), guard.check(token, SID, GATEWAY)])
    expect([own, stolen]).toMatchObject([{ status: 'fulfilled', value: { sid: SID } }, { status: 'rejected', reason: elsewhere }])
  })
})

describe('bad tokens that come over a gateway\'s connection', () => {
  const GATEWAY = 'session-of-a-gateway'
  /** Longer than a reference. */
  const bad = (i: number): Buffer => Buffer.from(`forged.by.somebody.${i}`)
  const busy = {
    code: 'CMESH_ROUTER_BUSY', status: 429, retry: 'retry', message: 'This gateway has 256 requests in flight already; try again in 100 ms.',
  }

  test('are the fault of that connection: the session they were sent for has its budget whole, and so has its own gateway', async () => {
    const { guard, verifications } = makeGuard()
    for (let i = 0; i < 20; i++) {
      const reason = i < 10 ? 'the token is not valid' : 'too many bad tokens came for this session; wait a second'
      expect(await failureOf(() => guard.check(bad(i), SID, 'session-of-a-thief'))).toMatchObject(noSession(reason))
    }
    expect(verifications()).toBe(10)
    await expect(checked(guard, await tokenOf({ via: GATEWAY }))).resolves.toMatchObject({ jti: 'token-one' })
    await expect(guard.check(await tokenOf({ via: GATEWAY, jti: 'token-two' }), SID, GATEWAY)).resolves.toMatchObject({ jti: 'token-two' })
    for (let i = 0; i < 10; i++) expect(await failureOf(() => guard.check(bad(i), SID))).toMatchObject(noSession('the token is not valid'))
    expect(verifications()).toBe(22)
  })

  test('for sessions that nobody has are bounded all together, at once and over time, and cost nobody else', async () => {
    const { guard, clock, verifications } = makeGuard()
    const attempts = (from: number, count: number): Promise<unknown[]> => Promise.all(Array.from({ length: count }, async (_, i) =>
      failureOf(() => guard.check(bad(from + i), `invented-${from + i}`, 'session-of-a-thief'))))
    const failures = await attempts(0, 300)
    expect(failures.slice(0, 256).every(failure => (failure as { code: string }).code === 'CMESH_IAM_NO_SESSION')).toBe(true)
    for (const failure of failures.slice(256)) expect(failure).toMatchObject(busy)
    expect(verifications()).toBe(256)
    clock.ms += 1_000
    await attempts(300, 50)
    expect(verifications()).toBe(266)
    await expect(checked(guard, await tokenOf({ sid: 'session-of-a-thief' }), 'session-of-a-thief')).resolves.toBeDefined()
    await expect(guard.check(await tokenOf({ via: GATEWAY }), SID, GATEWAY)).resolves.toBeDefined()
  })

  test('that are the same are not verified again, and cost the gateway nothing', async () => {
    const { guard, verifications } = makeGuard()
    for (let i = 0; i < 300; i++) expect(await failureOf(() => guard.check(bad(1), SID, GATEWAY))).toMatchObject(noSession('the token is not valid'))
    expect(verifications()).toBe(1)
    for (let i = 0; i < 255; i++) await failureOf(() => guard.check(bad(i), `invented-${i}`, GATEWAY))
    expect(verifications()).toBe(256)
  })

  test('are not what a gateway is held to have sent whose tokens are good, however many', async () => {
    const { guard } = makeGuard()
    const sids = Array.from({ length: 256 }, (_, i) => `session-no-${i}`)
    for (let round = 0; round < 2; round++) {
      const tokens = await Promise.all(sids.map(sid => tokenOf({ sid, via: GATEWAY, jti: `${sid}-${round}` })))
      await Promise.all(tokens.map(async (token, i) => guard.check(token, sids[i] as string, GATEWAY)))
    }
    expect(guard.carried).toBe(256)
  })
})

describe('a token is refused', () => {
  const payload = writeClaims(claimsOf())
  const header = { alg: 'EdDSA', typ: 'cmesh-at+jwt', kid: mesh.publicKey.thumbprint }
  const hs256 = (input: string): string => createHmac('sha256', mesh.publicKey.toBytes()).update(input).digest('base64url')
  const other = KeyPair.generate()

  test.each<[string, () => Buffer | Promise<Buffer>, string]>([
    ['signed by another key', () => tokenOf({}, other), 'the token is not valid'],
    ['signed by its own subject', () => tokenOf({}, caller), 'the token is not valid'],
    ['without a signature', () => craft(header, payload, () => ''), 'the token is not valid'],
    ['with alg none', () => craft({ ...header, alg: 'none' }, payload, () => ''), 'the token is not valid'],
    [
      'with the public key as HMAC secret', () => craft({ ...header, alg: 'HS256' }, payload, hs256),
      'the token is not valid',
    ],
    [
      'of the algorithm\'s other name', () => craft({ ...header, alg: 'Ed25519' }, payload, byMesh),
      'the token is not valid',
    ],
    ['of another type', () => craft({ ...header, typ: 'JWT' }, payload, byMesh), 'the token is not valid'],
    ['without a type', () => craft({ alg: 'EdDSA', kid: mesh.publicKey.thumbprint }, payload, byMesh), 'the token is not valid'],
    [
      'with a critical header nobody knows', () => craft({ ...header, crit: ['x'], x: 1 }, payload, byMesh),
      'the token is not valid',
    ],
    [
      'that brings its own key',
      () => craft(
        { ...header, jwk: other.publicKey.jwk }, payload, input => other.sign(Buffer.from(input)).toString('base64url'),
      ),
      'the token is not valid',
    ],
    ['for another audience', () => craft(header, { ...payload, aud: 'http' }, byMesh), 'the token is not valid'],
    ['by another issuer', () => tokenOf({ iss: other.did }), 'the token is not valid'],
    [
      'of another version', () => craft(header, { ...payload, ver: 2 }, byMesh),
      'the token is not valid',
    ],
    ['without expiry', () => craft(header, { ...payload, exp: undefined }, byMesh), 'the token is not valid'],
    ['that has expired', () => tokenOf({ exp: NOW / 1_000 }), 'the token has expired'],
    ['not valid yet', () => craft(header, { ...payload, nbf: NOW / 1_000 + 1 }, byMesh), 'the token is not valid'],
    [
      'without a session key', () => craft(header, { ...payload, cnf: undefined }, byMesh),
      'the token is not valid',
    ],
    ['with permissions that are none', () => tokenOf({ perms: ['fly 0xS:>'] }), 'the token has no valid perms'],
    [
      'with claims nobody knows', () => craft(header, { ...payload, admin: true }, byMesh),
      'the token is not valid',
    ],
    ['that is no JWS', () => Buffer.from('not a token'), 'the token is not valid'],
    ['that is not even text', () => Buffer.from([0xff, 0xfe, 0x2e, 0x00, 0x2e]), 'the token is not valid'],
  ])('%s', async (_, make, reason) => {
    const { guard } = makeGuard()
    expect(await failureOf(async () => guard.check(await make(), SID))).toMatchObject(noSession(reason))
    expect(guard.size).toBe(0)
  })

  test('by no part of its own text in any answer', async () => {
    const { guard } = makeGuard()
    const token = await tokenOf({}, KeyPair.generate())
    const failure = await failureOf(() => guard.check(token, SID))
    for (const part of token.toString().split('.')) expect(JSON.stringify(failure.toWire())).not.toContain(part)
  })
})

describe('bad tokens', () => {
  test('cost a session ten verifications and then one a second, whoever sends them', async () => {
    const { guard, clock, verifications } = makeGuard()
    const attempt = async (i: number): Promise<unknown> => {
      const failure = await failureOf(() => guard.check(Buffer.from(`forged.${i}.token`), SID))
      return failure.detail['reason']
    }
    for (let i = 0; i < 10; i++) expect(await attempt(i)).toBe('the token is not valid')
    expect(await attempt(10)).toBe('too many bad tokens came for this session; wait a second')
    expect(verifications()).toBe(10)
    clock.ms += 1_000
    expect(await attempt(11)).toBe('the token is not valid')
    expect(await attempt(12)).toBe('too many bad tokens came for this session; wait a second')
    clock.ms += 3_600_000
    for (let i = 13; i < 23; i++) expect(await attempt(i)).toBe('the token is not valid')
    expect(await attempt(23)).toBe('too many bad tokens came for this session; wait a second')
  })

  test('sent all at once cost no more', async () => {
    const { guard, verifications } = makeGuard()
    const failures = await Promise.all(Array.from(
      { length: 100 }, (_, i) => failureOf(() => guard.check(Buffer.from(`forged.${i}.token`), SID)),
    ))
    expect(new Set(failures.map(failure => failure.code))).toEqual(new Set(['CMESH_IAM_NO_SESSION']))
    expect(verifications()).toBe(10)
  })

  test('leave a session alone whose good token is known', async () => {
    const { guard } = makeGuard()
    const token = await tokenOf()
    const auth = await checked(guard, token)
    for (let i = 0; i < 20; i++) await failureOf(() => guard.check(Buffer.from(`forged.${i}.token`), SID))
    expect(guard.check(token, SID)).toBe(auth)
  })

  test('are not verified again when they are the same, so an expired client does not use up its session', async () => {
    const { guard, verifications } = makeGuard()
    const expired = await tokenOf({ exp: NOW / 1_000 - 1 })
    for (let i = 0; i < 50; i++) expect(await failureOf(() => guard.check(expired, SID)))
      .toMatchObject(noSession('the token has expired'))
    expect(verifications()).toBe(1)
    await expect(checked(guard, await tokenOf({ jti: 'token-two' }))).resolves.toMatchObject({ jti: 'token-two' })
  })

  test('are not verified again after a good one came between', async () => {
    const { guard, clock, verifications } = makeGuard()
    const bad = await tokenOf({}, caller)
    await failureOf(() => guard.check(bad, SID))
    clock.ms += 2_000
    await checked(guard, await tokenOf())
    expect(await failureOf(() => guard.check(bad, SID))).toMatchObject(noSession('the token is not valid'))
    expect(verifications()).toBe(2)
  })

  test('of all sessions together keep at most so many verifications open', async () => {
    const { guard } = makeGuard({ maxVerifying: 3 })
    const under = [0, 1, 2].map(i => failureOf(() => guard.check(Buffer.from('a.b.c'), `session-${i}`)))
    expect(await failureOf(() => guard.check(Buffer.from('a.b.c'), 'session-3')))
      .toMatchObject({
        code: 'CMESH_ROUTER_BUSY', status: 429, message: 'The guard has 3 requests in flight already; try again in 100 ms.',
      })
    await Promise.all(under)
    expect((await failureOf(() => guard.check(Buffer.from('a.b.c'), 'session-3'))).code).toBe('CMESH_IAM_NO_SESSION')
  })
})

describe('an AuthContext', () => {
  test('is not exported as a value', () => {
    expect(Object.keys(guardModule)).toEqual(['Guard'])
  })

  test('cannot be constructed from one that leaked', async () => {
    const { guard } = makeGuard()
    const auth = await checked(guard, await tokenOf())
    const Leaked = auth.constructor as new (...parts: unknown[]) => AuthContext
    for (const parts of [[], [Symbol('guard'), claimsOf(), {}], [Symbol.for('guard'), claimsOf(), { guard }]]) {
      expect(await failureOf(() => new Leaked(...parts))).toMatchObject(noSession('only the guard can authenticate a caller'))
    }
  })

  test('forged in shape, by prototype, by copy or by proxy is refused by authorise and confirm', async () => {
    const { guard } = makeGuard()
    const auth = await checked(guard, await tokenOf())
    class Impostor {}
    const forgeries: unknown[] = [
      undefined, null, 'auth', {}, { ...auth }, structuredClone({ ...auth }), Object.create(auth),
      Object.create(Object.getPrototypeOf(auth) as object),
      Object.setPrototypeOf(new Impostor(), Object.getPrototypeOf(auth) as object), new Proxy(auth, {}),
    ]
    for (const forgery of forgeries) {
      expect(await failureOf(() => guard.authorise(forgery as AuthContext, read)))
        .toMatchObject(noSession('this node did not authenticate the caller'))
      expect(await failureOf(() => { guard.confirm(forgery as AuthContext) }))
        .toMatchObject(noSession('this node did not authenticate the caller'))
    }
  })

  test('of another guard is refused, even of the same mesh', async () => {
    const one = makeGuard().guard
    const other = makeGuard().guard
    const auth = await checked(one, await tokenOf())
    expect(one.authorise(auth, read)).toBe('0xS:>')
    expect(await failureOf(() => other.authorise(auth, read)))
      .toMatchObject(noSession('this node did not authenticate the caller'))
  })

  test('cannot be changed', async () => {
    const { guard } = makeGuard()
    const auth = await checked(guard, await tokenOf())
    expect(Object.isFrozen(auth) && Object.isFrozen(auth.amr)).toBe(true)
    expect(() => { (auth as { sub: string }).sub = 'did:key:operator' }).toThrow(TypeError)
  })
})

describe('authorise', () => {
  test('names the pattern that allows', async () => {
    const { guard } = makeGuard()
    const auth = await checked(guard, await tokenOf())
    expect(guard.authorise(auth, read)).toBe('0xS:>')
    expect(guard.authorise(auth, parseFqmn('0xRW:register:a.mcom:0xS:0x001'))).toBe('0xRW:register:>')
  })

  test('names the permission and the address that are missing, without arguments', async () => {
    const { guard } = makeGuard()
    const auth = await checked(guard, await tokenOf())
    expect(await failureOf(() => guard.authorise(auth, parseFqmn('0xSW:0x001:hello_world:["secret"]')))).toMatchObject({
      code: 'CMESH_IAM_DENIED', status: 403, message: 'Permission write on 0xSW:0x001:hello_world is missing.',
    })
    expect((await failureOf(() => guard.authorise(auth, parseFqmn('0xSW:0x000:deploy')))).message)
      .toBe('Permission deploy on 0xSW:0x000:deploy is missing.')
  })

  test('gives what the token and the grants both allow, never more than either', async () => {
    const { guard, grants } = makeGuard()
    grants.of = OPERATOR_SET
    const narrow = await checked(guard, await tokenOf({ perms: ['read >'] }))
    expect(guard.authorise(narrow, read)).toBe('>')
    expect((await failureOf(() => guard.authorise(narrow, write))).code).toBe('CMESH_IAM_DENIED')

    grants.of = NEWCOMER_READ_SET
    const wide = await checked(guard, await tokenOf({ sid: 'another-session', perms: ['operator'] }), 'another-session')
    expect(guard.authorise(wide, read)).toBe('0xS:>')
    expect((await failureOf(() => guard.authorise(wide, write))).code).toBe('CMESH_IAM_DENIED')
  })

  test('follows a change of grants on contexts already handed out', async () => {
    const { guard, grants } = makeGuard()
    grants.of = parsePermissions(['newcomer', 'write 0xSW:0x001:>'])
    const token = await tokenOf({ perms: ['newcomer', 'write 0xSW:0x001:>'] })
    const auth = await checked(guard, token)
    expect(guard.authorise(auth, write)).toBe('0xSW:0x001:>')
    grants.of = NEWCOMER_READ_SET
    guard.grantsChanged()
    expect((await failureOf(() => guard.authorise(auth, write))).code).toBe('CMESH_IAM_DENIED')
    expect(guard.authorise(auth, read)).toBe('0xS:>')
    expect(guard.check(token, SID)).toBe(auth)
  })
})

describe('what time and facts decide', () => {
  test('a grant that ends at a moment ends at that moment, on contexts in use, and is asked for no more often than it changes', async () => {
    const wide = parsePermissions(['newcomer', 'write 0xSW:0x001:>'])
    const endsMs = NOW + 20_000
    let asked = 0
    const { guard, clock } = makeGuard({
      grantsOf: (_, facts) => {
        asked++
        return (facts?.nowMs ?? 0) < endsMs ? wide : NEWCOMER_READ_SET
      },
      changesAt: (_, nowMs) => (nowMs < endsMs ? endsMs : Infinity),
    })
    const token = await tokenOf({ perms: ['newcomer', 'write 0xSW:0x001:>'] })
    const auth = await checked(guard, token)
    clock.ms = endsMs - 1
    for (let i = 0; i < 5; i++) expect(guard.check(token, SID)).toBe(auth)
    expect([guard.authorise(auth, write), asked]).toEqual(['0xSW:0x001:>', 1])
    clock.ms = endsMs
    expect((await failureOf(() => guard.authorise(auth, write))).code).toBe('CMESH_IAM_DENIED')
    for (let i = 0; i < 5; i++) expect(guard.check(token, SID)).toBe(auth)
    expect([guard.authorise(auth, read), asked]).toEqual(['0xS:>', 2])
  })

  test('grants are asked for with the session\'s assurance and the attributes in its token, and no others', async () => {
    const seen: unknown[] = []
    const { guard } = makeGuard({
      grantsOf: (did, facts) => {
        seen.push([did, facts])
        return NEWCOMER_READ_SET
      },
    })
    const att = [{ id: 'card#age_over_18', value: 'true', issuer: mesh.did }]
    await checked(guard, await tokenOf({ aal: 2, att }))
    await checked(guard, await tokenOf({ sid: 'another-session' }), 'another-session')
    expect(seen).toEqual([[caller.did, { aal: 2, attributes: att, nowMs: NOW }], [caller.did, { aal: 1, attributes: [], nowMs: NOW }]])
  })
})

describe('a revocation', () => {
  test.each([
    ['sid', { sid: SID }], ['jti', { jti: 'token-one' }], ['sub', { sub: caller.did }], ['kid', { kid: mesh.publicKey.thumbprint }],
  ])('by %s bites at once: known tokens, new ones and contexts in use', async (_, revocation) => {
    const { guard } = makeGuard()
    const token = await tokenOf()
    const auth = await checked(guard, token)
    guard.revoke(revocation)
    const reason = noSession('the session was revoked')
    expect(await failureOf(() => guard.check(token, SID))).toMatchObject(reason)
    expect(await failureOf(() => guard.authorise(auth, read))).toMatchObject(reason)
    expect(await failureOf(() => { guard.confirm(auth) })).toMatchObject(reason)

    const fresh = makeGuard().guard
    fresh.revoke(revocation)
    expect(await failureOf(() => fresh.check(token, SID))).toMatchObject(reason)
  })

  test('leaves everybody else alone', async () => {
    const { guard, verifications } = makeGuard()
    const token = await tokenOf()
    const auth = await checked(guard, token)
    guard.revoke({ sid: 'another-session', jti: 'another-token', sub: KeyPair.generate().did })
    expect(guard.check(token, SID)).toBe(auth)
    expect(guard.authorise(auth, read)).toBe('0xS:>')
    expect(verifications()).toBe(1)
  })

  test('of a token is no revocation of its session, of a subject none of what it proves later', async () => {
    const { guard, clock } = makeGuard()
    guard.revoke({ jti: 'token-one' })
    await expect(checked(guard, await tokenOf({ jti: 'token-two' }))).resolves.toMatchObject({ jti: 'token-two' })
    guard.revoke({ sub: caller.did })
    clock.ms += 1_000
    const later = await tokenOf({ sid: 'a-later-session', jti: 'token-three', iat: NOW / 1_000 + 1 })
    await expect(checked(guard, later, 'a-later-session')).resolves.toMatchObject({ sub: caller.did })
    expect(await failureOf(async () => guard.check(await tokenOf({ jti: 'token-four' }), SID)))
      .toMatchObject(noSession('the session was revoked'))
  })

  test('is remembered for as long as a token of that session could live', async () => {
    const { guard, clock } = makeGuard({ tokenLifeMs: 360_000 })
    guard.revoke({ sid: SID })
    clock.ms += 360_000
    guard.revoke({ sid: 'another-session' })
    const late = await tokenOf({ iat: NOW / 1_000 + 360, exp: NOW / 1_000 + 660 })
    expect(await failureOf(() => guard.check(late, SID))).toMatchObject(noSession('the session was revoked'))
    clock.ms += 1
    guard.revoke({ sid: 'another-session' })
    await expect(checked(guard, await tokenOf({ jti: 'token-two', exp: NOW / 1_000 + 660 }))).resolves.toMatchObject({ sid: SID })
  })
})

describe('a change of the mesh key', () => {
  test('empties the table: old tokens are refused, new ones taken', async () => {
    const { guard } = makeGuard()
    const token = await tokenOf()
    await checked(guard, token)
    const next = KeyPair.generate()
    guard.trust(next.publicKey)
    expect(guard.size).toBe(0)
    expect((await failureOf(() => guard.check(token, SID))).detail['reason']).toBe('the token is not valid')
    await expect(checked(guard, await tokenOf({ iss: next.did }, next))).resolves.toMatchObject({ sub: caller.did })
  })

  test('counts for a verification under way', async () => {
    const { guard } = makeGuard()
    const pending = failureOf(() => guard.check(tokenNow, SID))
    guard.trust(KeyPair.generate().publicKey)
    expect((await pending).code).toBe('CMESH_IAM_NO_SESSION')
    expect(guard.size).toBe(0)
  })
  const tokenNow = craft({ alg: 'EdDSA', typ: 'cmesh-at+jwt', kid: mesh.publicKey.thumbprint }, writeClaims(claimsOf()), byMesh)
})

describe('a token of IAM', () => {
  test('is a JWS that jose alone verifies, with the pinned header', async () => {
    const token = signToken(claimsOf(), mesh)
    const { payload, protectedHeader } = await jose.jwtVerify(token, mesh.publicKey.keyObject, { currentDate: new Date(NOW) })
    expect(protectedHeader).toEqual({ alg: 'EdDSA', typ: 'cmesh-at+jwt', kid: mesh.publicKey.thumbprint })
    expect(payload).toEqual({ ...writeClaims(claimsOf()) })
  })

  test('is the text that jose makes of the same claims', async () => {
    const header = { alg: 'EdDSA', typ: 'cmesh-at+jwt', kid: mesh.publicKey.thumbprint }
    expect(await new jose.SignJWT(writeClaims(claimsOf())).setProtectedHeader(header).sign(mesh.privateKeyObject)).toBe(signToken(claimsOf(), mesh))
  })

  test('is refused wherever jose refuses it, told the same key, algorithm, type, audience, issuer and time', async () => {
    const verifier = new TokenVerifier(mesh.did, { verifierOf: kid => (kid === mesh.publicKey.thumbprint ? mesh.publicKey : undefined) }, () => NOW)
    const options = {
      algorithms: ['EdDSA'], typ: 'cmesh-at+jwt', audience: 'cmtp', issuer: mesh.did.slice(8), requiredClaims: ['exp', 'iat', 'jti', 'sid', 'sub', 'ver'], currentDate: new Date(NOW),
    }
    const verdicts = new Set<string>()
    const signers = [byMesh, (input: string): string => caller.sign(Buffer.from(input)).toString('base64url'), (): string => '', (input: string): string => `${byMesh(input)}=`]
    const payload = writeClaims(claimsOf())
    for (const alg of ['EdDSA', 'none', 'Ed25519', undefined]) for (const typ of ['cmesh-at+jwt', 'JWT', undefined]) for (const more of [{}, { crit: ['b64'], b64: true }])
      for (const signer of signers) for (const change of [{}, { exp: NOW / 1_000 }, { exp: NOW / 1_000 + 1 }, { nbf: NOW / 1_000 + 1 }, { aud: 'http' }, { iss: caller.did.slice(8) }, { sid: undefined }]) {
        const token = craft({ alg, typ, kid: mesh.publicKey.thumbprint, ...more }, { ...payload, ...change }, signer).toString()
        const theirs = await jose.jwtVerify(token, mesh.publicKey.keyObject, options).then(() => true, () => false)
        const ours = await verifier.verify(token).then(() => true, () => false)
        verdicts.add(`jose ${String(theirs)}, here ${String(ours)}`)
      }
    expect([...verdicts]).toEqual(expect.arrayContaining(['jose false, here false', 'jose true, here true']))
    // Here, less passes: one spelling, one header.
    expect([...verdicts]).not.toContain('jose false, here true')
  })

  test('holds in 700 bytes for a newcomer', async () => {
    expect((await tokenOf({ sid: 'a'.repeat(22), jti: 'b'.repeat(12) })).length).toBeLessThan(700)
  })
})

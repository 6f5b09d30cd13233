/** Tokens that a gateway's frames speak for: whose they are, where their references count, and when no more. */
import { beforeEach, describe, expect, jest, test } from '@jest/globals'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { decodeToken, tokenReference, type TokenClaims } from '../../../cmtp/identity/token.ts'
import { NEWCOMER_READ_SET, parsePermissions, type Permission } from '../../../cmtp/permission.ts'
import { Guard, type AuthContext, type GuardParts } from '../../../services/iam/guard.ts'
import { signToken, TokenVerifier } from '../../../services/iam/session-token.ts'
import { failureOf } from '../../support/iam.ts'

const NOW = 1_800_000_000_000
const SID = 'session-that-is-carried'
const GATEWAY = 'session-of-the-gateway'
const mesh = KeyPair.fromSeed(Buffer.alloc(32, 1))
const caller = KeyPair.fromSeed(Buffer.alloc(32, 2))
const UNKNOWN = { code: 'CMESH_IAM_TOKEN', status: 401, message: 'The request refers to a session token that this node has not seen: send the token itself.' }
const noSession = (reason: string): object => ({ code: 'CMESH_IAM_NO_SESSION', status: 401, detail: { reason } })

async function tokenOf(change: Partial<TokenClaims> = {}, signer = mesh): Promise<Buffer> {
  return Buffer.from(signToken({
    iss: signer.did, aud: 'cmtp', sub: caller.did, sid: SID, jti: 'token-one', iat: NOW / 1_000, exp: NOW / 1_000 + 300, ver: 1,
    cnf: { jkt: caller.publicKey.thumbprint }, perms: ['newcomer'], amr: ['swk'], aal: 1, via: GATEWAY, ...change,
  }, signer))
}

/** The same claims without a gateway. */
async function lone(): Promise<Buffer> {
  const { via: _, ...claims } = decodeToken((await tokenOf()).toString())
  return Buffer.from(signToken(claims, mesh))
}

const verify = jest.spyOn(TokenVerifier.prototype, 'verify')
const clock = { ms: NOW }
let grants: readonly Permission[]
beforeEach(() => {
  verify.mockClear()
  clock.ms = NOW
  grants = NEWCOMER_READ_SET
})

const makeGuard = (parts: Partial<GuardParts> = {}): Guard => new Guard({ key: mesh.publicKey, grantsOf: () => grants, now: () => clock.ms, ...parts })
const checked = async (guard: Guard, token: Uint8Array, sid = SID): Promise<AuthContext> => guard.check(token, sid)

describe('the reference of a token that names a gateway', () => {
  test('stands in that gateway\'s frames for who was verified on the session\'s own subject, at once and without another verification', async () => {
    const guard = makeGuard()
    const token = await tokenOf()
    const auth = await checked(guard, token)
    const frame = Buffer.concat([Buffer.from('frame'), tokenReference(token), Buffer.from('rest')])
    expect(guard.checkCarried(frame.subarray(5, 21), GATEWAY)).toBe(auth)
    expect(guard.checkCarried(new Uint8Array(tokenReference(token)), GATEWAY)).toBe(auth)
    expect(auth).toMatchObject({ sub: caller.did, sid: SID })
    expect(verify).toHaveBeenCalledTimes(1)
  })

  test('is worth nothing in another session\'s frame, its own session\'s among them', async () => {
    const guard = makeGuard()
    const token = await tokenOf()
    await checked(guard, token)
    for (const other of ['session-of-a-thief-1', SID, '', `${GATEWAY} `]) {
      expect(await failureOf(() => guard.checkCarried(tokenReference(token), other))).toMatchObject(UNKNOWN)
    }
  })

  test('is worth nothing before the token was seen, nor when one bit of it is another', async () => {
    const guard = makeGuard()
    const token = await tokenOf()
    const refusal = await failureOf(() => guard.checkCarried(tokenReference(token), GATEWAY))
    expect(refusal).toMatchObject(UNKNOWN)
    expect(refusal.toWire()).toMatchObject({ prompt: 'token' })
    await checked(guard, token)
    for (let bit = 0; bit < 128; bit++) {
      const forged = tokenReference(token)
      forged.writeUInt8(forged.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
      expect(await failureOf(() => guard.checkCarried(forged, GATEWAY))).toMatchObject(UNKNOWN)
    }
    const reference = tokenReference(token)
    for (const wrong of [Buffer.alloc(0), reference.subarray(0, 15), Buffer.concat([reference, Buffer.alloc(1)]), token]) {
      expect(await failureOf(() => guard.checkCarried(wrong, GATEWAY))).toMatchObject(UNKNOWN)
    }
  })

  test('is worth nothing when the token could not be verified, or came on another subject', async () => {
    const guard = makeGuard()
    const forged = await tokenOf({}, caller)
    const stray = await tokenOf()
    await failureOf(() => guard.check(forged, SID))
    await failureOf(() => guard.check(stray, 'another-session'))
    for (const token of [forged, stray]) expect(await failureOf(() => guard.checkCarried(tokenReference(token), GATEWAY))).toMatchObject(UNKNOWN)
    expect(guard.carried).toBe(0)
  })

  test('gives the rights of its own session alone, as they are granted now', async () => {
    const guard = makeGuard()
    grants = parsePermissions(['newcomer', 'write 0xSW:0x002:>'])
    const token = await tokenOf({ perms: ['newcomer', 'write 0xSW:0x002:>'] })
    await checked(guard, token)
    const write = parseFqmn('0xSW:0x002:increment')
    const auth = guard.checkCarried(tokenReference(token), GATEWAY) as AuthContext
    expect(guard.authorise(auth, write)).toBe('0xSW:0x002:>')
    grants = NEWCOMER_READ_SET
    guard.grantsChanged()
    expect(guard.checkCarried(tokenReference(token), GATEWAY)).toBe(auth)
    expect(await failureOf(() => guard.authorise(auth, write))).toMatchObject({ code: 'CMESH_IAM_DENIED', status: 403 })
  })
})

describe('the reference of a token without a gateway', () => {
  test('is worth nothing in any frame but its own session\'s', async () => {
    const guard = makeGuard()
    const token = await lone()
    await checked(guard, token)
    for (const via of [GATEWAY, SID, '', 'undefined']) expect(await failureOf(() => guard.checkCarried(tokenReference(token), via))).toMatchObject(UNKNOWN)
    expect(guard.check(tokenReference(token), SID)).toBeInstanceOf(Object)
    expect(guard.carried).toBe(0)
  })
})

describe('a carried session that ends', () => {
  test.each([['sid', { sid: SID }], ['jti', { jti: 'token-one' }], ['sub', { sub: caller.did }]])('by a revocation of its %s is refused at once, in use or not', async (_, revocation) => {
    for (const used of [false, true]) {
      const guard = makeGuard()
      const token = await tokenOf()
      const auth = await checked(guard, token)
      if (used) expect(guard.checkCarried(tokenReference(token), GATEWAY)).toBe(auth)
      guard.revoke(revocation)
      for (let i = 0; i < 2; i++) {
        expect(await failureOf(() => guard.checkCarried(tokenReference(token), GATEWAY))).toMatchObject(noSession('the session was revoked'))
      }
    }
  })

  test('by the expiry of its token is refused at that moment, and not verified over and over', async () => {
    const guard = makeGuard()
    const token = await tokenOf({ exp: NOW / 1_000 + 30 })
    const auth = await checked(guard, token)
    clock.ms += 29_999
    expect(guard.checkCarried(tokenReference(token), GATEWAY)).toBe(auth)
    clock.ms += 1
    for (let i = 0; i < 20; i++) {
      expect(await failureOf(() => guard.checkCarried(tokenReference(token), GATEWAY))).toMatchObject(noSession('the token has expired'))
    }
    expect(verify).toHaveBeenCalledTimes(2)
  })

  test('is verified again after 60 s, once for all who ask meanwhile', async () => {
    const guard = makeGuard()
    const token = await tokenOf()
    const auth = await checked(guard, token)
    clock.ms += 59_999
    expect(guard.checkCarried(tokenReference(token), GATEWAY)).toBe(auth)
    clock.ms += 1
    const again = Array.from({ length: 10 }, () => guard.checkCarried(tokenReference(token), GATEWAY))
    expect(again.every(each => each instanceof Promise)).toBe(true)
    const [fresh] = await Promise.all(again.map(async each => each))
    expect(fresh).toMatchObject({ sub: caller.did, sid: SID })
    expect(guard.checkCarried(tokenReference(token), GATEWAY)).toBe(fresh)
    expect(verify).toHaveBeenCalledTimes(2)
  })

  test('by a revocation while it is verified again is refused', async () => {
    const guard = makeGuard()
    const token = await tokenOf()
    await checked(guard, token)
    clock.ms += 60_000
    const again = failureOf(() => guard.checkCarried(tokenReference(token), GATEWAY))
    guard.revoke({ sid: SID })
    expect(await again).toMatchObject(noSession('the session was revoked'))
  })

  test('by a change of the mesh key is forgotten', async () => {
    const guard = makeGuard()
    const token = await tokenOf()
    await checked(guard, token)
    guard.trust(KeyPair.generate().publicKey)
    expect(guard.carried).toBe(0)
    expect(await failureOf(() => guard.checkCarried(tokenReference(token), GATEWAY))).toMatchObject(UNKNOWN)
  })
})

describe('a refreshed token', () => {
  test('takes the place of the last one as soon as it was seen: one reference counts for a session', async () => {
    const guard = makeGuard()
    const [first, second] = [await tokenOf(), await tokenOf({ jti: 'token-two' })]
    await checked(guard, first)
    expect(await failureOf(() => guard.checkCarried(tokenReference(second), GATEWAY))).toMatchObject(UNKNOWN)
    const auth = await checked(guard, second)
    expect(guard.checkCarried(tokenReference(second), GATEWAY)).toBe(auth)
    expect(await failureOf(() => guard.checkCarried(tokenReference(first), GATEWAY))).toMatchObject(UNKNOWN)
    expect(guard.carried).toBe(1)
  })

  test('does not bring the last one back when it is verified again', async () => {
    const guard = makeGuard()
    const [first, second] = [await tokenOf(), await tokenOf({ jti: 'token-two' })]
    await checked(guard, first)
    await checked(guard, second)
    clock.ms += 60_000
    await guard.checkCarried(tokenReference(second), GATEWAY)
    expect(guard.check(tokenReference(second), SID)).toMatchObject({ jti: 'token-two' })
    expect(await failureOf(() => guard.checkCarried(tokenReference(first), GATEWAY))).toMatchObject(UNKNOWN)
  })

  test('of one session many times over pushes nobody else out', async () => {
    const guard = makeGuard({ maxSessions: 8 })
    const other = await tokenOf({ sid: 'another-session', jti: 'token-other' })
    await checked(guard, other, 'another-session')
    for (let i = 0; i < 20; i++) await checked(guard, await tokenOf({ jti: `token-no-${i}` }))
    expect(guard.checkCarried(tokenReference(other), GATEWAY)).toMatchObject({ sid: 'another-session' })
    expect(guard.carried).toBe(2)
  })
})

test('the carried sessions that are remembered are as many as sessions are, those last seen among them', async () => {
  const guard = makeGuard({ maxSessions: 4 })
  const tokens = await Promise.all(Array.from({ length: 40 }, (_, i) => tokenOf({ sid: `session-no-${i}`, jti: `token-no-${i}` })))
  for (const [i, token] of tokens.entries()) {
    await checked(guard, token, `session-no-${i}`)
    expect(guard.carried).toBeLessThanOrEqual(4)
  }
  expect(guard.checkCarried(tokenReference(tokens[39] as Buffer), GATEWAY)).toMatchObject({ sid: 'session-no-39' })
  expect(await failureOf(() => guard.checkCarried(tokenReference(tokens[0] as Buffer), GATEWAY))).toMatchObject(UNKNOWN)
})

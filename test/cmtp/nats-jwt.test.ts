import { createHash } from 'node:crypto'
import { createRequire } from 'node:module'
import { describe, expect, test } from '@jest/globals'
import { fromSeed } from '@nats-io/nkeys'
import fc from 'fast-check'
import {
  accountJwt, changedAccountJwt, decodeNatsJwt, GUEST_ACCOUNT, GUEST_KEY_SEED, guestJwt, natsAuthenticator, operatorJwt, scopedUserJwt, userJwt,
} from '../../cmtp/identity/nats-jwt.ts'
import { Nkey, nkeyText } from '../../cmtp/identity/nats-keys.ts'

const theirs = createRequire(import.meta.url)('@nats-io/jwt') as typeof import('@nats-io/jwt')

const NOW_S = 1_795_000_000
const operator = Nkey.generate('operator')
const account = Nkey.generate('account')
const user = Nkey.generate('user')
const refusal = (reason: string): unknown => expect.objectContaining({ code: 'CMESH_IAM_KEY', message: `The key is refused: ${reason}.` })

describe('the guests\' constants', () => {
  const sha256 = (text: string): Buffer => createHash('sha256').update(text).digest()

  test('are what everybody can derive', () => {
    expect(GUEST_ACCOUNT).toBe(nkeyText('account', sha256('CMesh guest account, version 1')))
    expect(GUEST_KEY_SEED).toBe(Nkey.fromBytes('account', sha256('CMesh guest signing key, version 1')).exportSeed())
  })

  test('make a login that carries no right of its own, for ten minutes', () => {
    expect(decodeNatsJwt(guestJwt(user, NOW_S))).toEqual({
      iat: NOW_S, exp: NOW_S + 600, jti: expect.any(String), name: 'guest', sub: user.text, iss: Nkey.fromSeed(GUEST_KEY_SEED).text,
      nats: { type: 'user', version: 2, issuer_account: GUEST_ACCOUNT },
    })
  })
})

describe('a JWT made here', () => {
  const made = {
    operator: operatorJwt(operator, { systemAccount: account.text, signing: account.text, nowS: NOW_S }),
    account: accountJwt(operator, { name: 'X', id: account.text, keys: [account.text] }, NOW_S),
    user: userJwt(account, { nkey: user.text, name: 'u', account: account.text, nowS: NOW_S, expiresS: NOW_S + 1, publish: ['a'], subscribe: ['b'] }),
    scoped: scopedUserJwt(account, { nkey: user.text, name: 'u', account: account.text, nowS: NOW_S }),
  }

  test.each(Object.entries(made))('for %s is read by the code of NATS as it is read here', (_, text) => {
    const claims = decodeNatsJwt(text)
    expect(theirs.decode(text)).toEqual(claims)
    expect(claims.iat).toBe(NOW_S)
  })

  test('leaves no limit out, which would be one of 0', () => {
    const limits = { subs: -1, data: -1, payload: -1 }
    expect(decodeNatsJwt(made.user).nats).toMatchObject({ ...limits, pub: { allow: ['a'] }, sub: { allow: ['b'] } })
    expect(decodeNatsJwt(made.account).nats['limits']).toEqual({
      ...limits, imports: -1, exports: -1, wildcards: true, conn: -1, leaf: 0, mem_storage: 0, disk_storage: 0, streams: 0, consumer: 0,
    })
  })

  test('in place of another is later than it, whatever the clock says, and keeps what it does not change', () => {
    const before = decodeNatsJwt(made.account)
    const after = decodeNatsJwt(changedAccountJwt(operator, before, { revocations: { [user.text]: 7 } }, NOW_S - 100))
    expect(after.iat).toBe(NOW_S + 1)
    expect(after.nats).toEqual({ ...before.nats, revocations: { [user.text]: 7 } })
    expect(decodeNatsJwt(changedAccountJwt(operator, before, { revocations: {} }, NOW_S + 50)).iat).toBe(NOW_S + 50)
  })
})

describe('a JWT made by the code of NATS', () => {
  const pair = (key: Nkey) => fromSeed(new TextEncoder().encode(key.exportSeed()))

  test('is read here', async () => {
    const texts = await Promise.all([
      theirs.encodeOperator('o', pair(operator)),
      theirs.encodeAccount('a', pair(account), {}, { signer: pair(operator) }),
      theirs.encodeUser('u', pair(user), pair(account), {}),
    ])
    expect(texts.map(text => decodeNatsJwt(text))).toEqual(texts.map(text => theirs.decode(text)))
  })
})

describe('a text that is no JWT of NATS', () => {
  const good = userJwt(account, { nkey: user.text, name: 'u', account: account.text, nowS: NOW_S })
  const [header, payload, signature] = good.split('.') as [string, string, string]
  const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')
  /** Signed by the account, whatever it says. */
  const signed = (value: unknown): string => {
    const text = `${header}.${encode(value)}`
    return `${text}.${account.sign(Buffer.from(text)).toString('base64url')}`
  }
  const claims = decodeNatsJwt(good)

  test.each([
    ['without a signature', `${header}.${payload}.`, 'its signature is wrong'],
    ['with two parts', `${header}.${payload}`, 'it is no JWT of NATS'],
    ['with alg none', `${encode({ typ: 'JWT', alg: 'none' })}.${payload}.${signature}`, 'it is no JWT of NATS'],
    ['with the algorithm of version 1', `${encode({ typ: 'JWT', alg: 'ed25519' })}.${payload}.${signature}`, 'it is no JWT of NATS'],
    ['with changed claims', `${header}.${encode({ ...claims, name: '>' })}.${signature}`, 'its signature is wrong'],
    ['by another than it says', signed({ ...claims, iss: Nkey.generate('account').text }), 'its signature is wrong'],
    ['by a user', signed({ ...claims, iss: user.text }), 'it is not the nkey of an account'],
    ['for an account, by an account', signed({ ...claims, nats: { type: 'account' }, sub: account.text }), 'it is not the nkey of an operator'],
    ['of no known type', signed({ ...claims, nats: { type: 'activation' } }), 'it is of no type that is known'],
    ['for no nkey', signed({ ...claims, sub: 'U' }), 'an nkey has 56 characters'],
    ['with a time that is none', signed({ ...claims, exp: '1' }), 'its times are no whole seconds'],
    ['without a name', signed({ ...claims, name: undefined }), 'iss, sub or name is missing'],
    ['without claims', signed([]), 'its claims are no object'],
    ['with claims that are not JSON', `${header}.e30x.${signature}`, 'its claims are not JSON'],
  ])('because it is %s is refused', (_, text, reason) => {
    expect(() => decodeNatsJwt(text)).toThrow(refusal(reason))
  })

  test('whatever it is has that one code', () => {
    const parts = fc.array(fc.oneof(fc.string(), fc.constantFrom(header, payload, signature), fc.json().map(text => Buffer.from(text).toString('base64url'))), { maxLength: 4 })
    fc.assert(fc.property(parts.map(list => list.join('.')).filter(text => text !== good), text => {
      expect(() => decodeNatsJwt(text)).toThrow(expect.objectContaining({ code: 'CMESH_IAM_KEY' }))
    }))
  })
})

describe('what logs in with them', () => {
  test('signs the nonce\'s text, asks for the JWT each time, and signs nothing where there is no nonce', () => {
    let turn = 0
    const login = natsAuthenticator(user, () => `jwt ${++turn}`)
    const { jwt, sig = '' } = login('a nonce')
    expect(jwt).toBe('jwt 1')
    expect(user.publicKey.verify(Buffer.from('a nonce'), Buffer.from(sig, 'base64url'))).toBe(true)
    expect([login(), login('')]).toEqual([{ jwt: 'jwt 2' }, { jwt: 'jwt 3' }])
  })
})

import { createHmac } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import { base58 } from '@scure/base'
import fc from 'fast-check'
import type { CMeshError } from '../../cmtp/errors.ts'
import { issueCredentials, openCredential, presentCredential, SeenPresentations, verifyPresentation, type PresentationCheck } from '../../cmtp/identity/credential.ts'
import { readCredentialText } from '../../cmtp/identity/credential-text.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { bind, credential, digestOf, disclosure, encode, jwt, NOW_S, VCT } from '../support/credentials.ts'
import { failureOf } from '../support/iam.ts'
import { attempt } from '../support/refusal.ts'
import { readVectors } from '../support/vectors.ts'

const refusedKeys = readVectors<{ smallOrder: string[] }>('identity/refused-keys.json')

const issuer = KeyPair.generate()
const holder = KeyPair.generate()
const audience = KeyPair.generate().did
const nonce = 'the transcript of a handshake'
const to = { audience, nonce, nowS: NOW_S }

/** A check by a mesh that trusts the issuer and has seen nothing. */
const check = (fields: Partial<PresentationCheck> = {}): PresentationCheck => (
  { ...to, trusted: new Set([issuer.did]), seen: new SeenPresentations(), ...fields })
const made = (fields: Partial<Parameters<typeof credential>[0]> = {}): string => credential({ issuer, holder: holder.publicKey, ...fields })
const shown = (text = made(), fields: Partial<Parameters<typeof bind>[1]> = {}): string => bind(text, { holder, audience, nonce, ...fields })
const verify = (text: unknown, fields?: Partial<PresentationCheck>): Promise<CMeshError> => failureOf(() => verifyPresentation(text, check(fields)))
const refused = (reason: string): object => ({ code: 'CMESH_IAM_CREDENTIAL', status: 401, message: `The credential is refused: ${reason}.` })

const issue = async (fields: Partial<Parameters<typeof issueCredentials>[0]> = {}): Promise<string> => (await issueCredentials({
  issuer, vct: VCT, claims: { over_18: true, name: 'Ada', year: 1815 }, holders: [holder.publicKey], lifeS: 3_600, nowS: NOW_S, ...fields,
}))[0] as string

describe('a credential', () => {
  test('shows what its holder chose, by whom it was said, and nothing else', async () => {
    const presentation = await presentCredential(await issue(), ['over_18'], { ...to, holder })
    const { attributes, ...rest } = await verifyPresentation(presentation, check())
    expect(attributes).toEqual([{ id: `${VCT}#over_18`, value: 'true', issuer: issuer.did }])
    expect(rest).toMatchObject({ vct: VCT, issuer: issuer.did, issued: NOW_S, expires: NOW_S + 3_600 })
    expect(presentation.split('~')).toHaveLength(3)
    const everything = presentation.split(/[~.]/).map(part => Buffer.from(part, 'base64url').toString('latin1')).join()
    expect(everything).not.toMatch(/Ada|1815/)
  })

  test('has values that are text, whole numbers or truth values', async () => {
    const presentation = await presentCredential(await issue(), ['name', 'year', 'over_18'], { ...to, holder })
    const { attributes } = await verifyPresentation(presentation, check())
    expect(attributes.map(({ id, value }) => [id, value]).sort()).toEqual([[`${VCT}#name`, 'Ada'], [`${VCT}#over_18`, 'true'], [`${VCT}#year`, '1815']])
  })

  test('comes in batches of one a key, of which no two share a digest, a salt or a signature', async () => {
    const holders = Array.from({ length: 5 }, () => KeyPair.generate())
    const batch = await issueCredentials({
      issuer, vct: VCT, claims: { over_18: true }, holders: holders.map(({ publicKey }) => publicKey), lifeS: 60, nowS: NOW_S,
    })
    expect(batch).toHaveLength(5)
    const opened = await Promise.all(batch.map(text => openCredential(text)))
    expect(opened.map(each => each.holder.did)).toEqual(holders.map(({ did }) => did))
    for (const part of [0, 1]) expect(new Set(batch.map(text => text.split('~')[part])).size).toBe(5)
    const salts = batch.map(text => (JSON.parse(Buffer.from(text.split('~')[1] as string, 'base64url').toString()) as string[])[0] as string)
    for (const salt of salts) expect(Buffer.from(salt, 'base64url')).toHaveLength(16)
    expect(new Set(batch.map(text => digestOf(text.split('~')[1] as string))).size).toBe(5)
  })

  test.each([
    [{ vct: '' }, 'its type (vct) is not valid'],
    [{ vct: 'a#b' }, 'its type (vct) is not valid'],
    [{ vct: 'a=b' }, 'its type (vct) is not valid'],
    [{ claims: {} }, 'a credential has 1 to 32 claims'],
    [{ claims: Object.fromEntries(Array.from({ length: 33 }, (_, i) => [`c${i}`, i])) }, 'a credential has 1 to 32 claims'],
    [{ claims: { name: 'x'.repeat(1_025) } }, 'a claim has a value that is no text, whole number or truth value'],
    [{ claims: { half: 0.5 } }, 'a claim has a value that is no text, whole number or truth value'],
    [{ lifeS: 0 }, 'its life is at least a second'],
    ...['iss', 'sub', 'exp', 'cnf', 'vct', 'status', '_sd', '...', 'a#b', 'a=b', 'a@b', '', 'constructor', '__proto__'].map(
      name => [{ claims: { [name]: 'x' } }, 'a claim has a name that is reserved or not valid'] as const,
    ),
  ])('is not issued with %j', async (fields, reason) => {
    expect(await failureOf(() => issue(fields))).toMatchObject(refused(reason))
  })

  test('is opened by its issuer\'s signature alone', async () => {
    const [head = '', ...rest] = (await issue()).split('~')
    const other = [...head.split('.').slice(0, 2), KeyPair.generate().sign(Buffer.from(head)).toString('base64url')].join('.')
    expect(await failureOf(() => openCredential([other, ...rest].join('~')))).toMatchObject(refused('its signature does not hold'))
    expect(await failureOf(() => openCredential(shown()))).toMatchObject(refused('it is a presentation already'))
  })

  test('is presented by who holds it, and with claims it has', async () => {
    const text = await issue()
    expect(await failureOf(() => presentCredential(text, ['over_18'], { ...to, holder: KeyPair.generate() }))).toMatchObject(refused('it is bound to another key'))
    for (const names of [[], ['over_21'], ['over_18', 'over_21']]) {
      expect(await failureOf(() => presentCredential(text, names, { ...to, holder }))).toMatchObject(refused('it does not have the claims asked for'))
    }
  })
})

describe('a presentation made by hand', () => {
  test('is taken when nothing is wrong with it, also with digests of what is withheld', async () => {
    const withheld = digestOf(disclosure('name', 'Ada'))
    const own = disclosure('over_18', true)
    const { attributes } = await verifyPresentation(shown(made({ disclosures: [own], digests: [withheld, digestOf(own)] })), check())
    expect(attributes).toEqual([{ id: `${VCT}#over_18`, value: 'true', issuer: issuer.did }])
  })

  test.each([
    ['for another audience', shown(undefined, { audience: KeyPair.generate().did }), 'its key binding is for another audience'],
    ['for another challenge', shown(undefined, { nonce: 'another' }), 'its key binding answers another challenge'],
    ['an hour old', shown(undefined, { payload: { iat: NOW_S - 3_600 } }), 'its key binding is too old'],
    ['61 s old', shown(undefined, { payload: { iat: NOW_S - 61 } }), 'its key binding is too old'],
    ['6 s in the future', shown(undefined, { payload: { iat: NOW_S + 6 } }), 'its key binding lies in the future'],
    ['without its key binding', made(), 'its key binding is missing'],
    ['with nothing disclosed', shown(made({ disclosures: [], digests: [digestOf('x')] })), 'it discloses nothing'],
    ['with a disclosure nobody signed', shown(made({ digests: [] })), 'it discloses what its issuer did not sign'],
    ['with a disclosure beside those signed', shown(`${made()}${disclosure('admin', true)}~`), 'it discloses what its issuer did not sign'],
    ['with a disclosure twice', shown(`${made()}${disclosure('over_18', true)}~`), 'it discloses a claim twice'],
    ['with one claim under two salts', shown(made({ disclosures: [disclosure('over_18', true), disclosure('over_18', false, 'other')] })), 'it discloses a claim twice'],
    ['with a digest twice', shown(made({ digests: [digestOf(disclosure('over_18', true)), digestOf(disclosure('over_18', true))] })), 'a digest stands in it twice'],
    ['expired', shown(made({ payload: { iat: NOW_S - 100, exp: NOW_S } })), 'it has expired'],
    ['of the future', shown(made({ payload: { iat: NOW_S + 6 } })), 'it is not valid yet'],
    ['without expiry', shown(made({ payload: { exp: undefined } })), 'it has no expiry'],
    ['that ends before it begins', shown(made({ payload: { exp: NOW_S - 1 } })), 'its times are not valid'],
    ['with a time that is text', shown(made({ payload: { exp: String(NOW_S + 9) } })), 'its times are not valid'],
    ['without cnf', shown(made({ payload: { cnf: undefined } })), 'it is bound to no key (cnf)'],
    ['with a cnf of more', shown(made({ payload: { cnf: { jwk: holder.publicKey.jwk, kid: 'x' } } })), 'its cnf has a member that is not known'],
    ['with a private key in cnf', shown(made({ payload: { cnf: { jwk: { ...holder.publicKey.jwk, d: 'x' } } } })), 'its key has a member that is not known'],
    ['bound to another curve', shown(made({ payload: { cnf: { jwk: { ...holder.publicKey.jwk, crv: 'X25519' } } } })), 'the key it is bound to is no sound Ed25519 key'],
    ['by an issuer that is no did:key', shown(made({ payload: { iss: 'https://example.org' } })), 'its issuer is no did:key'],
    ['with a status list to fetch', shown(made({ payload: { status: { status_list: { uri: 'http://127.0.0.1:1/', idx: 0 } } } })), 'its payload has a member that is not known'],
    ['with a claim that cannot be withheld', shown(made({ payload: { admin: true } })), 'its payload has a member that is not known'],
    ['with a type that is not valid', shown(made({ payload: { vct: 'a#b' } })), 'its type (vct) is not valid'],
    ['with other digests', shown(made({ payload: { _sd_alg: 'sha-1' } })), 'its digests are not sha-256'],
    ['with digests that are none', shown(made({ payload: { _sd: ['x'] } })), 'its list of digests is not valid'],
    ['of another typ', shown(made({ header: { typ: 'vc+sd-jwt' } })), 'its typ is not dc+sd-jwt'],
    ['that is a session token by typ', shown(made({ header: { typ: 'cmesh-at+jwt' } })), 'its typ is not dc+sd-jwt'],
    ['with alg none', shown(made({ header: { alg: 'none' } })), 'its algorithm is not EdDSA'],
    ['with alg ES256', shown(made({ header: { alg: 'ES256' } })), 'its algorithm is not EdDSA'],
    ['with crit', shown(made({ header: { crit: ['exp'] } })), 'its header has a member that is not known'],
    ['with a key in its header', shown(made({ header: { jwk: issuer.publicKey.jwk } })), 'its header has a member that is not known'],
    ['with a binding of another typ', shown(undefined, { header: { typ: 'JWT' } }), 'its typ is not kb+jwt'],
    ['with a binding of alg none', shown(undefined, { header: { alg: 'none' } }), 'its algorithm is not EdDSA'],
    ['with a binding that says more', shown(undefined, { payload: { scope: 'x' } }), 'its key binding has a member that is not known'],
    ['with a binding that says less', shown(undefined, { payload: { sd_hash: undefined } }), 'its key binding is not valid'],
    ['with a binding over other disclosures', shown(undefined, { payload: { sd_hash: digestOf('other') } }), 'its signatures do not hold'],
    ['with a binding by another key', shown(undefined, { holder: KeyPair.generate() }), 'its signatures do not hold'],
    ...['iss', 'exp', 'cnf', 'status', '_sd', '...', '__proto__', 'constructor', 'a b', ''].map(
      name => [`that discloses ${name}`, shown(made({ disclosures: [disclosure(name, 'x')] })), 'it discloses a claim whose name is reserved or not valid'] as const,
    ),
    ...[null, 0.5, ['x'], { _sd: [] }].map(
      value => [`that discloses ${JSON.stringify(value)}`, shown(made({ disclosures: [disclosure('x', value)] })), 'it discloses a value that is no text, whole number or truth value'] as const,
    ),
    ['that discloses an array element', shown(made({ disclosures: [encode(['salt', 'value'])] })), 'a disclosure is not salt, name and value'],
    ['that is too long', 'x'.repeat(8_193), 'it is text of 1 to 8192 characters'],
    ['that is no text', { text: 'x' }, 'it is text of 1 to 8192 characters'],
    ['that is a plain JWT', made().split('~')[0], 'it is no SD-JWT'],
  ])('%s is refused', async (_, text, reason) => {
    expect(await verify(text)).toMatchObject(refused(reason))
  })

  test('is refused when it was changed after the issuer signed it', async () => {
    const [head = '', ...rest] = made().split('~')
    const [header, , signature] = head.split('.')
    const payload = { ...JSON.parse(Buffer.from(head.split('.')[1] as string, 'base64url').toString()) as object, exp: NOW_S + 9_999 }
    const forged = [[header, encode(payload), signature].join('.'), ...rest].join('~')
    expect(await verify(shown(forged))).toMatchObject(refused('its signatures do not hold'))
  })

  test('is refused when it is signed by HMAC with the public key', async () => {
    const text = `${encode({ alg: 'HS256', typ: 'dc+sd-jwt' })}.${made().split('.')[1] as string}`
    const forged = `${text}.${createHmac('sha512', issuer.publicKey.toBytes()).update(text).digest().toString('base64url')}~${disclosure('over_18', true)}~`
    expect(await verify(shown(forged))).toMatchObject(refused('its algorithm is not EdDSA'))
  })

  test('is refused by who does not trust its issuer, and by who trusts nobody', async () => {
    for (const trusted of [new Set([KeyPair.generate().did]), new Set<string>()]) {
      expect(await verify(shown(), { trusted })).toMatchObject(refused('its issuer is not one that this mesh trusts'))
    }
  })

  test.each(refusedKeys.smallOrder)('is refused for the small-order key %s, as issuer and as holder', async hex => {
    const bytes = Buffer.from(hex, 'hex')
    const did = `did:key:z${base58.encode(Buffer.concat([Buffer.from([0xed, 0x01]), bytes]))}`
    expect(await verify(shown(made({ payload: { iss: did } })), { trusted: new Set([did]) })).toMatchObject(refused('its issuer is no did:key'))
    expect(await verify(shown(made({ payload: { cnf: { jwk: { kty: 'OKP', crv: 'Ed25519', x: bytes.toString('base64url') } } } }))))
      .toMatchObject(refused('the key it is bound to is no sound Ed25519 key'))
  })

  test('counts once: a replay is refused, and a forgery does not use it up', async () => {
    const seen = new SeenPresentations()
    const text = shown()
    const forged = `${text.slice(0, text.lastIndexOf('.'))}.${KeyPair.generate().sign(Buffer.from('x')).toString('base64url')}`
    expect(await verify(forged, { seen })).toMatchObject(refused('its signatures do not hold'))
    await expect(verifyPresentation(text, check({ seen }))).resolves.toMatchObject({ vct: VCT })
    expect(await verify(text, { seen })).toMatchObject(refused('it was presented before'))
    expect(await verify(text, { seen, nowS: NOW_S + 60 })).toMatchObject(refused('it was presented before'))
    expect(seen.size).toBe(1)
    expect(await verify(text, { seen, nowS: NOW_S + 61 })).toMatchObject(refused('its key binding is too old'))
  })

  test('is remembered no longer than it could count', () => {
    const seen = new SeenPresentations()
    expect(seen.add('a', NOW_S)).toBe(true)
    expect(seen.add('a', NOW_S + 65)).toBe(false)
    expect(seen.add('b', NOW_S + 200)).toBe(true)
    expect(seen.size).toBe(1)
  })

  test('has one spelling: another one of any part is refused', async () => {
    const text = shown()
    for (const [index, part] of text.split(/[~.]/).entries()) {
      const parts = text.split(/([~.])/)
      parts[index * 2] = `${part}=`
      expect(await verify(parts.join(''))).toMatchObject(refused('a part is not base64url'))
    }
    // 64 bytes leave four bits of the last character to say nothing.
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_'
    const respelled = text.slice(0, -1) + alphabet[alphabet.indexOf(text.at(-1)) + 1]
    expect(Buffer.from(respelled.slice(-86), 'base64url').equals(Buffer.from(text.slice(-86), 'base64url'))).toBe(true)
    expect(await verify(respelled)).toMatchObject(refused('a part is not base64url'))
  })
})

describe('any text', () => {
  const text = shown()
  const edited = fc.tuple(fc.nat(text.length), fc.nat(3), fc.string({ maxLength: 3 })).map(([at, cut, put]) => text.slice(0, at) + put + text.slice(at + cut))
  const remade = fc.tuple(fc.jsonValue(), fc.jsonValue()).map(([header, payload]) => `${jwt(header, payload, issuer)}~`)

  test('reads as a credential or is refused with the one code', () => {
    fc.assert(fc.property(fc.oneof(fc.string(), edited, remade), each => {
      const { refusal } = attempt(() => readCredentialText(each))
      if (refusal !== undefined) expect(refusal.code).toBe('CMESH_IAM_CREDENTIAL')
    }), { numRuns: 1_000 })
  })

  test('counts as a presentation only when it is the one that was signed', async () => {
    await fc.assert(fc.asyncProperty(edited, async each => {
      fc.pre(each !== text)
      expect((await verify(each)).code).toBe('CMESH_IAM_CREDENTIAL')
    }), { numRuns: 300 })
  })
})

import { generateKeyPairSync } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import { checkPairedProof, makePairedProof, type PairedProof, type PersonChallenge } from '../../cmtp/identity/paired-proof.ts'
import { checkDisclosed, parseCondiscon } from '../../providers/iam/condiscon.ts'
import { EventStreamReader } from '../../providers/iam/event-stream.ts'
import { readIrmaSettings, type IrmaSettings } from '../../providers/iam/irma-settings.ts'
import { IrmaIdentityProvider } from '../../providers/iam/irma.ts'
import type { IdentityContext, VerifiedIdentity } from '../../services/iam/provider.ts'
import { until } from '../client/support/until.ts'
import { anyContext } from '../conformance/iam.ts'
import { failureOf, startIam, type IamFixture } from '../support/iam.ts'
import { refusal } from '../support/refusal.ts'
import { BORN, EMAIL, NAME, StandInIrma, type Mischief } from '../support/stand-in-irma.ts'

let server: StandInIrma
const providers: IrmaIdentityProvider[] = []
beforeEach(async () => { server = await StandInIrma.start() })
afterEach(async () => {
  await Promise.all(providers.splice(0).map(provider => provider.stop()))
  await server.stop()
})

async function provide(settings: Partial<IrmaSettings> = {}, now?: () => number): Promise<IrmaIdentityProvider> {
  const provider = new IrmaIdentityProvider(readIrmaSettings({ ...server.settings, ...settings }), now)
  providers.push(provider)
  await provider.start()
  return provider
}

/** One handshake, up to the proof of somebody who scanned and typed the code. */
async function scanned(provider: IrmaIdentityProvider, identity = KeyPair.generate()): Promise<{ context: IdentityContext, proof: PairedProof }> {
  const context = anyContext()
  const { ui } = await provider.begin(context)
  return { context, proof: makePairedProof(context, identity, server.scan(ui?.value ?? '')) }
}

async function prove(provider: IrmaIdentityProvider, identity?: KeyPair): Promise<VerifiedIdentity> {
  const { context, proof } = await scanned(provider, identity)
  return await provider.verify(context, proof)
}

const handshake = (reason: string): object => ({ code: 'CMESH_IAM_HANDSHAKE', detail: { step: 'confirm', reason } })
const upstream = (reason: string): object => ({ code: 'CMESH_IAM_UPSTREAM', detail: { server: 'IRMA server', reason } })
const forged = { code: 'CMESH_IAM_FORGED', detail: { what: 'result of the IRMA server' } }

describe('the irma provider', () => {
  test('gives the DID that signed, with what the person disclosed', async () => {
    const identity = KeyPair.generate()
    await expect(prove(await provide(), identity)).resolves.toMatchObject({
      sub: identity.did, aal: 2, amr: ['swk', 'user'],
      attributes: [
        { id: EMAIL, value: 'ada@example.com', issuer: 'irma:pbdf.sidn-pbdf' },
        { id: NAME, value: 'Ada Lovelace', issuer: 'irma:pbdf.gemeente' },
        { id: BORN, value: '10-12-1815', issuer: 'irma:pbdf.gemeente' },
      ],
    })
    expect(server.open).toBe(0)
  })

  test('shows the app\'s own link, which names the session and no token of the requestor\'s', async () => {
    const { ui } = await (await provide()).begin(anyContext())
    expect(ui?.kind).toBe('qr')
    const [, encoded = ''] = /^https:\/\/open\.yivi\.app\/-\/session#(.+)$/.exec(ui?.value ?? '') ?? []
    expect(JSON.parse(decodeURIComponent(encoded))).toEqual({ u: expect.stringMatching(`^${server.url}/irma/session/[0-9a-f]{20}$`), irmaqr: 'disclosing' })
  })

  test('signs its requests with an RSA key as well', async () => {
    const { publicKey, privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
    server.requestorKey = publicKey
    const key = (privateKey.export({ type: 'pkcs8', format: 'pem' }) as string).replaceAll('\n', '\\n')
    await expect(prove(await provide({ key }))).resolves.toMatchObject({ aal: 2 })
  })

  test('goes on at a server that lives under a path', async () => {
    const provider = await provide({ url: `${server.url}/api/` })
    expect(await failureOf(() => provider.begin(anyContext()))).toMatchObject(upstream('POST /session was answered 400'))
    expect(server.requests).toEqual(['POST /api/session'])
  })

  test('takes the absence of what may be left out', async () => {
    // The stand-in's app takes the first alternative.
    const provider = await provide({ disclose: JSON.stringify([[[]], [[EMAIL]]]) })
    await expect(prove(provider)).resolves.toMatchObject({ aal: 2, attributes: [{ id: EMAIL }] })
  })
})

describe('an IRMA server that misbehaves is refused:', () => {
  const cases: readonly (readonly [Mischief, object])[] = [
    ['result of another session', handshake('the result belongs to another session')],
    ['result unsigned', forged],
    ['result by another key', forged],
    ['result by HS256 with the public key', forged],
    ['result by PS256', forged],
    ['result too old', handshake('the result is too old, or of something else than a disclosure')],
    ['result of an issuance', handshake('the result is too old, or of something else than a disclosure')],
    ['proof invalid', handshake('what was disclosed is not proven')],
    ['attribute missing', handshake('what was disclosed is not what was asked for')],
    ['attribute null', handshake('an attribute is missing or was not asked for')],
    ['attribute extra', handshake('more was disclosed than was asked for')],
    ['conjunctions mixed', handshake('what was disclosed is not what was asked for')],
    ['two cards mixed', handshake('attributes of one credential come from two')],
    ['oversized', upstream('GET /session/{token}/result-jwt was answered more than 65536 bytes')],
    ['stream oversized', upstream('GET /session/{token}/statusevents was answered more than 65536 bytes')],
    ['stream ends early', upstream('its status stream ended before the session did')],
  ]
  test.each(cases)('%s', async (mischief, refused) => {
    const provider = await provide()
    const { context, proof } = await scanned(provider)
    server.mischief = mischief
    expect(await failureOf(() => provider.verify(context, proof))).toMatchObject(refused)
    server.mischief = undefined
    // The same proof is good for nothing afterwards.
    expect(await failureOf(() => provider.verify(context, proof))).toMatchObject(handshake('nothing was asked of the IRMA server for it'))
  })

  test('silent until the time is up, and the session is ended', async () => {
    const provider = await provide({ timeoutMs: 1_000 })
    server.mischief = 'silent'
    server.person = 'waits'
    expect(await failureOf(() => prove(provider))).toMatchObject(handshake('nothing was disclosed in time'))
    await until('the session is ended', () => server.open === 0)
  })

  test.each([
    ['refuses to start', upstream('POST /session was answered 400')],
    ['redirects', upstream('POST /session was answered 307')],
    ['not JSON', upstream('POST /session was answered in another shape than documented')],
    ['app sent elsewhere', upstream('it sends the app to another origin')],
    ['no pairing', upstream('it does not support pairing')],
  ] as const)('%s, before anything is shown', async (mischief, refused) => {
    server.mischief = mischief
    const provider = await provide()
    expect(await failureOf(() => provider.begin(anyContext()))).toMatchObject(refused)
    expect(server.requests).not.toContain('POST /elsewhere')
  })

  test('gone', async () => {
    const provider = await provide()
    await server.stop()
    expect(await failureOf(() => provider.begin(anyContext()))).toMatchObject(upstream('POST /session got no answer'))
    server = await StandInIrma.start()
  })

  test('disclosing another value than the one that was asked for', async () => {
    const provider = await provide({ disclose: JSON.stringify([[[{ type: EMAIL, value: 'ada@example.com' }]]]) })
    await expect(prove(provider)).resolves.toMatchObject({ aal: 2 })
    server.mischief = 'other value'
    expect(await failureOf(() => prove(provider))).toMatchObject(handshake('what was disclosed is not what was asked for'))
  })
})

describe('who proves by irma', () => {
  test('must type the code that the app shows, and has one try', async () => {
    const provider = await provide()
    const { context, proof } = await scanned(provider)
    const wrong = { ...proof, pairing: proof.pairing === '0000' ? '0001' : '0000' }
    expect(await failureOf(() => provider.verify(context, wrong))).toMatchObject(handshake('the pairing code is not the one that the app shows'))
    expect(server.requests.filter(request => request.endsWith('pairingcompleted'))).toEqual([])
    expect(await failureOf(() => provider.verify(context, proof))).toMatchObject(handshake('nothing was asked of the IRMA server for it'))
    await until('the session is ended', () => server.open === 0)
  })

  test('must have scanned first: a guessed code tells nothing', async () => {
    const provider = await provide()
    const context = anyContext()
    await provider.begin(context)
    const proof = makePairedProof(context, KeyPair.generate(), '1234')
    expect(await failureOf(() => provider.verify(context, proof))).toMatchObject(handshake('no app is waiting for its pairing code'))
  })

  test('must sign: what a person disclosed to one DID is nothing to another', async () => {
    const provider = await provide()
    const { context, proof } = await scanned(provider)
    const thief = { ...proof, did: KeyPair.generate().did }
    expect(await failureOf(() => provider.verify(context, thief))).toMatchObject({ code: 'CMESH_IAM_FORGED', detail: { what: 'proof' } })
    expect(server.requests.filter(request => request.startsWith('GET '))).toEqual([])
  })

  test('may decline in the app', async () => {
    server.person = 'declines'
    expect(await failureOf(async () => prove(await provide()))).toMatchObject(handshake('the person declined, or the app could not do it'))
  })

  test('leaves nothing behind by a cancelled handshake', async () => {
    const provider = await provide()
    const context = anyContext()
    await provider.begin(context)
    expect(server.open).toBe(1)
    await provider.cancel(context)
    expect(server.open).toBe(0)
    expect(server.requests.at(-1)).toMatch(/^DELETE \/session\/[0-9a-f]{20}$/)
  })

  test('is told that the node stops, at once, and the server is', async () => {
    const provider = await provide()
    server.person = 'waits'
    const { context, proof } = await scanned(provider)
    await provider.begin(anyContext())
    const failing = failureOf(() => provider.verify(context, proof))
    await until('the pairing is completed', () => server.requests.some(request => request.endsWith('pairingcompleted')))
    await provider.stop()
    expect((await failing).code).toBe('CMESH_ROUTER_DRAINING')
    expect(server.open).toBe(0)
  })
})

describe('a handshake with a person in it', () => {
  /** A mesh that answers as `irma` does, without a server. */
  async function mesh(sub?: string): Promise<IamFixture> {
    const provider = {
      name: 'irma', patienceMs: 90_000, start: async () => undefined, cancel: async () => undefined, stop: async () => undefined,
      begin: async ({ transcript }: IdentityContext) => ({ challenge: transcript, ui: { kind: 'qr' as const, value: 'https://irma.example' } }),
      verify: async (context: IdentityContext, proof: unknown) => {
        const { did, pairing } = checkPairedProof(context, proof)
        expect(pairing).toBe('1234')
        return { sub: sub ?? did, attributes: [], amr: [], aal: 2 as const, evidenceHash: '' }
      },
    }
    return await startIam({ provider })
  }

  test('lives so much longer as a person may take, and only its confirm may wait', async () => {
    const { iam, clock, open } = await mesh()
    const waits: [string, number | undefined][] = []
    const expires = clock.ms + 150_000
    const challenges: PersonChallenge[] = []
    await open({
      send: (action, body, _, until) => { waits.push([action, until]); return iam.handle(action, body) },
      onChallenge: challenge => { challenges.push(challenge); return '1234' },
    })
    expect(waits).toEqual([['call', undefined], ['confirm', expires], ['consent', undefined]])
    expect(challenges).toMatchObject([{ provider: 'irma', kind: 'qr', value: 'https://irma.example', expires }])
    await iam.stop()
  })

  test('gives no session in somebody else\'s name: the client refuses such a grant', async () => {
    const { iam, open } = await mesh(KeyPair.generate().did)
    expect(await failureOf(() => open({ onChallenge: () => '1234' }))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE', detail: { step: 'grant' } })
    await iam.stop()
  })

  test('fails with what the person\'s side fails with', async () => {
    const { iam, open } = await mesh()
    await expect(open({ onChallenge: () => { throw new Error('nobody is here') } })).rejects.toThrow('nobody is here')
    await iam.stop()
  })
})

describe('the settings of irma', () => {
  test.each(['url', 'requestor', 'key', 'serverKey', 'disclose'] as const)('%s must be given', name => {
    expect(refusal(() => readIrmaSettings({ ...server.settings, [name]: undefined }))).toMatchObject({
      code: 'CMESH_CONFIG_INVALID', detail: { key: `iam.irma.${name}`, reason: 'the identity provider irma needs it' },
    })
  })

  test('the server is reached by https, or on this machine', () => {
    for (const url of ['https://irma.example', 'https://irma.example:8443/api', 'http://localhost:8088', 'http://127.0.0.1:8088', 'http://[::1]:8088']) {
      expect(readIrmaSettings({ ...server.settings, url }).url.href).toContain(url)
    }
    for (const url of ['http://irma.example', 'http://127.0.0.1.example', 'ftp://localhost', 'irma.example', 'https://me@irma.example', 'https://irma.example/?a', 'https://irma.example/#a']) {
      expect(refusal(() => readIrmaSettings({ ...server.settings, url }))).toMatchObject({ code: 'CMESH_CONFIG_INVALID', detail: { key: 'iam.irma.url' } })
    }
  })

  test('a key that is none or too short is refused, and not repeated', () => {
    const short = generateKeyPairSync('rsa', { modulusLength: 1_024 }).privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
    const ed = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
    for (const key of [Buffer.alloc(31, 7).toString('base64'), 'not base64!', '-----BEGIN PRIVATE KEY-----\nsecret\n-----END PRIVATE KEY-----', short, ed]) {
      const failure = refusal(() => readIrmaSettings({ ...server.settings, key }))
      expect(failure).toMatchObject({ code: 'CMESH_CONFIG_INVALID', detail: { key: 'iam.irma.key' } })
      expect(JSON.stringify([failure.message, failure.detail])).not.toContain(key.slice(-20))
    }
  })

  test('a private key is no server key', () => {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2_048 })
    const serverKey = privateKey.export({ type: 'pkcs8', format: 'pem' }) as string
    expect(refusal(() => readIrmaSettings({ ...server.settings, serverKey })).detail['reason']).toContain('private')
  })

  test('a condiscon has its three levels and asks for something', () => {
    expect(parseCondiscon(`[[["${EMAIL}"],[]],[[{"type":"${NAME}","value":"Ada","notNull":true}]]]`))
      .toEqual([[[{ type: EMAIL }], []], [[{ type: NAME, value: 'Ada', notNull: true }]]])
    for (const text of ['', '{}', '[]', '[[]]', '[[[]]]', `["${EMAIL}"]`, `[["${EMAIL}"]]`, '[[["email"]]]', '[[["a.b.c d"]]]', `[[[{"type":"${EMAIL}","values":1}]]]`, '[[[null]]]', '[[[1]]]']) {
      expect(refusal(() => parseCondiscon(text))).toMatchObject({ code: 'CMESH_CONFIG_INVALID' })
    }
  })
})

describe('what was disclosed', () => {
  const condiscon = parseCondiscon(JSON.stringify([[[EMAIL], []], [[NAME, BORN], ['pbdf.nijmegen.personalData']]]))
  const card = (id: string, rawvalue = 'x'): object => ({ id, rawvalue, status: 'PRESENT', issuancetime: 1 })

  test.each([
    ['the first alternatives', [[card(EMAIL)], [card(NAME), card(BORN)]], 3],
    ['the optional one left out, as Go writes it', [null, [card(NAME), card(BORN)]], 2],
    ['the bare holding of a credential', [[], [card('pbdf.nijmegen.personalData', 'present')]], 1],
  ])('fits: %s', (_, disclosed, count) => {
    expect(checkDisclosed(condiscon, disclosed)).toHaveLength(count)
  })

  test.each([
    ['half a conjunction', [[card(EMAIL)], [card(NAME)]]],
    ['a conjunction and a half', [[card(EMAIL)], [card(NAME), card(BORN), card('pbdf.nijmegen.personalData')]]],
    ['halves of two', [[card(EMAIL)], [card(NAME), card('pbdf.nijmegen.personalData')]]],
    ['another attribute of the same credential', [[card(EMAIL)], [card(NAME), card('pbdf.gemeente.personalData.gender')]]],
    ['one set for two', [[card(EMAIL), card(NAME), card(BORN)]]],
    ['one that the server says was not asked for', [[{ ...card(EMAIL), status: 'EXTRA' }], [card(NAME), card(BORN)]]],
  ])('does not fit: %s', (_, disclosed) => {
    expect(refusal(() => checkDisclosed(condiscon, disclosed))).toMatchObject({ code: 'CMESH_IAM_HANDSHAKE' })
  })

  test('any JSON fits or is refused', () => {
    fc.assert(fc.property(fc.jsonValue(), disclosed => {
      expect(refusal(() => checkDisclosed(condiscon, disclosed)).code).toBe('CMESH_IAM_HANDSHAKE')
    }))
  })
})

describe('the status stream', () => {
  test('is read the same however it is cut', () => {
    const text = 'retry: 10\r\n\r\nevent: open\ndata: \n\n: ping\ndata: "PAIRING"\n\ndata:"CONNECTED"\r\rid: 7\nevent: message\ndata: "DO\ndata: NE"\n\nevent: other\ndata: no\n\ndata: unfinished'
    const whole = ['"PAIRING"', '"CONNECTED"', '"DO\nNE"']
    expect(new EventStreamReader().read(text)).toEqual(whole)
    fc.assert(fc.property(fc.array(fc.nat(text.length), { maxLength: 12 }), cuts => {
      const reader = new EventStreamReader()
      const at = [0, ...cuts.sort((a, b) => a - b), text.length]
      expect(at.slice(1).flatMap((end, i) => reader.read(text.slice(at[i], end)))).toEqual(whole)
    }))
  })
})

import { hash, randomBytes } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { CMeshError } from '../../cmtp/errors.ts'
import { canonicalBytes } from '../../cmtp/identity/canonical-json.ts'
import {
  callHash, checkAnswer, checkConfirm, checkConsent, checkGrant, checkRenewal, checkSession, handshakeContext, makeCall,
  makeConfirm, makeConsent, makeRenewal, sign,
} from '../../cmtp/identity/handshake.ts'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { AnswerMessage, CallMessage, GrantMessage, SessionMessage, Step } from '../../cmtp/identity/messages.ts'
import { readMessage } from '../../cmtp/identity/messages.ts'
import { Nkey } from '../../cmtp/identity/nats-keys.ts'
import { checkDidProof, makeDidProof } from '../../cmtp/identity/proof.ts'
import type { TokenClaims } from '../../cmtp/identity/token.ts'
import { decodeToken, readClaims, writeClaims } from '../../cmtp/identity/token.ts'

const mesh = KeyPair.fromSeed(Buffer.alloc(32, 1))
const identity = KeyPair.fromSeed(Buffer.alloc(32, 2))
const session = KeyPair.fromSeed(Buffer.alloc(32, 3))
const stranger = KeyPair.fromSeed(Buffer.alloc(32, 4))
const random = (bytes: number): string => randomBytes(bytes).toString('base64url')

const call = makeCall({ sessionKey: session.publicKey, want: ['newcomer'], audience: mesh.did })
const answer: AnswerMessage = sign({
  step: 'answer' as const, handshake: random(16), call: callHash(call), nonce: random(32), audience: mesh.did, node: 'node-1',
  provider: 'did',
  challenge: 'challenge', expires: 1_800_000_000_000,
}, mesh)
const context = handshakeContext(answer)
const proof = makeDidProof(context, identity)
const confirm = makeConfirm(context, proof, session)
const grant: GrantMessage = sign({
  step: 'grant' as const, handshake: answer.handshake, audience: mesh.did, sub: identity.did, perms: ['read 0xS:>'], claims: [],
  purpose: 'test', lifetimeMs: 300_000,
  amr: ['swk'], aal: 1 as const,
}, mesh)
const consent = makeConsent(grant, session)
const claims: TokenClaims = {
  iss: mesh.did, aud: 'cmtp', sub: identity.did, sid: random(16), jti: random(9), iat: 1_800_000_000, exp: 1_800_000_300, ver: 1,
  cnf: { jkt: session.publicKey.thumbprint }, perms: ['newcomer'], amr: ['swk'], aal: 1,
}
const opened: SessionMessage = {
  step: 'session', sid: claims.sid, token: tokenOf(claims, mesh), issued: claims.iat * 1_000, expires: claims.exp * 1_000,
}
const renewal = makeRenewal('refresh', opened.token, session, 1_800_000_000_000)

function tokenOf(payload: TokenClaims, signer: KeyPair): string {
  const parts = [{ alg: 'EdDSA', typ: 'cmesh-at+jwt', kid: signer.publicKey.thumbprint }, writeClaims(payload)]
  const input = parts.map(part => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  return `${input}.${signer.sign(Buffer.from(input)).toString('base64url')}`
}

interface Signed { readonly step: Step, readonly signature: string }

/** The same message with other content, signed again by the key that may sign it. */
function resigned<T extends Signed>(message: T, change: Partial<T>, key: KeyPair): T {
  const { signature: _, ...rest } = { ...message, ...change }
  return sign(rest, key) as unknown as T
}

function refusal(work: () => unknown): CMeshError {
  try {
    work()
  } catch (error) {
    return error as CMeshError
  }
  throw new Error('nothing was refused')
}

const handshakeRefusal = (step: string, reason: string): object => ({
  code: 'CMESH_IAM_HANDSHAKE', status: 401, detail: { step, reason },
})
const forged = (what: string): object => ({ code: 'CMESH_IAM_FORGED', status: 401, detail: { what } })

describe('the client', () => {
  test('takes the mesh\'s answer to its own call', () => {
    expect(checkAnswer(call, answer)).toEqual(context)
  })

  test('refuses a forged answer', () => {
    expect(refusal(() => checkAnswer(call, resigned(answer, {}, stranger)))).toMatchObject(forged('answer'))
  })

  test.each<Partial<AnswerMessage>>([
    { handshake: random(16) }, { nonce: random(32) }, { challenge: 'another' }, { node: 'node-2' }, { expires: 1 },
    { provider: 'mock' }, { ui: { kind: 'link', value: 'https://x' } },
  ])('refuses an answer changed on the way: %j', change => {
    expect(refusal(() => checkAnswer(call, { ...answer, ...change }))).toMatchObject(forged('answer'))
  })

  test('refuses an answer to another call, even signed', () => {
    const other = makeCall({ sessionKey: session.publicKey, audience: mesh.did })
    expect(refusal(() => checkAnswer(other, answer))).toMatchObject(handshakeRefusal('answer', 'it answers another call'))
  })

  test('refuses the answer of another mesh than the one it means', () => {
    const other = resigned(answer, { audience: stranger.did }, stranger)
    expect(refusal(() => checkAnswer(call, other)))
      .toMatchObject(handshakeRefusal('answer', `it comes from the mesh ${stranger.did}`))
  })

  test('refuses an answer that wants another proof than it offered', () => {
    const asked = makeCall({ sessionKey: session.publicKey, provider: 'did' })
    const other = resigned(answer, { call: callHash(asked), provider: 'mock' }, mesh)
    expect(refusal(() => checkAnswer(asked, other))).toMatchObject(handshakeRefusal('answer', 'it wants a proof by mock'))
  })

  test('takes a grant by the mesh, and refuses one forged, of another handshake or to somebody else', () => {
    expect(() => checkGrant(context, grant, identity.did)).not.toThrow()
    expect(refusal(() => checkGrant(context, resigned(grant, {}, stranger), identity.did))).toMatchObject(forged('grant'))
    expect(refusal(() => checkGrant(context, { ...grant, perms: ['read >'] }))).toMatchObject(forged('grant'))
    expect(refusal(() => checkGrant(context, resigned(grant, { handshake: random(16) }, mesh))))
      .toMatchObject(handshakeRefusal('grant', 'it belongs to another handshake'))
    expect(refusal(() => checkGrant(context, resigned(grant, { sub: stranger.did }, mesh), identity.did)))
      .toMatchObject(handshakeRefusal('grant', `it is made out to ${stranger.did}`))
  })

  test('takes a token for its own connection alone', () => {
    const nkey = Nkey.generate('user').text
    const check = (cnf: TokenClaims['cnf'], own?: string): TokenClaims =>
      checkSession({ ...opened, token: tokenOf({ ...claims, cnf }, mesh) }, mesh.did, identity.did, session.publicKey, {}, own)
    expect(check({ ...claims.cnf, nkey }, nkey).cnf.nkey).toBe(nkey)
    const other = handshakeRefusal('session', 'its token is for another connection')
    expect(refusal(() => check(claims.cnf, nkey))).toMatchObject(other)
    expect(refusal(() => check({ ...claims.cnf, nkey }))).toMatchObject(other)
    expect(refusal(() => check({ ...claims.cnf, nkey: Nkey.generate('user').text }, nkey))).toMatchObject(other)
  })

  test('takes its own token, and refuses one forged or of another session, key, mesh or subject', () => {
    const check = (token: TokenClaims, signer = mesh, sid = opened.sid): TokenClaims =>
      checkSession({ ...opened, sid, token: tokenOf(token, signer) }, mesh.did, identity.did, session.publicKey)
    expect(check(claims)).toEqual(claims)
    expect(refusal(() => check(claims, stranger))).toMatchObject(forged('session token'))
    for (const change of [
      { iss: stranger.did }, { sub: stranger.did }, { sid: random(16) }, { cnf: { jkt: stranger.publicKey.thumbprint } },
    ]) {
      expect(refusal(() => check({ ...claims, ...change })))
        .toMatchObject(handshakeRefusal('session', 'its token belongs to another session'))
    }
    expect(refusal(() => check(claims, mesh, random(16))))
      .toMatchObject(handshakeRefusal('session', 'its token belongs to another session'))
  })
})

describe('the node', () => {
  test('takes the confirm of the handshake, signed by the session key of its call', () => {
    expect(() => checkConfirm(context, session.publicKey, confirm)).not.toThrow()
    expect(checkDidProof(context, confirm.proof)).toBe(identity.did)
  })

  test('refuses a confirm that does not prove the session key', () => {
    expect(refusal(() => checkConfirm(context, session.publicKey, resigned(confirm, {}, stranger))))
      .toMatchObject(forged('confirm'))
    expect(refusal(() => checkConfirm(context, session.publicKey, { ...confirm, proof: makeDidProof(context, stranger) })))
      .toMatchObject(forged('confirm'))
  })

  test.each([
    ['nonce', { nonce: random(32) }, 'its nonce is not the one of this handshake'],
    ['audience', { audience: stranger.did }, 'it is meant for another mesh'],
    ['transcript', { transcript: random(32) }, 'its transcript is not the one of this handshake'],
  ])('refuses a confirm with its %s swapped, even signed', (_, change, reason) => {
    expect(refusal(() => checkConfirm(context, session.publicKey, resigned(confirm, change, session))))
      .toMatchObject(handshakeRefusal('confirm', reason))
  })

  test('takes a proof of the nkey that the call named, over this handshake and by that nkey', () => {
    const [nkey, other] = [Nkey.generate('user'), Nkey.generate('user')]
    const check = (by: Nkey | undefined, over = context): void => {
      const { possession } = makeConfirm(over, proof, session, undefined, by)
      checkConfirm(context, session.publicKey, resigned(confirm, possession === undefined ? {} : { possession }, session), nkey.publicKey)
    }
    expect(() => { check(nkey) }).not.toThrow()
    expect(nkey.publicKey.verify(
      Buffer.from(`CMesh/1 nkey\n${context.transcript}`), Buffer.from(makeConfirm(context, proof, session, undefined, nkey).possession ?? '', 'base64url'),
    )).toBe(true)
    expect(refusal(() => { check(undefined) })).toMatchObject(handshakeRefusal('confirm', 'it does not prove the nkey of the call'))
    expect(refusal(() => { check(other) })).toMatchObject(forged('proof of the nkey'))
    expect(refusal(() => { check(nkey, { ...context, transcript: random(32) }) })).toMatchObject(forged('proof of the nkey'))
    expect(refusal(() => { checkConfirm(context, session.publicKey, makeConfirm(context, proof, session, undefined, nkey)) }))
      .toMatchObject(handshakeRefusal('confirm', 'it proves an nkey that the call did not name'))
    // The proof is under the session's signature: nobody takes it off or puts another in.
    const whole = makeConfirm(context, proof, session, undefined, nkey)
    expect(refusal(() => { checkConfirm(context, session.publicKey, { ...whole, possession: random(64) }, nkey.publicKey) })).toMatchObject(forged('confirm'))
  })

  test('sees in the transcript when the session key, the wish, the gateway or the nkey of the call was swapped on the way', () => {
    const nkey = Nkey.generate('user').text
    for (const swapped of [{ ...call, key: stranger.publicKey.text }, { ...call, want: ['operator'] }, { ...call, via: claims.sid }, { ...call, nkey }]) {
      expect(handshakeContext({ ...answer, call: callHash(swapped) }).transcript).not.toBe(context.transcript)
    }
  })

  test('takes a consent to the grant that was shown', () => {
    expect(() => checkConsent(grant, session.publicKey, consent)).not.toThrow()
    expect(consent.grant).toBe(hash('sha256', canonicalBytes(grant), 'base64url'))
  })

  test('refuses a forged consent', () => {
    expect(refusal(() => checkConsent(grant, session.publicKey, resigned(consent, {}, stranger))))
      .toMatchObject(forged('consent'))
    expect(refusal(() => checkConsent(grant, session.publicKey, resigned(consent, {}, identity))))
      .toMatchObject(forged('consent'))
  })

  test('refuses a consent to a wider grant', () => {
    const wider = resigned(grant, { perms: ['read,write >'] }, mesh)
    expect(refusal(() => checkConsent(grant, session.publicKey, makeConsent(wider, session))))
      .toMatchObject(handshakeRefusal('consent', 'it agrees to another grant than the one that was shown'))
  })

  test('refuses a consent to a grant that another gateway may carry', () => {
    const carried = resigned(grant, { via: claims.sid }, mesh)
    expect(() => checkConsent(carried, session.publicKey, makeConsent(carried, session))).not.toThrow()
    expect(refusal(() => checkConsent(carried, session.publicKey, consent)))
      .toMatchObject(handshakeRefusal('consent', 'it agrees to another grant than the one that was shown'))
  })

  test('takes no signature of one step for another', () => {
    const asConsent = { ...consent, signature: confirm.signature }
    expect(refusal(() => checkConsent(grant, session.publicKey, asConsent))).toMatchObject(forged('consent'))
    const hangup = { ...renewal, step: 'hangup' as const }
    expect(refusal(() => checkRenewal(hangup, claims))).toMatchObject(forged('hangup'))
  })

  test('renews by the key the token names alone', () => {
    expect(() => checkRenewal(renewal, claims)).not.toThrow()
    expect(refusal(() => checkRenewal(makeRenewal('refresh', opened.token, stranger, 1), claims)))
      .toMatchObject(handshakeRefusal('refresh', 'its key is not the one of the session'))
    expect(refusal(() => checkRenewal({ ...renewal, issued: renewal.issued + 1 }, claims))).toMatchObject(forged('refresh'))
    expect(refusal(() => checkRenewal({ ...renewal, token: `${opened.token}x` }, claims))).toMatchObject(forged('refresh'))
  })
})

describe('a message', () => {
  const messages = {
    call, answer, confirm, grant, consent, session: opened, refresh: renewal, bye: { step: 'bye', sid: claims.sid },
  } as const
  const steps = Object.keys(messages) as (keyof typeof messages)[]

  test.each(steps)('%s is read as it was written', step => {
    expect(readMessage(step, canonicalBytes(messages[step]))).toEqual(messages[step])
  })

  test.each(steps)('%s is refused with a field missing, of another type or unknown', step => {
    const message = messages[step] as unknown as Record<string, unknown>
    for (const field of Object.keys(message)) {
      const { [field]: _, ...rest } = message
      const optional = step === 'call' && field === 'audience'
      for (const broken of [...(optional ? [] : [rest]), { ...message, [field]: {} }, { ...message, [field]: -1 }]) {
        if (step === 'confirm' && field === 'proof' && field in broken) continue
        expect(refusal(() => readMessage(step, canonicalBytes(broken))))
          .toMatchObject(handshakeRefusal(step, `the field ${field} is not valid`))
      }
    }
    expect(refusal(() => readMessage(step, canonicalBytes({ ...message, more: 1 }))))
      .toMatchObject(handshakeRefusal(step, 'the field more is not known'))
  })

  // Written out by hand: names in the order of their code units, no white space.
  const VIA = 'AAECAwQFBgcICQoLDA0ODw'
  test.each<[what: string, step: 'call' | 'grant', text: string]>([
    [
      'a call', 'call',
      `{"key":"${session.publicKey.text}","nonce":"${call.nonce}","provider":"any","step":"call","version":1,"via":"${VIA}","want":[]}`,
    ],
    [
      'a grant', 'grant',
      `{"aal":1,"amr":["swk"],"audience":"${mesh.did}","claims":[],"handshake":"${answer.handshake}","lifetimeMs":300000,"perms":["newcomer"],`
      + `"purpose":"test","signature":"${'A'.repeat(86)}","step":"grant","sub":"${identity.did}","via":"${VIA}"}`,
    ],
  ])('that names a gateway is read and written as it stands there: %s', (_, step, text) => {
    const message = readMessage(step, Buffer.from(text))
    expect(message.via).toBe(VIA)
    expect(canonicalBytes(message).toString()).toBe(text)
    const { via: _via, ...rest } = message
    expect(readMessage(step, canonicalBytes(rest))).not.toHaveProperty('via')
    for (const via of ['', 7, null, {}, [], VIA.slice(1), `${VIA}A`, 'AAECAwQFBgcICQoLDA0ODx', 'AAECAwQFBgcICQoLDA0OD+']) {
      expect(refusal(() => readMessage(step, canonicalBytes({ ...rest, via })))).toMatchObject(handshakeRefusal(step, 'the field via is not valid'))
    }
  })

  test('that names a gateway is made by whoever asks for one', () => {
    expect(makeCall({ sessionKey: session.publicKey, via: VIA }).via).toBe(VIA)
    expect(makeCall({ sessionKey: session.publicKey })).not.toHaveProperty('via')
  })

  test('is refused as another step\'s', () => {
    expect(refusal(() => readMessage('hangup', canonicalBytes(renewal))))
      .toMatchObject(handshakeRefusal('hangup', 'its body is a refresh'))
  })

  test('is refused in any spelling but the canonical one', () => {
    const loose = Buffer.from(JSON.stringify({ ...call, step: 'call' }, undefined, 1))
    expect(refusal(() => readMessage('call', loose))).toMatchObject(handshakeRefusal('call', 'its body is not canonical JSON'))
    const padded: CallMessage = { ...call, nonce: `${call.nonce}==` }
    expect(refusal(() => readMessage('call', canonicalBytes(padded))))
      .toMatchObject(handshakeRefusal('call', 'the field nonce is not valid'))
  })

  test('of any bytes is a message or a coded error', () => {
    const bytes = fc.oneof(fc.uint8Array(), fc.jsonValue().map(value => {
      try {
        return canonicalBytes(value)
      } catch {
        return Buffer.from('null')
      }
    }))
    fc.assert(fc.property(fc.constantFrom(...steps), bytes, (step, body) => {
      expect(refusal(() => readMessage(step, body)).code).toBe('CMESH_IAM_HANDSHAKE')
    }))
  })
})

describe('the claims of a token', () => {
  test('come back from the payload they were written to', () => {
    expect(readClaims(writeClaims(claims))).toEqual(claims)
    expect(decodeToken(opened.token)).toEqual(claims)
  })

  test('fit into 700 bytes of token', () => {
    expect(opened.token.length).toBeLessThan(700)
  })

  test('are refused with any one missing, of another type or unknown', () => {
    const payload = writeClaims(claims)
    for (const name of Object.keys(payload)) {
      const { [name]: _, ...rest } = payload
      for (const broken of [
        rest, { ...payload, [name]: {} }, { ...payload, [name]: '\n' }, { ...payload, [name]: -1 }, { ...payload, [name]: [1] },
      ]) {
        expect(refusal(() => readClaims(broken)))
          .toMatchObject({
            code: 'CMESH_IAM_NO_SESSION', detail: { reason: `the token is malformed: the claim ${name} is not valid` },
          })
      }
    }
    expect(refusal(() => readClaims({ ...payload, admin: true })).detail['reason'])
      .toBe('the token is malformed: the claim admin is not known')
    expect(refusal(() => readClaims({ ...payload, aud: ['cmtp'] })).detail['reason'])
      .toBe('the token is malformed: the claim aud is not valid')
  })

  test('may name a gateway, and nothing else in its place', () => {
    const carried = { ...claims, via: 'AAECAwQFBgcICQoLDA0ODw' }
    expect(readClaims(writeClaims(carried))).toEqual(carried)
    expect(decodeToken(tokenOf(carried, mesh))).toEqual(carried)
    for (const via of ['', 'short', 'a'.repeat(65), 'not\na session', null, 7, true, [], {}]) {
      expect(refusal(() => readClaims({ ...writeClaims(claims), via })))
        .toMatchObject({ code: 'CMESH_IAM_NO_SESSION', detail: { reason: 'the token is malformed: the claim via is not valid' } })
    }
  })

  test('of any text are claims or a coded error', () => {
    fc.assert(fc.property(fc.oneof(fc.string(),
    fc.jsonValue().map(value => `x.${Buffer.from(JSON.stringify(value)).toString('base64url')}.y`)), text => {
      expect(refusal(() => decodeToken(text)).code).toBe('CMESH_IAM_NO_SESSION')
    }))
  })
})

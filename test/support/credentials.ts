/** SD-JWTs made by hand, part by part, so that each part can be what no honest issuer or holder would make. */
import { hash } from 'node:crypto'
import type { KeyPair, PublicKey } from '../../cmtp/identity/keys.ts'

export const VCT = 'https://example.org/age'
export const NOW_S = 1_800_000_000

type Fields = Readonly<Record<string, unknown>>

export const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url')

/** A compact JWT over exactly these. */
export function jwt(header: unknown, payload: unknown, key: KeyPair): string {
  const text = `${encode(header)}.${encode(payload)}`
  return `${text}.${key.sign(Buffer.from(text)).toString('base64url')}`
}

export const disclosure = (name: unknown, value: unknown, salt: unknown = 'c2FsdHNhbHRzYWx0c2FsdA'): string => encode([salt, name, value])
export const digestOf = (text: string): string => hash('sha256', text, 'base64url')

export interface Made {
  readonly issuer: KeyPair
  readonly holder: PublicKey
  /** In place of, or beside, what an honest issuer writes; `undefined` leaves a member out. */
  readonly header?: Fields
  readonly payload?: Fields
  readonly disclosures?: readonly string[]
  /** Default: those of the disclosures. */
  readonly digests?: readonly string[]
}

/** Issuer's JWT and disclosures, each ended by `~`. */
export function credential({ issuer, holder, header, payload, disclosures = [disclosure('over_18', true)], digests = disclosures.map(digestOf) }: Made): string {
  const issued = jwt({ alg: 'EdDSA', typ: 'dc+sd-jwt', ...header }, {
    iss: issuer.did, iat: NOW_S, exp: NOW_S + 3_600, vct: VCT, cnf: { jwk: holder.jwk }, _sd: digests, _sd_alg: 'sha-256', ...payload,
  }, issuer)
  return [issued, ...disclosures, ''].join('~')
}

export interface Bound {
  readonly holder: KeyPair
  readonly audience: string
  readonly nonce: string
  readonly header?: Fields
  readonly payload?: Fields
}

/** The same with a key binding. */
export function bind(text: string, { holder, audience, nonce, header, payload }: Bound): string {
  return text + jwt({ alg: 'EdDSA', typ: 'kb+jwt', ...header }, { iat: NOW_S, aud: audience, nonce, sd_hash: digestOf(text), ...payload }, holder)
}

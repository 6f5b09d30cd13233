/**
 * Credentials: an issuer's signed claims about whoever holds a key, of which the holder shows some (SD-JWT VC, RFC 9901). Issuing,
 * presenting, and the check of a presentation. The library behind it proves digests and signatures; what it leaves to its caller is
 * refused here: a key binding for somebody else, old or of the future, seen before or cut off, disclosures nobody signed, an
 * issuer nobody trusts. Keeps nothing; the memory of what was seen is the caller's.
 */
import { hash, randomBytes } from 'node:crypto'
import type { SDJwtVcInstance as Library } from '@sd-jwt/sd-jwt-vc'
import { CMeshError } from '../errors.ts'
import type { CredentialText, ClaimValue } from './credential-text.ts'
import {
  attributeId, CREDENTIAL_ALGORITHM, CREDENTIAL_CLAIMS, DIGEST_ALGORITHM, isClaimName, isClaimValue, isCredentialType, readCredentialText,
} from './credential-text.ts'
import type { KeyPair, PublicKey } from './keys.ts'

/** A key binding counts for so long after it was made, and so long before, for clocks that differ; both in seconds. */
export const BINDING_LIFE_S = 60
export const BINDING_AHEAD_S = 5
/** Most presentations whose key bindings are remembered. */
const SEEN_MOST = 65_536

export interface CredentialRequest {
  readonly issuer: KeyPair
  /** The type, such as `https://example.org/age`: 1 to 128 of letters, digits and `:/._~-`. */
  readonly vct: string
  /** 1 to 32 claims; each can be withheld. */
  readonly claims: Readonly<Record<string, ClaimValue>>
  /** One credential for each of these keys: more than one is a batch, each to be shown once. */
  readonly holders: readonly PublicKey[]
  /** Seconds, 1 and up. */
  readonly lifeS: number
  /** Seconds since 1970. */
  readonly nowS: number
}

/** Resolves with one credential for each holder, in their order. Rejects with `CMESH_IAM_CREDENTIAL` for what may not be one. */
export async function issueCredentials({ issuer, vct, claims, holders, lifeS, nowS }: CredentialRequest): Promise<string[]> {
  const names = Object.keys(claims)
  if (!isCredentialType(vct)) throw refused('its type (vct) is not valid')
  if (names.length === 0 || names.length > CREDENTIAL_CLAIMS) throw refused(`a credential has 1 to ${CREDENTIAL_CLAIMS} claims`)
  for (const [name, value] of Object.entries(claims)) {
    if (!isClaimName(name)) throw refused('a claim has a name that is reserved or not valid')
    if (!isClaimValue(value)) throw refused('a claim has a value that is no text, whole number or truth value')
  }
  if (!Number.isSafeInteger(lifeS) || lifeS < 1) throw refused('its life is at least a second')
  const library = await makeLibrary({ signer: signer(issuer) })
  return await Promise.all(holders.map(async (holder) => {
    const payload: Record<string, ClaimValue | object> = { ...claims, iss: issuer.did, iat: nowS, exp: nowS + lifeS, cnf: { jwk: holder.jwk } }
    const credential = await library.issue({ ...payload, vct, iss: issuer.did }, { _sd: names as never[] })
    // What this gives out is what the other side takes, or it is not given out.
    readCredentialText(credential)
    return credential
  }))
}

/** A credential that its holder can read whole. */
export interface Credential extends Pick<CredentialText, 'vct' | 'issued' | 'expires'> {
  readonly issuer: string
  /** The key it is bound to. */
  readonly holder: PublicKey
  readonly attributes: readonly Attribute[]
}

export interface Attribute {
  /** `<vct>#<claim>`. */
  readonly id: string
  readonly value: string
  /** The DID that says so. */
  readonly issuer: string
}

/** A credential as its holder got it, by its issuer's signature. Rejects with `CMESH_IAM_CREDENTIAL`; an expired one is not refused. */
export async function openCredential(text: string): Promise<Credential> {
  const read = readCredentialText(text)
  if (read.binding !== undefined) throw refused('it is a presentation already')
  if (!signedBy(read.issuer, read.jwt)) throw refused('its signature does not hold')
  return describe(read)
}

export interface Presentation {
  /** Who it is for, and what it answers. */
  readonly audience: string
  readonly nonce: string
  /** Seconds since 1970. */
  readonly nowS: number
}

/**
 * The credential with these claims (by name, at least one) and no other, for one audience and nonce, signed by its holder. Rejects with
 * `CMESH_IAM_CREDENTIAL` for a claim it does not have, or another holder's key.
 */
export async function presentCredential(
  text: string, names: readonly string[], { holder, audience, nonce, nowS }: Presentation & { readonly holder: KeyPair },
): Promise<string> {
  const { holder: bound, attributes, vct } = await openCredential(text)
  if (bound.text !== holder.publicKey.text) throw refused('it is bound to another key')
  const held = new Set(attributes.map(({ id }) => id))
  if (names.length === 0 || !names.every(name => held.has(attributeId(vct, name)))) throw refused('it does not have the claims asked for')
  const library = await makeLibrary({ kbSigner: signer(holder) })
  const shown = Object.fromEntries(names.map(name => [name, true]))
  return await library.present<Record<string, boolean>>(text, shown, { kb: { payload: { iat: nowS, aud: audience, nonce } } })
}

/** What was presented before. Bounded: an entry lives as long as its key binding could count. */
export class SeenPresentations {
  readonly #until = new Map<string, number>()

  /** Whether it is new; from now on it is not. Throws `CMESH_IAM_BUSY` when there is no room, since a replay could pass otherwise. */
  add(binding: string, nowS: number): boolean {
    for (const [seen, untilS] of this.#until) {
      if (untilS > nowS) break
      this.#until.delete(seen)
    }
    if (this.#until.has(binding)) return false
    if (this.#until.size >= SEEN_MOST) throw new CMeshError('CMESH_IAM_BUSY', { retryAfterMs: BINDING_LIFE_S * 1_000 })
    this.#until.set(binding, nowS + BINDING_LIFE_S + 2 * BINDING_AHEAD_S)
    return true
  }

  get size(): number {
    return this.#until.size
  }
}

export interface PresentationCheck extends Presentation {
  /** DIDs whose word counts. */
  readonly trusted: ReadonlySet<string>
  readonly seen: SeenPresentations
}

/** What a presentation shows: at least one attribute. Rejects with `CMESH_IAM_CREDENTIAL`, and with `CMESH_IAM_BUSY` (see `seen`). */
export async function verifyPresentation(text: unknown, { audience, nonce, nowS, trusted, seen }: PresentationCheck): Promise<Credential> {
  const read = readCredentialText(text)
  const { issuer, binding, issued, expires, holder, disclosures } = read
  if (!trusted.has(issuer.did)) throw refused('its issuer is not one that this mesh trusts')
  if (binding === undefined) throw refused('its key binding is missing')
  if (binding.audience !== audience) throw refused('its key binding is for another audience')
  if (binding.nonce !== nonce) throw refused('its key binding answers another challenge')
  if (binding.issued > nowS + BINDING_AHEAD_S) throw refused('its key binding lies in the future')
  if (binding.issued < nowS - BINDING_LIFE_S) throw refused('its key binding is too old')
  if (issued > nowS + BINDING_AHEAD_S) throw refused('it is not valid yet')
  if (expires <= nowS) throw refused('it has expired')
  if (disclosures.length === 0) throw refused('it discloses nothing')
  const library = await makeLibrary({ verifier: verifier(issuer), kbVerifier: verifier(holder) })
  try {
    await library.verify(text as string, { keyBindingNonce: nonce, currentDate: nowS, skewSeconds: BINDING_AHEAD_S })
  } catch (cause) {
    throw refused('its signatures do not hold', cause)
  }
  // Last: only what holds in every other way uses its binding up, so that nobody can burn another's.
  if (!seen.add(signedBinding(text as string), nowS)) throw refused('it was presented before')
  return describe(read)
}

function describe({ vct, issuer, holder, issued, expires, disclosures }: CredentialText): Credential {
  const { did } = issuer
  return {
    vct, issuer: did, holder, issued, expires,
    attributes: disclosures.map(({ name, value }) => ({ id: attributeId(vct, name), value: String(value), issuer: did })),
  }
}

/** What the holder signed, however often: not its signature, so that no other spelling of that is another presentation. */
function signedBinding(text: string): string {
  return hash('sha256', text.slice(text.lastIndexOf('~') + 1, text.lastIndexOf('.')), 'base64url')
}

function signedBy(issuer: PublicKey, jwt: string): boolean {
  const dot = jwt.lastIndexOf('.')
  return issuer.verify(Buffer.from(jwt.slice(0, dot), 'ascii'), Buffer.from(jwt.slice(dot + 1), 'base64url'))
}

const signer = (key: KeyPair) => async (data: string): Promise<string> => key.sign(Buffer.from(data, 'ascii')).toString('base64url')

const verifier = (key: PublicKey) => async (data: string, signature: string): Promise<boolean> =>
  key.verify(Buffer.from(data, 'ascii'), Buffer.from(signature, 'base64url'))

/** 128 bits (RFC 9901, 9.3): the library's own are 64, and a truth value behind a digest has nothing else to hide it. */
const makeSalt = (): string => randomBytes(16).toString('base64url')

/** Loaded when a credential is first issued, presented or checked: it takes 100 ms, which no other start should pay. */
async function makeLibrary(parts: NonNullable<ConstructorParameters<typeof Library>[0]>): Promise<Library> {
  const [{ SDJwtVcInstance }, { digest }] = await Promise.all([import('@sd-jwt/sd-jwt-vc'), import('@sd-jwt/crypto-nodejs')])
  return new SDJwtVcInstance({
    hasher: digest, hashAlg: DIGEST_ALGORITHM, saltGenerator: makeSalt, signAlg: CREDENTIAL_ALGORITHM, kbSignAlg: CREDENTIAL_ALGORITHM, ...parts,
  })
}

function refused(reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_IAM_CREDENTIAL', { reason }, { cause })
}

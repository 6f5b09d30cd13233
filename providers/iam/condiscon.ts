/**
 * What is to be disclosed, as IRMA writes it: a conjunction of disjunctions of conjunctions of attributes
 * (docs.yivi.app/condiscon). This file reads one from the settings, and checks by itself that what a server says was disclosed
 * is what was asked: the server's own word for it (`proofStatus`) is taken for the cryptography alone.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { IdentityAttribute } from '../../services/iam/provider.ts'

export interface AttributeRequest {
  /** `scheme.issuer.credential.attribute`, or `scheme.issuer.credential` for the bare holding of one. */
  readonly type: string
  /** The value it must have. Default: any. */
  readonly value?: string
  readonly notNull?: boolean
}

export type Condiscon = readonly (readonly (readonly AttributeRequest[])[])[]

const MAX_CHARACTERS = 16_384
/** Most parts of each of the three levels. */
const MAX_PARTS = 16
const IDENTIFIER = /^[A-Za-z0-9_-]{1,64}(\.[A-Za-z0-9_-]{1,64}){2,3}$/
/** As long as a grant may quote it. */
const MAX_VALUE = 4_096

/** Throws `CMESH_CONFIG_INVALID`. Something must be asked for that nobody can leave out. */
export function parseCondiscon(text: string): Condiscon {
  if (text.length > MAX_CHARACTERS) throw invalid(`it has more than ${MAX_CHARACTERS} characters`)
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    throw invalid('it is no JSON')
  }
  const condiscon = parts(value, 1, 'it', discon => parts(discon, 1, 'each of its disjunctions', con => parts(con, 0, 'each conjunction', attribute)))
  if (condiscon.every(discon => discon.some(con => con.length === 0))) throw invalid('it asks for nothing that cannot be left out')
  return condiscon
}

function parts<T>(value: unknown, least: number, what: string, read: (part: unknown) => T): readonly T[] {
  if (!Array.isArray(value) || value.length < least || value.length > MAX_PARTS) throw invalid(`${what} is an array of ${least} to ${MAX_PARTS}`)
  return value.map(read)
}

function attribute(value: unknown): AttributeRequest {
  const { type, value: wanted, notNull, ...rest } = typeof value === 'string' ? { type: value } : Object(value) as Record<string, unknown>
  if (typeof type !== 'string' || !IDENTIFIER.test(type)) throw invalid('each attribute is named scheme.issuer.credential.attribute')
  if (wanted !== undefined && (typeof wanted !== 'string' || wanted.length > MAX_VALUE)) throw invalid(`the value wanted of ${type} is no text`)
  if (notNull !== undefined && typeof notNull !== 'boolean') throw invalid(`notNull of ${type} is true or false`)
  if (Object.keys(rest).length > 0) throw invalid(`${type} has fields besides type, value and notNull`)
  return { type, ...(wanted !== undefined && { value: wanted }), ...(notNull !== undefined && { notNull }) }
}

/**
 * The attributes in `disclosed`, a result's field of that name: a set for each disjunction asked, each exactly one of its
 * conjunctions, every attribute present, those of one credential from one card, and nothing besides. Throws
 * `CMESH_IAM_HANDSHAKE`; any JSON gives one or the other.
 */
export function checkDisclosed(condiscon: Condiscon, disclosed: unknown): readonly IdentityAttribute[] {
  if (!Array.isArray(disclosed) || disclosed.length < condiscon.length) throw refused('less was disclosed than was asked for')
  if (disclosed.length > condiscon.length) throw refused('more was disclosed than was asked for')
  return condiscon.flatMap((discon, i) => {
    const set = readSet(disclosed[i])
    const con = discon.find(candidate => candidate.length === set.length && candidate.every((wanted, j) => satisfies(wanted, set[j])))
    if (con === undefined) throw refused('what was disclosed is not what was asked for')
    if (!fromOneCardEach(set)) throw refused('attributes of one credential come from two')
    return set.map(({ id, value }) => ({ id, value, issuer: `irma:${id.split('.', 2).join('.')}` }))
  })
}

interface Disclosed {
  readonly id: string
  readonly value: string
  readonly issued: unknown
}

function readSet(value: unknown): readonly Disclosed[] {
  // A disjunction that was left out is an empty set, which Go writes as `null` or as `[]`.
  const set = value ?? []
  if (!Array.isArray(set)) throw refused('the result is not of the documented shape')
  return set.map((entry: unknown) => {
    const { id, rawvalue, status, issuancetime } = Object(entry) as Record<string, unknown>
    if (typeof id !== 'string') throw refused('the result is not of the documented shape')
    if (status !== 'PRESENT' || typeof rawvalue !== 'string') throw refused('an attribute is missing or was not asked for')
    if (rawvalue.length > MAX_VALUE) throw refused(`an attribute has more than ${MAX_VALUE} characters`)
    return { id, value: rawvalue, issued: issuancetime }
  })
}

function satisfies(wanted: AttributeRequest, disclosed: Disclosed | undefined): boolean {
  return disclosed?.id === wanted.type && (wanted.value === undefined || wanted.value === disclosed.value)
}

/** All attributes of a credential carry its time of issuance; two cards of a kind betray themselves by it. */
function fromOneCardEach(set: readonly Disclosed[]): boolean {
  const cards = new Map<string, unknown>()
  return set.every(({ id, issued }) => {
    const credential = id.split('.', 3).join('.')
    if (!cards.has(credential)) cards.set(credential, issued)
    return cards.get(credential) === issued
  })
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_HANDSHAKE', { step: 'confirm', reason })
}

function invalid(reason: string): CMeshError {
  return new CMeshError('CMESH_CONFIG_INVALID', { key: 'iam.irma.disclose', reason })
}

/**
 * The certificate of a node: the mesh's key says that a node speaks for the mesh. With it a node joins, signs batches and claims, answers
 * handshakes, and is known to who knows the mesh's DID alone. It does not end by itself: a node that left the mesh is one that the log says
 * has left, which every node and every proof looks at. The node whose own key is the mesh's needs none.
 *
 * As text it is the base64url of its canonical JSON, one line.
 */
import { CMeshError } from '../errors.ts'
import { canonicalBytes, canonicalJson, parseCanonicalJson } from './canonical-json.ts'
import { isDid } from './did.ts'
import { PublicKey, type KeyPair } from './keys.ts'

export interface Certificate {
  readonly v: 1
  /** DID of the mesh, whose key signs. */
  readonly mesh: string
  /** DID of the node. */
  readonly node: string
  /** ms since 1970. */
  readonly issued: number
  /** By the mesh's key over `CMesh/1 certificate\n` and the canonical JSON of the rest, base64url. */
  readonly signature: string
}

/** Longest text that is looked at, in characters. */
const LONGEST_TEXT = 1_024
const BASE64URL = /^[A-Za-z0-9_-]+$/

/** Certifies `node`; `mesh` is the mesh's own key pair. Throws `CMESH_IAM_KEY` for a `node` that is no DID. */
export function issueCertificate(node: string, mesh: KeyPair, issuedMs: number): Certificate {
  PublicKey.fromDid(node)
  const unsigned = { v: 1 as const, mesh: mesh.did, node, issued: issuedMs }
  return { ...unsigned, signature: mesh.sign(signedBytes(unsigned)).toString('base64url') }
}

export function formatCertificate(certificate: Certificate): string {
  return canonicalBytes(certificate).toString('base64url')
}

/** The certificate in a text, once its signature holds. Throws `CMESH_IAM_CERTIFICATE` for any other text, and for one the mesh it names did not sign. */
export function parseCertificate(text: string): Certificate {
  const trimmed = text.trim()
  if (trimmed.length > LONGEST_TEXT || !BASE64URL.test(trimmed)) throw refused('it is not one line of base64url')
  let value: unknown
  try {
    value = parseCanonicalJson(Buffer.from(trimmed, 'base64url'))
  } catch (cause) {
    throw refused('it holds no canonical JSON', cause)
  }
  return checkCertificate(value)
}

/** A value read from somewhere as a certificate, once its form and its signature hold. Throws `CMESH_IAM_CERTIFICATE`. */
export function checkCertificate(value: unknown): Certificate {
  if (typeof value !== 'object' || value === null) throw refused('it is no object')
  const { v, mesh, node, issued, signature, ...more } = value as Record<string, unknown>
  if (v !== 1) throw refused('its version is not 1')
  if (typeof mesh !== 'string' || !isDid(mesh)) throw refused('it names no mesh')
  if (typeof node !== 'string' || !isDid(node)) throw refused('it names no node')
  if (!Number.isSafeInteger(issued) || (issued as number) < 0 || typeof signature !== 'string' || Object.keys(more).length > 0) throw refused('its fields are not those of one')
  const unsigned = { v: 1 as const, mesh, node, issued: issued as number }
  const bytes = Buffer.from(signature, 'base64url')
  if (bytes.toString('base64url') !== signature || !PublicKey.fromDid(mesh).verify(signedBytes(unsigned), bytes)) throw refused('the mesh it names did not sign it')
  return { ...unsigned, signature }
}

function signedBytes(certificate: Omit<Certificate, 'signature'>): Buffer {
  return Buffer.from(`CMesh/1 certificate\n${canonicalJson(certificate)}`, 'utf8')
}

function refused(reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_IAM_CERTIFICATE', { reason }, { cause })
}

/**
 * A proof of state: that a key of a contract held a value, or nothing, in the state that a block of the log has the root of. It is
 * checked with the mesh's DID alone, by nobody's leave: path → page → root → head of the block → chain value → signature of a node that
 * the mesh's key stands for. What it does not say: that nothing was written since.
 *
 * As text it is canonical JSON (RFC 8785) on one line, bytes in base64url; one proof has one spelling, and every bit of it is covered.
 *
 *   {"block":{"epoch","previous","rest","seq","timeMs"},"cmesh":"state-proof","contract","key","mesh","page","path":[…],
 *    "signatures":[{"atMs","certificate"?,"head","node","signature"}],"value","version":1}
 */
import { CMeshError } from './errors.ts'
import { isContractAddress } from './fqmn.ts'
import { canonicalBytes, canonicalJson, parseCanonicalJson } from './identity/canonical-json.ts'
import { checkCertificate, type Certificate } from './identity/certificate.ts'
import { isDid } from './identity/did.ts'
import { PublicKey } from './identity/keys.ts'
import {
  BRANCH_CHILDREN, BRANCH_PREFIX, checkpointChain, checkpointHead, childAt, ENTRY_BYTES, HASH_BYTES, keyPath, MOST_BRANCHES, nodeHash, PAGE_ENTRIES,
  PAGE_PREFIX, valueDigest,
} from './state-hash.ts'

/** What a node signs: where the log stands by its own copy. */
export interface StateStatement {
  /** DID of the mesh. */
  readonly mesh: string
  /** DID of the node. */
  readonly node: string
  readonly epoch: number
  readonly seq: number
  /** Chain value after block `seq`, 32 bytes. */
  readonly chain: Uint8Array
  /** Newest block of the log when it was signed. */
  readonly head: number
  /** By the node's clock, ms since 1970. */
  readonly atMs: number
}

export interface StateSignature {
  readonly node: string
  readonly head: number
  readonly atMs: number
  /** base64url. */
  readonly signature: string
  /** That the node speaks for the mesh; none where the node's key is the mesh's. */
  readonly certificate?: Certificate
}

/** What a proof is made of; byte strings are latin1. */
export interface StateProofParts {
  readonly mesh: string
  readonly contract: string
  readonly key: string
  readonly value: Uint8Array | undefined
  /** All entries of the page the key belongs on, joined. */
  readonly page: string
  /** From the root down to that page: the hashes of the 15 other children of each branch, joined. */
  readonly path: readonly string[]
  readonly block: { readonly epoch: number, readonly seq: number, readonly timeMs: number, readonly previous: Uint8Array, readonly rest: Uint8Array }
  /** One or more. */
  readonly signatures: readonly StateSignature[]
}

/** What a proof that holds says. */
export interface ProvenState {
  readonly mesh: string
  readonly contract: string
  readonly key: Buffer
  /** `undefined`: the key was not there. */
  readonly value: Buffer | undefined
  readonly epoch: number
  readonly seq: number
  /** Log time of the block, ms since 1970. */
  readonly timeMs: number
  readonly root: Buffer
  readonly chain: Uint8Array
  readonly signers: readonly Pick<StateSignature, 'node' | 'head' | 'atMs'>[]
}

/** Longest text that is looked at, in characters. */
const LONGEST_TEXT = 1_048_576
/** Most signatures of one proof. */
const MOST_SIGNATURES = 64
const FIELDS = ['block', 'cmesh', 'contract', 'key', 'mesh', 'page', 'path', 'signatures', 'value', 'version']

/** The bytes that a node signs: a text of their own, then canonical JSON. */
export function statementBytes({ mesh, node, epoch, seq, chain, head, atMs }: StateStatement): Buffer {
  return Buffer.from(`CMesh/1 state\n${canonicalJson({ v: 1, mesh, node, epoch, seq, chain: base64url(chain), head, atMs })}`, 'utf8')
}

/** The text of a proof; says nothing of whether it holds. */
export function formatStateProof({ mesh, contract, key, value, page, path, block, signatures }: StateProofParts): string {
  return canonicalBytes({
    cmesh: 'state-proof', version: 1, mesh, contract, key: base64url(Buffer.from(key, 'latin1')), value: value === undefined ? null : base64url(value),
    page: base64url(Buffer.from(page, 'latin1')), path: path.map(hashes => base64url(Buffer.from(hashes, 'latin1'))),
    block: { ...block, previous: base64url(block.previous), rest: base64url(block.rest) }, signatures,
  }).toString('utf8')
}

/** What the proof says of the mesh with the DID `mesh`. One line feed may follow the text. Throws `CMESH_STATE_PROOF` for anything that does not hold. */
export function verifyStateProof(text: string, mesh: string): ProvenState {
  const proof = parse(text)
  if (proof['mesh'] !== mesh) throw refused('it is of another mesh')
  const { contract, block, path, signatures } = proof
  if (typeof contract !== 'string' || !isContractAddress(contract)) throw refused('it names no contract')
  const key = bytesOf(proof['key'], 'its key')
  const value = proof['value'] === null ? undefined : bytesOf(proof['value'], 'its value')
  const page = bytesOf(proof['page'], 'its page').toString('latin1')
  if (!Array.isArray(path) || path.length > MOST_BRANCHES) throw refused('its path is none')
  const place = keyPath(contract, key.toString('latin1'))
  checkPage(page, place, path.length, value)
  const root = Buffer.from(rootOf(page, place, path.map(each => hashesOf(each))), 'latin1')

  const { epoch, seq, timeMs, previous, rest } = objectOf(block, ['epoch', 'previous', 'rest', 'seq', 'timeMs'], 'its block')
  if (![epoch, seq, timeMs].every(isCount)) throw refused('its block is none')
  const head = { root, epoch: epoch as number, seq: seq as number, timeMs: timeMs as number }
  const chain = checkpointChain(hashOf(previous, 'its block'), checkpointHead(head), hashOf(rest, 'its block'))
  if (!Array.isArray(signatures) || signatures.length === 0 || signatures.length > MOST_SIGNATURES) throw refused(`it has 1 to ${MOST_SIGNATURES} signatures`)
  const signers = signatures.map(each => signerOf(each, { mesh, epoch: head.epoch, seq: head.seq, chain }))
  if (new Set(signers.map(({ node }) => node)).size < signers.length) throw refused('a node signed it twice')
  return { mesh, contract, key, value, ...head, chain, signers }
}

function parse(text: string): Readonly<Record<string, unknown>> {
  const line = text.endsWith('\n') ? text.slice(0, -1) : text
  if (line.length > LONGEST_TEXT) throw refused(`it has more than ${LONGEST_TEXT} characters`)
  let value: unknown
  try {
    value = parseCanonicalJson(Buffer.from(line, 'utf8'))
  } catch (cause) {
    throw refused('it is not canonical JSON', cause)
  }
  const proof = objectOf(value, FIELDS, 'it')
  if (proof['cmesh'] !== 'state-proof' || proof['version'] !== 1) throw refused('it is no proof of state of version 1')
  return proof
}

/** Whether the page says of the place what the proof does: its entries in order, all of them below that page's own place. */
function checkPage(page: string, place: string, depth: number, value: Uint8Array | undefined): void {
  if (page.length % ENTRY_BYTES !== 0 || page.length > PAGE_ENTRIES * ENTRY_BYTES) throw refused('its page is none')
  let before = ''
  let found: string | undefined
  for (let at = 0; at < page.length; at += ENTRY_BYTES) {
    const path = page.slice(at, at + HASH_BYTES)
    if (path <= before && at > 0) throw refused('its page is not in order')
    for (let level = 0; level < depth; level++) if (childAt(path, level) !== childAt(place, level)) throw refused('its page is of another place')
    if (path === place) found = page.slice(at + HASH_BYTES, at + ENTRY_BYTES)
    before = path
  }
  if (value === undefined && found !== undefined) throw refused('the key is there')
  if (value !== undefined && found !== valueDigest(value)) throw refused('the value is another')
}

function rootOf(page: string, place: string, path: readonly string[]): string {
  let node = nodeHash(prefixed(PAGE_PREFIX, page))
  for (let depth = path.length - 1; depth >= 0; depth--) {
    const others = path[depth] as string
    const at = childAt(place, depth) * HASH_BYTES
    node = nodeHash(prefixed(BRANCH_PREFIX, others.slice(0, at) + node + others.slice(at)))
  }
  return node
}

function prefixed(prefix: number, bytes: string): Buffer {
  return Buffer.from(String.fromCharCode(prefix) + bytes, 'latin1')
}

function signerOf(value: unknown, place: Pick<StateStatement, 'mesh' | 'epoch' | 'seq' | 'chain'>): Pick<StateSignature, 'node' | 'head' | 'atMs'> {
  const fields = ['atMs', 'head', 'node', 'signature']
  const certified = typeof value === 'object' && value !== null && 'certificate' in value
  const { node, head, atMs, signature, certificate } = objectOf(value, certified ? [...fields, 'certificate'] : fields, 'a signature of it')
  if (typeof node !== 'string' || !isDid(node) || !isCount(head) || !isCount(atMs) || head < place.seq) throw refused('a signature of it is none')
  if (certified === (node === place.mesh)) throw refused(certified ? 'a certificate is where none is needed' : `the certificate of ${node} is missing`)
  if (certified) {
    const { mesh, node: named } = certificateOf(certificate)
    if (mesh !== place.mesh || named !== node) throw refused(`the certificate is not that of ${node}`)
  }
  const bytes = bytesOf(signature, 'a signature of it')
  if (!PublicKey.fromDid(node).verify(statementBytes({ ...place, node, head, atMs }), bytes)) throw refused(`${node} did not sign it`)
  return { node, head, atMs }
}

function certificateOf(value: unknown): Certificate {
  try {
    return checkCertificate(value)
  } catch (cause) {
    if (!(cause instanceof CMeshError)) throw cause
    throw refused(`the certificate of a node is refused: ${String(cause.detail['reason'])}`, cause)
  }
}

function objectOf(value: unknown, fields: readonly string[], what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw refused(`${what} is no object`)
  const names = Object.keys(value)
  if (names.length !== fields.length || !fields.every(field => names.includes(field))) throw refused(`${what} has other fields than it should`)
  return value as Record<string, unknown>
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function bytesOf(value: unknown, what: string): Buffer {
  const bytes = typeof value === 'string' ? Buffer.from(value, 'base64url') : undefined
  if (bytes === undefined || bytes.toString('base64url') !== value) throw refused(`${what} is not base64url`)
  return bytes
}

function hashOf(value: unknown, what: string): Buffer {
  const bytes = bytesOf(value, what)
  if (bytes.length !== HASH_BYTES) throw refused(`${what} has a hash of another length`)
  return bytes
}

function hashesOf(value: unknown): string {
  const bytes = bytesOf(value, 'its path')
  if (bytes.length !== (BRANCH_CHILDREN - 1) * HASH_BYTES) throw refused('its path is none')
  return bytes.toString('latin1')
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64url')
}

function refused(reason: string, cause?: unknown): CMeshError {
  return new CMeshError('CMESH_STATE_PROOF', { reason }, cause === undefined ? undefined : { cause })
}

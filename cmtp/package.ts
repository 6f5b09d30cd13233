/**
 * The contract package: what a deployment carries in its body, what a contract's address is made of, and what its deployer
 * signs. One package has one encoding, so that its hash means something.
 *
 *     package = "CMPK" version8 strategy8 salt16 · length 4 · manifest (RFC 8785) · length 4 · init arguments · length 4 · module
 *     signed  = package · signature 64
 *     address = "0x" hex( SHA-256( "cmesh/contract/address" ‖ 0x00 ‖ deployer's DID ‖ 0x00 ‖ package ) )
 *
 * The deployer is part of the address, so nobody can claim another's pending package; the salt lets one deploy a package
 * twice. `codeHash` is the SHA-256 of the module alone. The signature says what the package is for: one that deploys cannot
 * replace anything, and one that replaces is good for one version of one contract.
 */
import { hash } from 'node:crypto'
import { CMeshError } from './errors.ts'
import { canonicalJson, parseCanonicalJson } from './identity/canonical-json.ts'
import { PublicKey, type KeyPair } from './identity/keys.ts'
import { findJsonArrayFault } from './json-text.ts'
import { LIMITS } from './limits.ts'
import { asBuffer } from './wire.ts'

export interface ContractManifest {
  /** 1 to 64 characters. */
  readonly name: string
  /** Semantic version of the contract, 1 to 64 characters. */
  readonly version: string
  /** Compiler and its version, such as `assemblyscript 0.28.20`; 1 to 64 characters. */
  readonly compiler: string
  /** Version of the contract SDK, 1 to 64 characters. */
  readonly sdk: string
  /** What the compiler was told, 1 to 512 characters; `none` for nothing. */
  readonly flags: string
  /** SHA-256 of the source, 64 hex digits, or `none`: what a rebuild starts from. */
  readonly sourceHash: string
  /** Version of the rewriter it is meant for, 0 to 65,535; 0 for whatever is in force. */
  readonly meter: number
  /** Version of the table of costs it is meant for, 0 to 65,535; 0 for whatever is in force. */
  readonly schedule: number
}

/** Whether the code may be replaced later, under the same address and with the same state. */
export type ContractStrategy = 'immutable' | 'replaceable'

export interface ContractPackage {
  /** 16 bytes. */
  readonly salt: Uint8Array
  readonly strategy: ContractStrategy
  readonly manifest: ContractManifest
  /** JSON array text for `init`; empty when there is none. */
  readonly init: Uint8Array
  readonly module: Uint8Array
}

/** What a signature over a package is good for. */
export type PackagePurpose =
  | { readonly purpose: 'deploy' }
  /** `version`: the number that the contract's code has afterwards. */
  | { readonly purpose: 'replace', readonly target: string, readonly version: number }

export const PACKAGE_SALT_BYTES = 16
export const PACKAGE_SIGNATURE_BYTES = 64

const MAGIC = Buffer.from('CMPK')
const PACKAGE_VERSION = 1
const STRATEGIES: readonly ContractStrategy[] = ['immutable', 'replaceable']
const SALT_AT = MAGIC.length + 2
const HEADER_BYTES = SALT_AT + PACKAGE_SALT_BYTES
const LENGTH_BYTES = 4

/** The manifest of these facts; what is left out is `unknown`, `none` and 0. */
export function packageManifest(facts: Pick<ContractManifest, 'name' | 'version'> & Partial<ContractManifest>): ContractManifest {
  return { compiler: 'unknown', sdk: 'unknown', flags: 'none', sourceHash: 'none', meter: 0, schedule: 0, ...facts }
}

/** Throws `CMESH_DEPLOY_MALFORMED` or `CMESH_DEPLOY_SIZE` for what has no encoding. */
export function encodePackage(pkg: ContractPackage): Buffer {
  const { salt, strategy, init, module } = pkg
  if (salt.length !== PACKAGE_SALT_BYTES) throw invalid(`its salt has ${salt.length} bytes, not ${PACKAGE_SALT_BYTES}`)
  const manifest = Buffer.from(manifestText(pkg.manifest))
  const bytes = Buffer.concat([
    MAGIC, Buffer.of(PACKAGE_VERSION, STRATEGIES.indexOf(strategy)), salt,
    length(manifest), manifest, length(init), init, length(module), module,
  ])
  // Whatever is written can be read: the rules stand in one place.
  decodePackage(bytes)
  return bytes
}

/**
 * Total: any bytes give a package that encodes to the same bytes, or `CMESH_DEPLOY_MALFORMED` / `CMESH_DEPLOY_SIZE`. What it
 * gives are views into `data`.
 */
export function decodePackage(data: Uint8Array): ContractPackage {
  const bytes = asBuffer(data)
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) throw invalid('it does not start with "CMPK" and its header')
  if (bytes[MAGIC.length] !== PACKAGE_VERSION) throw invalid(`its version is ${String(bytes[MAGIC.length])}; this mesh reads ${PACKAGE_VERSION}`)
  const strategy = STRATEGIES[bytes[MAGIC.length + 1] as number]
  if (strategy === undefined) throw invalid('its strategy is neither 0 (immutable) nor 1 (replaceable)')
  const salt = bytes.subarray(SALT_AT, HEADER_BYTES)
  const [manifest, initAt] = field(bytes, HEADER_BYTES, LIMITS.manifestBytes, 'manifest')
  const [init, moduleAt] = field(bytes, initAt, LIMITS.initBytes, 'init arguments')
  const [module, end] = field(bytes, moduleAt, LIMITS.contractBytes, 'module')
  if (end !== bytes.length) throw invalid(`${bytes.length - end} bytes stand behind its end`)
  checkInit(init)
  return { salt, strategy, manifest: parseManifest(manifest), init, module }
}

/** What of a body would be the package and what its signature; both are views into it, and neither was looked at. */
export function splitSigned(body: Uint8Array): { readonly packageBytes: Uint8Array, readonly signature: Uint8Array } {
  const at = Math.max(0, body.length - PACKAGE_SIGNATURE_BYTES)
  return { packageBytes: body.subarray(0, at), signature: body.subarray(at) }
}

const DOMAIN = 'CMesh/1 contract-package\n'
const PROXY_DOMAIN = 'CMesh/1 contract-proxy\n'

/** The exact bytes under the signature of a package. */
export function packageSigningBytes(packageBytes: Uint8Array, purpose: PackagePurpose): Buffer {
  return Buffer.from(DOMAIN + canonicalJson({ ...purpose, package: hash('sha256', packageBytes, 'hex') }), 'utf8')
}

/** The package with its signature: the body of `deploy` and `replace`. */
export function signPackage(packageBytes: Uint8Array, purpose: PackagePurpose, key: Pick<KeyPair, 'sign'>): Buffer {
  return Buffer.concat([packageBytes, key.sign(packageSigningBytes(packageBytes, purpose))])
}

/** Whether the signature is the DID's over the package for this purpose. Any bytes and any text: never throws. */
export function verifyPackage(packageBytes: Uint8Array, signature: Uint8Array, purpose: PackagePurpose, did: string): boolean {
  return verifies(did, () => packageSigningBytes(packageBytes, purpose), signature)
}

/** What `proxy` is told: whose code runs on a state of its own, by which salt, and how it begins. */
export interface ProxyRequest {
  readonly target: string
  /** 16 bytes, 32 hex digits. */
  readonly salt: string
  /** JSON array text for the code's `init`; empty when there is none. */
  readonly init: string
}

/** 64 bytes: the body of `proxy`. */
export function signProxy({ target, salt, init }: ProxyRequest, key: Pick<KeyPair, 'sign'>): Buffer {
  return key.sign(proxySigningBytes({ target, salt, init }))
}

/** Any bytes and any text: never throws. */
export function verifyProxy({ target, salt, init }: ProxyRequest, signature: Uint8Array, did: string): boolean {
  return verifies(did, () => proxySigningBytes({ target, salt, init }), signature)
}

function proxySigningBytes(request: ProxyRequest): Buffer {
  return Buffer.from(PROXY_DOMAIN + canonicalJson(request), 'utf8')
}

export function contractAddress(packageBytes: Uint8Array, deployer: string): string {
  return `0x${hash('sha256', Buffer.concat([Buffer.from(`cmesh/contract/address\0${deployer}\0`), packageBytes]), 'hex')}`
}

/** The address of what `proxy` makes. */
export function proxyAddress(target: string, salt: string, deployer: string): string {
  return `0x${hash('sha256', Buffer.from(`cmesh/contract/proxy\0${deployer}\0${target}\0${salt}`), 'hex')}`
}

export function codeHash(module: Uint8Array): string {
  return hash('sha256', module, 'hex')
}

function verifies(did: string, message: () => Uint8Array, signature: Uint8Array): boolean {
  try {
    return signature.length === PACKAGE_SIGNATURE_BYTES && PublicKey.fromDid(did).verify(message(), signature)
  } catch (error) {
    if (error instanceof CMeshError) return false
    throw error
  }
}

function length(part: Uint8Array): Buffer {
  const bytes = Buffer.allocUnsafe(LENGTH_BYTES)
  bytes.writeUInt32BE(part.length, 0)
  return bytes
}

/** The field at `at` and where the next one begins. */
function field(bytes: Buffer, at: number, most: number, name: string): readonly [content: Buffer, next: number] {
  if (at + LENGTH_BYTES > bytes.length) throw invalid(`it ends before its ${name}`)
  const size = bytes.readUInt32BE(at)
  if (size > most) throw name === 'module' ? new CMeshError('CMESH_DEPLOY_SIZE', { bytes: size, limit: most }) : invalid(`${size} bytes of ${name} are too many; at most ${most} are allowed`)
  const from = at + LENGTH_BYTES
  if (from + size > bytes.length) throw invalid(`it ends inside its ${name}`)
  return [bytes.subarray(from, from + size), from + size]
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function checkInit(init: Uint8Array): void {
  if (init.length === 0) return
  let text: string | undefined
  try {
    text = UTF8.decode(init)
  } catch {
    text = undefined
  }
  if (text === undefined || findJsonArrayFault(text, 0) !== undefined) throw invalid('its init arguments are not a JSON array')
}

const TEXTS: Readonly<Record<'name' | 'version' | 'compiler' | 'sdk' | 'flags', number>> = { name: 64, version: 64, compiler: 64, sdk: 64, flags: 512 }
const NUMBERS = ['meter', 'schedule'] as const
const FIELDS = Object.keys(TEXTS).length + NUMBERS.length + 1
const SOURCE_HASH = /^(?:none|[0-9a-f]{64})$/

function manifestText(manifest: ContractManifest): string {
  const { name, version, compiler, sdk, flags, sourceHash, meter, schedule } = manifest
  try {
    return canonicalJson({ name, version, compiler, sdk, flags, sourceHash, meter, schedule })
  } catch (cause) {
    throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'its manifest has no canonical form' }, { cause })
  }
}

function parseManifest(bytes: Uint8Array): ContractManifest {
  let value: unknown
  try {
    value = parseCanonicalJson(bytes)
  } catch (cause) {
    throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'its manifest is not JSON in canonical form' }, { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('its manifest is not an object')
  const fields = value as Record<string, unknown>
  for (const [key, most] of Object.entries(TEXTS)) {
    const text = fields[key]
    if (typeof text !== 'string' || text.length === 0 || text.length > most) throw invalid(`its manifest lacks ${key}, a text of 1 to ${most} characters`)
  }
  const { sourceHash } = fields
  if (typeof sourceHash !== 'string' || !SOURCE_HASH.test(sourceHash)) throw invalid('its manifest lacks sourceHash, 64 hex digits or "none"')
  for (const key of NUMBERS) {
    const number = fields[key]
    if (!Number.isInteger(number) || (number as number) < 0 || (number as number) > 65_535) throw invalid(`its manifest lacks ${key}, a whole number from 0 to 65535`)
  }
  if (Object.keys(fields).length !== FIELDS) throw invalid('its manifest has a field that is not known')
  return fields as unknown as ContractManifest
}

function invalid(reason: string): CMeshError {
  return new CMeshError('CMESH_DEPLOY_MALFORMED', { reason })
}

/**
 * The contract package: what a deployment carries in its body, and what a contract's address is made of. One package has
 * one encoding, so that its hash means something.
 *
 *     package = "CMPK" version8 salt16 · manifest length 4 · manifest (JSON, UTF-8) · init length 4 · init arguments · module
 *     address = "0x" hex( SHA-256( "cmesh/contract/address" ‖ 0x00 ‖ deployer's DID ‖ 0x00 ‖ package ) )
 *
 * The deployer is part of the address, so nobody can claim another's pending package; the salt lets one deploy a package
 * twice. `codeHash` is the SHA-256 of the module alone.
 */
import { hash } from 'node:crypto'
import { CMeshError } from './errors.ts'
import { LIMITS } from './limits.ts'
import { asBuffer } from './wire.ts'

export interface ContractManifest {
  /** 1 to 64 characters. */
  readonly name: string
  /** Semantic version of the contract. */
  readonly version: string
  /** Compiler and its version, such as `assemblyscript 0.28.20`. */
  readonly compiler: string
  /** Version of the contract SDK. */
  readonly sdk: string
}

export interface ContractPackage {
  /** 16 bytes. */
  readonly salt: Uint8Array
  readonly manifest: ContractManifest
  /** JSON array text for `init`; empty when there is none. */
  readonly init: Uint8Array
  readonly module: Uint8Array
}

const MAGIC = Buffer.from('CMPK')
const PACKAGE_VERSION = 0
const SALT_BYTES = 16
const HEADER_BYTES = MAGIC.length + 1 + SALT_BYTES
const MANIFEST_KEYS = ['name', 'version', 'compiler', 'sdk'] as const

export function encodePackage(pkg: ContractPackage): Buffer {
  const { name, version, compiler, sdk } = pkg.manifest
  const manifest = Buffer.from(JSON.stringify({ name, version, compiler, sdk }))
  const lengths = Buffer.allocUnsafe(8)
  lengths.writeUInt32BE(manifest.length, 0)
  lengths.writeUInt32BE(pkg.init.length, 4)
  return Buffer.concat([
    MAGIC, Buffer.of(PACKAGE_VERSION), pkg.salt, lengths.subarray(0, 4), manifest, lengths.subarray(4), pkg.init, pkg.module,
  ])
}

/** Total: any bytes give a package that encodes to the same bytes, or `CMESH_DEPLOY_MALFORMED` / `CMESH_DEPLOY_SIZE`. */
export function decodePackage(data: Uint8Array): ContractPackage {
  const bytes = asBuffer(data)
  if (bytes.length < HEADER_BYTES + 8 || !bytes.subarray(0, 4).equals(MAGIC)) throw invalid('it does not start with "CMPK" and its header')
  if (bytes[4] !== PACKAGE_VERSION) throw invalid(`its version is ${String(bytes[4])}; this mesh reads ${PACKAGE_VERSION}`)
  const manifestAt = HEADER_BYTES + 4
  const manifestBytes = bytes.readUInt32BE(HEADER_BYTES)
  if (manifestBytes > LIMITS.manifestBytes) throw invalid(`its manifest has ${manifestBytes} bytes; at most ${LIMITS.manifestBytes} are allowed`)
  const initLengthAt = manifestAt + manifestBytes
  if (initLengthAt + 4 > bytes.length) throw invalid('it ends inside its manifest')
  const moduleAt = initLengthAt + 4 + bytes.readUInt32BE(initLengthAt)
  if (moduleAt > bytes.length) throw invalid('it ends inside its init arguments')
  const module = bytes.subarray(moduleAt)
  if (module.length > LIMITS.contractBytes) throw new CMeshError('CMESH_DEPLOY_SIZE', { bytes: module.length, limit: LIMITS.contractBytes })
  const pkg: ContractPackage = {
    salt: bytes.subarray(5, HEADER_BYTES),
    manifest: parseManifest(bytes.toString('utf8', manifestAt, initLengthAt)),
    init: bytes.subarray(initLengthAt + 4, moduleAt),
    module,
  }
  if (!encodePackage(pkg).equals(bytes)) throw invalid('its manifest is not in canonical form')
  return pkg
}

export function contractAddress(packageBytes: Uint8Array, deployer: string): string {
  return `0x${hash('sha256', Buffer.concat([Buffer.from(`cmesh/contract/address\0${deployer}\0`), packageBytes]), 'hex')}`
}

export function codeHash(module: Uint8Array): string {
  return hash('sha256', module, 'hex')
}

function parseManifest(text: string): ContractManifest {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'its manifest is not JSON' }, { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw invalid('its manifest is not an object')
  const fields = value as Record<string, unknown>
  for (const key of MANIFEST_KEYS) {
    const field = fields[key]
    if (typeof field !== 'string' || field.length === 0 || field.length > 64) throw invalid(`its manifest lacks ${key}, a text of 1 to 64 characters`)
  }
  return { name: String(fields['name']), version: String(fields['version']), compiler: String(fields['compiler']), sdk: String(fields['sdk']) }
}

function invalid(reason: string): CMeshError {
  return new CMeshError('CMESH_DEPLOY_MALFORMED', { reason })
}

/** What may be deployed in a sandbox: a module or a package, in memory or in a file. */
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { isNativeError } from 'node:util/types'
import { CMeshError } from '../../cmtp/errors.ts'
import { decodePackage, packageManifest, type ContractPackage } from '../../cmtp/package.ts'

/** A file by its path or URL, or its bytes: a `.wasm` module or a `.cmpk` package. */
export type Code = string | URL | Uint8Array

const PACKAGE_MAGIC = Buffer.from('CMPK')
const MODULE_NAME = 'contract'
const VERSION = '0.1.0'

/** The package, or one around the module. Throws `CMESH_DEPLOY_MALFORMED`. */
export function packageOf(code: Code): ContractPackage {
  const bytes = bytesOf(code)
  if (PACKAGE_MAGIC.equals(bytes.subarray(0, PACKAGE_MAGIC.length))) return decodePackage(bytes)
  const manifest = packageManifest({ name: nameOf(code), version: VERSION })
  return { salt: Buffer.alloc(16), strategy: 'replaceable', manifest, init: Buffer.alloc(0), module: bytes }
}

function bytesOf(code: Code): Uint8Array {
  if (code instanceof Uint8Array) return code
  try {
    return readFileSync(code)
  } catch (cause) {
    const reason = `${String(code)} cannot be read (${isNativeError(cause) ? cause.message : String(cause)}); \`cmesh contract build\` makes it`
    throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason }, { cause })
  }
}

function nameOf(code: Code): string {
  if (code instanceof Uint8Array) return MODULE_NAME
  const file = code instanceof URL ? fileURLToPath(code) : code
  return path.basename(file, path.extname(file))
}

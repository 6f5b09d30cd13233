/** Deploying a contract: it makes the package of a module and sends it to the system contract. It compiles nothing. */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { CMeshError } from '../cmtp/errors.ts'
import { LIMITS } from '../cmtp/limits.ts'
import { encodePackage } from '../cmtp/package.ts'
import { anything, checkOptions, integer, text, usage } from './options.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

export interface DeployOptions extends VerbOptions {
  /** The module's bytes, at most 256 KiB. Excludes `file`. */
  readonly wasm?: Uint8Array | undefined
  /** Path of a `.wasm` file. Excludes `wasm`. */
  readonly file?: string | undefined
  /** What the contract is called, 1 to 64 characters. */
  readonly name: string
  /** Semantic version of the contract. */
  readonly version: string
  /** Arguments of the contract's `init` function. Default: none. */
  readonly init?: readonly unknown[] | undefined
  /** 16 bytes. Default random; the same salt, module and arguments by the same DID give the same address. */
  readonly salt?: Uint8Array | undefined
  /** Compiler and version, for the manifest. Default `unknown`. */
  readonly compiler?: string | undefined
  /** Version of the contract SDK, for the manifest. Default `unknown`. */
  readonly sdk?: string | undefined
}

export interface Deployment {
  /** `0x` and 64 hex digits. */
  readonly address: string
  /** SHA-256 of the module, 64 hex digits. */
  readonly codeHash: string
  readonly name: string
}

const CHECKS = {
  wasm: anything, file: text, name: text, version: text, init: anything, salt: anything, compiler: text, sdk: text,
  timeoutMs: integer(1, 300_000), signal: anything,
}
const SALT_BYTES = 16

export async function deploy(call: VerbCall, options: DeployOptions): Promise<Deployment> {
  checkOptions('a deployment', options, CHECKS)
  const { name, version, init, salt = randomBytes(SALT_BYTES), compiler = 'unknown', sdk = 'unknown', timeoutMs, signal } = options
  if (salt.length !== SALT_BYTES) throw usage(`A salt has ${SALT_BYTES} bytes, not ${salt.length}.`)
  const module = await moduleOf(options)
  if (module.length > LIMITS.contractBytes) throw new CMeshError('CMESH_DEPLOY_SIZE', { bytes: module.length, limit: LIMITS.contractBytes })
  const body = encodePackage({
    salt, manifest: { name, version, compiler, sdk }, init: Buffer.from(init === undefined ? '' : JSON.stringify(init)), module,
  })
  return (await call('0xSW:0x000:deploy', { body, timeoutMs, signal })).json()
}

async function moduleOf({ wasm, file }: DeployOptions): Promise<Uint8Array> {
  if (wasm !== undefined && file === undefined) return wasm
  if (file === undefined || wasm !== undefined) throw usage('A deployment has a module, either as wasm or as file.')
  try {
    return await readFile(file)
  } catch (cause) {
    throw new CMeshError('CMESH_CLIENT_USAGE', { reason: `The module ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.` }, { cause })
  }
}

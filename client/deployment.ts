/**
 * Contracts, as their deployer handles them: it makes the package of a module, signs it for the one purpose it is sent for, and
 * reads back what stands where. It compiles nothing; who may do what is the mesh's to say.
 */
import { randomBytes } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { CMeshError } from '../cmtp/errors.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { LIMITS } from '../cmtp/limits.ts'
import { encodePackage, PACKAGE_SALT_BYTES, packageManifest, signPackage, signProxy } from '../cmtp/package.ts'
import type {
  CodeOptions, ContractInfo, ContractVersion, DeployOptions, Deployment, DryDeployment, DryReplacement, DryRunOptions, ProxyContract, ProxyOptions, Replacement,
} from './contract-types.ts'
import { anything, checkOptions, integer, text, usage } from './options.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

export type * from './contract-types.ts'

const VERB_CHECKS = { timeoutMs: integer(1, 300_000), signal: anything }
const CODE_CHECKS = {
  ...VERB_CHECKS, wasm: anything, file: text, name: text, version: text, strategy: text, salt: anything, compiler: text, sdk: text, flags: text,
  sourceHash: text, meter: integer(0, 65_535), schedule: integer(0, 65_535),
}

export class Contracts {
  readonly #call: VerbCall
  readonly #identity: KeyPair

  constructor(call: VerbCall, identity: KeyPair) {
    this.#call = call
    this.#identity = identity
  }

  async deploy(options: DeployOptions): Promise<Deployment> {
    checkOptions('a deployment', options, { ...CODE_CHECKS, init: anything })
    const body = signPackage(await packageOf(options, options.init), { purpose: 'deploy' }, this.#identity)
    return (await this.#call('0xSW:0x000:deploy', { body, ...verb(options) })).json()
  }

  async replace(address: string, options: CodeOptions): Promise<Replacement> {
    checkOptions('a replacement', options, CODE_CHECKS)
    const bytes = await packageOf({ ...options, strategy: options.strategy ?? 'replaceable' }, undefined)
    // The signature names the version it makes, so that no replacement can be played again over a later one.
    const { version } = await this.info(address, verb(options))
    const body = signPackage(bytes, { purpose: 'replace', target: address, version: version + 1 }, this.#identity)
    return (await this.#call(`0xSW:0x000:replace:${JSON.stringify([address])}`, { body, ...verb(options) })).json()
  }

  async proxy(target: string, options: ProxyOptions): Promise<ProxyContract> {
    checkOptions('a proxy', options, { ...VERB_CHECKS, init: anything, salt: anything })
    const salt = Buffer.from(saltOf(options.salt)).toString('hex')
    const init = options.init === undefined ? '' : JSON.stringify(options.init)
    const body = signProxy({ target, salt, init }, this.#identity)
    const args = options.init === undefined ? [target, salt] : [target, salt, options.init]
    return (await this.#call(`0xSW:0x000:proxy:${JSON.stringify(args)}`, { body, ...verb(options) })).json()
  }

  async info(address: string, options: VerbOptions): Promise<ContractInfo> {
    return (await this.#call(`0xS:${address}`, options)).json()
  }

  async versions(address: string, options: VerbOptions): Promise<readonly ContractVersion[]> {
    return (await this.#call(`0xS:0x000:versions:${JSON.stringify([address])}`, options)).json()
  }

  async versionAt(address: string, seq: number, options: VerbOptions): Promise<ContractVersion> {
    return (await this.#call(`0xS:0x000:versions:${JSON.stringify([address, seq])}`, options)).json()
  }

  async code(codeHash: string, options: VerbOptions): Promise<Buffer> {
    return Buffer.from((await this.#call(`0xS:0x000:code:${JSON.stringify([codeHash])}`, options)).body)
  }

  async dryDeploy(options: DeployOptions): Promise<DryDeployment> {
    checkOptions('a dry run', options, { ...CODE_CHECKS, init: anything })
    const body = JSON.stringify({ package: (await packageOf(options, options.init)).toString('base64') })
    return (await this.#call('0xS:0x000:dryrun:["deploy"]', { body, ...verb(options) })).json()
  }

  async dryReplace(address: string, options: DryRunOptions): Promise<DryReplacement> {
    checkOptions('a dry run', options, { ...CODE_CHECKS, calls: anything })
    const { calls = [] } = options
    const body = JSON.stringify({ package: (await packageOf({ ...options, strategy: options.strategy ?? 'replaceable' }, undefined)).toString('base64'), calls })
    return (await this.#call(`0xS:0x000:dryrun:${JSON.stringify(['replace', address])}`, { body, ...verb(options) })).json()
  }
}

function verb({ timeoutMs, signal }: VerbOptions): VerbOptions {
  return { timeoutMs, signal }
}

async function packageOf(options: CodeOptions, init: readonly unknown[] | undefined): Promise<Buffer> {
  const { name, version, strategy = 'immutable', compiler, sdk, flags, sourceHash, meter, schedule } = options
  const module = await moduleOf(options)
  if (module.length > LIMITS.contractBytes) throw new CMeshError('CMESH_DEPLOY_SIZE', { bytes: module.length, limit: LIMITS.contractBytes })
  const given = Object.fromEntries(Object.entries({ compiler, sdk, flags, sourceHash, meter, schedule }).filter(([, value]) => value !== undefined))
  return encodePackage({
    salt: saltOf(options.salt), strategy, manifest: packageManifest({ name, version, ...given }),
    init: Buffer.from(init === undefined ? '' : JSON.stringify(init)), module,
  })
}

function saltOf(salt: Uint8Array = randomBytes(PACKAGE_SALT_BYTES)): Uint8Array {
  if (salt.length !== PACKAGE_SALT_BYTES) throw usage(`A salt has ${PACKAGE_SALT_BYTES} bytes, not ${salt.length}.`)
  return salt
}

async function moduleOf({ wasm, file }: CodeOptions): Promise<Uint8Array> {
  if (wasm !== undefined && file === undefined) return wasm
  if (file === undefined || wasm !== undefined) throw usage('A contract has a module, either as wasm or as file.')
  try {
    return await readFile(file)
  } catch (cause) {
    throw new CMeshError('CMESH_CLIENT_USAGE', { reason: `The module ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.` }, { cause })
  }
}

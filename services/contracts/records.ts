/** How contracts stand in the system space: a record per address, and the package's module beside it. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { ContractManifest } from '../../cmtp/package.ts'
import type { Space } from '../state/provider.ts'

export interface ContractRecord {
  readonly address: string
  /** SHA-256 of the module, hex. */
  readonly codeHash: string
  /** DID of who deployed it. */
  readonly deployer: string
  readonly manifest: ContractManifest
  /** Block that deployed it. */
  readonly seq: number
  readonly deployedAtMs: number
}

const RECORD_PREFIX = 'contract/'
const CODE_PREFIX = 'code/'

export function contractKey(address: string): string {
  return RECORD_PREFIX + address
}

export function codeKey(address: string): string {
  return CODE_PREFIX + address
}

/** The record of a deployed contract. Throws `CMESH_STATE_NO_CONTRACT`. */
export function contractRecord(system: Pick<Space, 'get'>, address: string): ContractRecord {
  const bytes = system.get(contractKey(address))
  if (bytes === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: address })
  return JSON.parse(Buffer.from(bytes).toString('utf8')) as ContractRecord
}

/** The modules in the system space, by address. */
export function* deployedModules(system: Space): Iterable<readonly [address: string, module: Uint8Array]> {
  for (const [key, module] of system) {
    if (key.startsWith(CODE_PREFIX)) yield [key.slice(CODE_PREFIX.length), module]
  }
}

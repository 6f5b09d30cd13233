/**
 * How contracts stand in the system space, and nothing of how they run:
 *
 *     contract/<address>            what stands there now
 *     version/<address>/<version>   what stood there once, never changed and never deleted
 *     code/<code hash>              a module, shared by all contracts that have or had it
 *
 * Whatever was in force at a sequence of the log can be read at any later one.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { ContractRecord, ContractVersion } from '../../cmtp/contract-info.ts'
import type { Space } from '../state/provider.ts'

/** What is kept of a proxy: the rest is its target's. */
type ProxyRecord = Pick<ContractRecord, 'address' | 'deployer' | 'seq' | 'deployedAtMs'> & { readonly proxyOf: string }

export type Records = Pick<Space, 'get'>

const RECORD_PREFIX = 'contract/'
const CODE_PREFIX = 'code/'

/** Versions that one answer holds at most: the last ones. */
export const HISTORY_LIMIT = 128

export function contractKey(address: string): string {
  return RECORD_PREFIX + address
}

export function codeKey(hash: string): string {
  return CODE_PREFIX + hash
}

export function versionKey(address: string, version: number): string {
  return `version/${address}/${version}`
}

/** Whether a write to this key changes which code runs where. */
export function isContractKey(key: string): boolean {
  return key.startsWith(RECORD_PREFIX)
}

/** Keys of the records of contracts, proxies included. */
export function* contractKeys(system: Space): Iterable<string> {
  for (const key of system.keys()) if (isContractKey(key)) yield key
}

/** Of whom the record under such a key is. */
export function addressOf(key: string): string {
  return key.slice(RECORD_PREFIX.length)
}

/** The record of a deployed contract. Throws `CMESH_STATE_NO_CONTRACT`. */
export function contractRecord(system: Records, address: string): ContractRecord {
  const own = readJson<ContractRecord | ProxyRecord>(system, contractKey(address))
  if (own === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: address })
  return 'codeHash' in own ? own : { ...contractRecord(system, own.proxyOf), ...own }
}

export function proxyRecord(record: ProxyRecord): ProxyRecord {
  const { address, proxyOf, deployer, seq, deployedAtMs } = record
  return { address, proxyOf, deployer, seq, deployedAtMs }
}

/** The module with this hash. Throws `CMESH_STATE_NO_CODE`. */
export function moduleOf(system: Records, hash: string): Uint8Array {
  const module = system.get(codeKey(hash))
  if (module === undefined) throw new CMeshError('CMESH_STATE_NO_CODE', { code: hash.slice(0, 64) })
  return module
}

/**
 * The versions of a contract, the oldest first, at most the last `HISTORY_LIMIT`; a proxy has those of its target. Throws
 * `CMESH_STATE_NO_CONTRACT`.
 */
export function contractHistory(system: Records, address: string): readonly ContractVersion[] {
  const { proxyOf, version } = contractRecord(system, address)
  const from = Math.max(1, version - HISTORY_LIMIT + 1)
  return Array.from({ length: version - from + 1 }, (_, i) => versionRecord(system, proxyOf ?? address, from + i))
}

/** What was in force at `seq`; `undefined` before the contract was deployed. Throws `CMESH_STATE_NO_CONTRACT`. */
export function versionAt(system: Records, address: string, seq: number): ContractVersion | undefined {
  const record = contractRecord(system, address)
  if (seq < record.seq) return undefined
  const code = record.proxyOf ?? address
  // Sequences rise with the versions.
  let [low, high] = [1, record.version]
  while (low < high) {
    const middle = Math.ceil((low + high) / 2)
    if (versionRecord(system, code, middle).seq <= seq) low = middle
    else high = middle - 1
  }
  return versionRecord(system, code, low)
}

function versionRecord(system: Records, address: string, version: number): ContractVersion {
  const record = readJson<ContractVersion>(system, versionKey(address, version))
  if (record === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: address })
  return record
}

/** Contracts with code of their own, by address. */
export function* deployedModules(system: Space): Iterable<readonly [address: string, module: Uint8Array]> {
  for (const record of recordsIn(system)) if ('codeHash' in record) yield [record.address, moduleOf(system, record.codeHash)]
}

/** Contracts that run another's code. */
export function* deployedProxies(system: Space): Iterable<readonly [address: string, target: string]> {
  for (const record of recordsIn(system)) if (!('codeHash' in record)) yield [record.address, record.proxyOf]
}

function* recordsIn(system: Space): Iterable<ContractRecord | ProxyRecord> {
  for (const [key, bytes] of system) if (isContractKey(key)) yield JSON.parse(Buffer.from(bytes).toString('utf8')) as ContractRecord | ProxyRecord
}

function readJson<T>(system: Records, key: string): T | undefined {
  const bytes = system.get(key)
  return bytes === undefined ? undefined : JSON.parse(Buffer.from(bytes).toString('utf8')) as T
}

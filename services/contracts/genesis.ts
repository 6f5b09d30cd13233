/** Genesis: what a mesh starts from, as it stands in the first transaction and in the system space. */
import { CMeshError } from '../../cmtp/errors.ts'
import { isContractAddress } from '../../cmtp/fqmn.ts'
import { checkCertificate, type Certificate } from '../../cmtp/identity/certificate.ts'
import { heirOf } from '../iam/rotations.ts'
import type { Recorder } from '../state/transaction.ts'
import { changeMeter, type MeterRecord } from './metering.ts'

export interface GenesisContract {
  /** A genesis address: `0x` and three lower-case hex digits, not `0x000`. */
  readonly address: string
  /** An encoded package. */
  readonly pkg: Uint8Array
}

export interface Genesis {
  /** DID that holds every right. */
  readonly operator: string
  /** DIDs of the members that the mesh begins with. */
  readonly members: readonly string[]
  /** The mesh's DID, where it is not the first member's own; then with what certifies that member. */
  readonly mesh?: string
  readonly certificate?: Certificate
  readonly contracts: readonly GenesisContract[]
  /** How gas is counted from the beginning. */
  readonly meter: MeterRecord
}

/** What stays of genesis in state. */
export interface GenesisRecord {
  readonly operator: string
  readonly members: readonly string[]
  readonly mesh?: string
}

/** Where the record stands in the system space. */
export const GENESIS_KEY = 'genesis'

export function encodeGenesis(genesis: Genesis): Buffer {
  const contracts = genesis.contracts.map(({ address, pkg }) => ({ address, package: Buffer.from(pkg).toString('base64') }))
  const { meter, schedule, transactionGas } = genesis.meter
  const { operator, members, mesh, certificate } = genesis
  return Buffer.from(JSON.stringify({ operator, members, mesh, certificate, contracts, meter: { meter, schedule, transactionGas } }))
}

export function parseGenesis(body: Uint8Array): Genesis {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(body).toString('utf8'))
  } catch {
    value = undefined
  }
  const fields = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  const { operator, members, mesh, certificate, contracts, meter } = fields
  if (typeof operator !== 'string' || !isTextList(members) || !Array.isArray(contracts) || (mesh !== undefined && typeof mesh !== 'string')) {
    throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'its body lacks operator, members or contracts' })
  }
  return {
    operator, members, ...(mesh !== undefined && { mesh }), ...(certificate !== undefined && { certificate: checkCertificate(certificate) }),
    contracts: contracts.map(parseContract), meter: parseMeter(meter),
  }
}

function parseMeter(value: unknown): MeterRecord {
  const { meter, schedule, transactionGas } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  if (!isCount(meter) || !isCount(schedule) || !isCount(transactionGas)) {
    throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'it does not say how gas is counted' })
  }
  return { meter, schedule, transactionGas }
}

/** Whether it is a whole number from 1. */
export function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0
}

function parseContract(value: unknown): GenesisContract {
  const { address, package: pkg } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  if (typeof address !== 'string' || typeof pkg !== 'string' || !isContractAddress(address) || address.length !== 5) {
    throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'a contract of it lacks a genesis address or a package' })
  }
  return { address, pkg: Buffer.from(pkg, 'base64') }
}

function isTextList(value: unknown): value is string[] {
  return Array.isArray(value) && value.every(item => typeof item === 'string')
}

export function writeGenesis(system: Recorder, genesis: Genesis): void {
  const { operator, members, mesh } = genesis
  const record: GenesisRecord = { operator, members, ...(mesh !== undefined && { mesh }) }
  system.setJson(GENESIS_KEY, record)
  changeMeter(system, { ...genesis.meter, from: 1 })
}

/** Parsed records: until members come and go, whoever asks who they are for each batch and each claim reads them here. */
const parsed = new WeakMap<Uint8Array, GenesisRecord>()

export function readGenesis(system: { get(key: string): Uint8Array | undefined }): GenesisRecord | undefined {
  const bytes = system.get(GENESIS_KEY)
  if (bytes === undefined) return undefined
  let record = parsed.get(bytes)
  if (record === undefined) parsed.set(bytes, record = JSON.parse(Buffer.from(bytes).toString('utf8')) as GenesisRecord)
  return record
}

/** The mesh's DID: that of the key which certifies its nodes. */
export function readMesh(system: { get(key: string): Uint8Array | undefined }): string | undefined {
  const genesis = readGenesis(system)
  return genesis?.mesh ?? genesis?.members[0]
}

/** DID of who operates the mesh today: genesis' own, or the one that took its place. */
export function readOperator(system: { get(key: string): Uint8Array | undefined }): string | undefined {
  const first = readGenesis(system)?.operator
  return first === undefined ? undefined : heirOf(system, first)
}

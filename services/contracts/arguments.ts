/** What callers may name and say: functions of contracts, and the arguments of the system contract's own. */
import { CMeshError } from '../../cmtp/errors.ts'
import { isContractAddress, type Route } from '../../cmtp/fqmn.ts'
import type { ProxyRequest } from '../../cmtp/package.ts'
import { SYSTEM_SPACE } from '../state/transaction.ts'
import { isCount } from './genesis.ts'
import type { MeterRecord } from './metering.ts'
import type { ContractEngine, FunctionAbi } from './provider.ts'

/** Functions of the system contract that a request may ask for. */
export const SYSTEM_FUNCTIONS: readonly string[] = ['deploy', 'replace', 'proxy', 'meter', 'leave', 'checkpoint', 'later', 'cancel']

/** The function of a contract that a caller may name. Throws `CMESH_STATE_NO_CONTRACT` or `CMESH_STATE_NO_FUNCTION`. */
export function checkCallable(engine: Pick<ContractEngine, 'abi'>, contract: string, name: string | undefined): asserts name is string {
  const abi = engine.abi(contract)
  if (abi === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract })
  const declared = abi.functions.find(f => f.name === name)
  // What runs at deployment, replacement or for an answer is the mesh's to call.
  if (declared === undefined || !isCallable(declared)) throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract, function: name ?? '(none)' })
}

function isCallable({ mode }: FunctionAbi): boolean {
  return mode === 'view' || mode === 'write'
}

// --- arguments of the system contract

/** The arguments behind the address, where they are as many as there are checks and pass them. Throws `CMESH_CONTRACT_REVERT`. */
export function systemArguments(route: Route, usage: string, ...checks: readonly ((value: unknown) => boolean)[]): unknown[] {
  const values = route.args === undefined ? [] : JSON.parse(route.args) as unknown[]
  if (values.length > checks.length || !checks.every((check, i) => check(values[i]))) throw new CMeshError('CMESH_CONTRACT_REVERT', { contract: SYSTEM_SPACE, reason: `${usage}.` })
  return values
}

export function isAddress(value: unknown): boolean {
  return typeof value === 'string' && isContractAddress(value) && value !== SYSTEM_SPACE
}

export function meterArguments(route: Route): Omit<MeterRecord, 'transactionGas'> & Partial<MeterRecord> {
  const [meter, schedule, transactionGas] = systemArguments(route, 'meter takes [meter, schedule, transaction gas?], whole numbers from 1',
    isCount, isCount, value => value === undefined || isCount(value)) as [number, number, number | undefined]
  return { meter, schedule, ...(transactionGas !== undefined && { transactionGas }) }
}

export function proxyArguments(route: Route): ProxyRequest {
  const [target, salt, init] = systemArguments(route, 'proxy takes ["<target>", "<salt, 32 hex digits>", [arguments of init]?]',
    isAddress, value => typeof value === 'string' && /^[0-9a-f]{32}$/.test(value), value => value === undefined || Array.isArray(value))
  return { target: target as string, salt: salt as string, init: init === undefined ? '' : JSON.stringify(init) }
}

/**
 * What anybody may read of the contracts of a mesh: `0xS:0x000`, its `versions` and `code`, and the record and ABI of each. Reads
 * alone; trying out a replacement is in `dry-run.ts`.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { encodeHeaders } from '../../cmtp/headers.ts'
import { jsonReply, type Reply } from '../call.ts'
import type { Space } from '../state/provider.ts'
import { SYSTEM_SPACE } from '../state/transaction.ts'
import { isAddress, SYSTEM_FUNCTIONS, systemArguments } from './arguments.ts'
import { isCount, readGenesis } from './genesis.ts'
import { readMembers } from './members.ts'
import { meterChanges } from './metering.ts'
import type { ContractEngine } from './provider.ts'
import { contractHistory, contractRecord, moduleOf, versionAt } from './records.ts'

const WASM_HEADERS = encodeHeaders([['content-type', 'application/wasm']])

type Reads = Pick<Space, 'get'>

/** The record and the ABI of a contract, or what there is to know of the system contract. */
export function contractReply(system: Reads, engine: Pick<ContractEngine, 'abi'>, contract: string): Reply {
  if (contract !== SYSTEM_SPACE) return jsonReply({ ...contractRecord(system, contract), abi: engine.abi(contract) })
  return jsonReply({
    address: SYSTEM_SPACE, functions: SYSTEM_FUNCTIONS, reads: ['versions', 'code', 'dryrun', 'get', 'proof', 'at', 'diff', 'later'],
    genesis: readGenesis(system), members: readMembers(system), meter: meterChanges(system),
  })
}

/** `0xS:0x000:versions:["0xADDR", seq?]` and `0xS:0x000:code:["<hash>"]`. */
export function systemReply(system: Reads, name: string, route: Route): Reply {
  switch (name) {
    case 'versions': {
      const [address, seq] = systemArguments(route, 'versions takes ["<address>", sequence?]', isAddress, value => value === undefined || isCount(value)) as [string, number?]
      if (seq === undefined) return jsonReply(contractHistory(system, address))
      const version = versionAt(system, address, seq)
      if (version === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: `${address} at sequence ${seq}` })
      return jsonReply(version)
    }
    case 'code': {
      const [hash] = systemArguments(route, 'code takes ["<code hash, 64 hex digits>"]', value => typeof value === 'string' && /^[0-9a-f]{64}$/.test(value))
      return { status: 200, headers: WASM_HEADERS, body: moduleOf(system, hash as string) }
    }
    default:
      throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: SYSTEM_SPACE, function: name })
  }
}

/** Contracts as they stand on a mesh, found by address or by name. */
import { CMeshError } from '../../../cmtp/errors.ts'
import { isContractAddress, parseFqmn } from '../../../cmtp/fqmn.ts'
import type { ContractAbi, ContractFunction } from '../../contract/abi.ts'
import type { ContractInfo } from '../../deployment.ts'
import type { MeshClient } from '../../mesh-client.ts'
import { usage } from '../../options.ts'
import type { VerbOptions } from '../../verbs.ts'
import type { MeshOptions } from '../command.ts'
import type { Terminal } from '../terminal.ts'

export type DeployedContract = Omit<ContractInfo, 'abi'> & { readonly abi: ContractAbi }

/** Deadline and cancellation of every request of a command. */
export function patience(terminal: Terminal, { timeout }: MeshOptions): VerbOptions {
  return { timeoutMs: timeout, signal: terminal.interrupted }
}

/** The contract that `given` means: an address, `0xS:<address>`, or a name. Rejects with `CMESH_CLIENT_USAGE`. */
export async function findContract(client: MeshClient, given: string, options: VerbOptions): Promise<DeployedContract> {
  return await client.contract(await addressOf(client, given, options), options) as DeployedContract
}

async function addressOf(client: MeshClient, given: string, options: VerbOptions): Promise<string> {
  if (isContractAddress(given)) return given
  const route = /^0x[A-Z]/.test(given) ? parseFqmn(given) : undefined
  const target = route === undefined || route.service === 'R' ? parseFqmn((await client.resolve(route?.segments[0] ?? given, options)).target) : route
  const [address = ''] = target.segments
  if (target.service !== 'S' || !isContractAddress(address)) throw usage(`${given} is no contract: it means ${target.text}.`)
  return address
}

/** The function of that name. Throws `CMESH_STATE_NO_FUNCTION`. */
export function functionOf({ address, abi }: DeployedContract, name: string): ContractFunction {
  const found = abi.functions.find((each) => each.name === name)
  if (found === undefined) throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: address, function: name })
  return found
}

/** Which function of a contract an address asks for, and whether it is a view. It runs nothing. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { ContractAbi, ContractEngine, FunctionAbi } from '../contracts/provider.ts'

/** The view of that name, and what declares it. Throws `CMESH_STATE_NO_CONTRACT`, `_NO_FUNCTION` or `_NOT_A_VIEW`. */
export function checkedView(engine: Pick<ContractEngine, 'abi'>, contract: string, name: string): { readonly abi: ContractAbi, readonly declared: FunctionAbi } {
  const abi = engine.abi(contract)
  if (abi === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract })
  const declared = abi.functions.find(f => f.name === name)
  if (declared === undefined) throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract, function: name })
  if (declared.mode !== 'view') throw new CMeshError('CMESH_STATE_NOT_A_VIEW', { contract, function: name })
  return { abi, declared }
}

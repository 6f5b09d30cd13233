/** A module looked at as a node does when it is deployed, and tried out: what it is, and what its functions cost at least. */
import { CMeshError } from '../../cmtp/errors.ts'
import { codeHash } from '../../cmtp/package.ts'
import type { FunctionAbi, ModuleReport } from '../../services/contracts/provider.ts'
import { Ledger } from './ledger.ts'
import type { GasHint, InspectReport } from './protocol.ts'
import { Sandbox } from './sandbox.ts'
import type { Argument } from './values.ts'

/** Throws the `CMESH_DEPLOY_*` error that says what to mend. */
export function checkModule(module: Uint8Array): ModuleReport {
  const { engine } = new Ledger({ timeMs: 0, operator: '', transactionGas: 1 })
  return engine.inspect(module)
}

/** Throws the `CMESH_DEPLOY_*` error that says what to mend. */
export function inspectModule(module: Uint8Array): InspectReport {
  const report = checkModule(module)
  return { ...report, codeHash: codeHash(module), hints: hintsOf(module, report.abi.functions) }
}

/** Each function once, on state as `init` leaves it. A contract whose `init` takes no zeros gives no hints. */
function hintsOf(module: Uint8Array, functions: readonly FunctionAbi[]): Readonly<Record<string, GasHint>> {
  const sandbox = new Sandbox()
  const init = functions.find(({ mode }) => mode === 'init')
  try {
    const contract = sandbox.deploy(module, init === undefined ? {} : { init: zeros(init) })
    const empty = sandbox.snapshot()
    return Object.fromEntries(functions.filter(({ mode }) => mode === 'view' || mode === 'write').map((each): [string, GasHint] => {
      const result = contract.attempt(each.name, zeros(each))
      sandbox.restore(empty)
      return [each.name, result.ok ? { gas: result.gas } : { gas: result.gas, failed: result.code }]
    }))
  } catch (error) {
    if (!(error instanceof CMeshError)) throw error
    return {}
  } finally {
    sandbox.close()
  }
}

/** Arguments that are nothing: those with a default are left to it. */
function zeros({ params }: FunctionAbi): Argument[] {
  return params.filter((param) => param.default === undefined).map(({ type }) => {
    if (type.endsWith('[]')) return []
    return type === 'bool' ? false : type === 'string' || type === 'bytes' ? '' : 0
  })
}

/**
 * A module looked at as a node does when it is deployed, and tried out: what it is, what its functions cost at least, and made ready for
 * tests that are about to use it.
 */
import { readFileSync } from 'node:fs'
import { CMeshError } from '../../cmtp/errors.ts'
import { codeHash } from '../../cmtp/package.ts'
import type { FunctionAbi, ModuleReport } from '../../services/contracts/provider.ts'
import type { Code } from './code.ts'
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

/** So often V8 has to see the engine at work until it compiles what a test runs. */
const WARM_UPS = 24
/** A function may use up its gas: then as often as fits into this, in ms. */
const WARM_UP_MS = 200

/**
 * Does with a module what its tests will: sandbox, deployment, every function, until that takes as long as it will ever after. The
 * first test of a process would bear it else. Throws what `checkModule` throws.
 */
export function warmUp(file: string): void {
  const { abi: { functions } } = checkModule(readFileSync(file))
  const endMs = performance.now() + WARM_UP_MS
  for (let round = 0; round < WARM_UPS && performance.now() < endMs; round++) hintsOf(file, functions)
}

/** Each function once, on state as `init` leaves it. A contract whose `init` takes no zeros gives no hints. */
function hintsOf(module: Code, functions: readonly FunctionAbi[]): Readonly<Record<string, GasHint>> {
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

/**
 * The gas scenario of a contract: a module of the author's whose default export makes the calls that are worth watching, in a fresh
 * sandbox. What they cost is the report.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Code } from './code.ts'
import type { SandboxContract } from './contract.ts'
import type { GasReport } from './gas-report.ts'
import { Sandbox, type DeployOptions } from './sandbox.ts'

/** What a scenario is given. */
export interface ScenarioContext {
  readonly sandbox: Sandbox
  /** Deploys the contract whose gas it is about. */
  deploy(options?: DeployOptions): SandboxContract
}

export type Scenario = (context: ScenarioContext) => void | Promise<void>

/** Runs the scenario in the file `url`. Rejects with what it threw, or with `CMESH_CONFIG_INVALID` where it is none. */
export async function runScenario(url: string, code: Code): Promise<GasReport> {
  const { default: scenario } = await import(url) as { readonly default?: unknown }
  if (typeof scenario !== 'function') {
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: url, reason: 'a gas scenario exports a function as its default' })
  }
  const sandbox = new Sandbox()
  await (scenario as Scenario)({ sandbox, deploy: (options) => sandbox.deploy(code, options) })
  const report = sandbox.gasReport()
  sandbox.close()
  return report
}

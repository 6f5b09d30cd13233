/**
 * `cmesh/testing`: a sandbox for the tests of contracts. This file is its table of contents; what it does not export is not
 * part of it.
 */
export { Sandbox, type DeployOptions, type SandboxOptions, type Snapshot } from './sandbox.ts'
export {
  SandboxContract, type Caller, type CallFailure, type CallOptions, type CallResult, type CallSuccess, type SandboxEvent, type SandboxWrite,
} from './contract.ts'
export type { Code } from './code.ts'
export type { Answer, Delivery, PendingMessage } from './deliveries.ts'
export type { ContractGas, FunctionGas, GasReport } from './gas-report.ts'
export { Identity } from './identity.ts'
export type { Argument } from './values.ts'
export type { ContractAbi, FunctionAbi, SentMessage } from '../../services/contracts/provider.ts'
export { CMeshError, type ErrorCode } from '../../cmtp/errors.ts'

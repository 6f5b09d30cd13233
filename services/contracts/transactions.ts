/**
 * Transactions on contracts: a call of a function, and the system contract's `deploy` and `genesis`. Deterministic, run by
 * the applier alone.
 */
import { CMeshError, type ErrorCode } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { codeHash, contractAddress, decodePackage } from '../../cmtp/package.ts'
import { argumentsOf } from '../call.ts'
import type { Transaction } from '../state/batch.ts'
import type { Space } from '../state/provider.ts'
import {
  DONE, failedExecution, jsonExecution, SYSTEM_SPACE, type Execution, type TransactionContext, type TransactionHandler,
} from '../state/transaction.ts'
import { parseGenesis, readGenesis, writeGenesis, type Genesis } from './genesis.ts'
import type { ContractEngine, ContractFailure } from './provider.ts'
import { codeKey, contractKey, type ContractRecord } from './records.ts'

export interface ContractTransactionsParts {
  readonly engine: ContractEngine
  readonly space: (name: string) => Space
}

export class ContractTransactions implements TransactionHandler {
  readonly #engine: ContractEngine
  readonly #space: (name: string) => Space

  constructor(parts: ContractTransactionsParts) {
    this.#engine = parts.engine
    this.#space = parts.space
  }

  execute(transaction: Transaction, route: Route, context: TransactionContext): Execution {
    const [contract = '', name] = route.segments
    if (contract === SYSTEM_SPACE) return this.#system(name, transaction, context)
    if (name === undefined) throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract, function: '(none)' })
    return this.#call(contract, name, argumentsOf({ route, body: transaction.body }), transaction.sub, context)
  }

  #call(contract: string, name: string, input: Uint8Array, caller: string, context: TransactionContext): Execution {
    // `init` runs when a contract is deployed, and never again.
    if (this.#engine.abi(contract)?.functions.some(f => f.name === name && f.mode === 'init') === true) {
      throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract, function: name })
    }
    const { seq, timeMs } = context
    const result = this.#engine.call({ address: contract, function: name, input, view: false, context: { seq, timeMs, caller } })
    if (!result.ok) return failedExecution(contractError(contract, name, result.failure, result.reason), result.gas)
    return { status: 200, gas: result.gas, output: result.output, writes: result.writes, events: result.events }
  }

  #system(name: string | undefined, transaction: Transaction, context: TransactionContext): Execution {
    switch (name) {
      case 'deploy':
        return this.#deploy(transaction, context)
      case 'genesis':
        return this.#genesis(transaction, context)
      default:
        throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: SYSTEM_SPACE, function: name ?? '(none)' })
    }
  }

  #deploy(transaction: Transaction, context: TransactionContext): Execution {
    // Execution is not metered, so a contract could hold the node for as long as it likes: the operator answers for what runs.
    if (readGenesis(context.system)?.operator !== transaction.sub) throw new CMeshError('CMESH_DEPLOY_FORBIDDEN')
    const address = contractAddress(transaction.body, transaction.sub)
    return this.#install(address, transaction.body, transaction.sub, context)
  }

  /** The first transaction of a log: who operates the mesh, who its members are, and the contracts it is born with. */
  #genesis(transaction: Transaction, context: TransactionContext): Execution {
    if (context.seq !== 1 || readGenesis(context.system) !== undefined) {
      throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log has a beginning already' })
    }
    const genesis: Genesis = parseGenesis(transaction.body)
    writeGenesis(context.system, genesis)
    const writes = []
    const events = []
    for (const { address, pkg } of genesis.contracts) {
      const installed = this.#install(address, pkg, genesis.operator, context)
      if (installed.status >= 400) return installed
      writes.push(...installed.writes)
      events.push(...installed.events)
    }
    return { ...jsonExecution({ operator: genesis.operator, contracts: genesis.contracts.map(contract => contract.address) }), writes, events }
  }

  #install(address: string, pkg: Uint8Array, deployer: string, context: TransactionContext): Execution {
    const { system, seq, timeMs } = context
    if (system.get(contractKey(address)) !== undefined) throw new CMeshError('CMESH_DEPLOY_EXISTS', { contract: address })
    const { module, manifest, init } = decodePackage(pkg)
    // The module outlives the message it came in, and must not hold that memory.
    const code = Uint8Array.from(module)
    const abi = this.#engine.install(address, code, this.#space(address))
    const record: ContractRecord = { address, codeHash: codeHash(code), deployer, manifest, seq, deployedAtMs: timeMs }
    system.setJson(contractKey(address), record)
    system.set(codeKey(address), code)
    const reply = jsonExecution({ address, codeHash: record.codeHash, name: manifest.name })

    if (!abi.functions.some(f => f.mode === 'init')) {
      if (init.length > 0) return this.#refuse(address, new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'it has init arguments but the contract has no init function' }))
      return reply
    }
    const result = this.#engine.call({ address, function: 'init', input: init, view: false, context: { seq, timeMs, caller: deployer } })
    if (!result.ok) return this.#refuse(address, contractError(address, 'init', result.failure, result.reason))
    return { ...DONE, status: 200, output: reply.output, gas: result.gas, writes: result.writes, events: result.events }
  }

  #refuse(address: string, error: CMeshError): Execution {
    this.#engine.remove(address)
    return failedExecution(error)
  }
}

const FAILURES: Record<ContractFailure, ErrorCode> = {
  'revert': 'CMESH_CONTRACT_REVERT',
  'trap': 'CMESH_CONTRACT_TRAP',
  'readonly': 'CMESH_CONTRACT_READONLY',
  'limit': 'CMESH_CONTRACT_LIMIT',
  'no-function': 'CMESH_STATE_NO_FUNCTION',
}

/** The coded error of a contract that did not finish. */
export function contractError(contract: string, name: string, failure: ContractFailure, reason: string): CMeshError {
  return new CMeshError(FAILURES[failure], failure === 'no-function' ? { contract, function: name } : { contract, reason })
}

/**
 * Transactions on contracts: a call of a function, and the system contract's own functions. Deterministic, run by the applier
 * alone.
 *
 *     genesis                              the first transaction of a log
 *     deploy · signed package              (deployments.ts)
 *     replace:["0xADDR"] · signed package
 *     proxy:["0xTARGET","salt",[init]?] · signature
 *     meter:[meter,schedule,gas?]          how gas is counted from the next block on; the operator's
 *     checkpoint                           this block carries the state's root, and later ones from time to time
 *     answer:["message"] · what came back  a member's, for a message that a contract sent
 *     epoch                                a member's, the first of an epoch (epochs.ts)
 *     skipped · skip                       a member's, for an entry that was passed (skips.ts)
 *     join · certificate, leave:["did"]    who the members are (members.ts)
 *     later, cancel, settled               delayed calls: `services/later/records.ts`
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { isContractAddress, type Route } from '../../cmtp/fqmn.ts'
import { decodePackage } from '../../cmtp/package.ts'
import { argumentsOf } from '../call.ts'
import { executeLater } from '../later/records.ts'
import type { Transaction } from '../state/batch.ts'
import type { EmittedEvent, Space, Write } from '../state/provider.ts'
import { orderCheckpoint } from '../state/checkpoints.ts'
import { DONE, failedExecution, jsonExecution, SYSTEM_SPACE, type Execution, type TransactionContext, type TransactionHandler } from '../state/transaction.ts'
import { checkCallable, isAddress, meterArguments, proxyArguments, systemArguments } from './arguments.ts'
import { Deliveries } from './deliveries.ts'
import { Deployments, forgetWrites, type Asked } from './deployments.ts'
import { openEpoch } from './epochs.ts'
import { ContractExecution } from './execution.ts'
import { parseGenesis, readGenesis, readOperator, writeGenesis } from './genesis.ts'
import { join, leave } from './members.ts'
import { changeMeter, Metering } from './metering.ts'
import type { ContractEngine } from './provider.ts'
import { contractRecord } from './records.ts'
import { recordSkip } from './skips.ts'

export interface ContractTransactionsParts {
  readonly engine: ContractEngine
  readonly space: (name: string) => Space
  /** Default: one of its own. */
  readonly metering?: Metering
}

export class ContractTransactions implements TransactionHandler {
  readonly #execution: ContractExecution
  readonly #deployments: Deployments
  readonly #deliveries: Deliveries

  constructor({ engine, space, metering = new Metering(engine, space(SYSTEM_SPACE)) }: ContractTransactionsParts) {
    this.#execution = new ContractExecution(engine, space, metering)
    this.#deployments = new Deployments(this.#execution)
    this.#deliveries = new Deliveries(this.#execution)
  }

  begin(seq: number): void {
    this.#execution.begin(seq)
  }

  execute(transaction: Transaction, route: Route, context: TransactionContext): Execution {
    const { sub } = transaction
    const [contract = '', name] = route.segments
    if (isContractAddress(sub)) return this.#deliveries.deliver(transaction, route, context)
    if (contract === SYSTEM_SPACE) return this.#system(name, transaction, route, context)
    const { engine, meter } = this.#execution
    checkCallable(engine, contract, name)
    checkCondition(transaction, contract, context)
    const input = argumentsOf({ route, body: transaction.body })
    return this.#execution.run({
      address: contract, function: name, input, caller: sub, origin: sub, gasLimit: meter.transactionGas, tx: transaction.id,
    }, context)
  }

  #system(name: string | undefined, transaction: Transaction, route: Route, context: TransactionContext): Execution {
    const asked: Asked = { by: transaction.sub, tx: transaction.id, body: transaction.body }
    switch (name) {
      case 'deploy':
        return this.#deployments.deploy(asked, context)
      case 'replace': {
        const [address] = systemArguments(route, 'replace takes ["<address>"]', isAddress)
        return this.#deployments.replace(address as string, asked, context)
      }
      case 'proxy':
        return this.#deployments.proxy(proxyArguments(route), asked, context)
      case 'meter':
        return this.#meter(transaction, route, context)
      case 'checkpoint':
        systemArguments(route, 'checkpoint takes no arguments')
        return orderCheckpoint(context)
      case 'answer':
        return this.#deliveries.answer(transaction, route, context)
      case 'join':
        return join(transaction, context)
      case 'epoch':
        return openEpoch(transaction, route, context)
      case 'skipped':
        return recordSkip(transaction, route, context)
      case 'leave':
        return leave(transaction, route, context)
      case 'later':
      case 'cancel':
      case 'settled':
        return executeLater(name, transaction, route, context)
      case 'genesis':
        return this.#genesis(transaction, context)
      default:
        throw new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: SYSTEM_SPACE, function: name ?? '(none)' })
    }
  }

  /** From the next block on. Whether an engine can count so is its node's to say: one that cannot must halt, not differ. */
  #meter(transaction: Transaction, route: Route, { system, seq }: TransactionContext): Execution {
    if (readOperator(system) !== transaction.sub) throw new CMeshError('CMESH_IAM_DENIED', { permission: 'write', fqmn: route.bare })
    const { meter, schedule, transactionGas = this.#execution.meter.transactionGas } = meterArguments(route)
    const change = { from: seq + 1, meter, schedule, transactionGas }
    changeMeter(system, change)
    return jsonExecution(change)
  }

  /** Who operates the mesh, who its members are, how gas is counted, and the contracts the mesh is born with. */
  #genesis(transaction: Transaction, context: TransactionContext): Execution {
    if (context.seq !== 1 || readGenesis(context.system) !== undefined) {
      throw new CMeshError('CMESH_STATE_GENESIS', { reason: 'the log has a beginning already' })
    }
    const { contracts, ...genesis } = parseGenesis(transaction.body)
    writeGenesis(context.system, { contracts, ...genesis })
    this.#execution.begin(context.seq)
    const writes: Write[] = []
    const events: EmittedEvent[] = []
    const done: string[] = []
    try {
      for (const { address, pkg } of contracts) {
        const placing = { by: genesis.operator, tx: transaction.id, gasLimit: genesis.meter.transactionGas }
        const installed = this.#deployments.install(address, decodePackage(pkg), placing, context)
        if (installed.status >= 400) throw CMeshError.fromWire(JSON.parse(Buffer.from(installed.output).toString('utf8')))
        done.push(address)
        writes.push(...installed.writes)
        events.push(...installed.events)
      }
    } catch (error) {
      for (const address of done) this.#execution.engine.remove(address)
      forgetWrites(this.#execution.space, writes)
      if (!(error instanceof CMeshError) || error.retry === 'bug') throw error
      return failedExecution(error)
    }
    return { ...DONE, status: 200, output: jsonExecution({ operator: genesis.operator, contracts: done }).output, writes, events }
  }
}

/** A call that was made for one code does nothing where another is in force, a proxy's being that of its target. */
function checkCondition({ condition }: Pick<Transaction, 'condition'>, contract: string, { system }: Pick<TransactionContext, 'system'>): void {
  if (condition === undefined) return
  const wanted = Buffer.from(condition).toString('hex')
  const { codeHash: found } = contractRecord(system, contract)
  if (found !== wanted) throw new CMeshError('CMESH_STATE_IF_MATCH', { contract, found, wanted })
}

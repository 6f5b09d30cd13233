/**
 * Deploying, replacing and proxying: the transactions that change which code runs where. They check who signed, put the code into
 * the engine, let it begin (`init`) or take over (`migrate`), and keep what was in force for later readers.
 *
 * Invariants:
 * 1. A transaction here that fails changes nothing: the engine runs what it ran before, and the recorder is undone.
 * 2. Bytes cost `DEPLOY_GAS_PER_BYTE` before anything looks at them, whatever becomes of them.
 * 3. A replacement keeps address, state and deployer; its number is one more than the last.
 */
import type { ContractRecord, ContractVersion } from '../../cmtp/contract-info.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import {
  codeHash, contractAddress, decodePackage, proxyAddress, splitSigned, verifyPackage, verifyProxy,
  type ContractManifest, type ContractPackage, type ProxyRequest,
} from '../../cmtp/package.ts'
import { heirOf } from '../iam/rotations.ts'
import type { Space, Write } from '../state/provider.ts'
import { jsonExecution, type Execution, type TransactionContext } from '../state/transaction.ts'
import { charging, type ContractExecution } from './execution.ts'
import { readOperator } from './genesis.ts'
import { meterText, type MeterRecord } from './metering.ts'
import type { ContractAbi, ContractEngine } from './provider.ts'
import {
  codeKey, contractKey, contractRecord, deployedModules, deployedProxies, moduleOf, proxyRecord, versionKey,
} from './records.ts'

/** What reading, checking, rewriting and compiling a byte of a package costs. */
export const DEPLOY_GAS_PER_BYTE = 60

export interface Asked {
  /** DID of who asks. */
  readonly by: string
  /** Id of the transaction. */
  readonly tx: string
  readonly body: Uint8Array
}

/** Who puts code somewhere, in which transaction, and the gas that is left for the code's first function. */
export interface Placing {
  readonly by: string
  readonly tx: string
  readonly gasLimit: number
}

/** Gives the engine every contract that the log has. To be called once, when state is open, with the meter in force. */
export function installDeployed(engine: ContractEngine, system: Space, space: (name: string) => Space): void {
  for (const [address, module] of deployedModules(system)) engine.install(address, module, space(address))
  for (const [address, target] of deployedProxies(system)) engine.proxy(address, target, space(address))
}

/** What never changes of a contract. */
type ContractOrigin = Pick<ContractRecord, 'address' | 'deployer' | 'seq' | 'deployedAtMs'>

export class Deployments {
  readonly #execution: ContractExecution

  constructor(execution: ContractExecution) {
    this.#execution = execution
  }

  /** The signed package in the body, at an address made of it and its deployer. */
  deploy({ by, tx, body }: Asked, context: TransactionContext): Execution {
    return this.#charging(body.length, '0x000', gasLimit => {
      const { packageBytes, signature } = splitSigned(body)
      const pkg = decodePackage(packageBytes)
      if (!verifyPackage(packageBytes, signature, { purpose: 'deploy' }, by)) throw unsigned('its signature is not its deployer\'s over this package, to deploy it')
      return this.install(contractAddress(packageBytes, by), pkg, { by, tx, gasLimit }, context)
    })
  }

  /** A package at an address: what `deploy` does once it knows who asks, and what genesis does. */
  install(address: string, pkg: ContractPackage, placing: Placing, context: TransactionContext): Execution {
    const { by } = placing
    const { system, seq, timeMs } = context
    const { engine } = this.#execution
    if (system.get(contractKey(address)) !== undefined) throw new CMeshError('CMESH_DEPLOY_EXISTS', { contract: address })
    checkMeter(pkg.manifest, this.#execution.meter)
    // The module outlives the message it came in, and must not hold that memory.
    const code = Uint8Array.from(pkg.module)
    const abi = engine.install(address, code, this.#execution.space(address))
    return this.#keeping(() => { engine.remove(address) }, () => {
      const { manifest, strategy } = pkg
      const version: ContractVersion = { version: 1, codeHash: codeHash(code), deployer: by, strategy, manifest, seq, timeMs }
      this.#keep({ address, deployer: by, seq, deployedAtMs: timeMs }, version, code, context)
      const reply = jsonExecution({ address, codeHash: version.codeHash, name: manifest.name, version: 1 })
      return this.#begin(address, abi, pkg.init, placing, reply, context)
    })
  }

  /** The signed package in the body, in the place of the code at `address`. */
  replace(address: string, { by, tx, body }: Asked, context: TransactionContext): Execution {
    return this.#charging(body.length, address, gasLimit => {
      const { system, seq, timeMs } = context
      const record = contractRecord(system, address)
      checkReplaceable(record, by, system)
      const { packageBytes, signature } = splitSigned(body)
      const { module, manifest, strategy, init } = decodePackage(packageBytes)
      const number = record.version + 1
      if (!verifyPackage(packageBytes, signature, { purpose: 'replace', target: address, version: number }, by)) {
        throw unsigned(`its signature is not yours over this package, as version ${number} of ${address}`)
      }
      if (init.length > 0) throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'it has init arguments, but a replacement does not begin anew' })
      checkMeter(manifest, this.#execution.meter)
      const code = Uint8Array.from(module)
      const { engine, space } = this.#execution
      const abi = engine.install(address, code, space(address))
      return this.#keeping(() => { engine.install(address, moduleOf(system, record.codeHash), space(address)) }, () => {
        const version: ContractVersion = { version: number, codeHash: codeHash(code), deployer: by, strategy, manifest, seq, timeMs }
        this.#keep(record, version, code, context)
        const reply = jsonExecution({ address, codeHash: version.codeHash, name: manifest.name, version: number, replaced: record.codeHash })
        const migrate = abi.functions.find(({ mode }) => mode === 'migrate')
        if (migrate === undefined) return reply
        const input = Buffer.from(JSON.stringify([record.manifest.version]))
        return answered(this.#execution.run({ address, function: migrate.name, input, caller: by, origin: by, gasLimit, tx }, context), reply)
      })
    })
  }

  /** A new address that runs the code of `target` on a state of its own. */
  proxy(request: ProxyRequest, { by, tx, body }: Asked, context: TransactionContext): Execution {
    return this.#charging(request.init.length, request.target, gasLimit => {
      const { system, seq, timeMs } = context
      const record = contractRecord(system, request.target)
      if (!verifyProxy(request, body, by)) throw unsigned('the body is not your signature over target, salt and arguments')
      const address = proxyAddress(request.target, request.salt, by)
      if (system.get(contractKey(address)) !== undefined) throw new CMeshError('CMESH_DEPLOY_EXISTS', { contract: address })
      const target = record.proxyOf ?? request.target
      const { engine, space } = this.#execution
      const abi = engine.proxy(address, target, space(address))
      return this.#keeping(() => { engine.remove(address) }, () => {
        system.setJson(contractKey(address), proxyRecord({ address, proxyOf: target, deployer: by, seq, deployedAtMs: timeMs }))
        const reply = jsonExecution({ address, target, codeHash: record.codeHash, name: record.manifest.name })
        return this.#begin(address, abi, Buffer.from(request.init), { by, tx, gasLimit }, reply, context)
      })
    })
  }

  /** Runs `init` where the code has one. */
  #begin(address: string, abi: ContractAbi, init: Uint8Array, { by, tx, gasLimit }: Placing, reply: Execution, context: TransactionContext): Execution {
    const first = abi.functions.find(({ mode }) => mode === 'init')
    if (first === undefined) {
      if (init.length > 0) throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'it has init arguments but the contract has no init function' })
      return reply
    }
    return answered(this.#execution.run({ address, function: first.name, input: init, caller: by, origin: by, gasLimit, tx }, context), reply)
  }

  #keep(of: ContractOrigin, version: ContractVersion, code: Uint8Array, { system }: TransactionContext): void {
    const { address, deployer, seq, deployedAtMs } = of
    const { version: number, codeHash: hash, strategy, manifest } = version
    const record: ContractRecord = { address, version: number, codeHash: hash, deployer, strategy, manifest, seq, deployedAtMs }
    system.setJson(contractKey(address), record)
    system.setJson(versionKey(address, number), version)
    if (system.get(codeKey(hash)) === undefined) system.set(codeKey(hash), code)
  }

  /** Does what comes after the engine has changed; where that fails the engine is put back. */
  #keeping(putBack: () => void, work: () => Execution): Execution {
    let done = false
    try {
      const execution = work()
      done = execution.status < 400
      return execution
    } finally {
      if (!done) putBack()
    }
  }

  /** Takes the gas of so many bytes; `work` gets what is left. */
  #charging(bytes: number, contract: string, work: (gasLimit: number) => Execution): Execution {
    const gas = bytes * DEPLOY_GAS_PER_BYTE
    const left = this.#execution.meter.transactionGas - gas
    if (left < 0) throw new CMeshError('CMESH_CONTRACT_OUT_OF_GAS', { contract, reason: `${bytes} bytes cost ${gas}` })
    return charging(gas, () => work(left))
  }
}

/** Who may replace a contract, and whether it may be replaced at all. Throws `CMESH_DEPLOY_IMMUTABLE` or `CMESH_DEPLOY_OWNER`. */
export function checkReplaceable(record: ContractRecord, by: string, system: Pick<Space, 'get'>): void {
  const { address, deployer, strategy, proxyOf } = record
  if (by !== heirOf(system, deployer) && by !== readOperator(system)) throw new CMeshError('CMESH_DEPLOY_OWNER', { contract: address })
  if (proxyOf !== undefined) throw new CMeshError('CMESH_DEPLOY_IMMUTABLE', { contract: address, reason: `it is a proxy and runs the code of ${proxyOf}` })
  if (strategy !== 'replaceable') throw new CMeshError('CMESH_DEPLOY_IMMUTABLE', { contract: address, reason: 'it was deployed as immutable' })
}

/** Throws `CMESH_DEPLOY_METER` for a package that is meant for another way to count gas. */
export function checkMeter({ meter, schedule }: ContractManifest, active: MeterRecord): void {
  if ((meter === 0 || meter === active.meter) && (schedule === 0 || schedule === active.schedule)) return
  throw new CMeshError('CMESH_DEPLOY_METER', { asked: `the package for ${meterText({ meter, schedule })}`, active: meterText(active) })
}

/** What was run, with the answer of the deployment in the place of its own. */
function answered(execution: Execution, { output }: Execution): Execution {
  return execution.status >= 400 ? execution : { ...execution, output }
}

function unsigned(reason: string): CMeshError {
  return new CMeshError('CMESH_DEPLOY_SIGNATURE', { reason })
}

/** Takes back what a transaction of several deployments wrote to spaces that were empty before it. */
export function forgetWrites(space: (name: string) => Space, writes: readonly Write[]): void {
  for (const write of writes) space(write.space).delete(write.key)
}

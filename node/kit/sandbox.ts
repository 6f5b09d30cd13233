/**
 * A mesh's contracts in one process, for tests: the engine and the transactions of a node on state in memory, without broker,
 * disk or clock. Sequence, time and identities are the test's to choose, so that every run comes to the same.
 *
 * A sandbox is made, used and thrown away within a few milliseconds; one a test is the way to use it.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { encodePackage, PACKAGE_SALT_BYTES, signPackage, signProxy, type ContractStrategy } from '../../cmtp/package.ts'
import { contractError } from '../../services/contracts/execution.ts'
import type { ContractAbi } from '../../services/contracts/provider.ts'
import { contractRecord } from '../../services/contracts/records.ts'
import { SYSTEM_SPACE } from '../../services/state/transaction.ts'
import { packageOf, type Code } from './code.ts'
import {
  SandboxContract, type Caller, type CallOptions, type CallResult, type CallSuccess, type ContractHost,
} from './contract.ts'
import { Deliveries, type Answer, type Delivery, type PendingMessage } from './deliveries.ts'
import { DEPLOYMENT, GasLedger, type GasReport } from './gas-report.ts'
import { identityOf, type Identity } from './identity.ts'
import { errorOf, Ledger, type LedgerSnapshot } from './ledger.ts'
import { failureOf, successOf } from './results.ts'
import { decodeValue, encodeArguments, type Argument } from './values.ts'

export interface SandboxOptions {
  /** Log time at the beginning in ms since 1970. Default 2026-01-01T00:00:00Z. */
  readonly timeMs?: number
  /** Most gas a transaction may use, 1 to 2^53 − 1. Default 20,000,000, that of a mesh. */
  readonly transactionGas?: number
  /** Most gas a view may use, 1 to 2^53 − 1. Default 2,000,000, that of a node. */
  readonly viewGas?: number
}

export interface DeployOptions {
  /** Arguments of `init`. Default: those of the package, else none. */
  readonly init?: readonly Argument[]
  /** Who deploys it. Default: the identity `deployer`. */
  readonly as?: Identity
  /** Whether it may be replaced. Default `replaceable`, whatever a package says. */
  readonly strategy?: ContractStrategy
}

/** State of a sandbox at one moment; see `Sandbox.snapshot`. */
export interface Snapshot {
  readonly sequence: number
  readonly timeMs: number
}

const DEFAULTS = { timeMs: Date.UTC(2026, 0, 1), transactionGas: 20_000_000, viewGas: 2_000_000 }

export class Sandbox {
  readonly #ledger: Ledger
  readonly #viewGas: number
  readonly #gas = new GasLedger()
  readonly #identities = new Map<string, Identity>()
  readonly #snapshots = new WeakMap<Snapshot, LedgerSnapshot>()
  readonly #deliveries: Deliveries
  readonly #host: ContractHost

  constructor(options: SandboxOptions = {}) {
    const { timeMs, transactionGas, viewGas } = { ...DEFAULTS, ...options }
    this.#viewGas = viewGas
    this.#ledger = new Ledger({ timeMs, transactionGas, operator: this.identity('operator').did })
    this.#deliveries = new Deliveries(this.#ledger, this.identity('operator').did, (address, name, gas) => { this.#gas.called(this.#nameOf(address), name, gas) })
    this.#host = {
      abiOf: (address) => this.#abi(address),
      call: (address, name, args, how) => this.#call(address, name, args, how),
      replace: (address, code, as) => this.#replace(address, code, as),
    }
  }

  /** Sequence of the last block; each transaction is a block of its own. */
  get sequence(): number {
    return this.#ledger.seq
  }

  /** Log time in ms since 1970. It stands still until `advance`. */
  get timeMs(): number {
    return this.#ledger.timeMs
  }

  /** Who acts; the same name is the same DID in every run. `operator` operates the mesh. */
  identity(name: string): Identity {
    let identity = this.#identities.get(name)
    if (identity === undefined) this.#identities.set(name, identity = identityOf(name))
    return identity
  }

  /** Deploys a module or a package, and runs its `init`. Throws the `CMeshError` of a refusal. */
  deploy(code: Code, { init, as = this.identity('deployer'), strategy = 'replaceable' }: DeployOptions = {}): SandboxContract {
    const pkg = packageOf(code)
    const bytes = encodePackage({
      ...pkg, salt: this.#salt(), strategy, ...(init !== undefined && { init: encodeArguments(init) }),
    })
    const outcome = this.#ledger.execute(`0xSW:${SYSTEM_SPACE}:deploy`, as.did, signPackage(bytes, { purpose: 'deploy' }, as))
    if (outcome.status >= 400) throw errorOf(outcome)
    const { address } = decodeValue(outcome.output) as { readonly address: string }
    this.#gas.deployed(pkg.manifest.name, pkg.module.length)
    this.#gas.called(pkg.manifest.name, DEPLOYMENT, Number(outcome.gas))
    return this.at(address)
  }

  /** A contract that runs another's code on a state of its own, and follows its replacements. Throws the `CMeshError` of a refusal. */
  proxy(target: SandboxContract, { init = [], as = this.identity('deployer') }: Omit<DeployOptions, 'strategy'> = {}): SandboxContract {
    const salt = this.#salt().toString('hex')
    const text = encodeArguments(init).toString()
    const body = signProxy({ target: target.address, salt, init: text }, as)
    const args = [JSON.stringify(target.address), JSON.stringify(salt), ...(text === '' ? [] : [text])]
    const outcome = this.#ledger.execute(`0xSW:${SYSTEM_SPACE}:proxy:[${args.join(',')}]`, as.did, body)
    if (outcome.status >= 400) throw errorOf(outcome)
    return this.at((decodeValue(outcome.output) as { readonly address: string }).address)
  }

  /** The contract at an address. Throws `CMESH_STATE_NO_CONTRACT`. */
  at(address: string): SandboxContract {
    this.#abi(address)
    return new SandboxContract(address, this.#host)
  }

  /** Moves the log on: its time by `ms`, its sequence by `blocks` in which nothing happens. Default: one block. */
  advance({ ms = 0, blocks = 1 }: { readonly ms?: number, readonly blocks?: number }): void {
    if (!Number.isSafeInteger(ms) || ms < 0) throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'ms', reason: 'log time goes forward, in whole milliseconds' })
    this.#ledger.timeMs += ms
    this.#ledger.skip(blocks)
  }

  /** Messages that contracts sent and that have no answer yet, the oldest first. */
  get pending(): readonly PendingMessage[] {
    return this.#deliveries.pending
  }

  /**
   * Delivers the messages that are under way now, and gives their answers to the contracts that sent them, as a mesh does after the
   * block; what these send in turn waits for the next time. `answer` says what anybody answers who is no contract of this
   * sandbox; it may answer for those, too. Throws for a message that nobody answers.
   */
  deliver(answer?: (message: PendingMessage) => Answer | undefined): Delivery[] {
    return this.#deliveries.deliver(answer)
  }

  /** Remembers all state as it is now. */
  snapshot(): Snapshot {
    const snapshot = Object.freeze({ sequence: this.sequence, timeMs: this.timeMs })
    this.#snapshots.set(snapshot, this.#ledger.snapshot())
    return snapshot
  }

  /** Puts all state back to what it was then, contracts deployed since included; a snapshot can be put back again and again. */
  restore(snapshot: Snapshot): void {
    const kept = this.#snapshots.get(snapshot)
    if (kept === undefined) throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'snapshot', reason: 'it is of another sandbox' })
    this.#ledger.restore(kept)
  }

  /** What the calls so far cost, by contract and function. Failed calls are left out. */
  gasReport(): GasReport {
    return this.#gas.report(this.#ledger.meter)
  }

  /** Lets go of every instance; the sandbox is of no use afterwards. Idempotent; what is not closed is collected. */
  close(): void {
    this.#ledger.close()
  }

  #call(address: string, name: string, args: readonly Argument[], options: CallOptions): CallResult {
    const mode = this.#abi(address).functions.find((each) => each.name === name)?.mode
    const result = mode === 'view' ? this.#view(address, name, args, options) : this.#transact(address, name, args, options)
    if (result.ok) this.#gas.called(this.#nameOf(address), name, result.gas)
    return result
  }

  #transact(address: string, name: string, args: readonly Argument[], { as, gas }: CallOptions): CallResult {
    const outcome = this.#ledger.execute(`0xSW:${address}:${name}`, this.#caller(as), encodeArguments(args), { gas })
    return outcome.status < 400 ? successOf(outcome) : failureOf(errorOf(outcome), Number(outcome.gas), outcome.seq)
  }

  #view(address: string, name: string, args: readonly Argument[], { as, gas = this.#viewGas }: CallOptions): CallResult {
    const caller = this.#caller(as)
    const { seq } = this.#ledger
    const result = this.#ledger.view({ address, function: name, input: encodeArguments(args), caller, gasLimit: gas })
    if (!result.ok) return failureOf(contractError(result), result.gas, seq)
    return { ok: true, value: decodeValue(result.output), gas: result.gas, seq, events: [], writes: [], sends: [] }
  }

  #replace(address: string, code: Code, as: Identity | undefined): CallSuccess {
    const { deployer, version } = contractRecord(this.#ledger.space(SYSTEM_SPACE), address)
    const signer = as ?? [...this.#identities.values()].find(({ did }) => did === deployer) ?? this.identity('deployer')
    const pkg = packageOf(code)
    const bytes = encodePackage({ ...pkg, salt: this.#salt(), strategy: 'replaceable' })
    const body = signPackage(bytes, { purpose: 'replace', target: address, version: version + 1 }, signer)
    const outcome = this.#ledger.execute(`0xSW:${SYSTEM_SPACE}:replace:${JSON.stringify([address])}`, signer.did, body)
    if (outcome.status >= 400) throw errorOf(outcome)
    this.#gas.deployed(pkg.manifest.name, pkg.module.length)
    return successOf(outcome)
  }

  #abi(address: string): ContractAbi {
    const abi = this.#ledger.engine.abi(address)
    if (abi === undefined) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract: address })
    return abi
  }

  #nameOf(address: string): string {
    return contractRecord(this.#ledger.space(SYSTEM_SPACE), address).manifest.name
  }

  #caller(as: Caller = this.identity('anyone')): string {
    return String(as)
  }

  /** Another one for each block, so that the same code can be deployed twice. */
  #salt(): Buffer {
    return hash('sha256', `cmesh/testing/salt\0${this.sequence}`, 'buffer').subarray(0, PACKAGE_SALT_BYTES)
  }
}

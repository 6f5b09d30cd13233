/**
 * Trying out a package without ordering anything: what its `init` or `migrate` would do, and how recorded calls would end on
 * the new code where they end so and so on the old. Nothing it does is seen by any other call.
 *
 * The new code runs under the contract's own address on an overlay of its state, so that it sees itself and is seen as it would
 * be. Between two calls the old code is back in its place and other work goes on. What a call writes to its own contract is
 * there for the calls after it; other contracts stay as they are.
 *
 * `0xS:0x000:dryrun:["deploy"]` and `0xS:0x000:dryrun:["replace", "0xADDR"]`; the body is JSON: `{"package": base64, "calls"?: [{"function",
 * "args"?, "caller"?}]}`, the package signed or not. Asked by whoever might do it in earnest.
 */
import { createHash } from 'node:crypto'
import { isUtf8 } from 'node:buffer'
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn, type Route } from '../../cmtp/fqmn.ts'
import type { ContractRecord, DryOutcome } from '../../cmtp/contract-info.ts'
import { codeHash, contractAddress, decodePackage, PACKAGE_SIGNATURE_BYTES, splitSigned, type ContractPackage } from '../../cmtp/package.ts'
import { jsonBody, jsonReply, type Call, type Reply } from '../call.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import type { Space, StateHead } from '../state/provider.ts'
import { SYSTEM_SPACE } from '../state/transaction.ts'
import { isAddress, systemArguments } from './arguments.ts'
import { checkMeter, checkReplaceable, DEPLOY_GAS_PER_BYTE } from './deployments.ts'
import { contractError } from './execution.ts'
import { Admission } from './messages.ts'
import type { Metering } from './metering.ts'
import { Overlay } from './overlay.ts'
import type { ContractEngine, ContractResult } from './provider.ts'
import { contractKey, contractRecord, moduleOf } from './records.ts'

export interface DryRunParts {
  readonly engine: ContractEngine
  readonly space: (name: string) => Space
  readonly head: () => StateHead
  readonly metering: Metering
  readonly guard: Pick<Guard, 'authorise'>
}

/** Most calls in one dry run. */
export const DRY_RUN_CALLS = 64

interface RecordedCall {
  readonly function: string
  readonly args: readonly unknown[]
  readonly caller: string
}

const COMPARED = ['status', 'output', 'writes', 'events', 'messages'] as const

export class DryRun {
  readonly #parts: DryRunParts

  constructor(parts: DryRunParts) {
    this.#parts = parts
  }

  /** Throws what the transaction in earnest would fail with, before its code runs. */
  async read(call: Call, auth: AuthContext): Promise<Reply> {
    const { route } = call
    const [what, address] = systemArguments(route, 'dryrun takes ["deploy"] or ["replace", "<address>"]',
      value => value === 'deploy' || value === 'replace', value => (value === undefined) === (first(route) === 'deploy') && (value === undefined || isAddress(value)))
    this.#parts.guard.authorise(auth, parseFqmn(`0xSW:${SYSTEM_SPACE}:${what as string}`))
    const body = jsonBody(call.body, '{"package", "calls"?}')
    const { pkg, bytes } = packageIn(body)
    checkMeter(pkg.manifest, this.#parts.metering.at(this.#parts.head().seq + 1))
    if (what === 'deploy') return jsonReply(this.#deploy(pkg, bytes, auth.sub))
    return jsonReply(await this.#replace(address as string, pkg, callsIn(body, auth.sub), bytes.length, auth.sub))
  }

  #deploy(pkg: ContractPackage, bytes: Uint8Array, by: string): object {
    const { engine, space } = this.#parts
    const address = contractAddress(bytes, by)
    if (space(SYSTEM_SPACE).get(contractKey(address)) !== undefined) throw new CMeshError('CMESH_DEPLOY_EXISTS', { contract: address })
    const code = Uint8Array.from(pkg.module)
    const { abi, ...report } = engine.inspect(code)
    const first = abi.functions.find(({ mode }) => mode === 'init')
    const gas = deployGas(bytes.length)
    const answer = { address, codeHash: codeHash(code), deployGas: gas, report }
    if (first === undefined) {
      if (pkg.init.length > 0) throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'it has init arguments but the contract has no init function' })
      return { ...answer, init: null }
    }
    engine.install(address, code, new Map())
    try {
      return { ...answer, init: outcomeOf(this.#run(address, first.name, pkg.init, by, this.#gas() - gas)) }
    } finally {
      engine.remove(address)
    }
  }

  async #replace(address: string, pkg: ContractPackage, calls: readonly RecordedCall[], bytes: number, by: string): Promise<object> {
    const { engine, space } = this.#parts
    const record = this.#record(address)
    checkReplaceable(record, by, space(SYSTEM_SPACE))
    const code = Uint8Array.from(pkg.module)
    const { abi, ...report } = engine.inspect(code)
    const old = moduleOf(space(SYSTEM_SPACE), record.codeHash)
    const [before, after] = [new Overlay(space(address)), new Overlay(space(address))]
    const gas = deployGas(bytes)
    const migrate = abi.functions.find(({ mode }) => mode === 'migrate')
    let migrated: DryOutcome | null = null
    if (migrate !== undefined) {
      const input = Buffer.from(JSON.stringify([record.manifest.version]))
      migrated = this.#on(record, code, after, migrate.name, input, by, this.#gas() - gas)
    }
    const compared: object[] = []
    let firstDifference: object | null = null
    for (const [i, { function: name, args, caller }] of calls.entries()) {
      // Other work goes on between two calls; what lies below the overlays may change, and the code must not.
      await new Promise(resolve => { setImmediate(resolve) })
      if (this.#record(address).version !== record.version) throw new CMeshError('CMESH_DEPLOY_IMMUTABLE', { contract: address, reason: 'it was replaced meanwhile' })
      const input = Buffer.from(JSON.stringify(args))
      const [then, now] = [this.#on(record, old, before, name, input, caller, this.#gas()), this.#on(record, code, after, name, input, caller, this.#gas())]
      const different = COMPARED.find(part => JSON.stringify(then[part]) !== JSON.stringify(now[part]))
      if (different !== undefined) firstDifference ??= { call: i, function: name, args, part: different, before: then[different], after: now[different] }
      compared.push({ function: name, args, same: different === undefined, before: then, after: now })
    }
    return { address, version: record.version + 1, codeHash: codeHash(code), deployGas: gas, report, migrate: migrated, calls: compared, firstDifference }
  }

  /** One function of the given code in the contract's place, for one turn; its own writes stay in the overlay. */
  #on(record: ContractRecord, code: Uint8Array, overlay: Overlay, name: string, input: Uint8Array, caller: string, gasLimit: number): DryOutcome {
    const { engine, space } = this.#parts
    const { address } = record
    engine.install(address, code, overlay)
    try {
      if (engine.abi(address)?.functions.some(f => f.name === name) !== true) return failed(new CMeshError('CMESH_STATE_NO_FUNCTION', { contract: address, function: name }))
      const result = this.#run(address, name, input, caller, gasLimit)
      if (result instanceof CMeshError) return failed(result)
      if (result.ok) overlay.apply(address, result.writes)
      return outcomeOf(result)
    } finally {
      engine.install(address, moduleOf(space(SYSTEM_SPACE), record.codeHash), space(address))
    }
  }

  #run(address: string, name: string, input: Uint8Array, caller: string, gasLimit: number): ContractResult | CMeshError {
    if (gasLimit < 1) return new CMeshError('CMESH_CONTRACT_OUT_OF_GAS', { contract: address, reason: 'its bytes alone cost more' })
    const { engine, space } = this.#parts
    const { seq, timeMs, chain } = this.#parts.head()
    const context = { seq: seq + 1, timeMs, caller, origin: caller, seed: createHash('sha256').update(chain).digest() }
    return engine.dryRun({ address, function: name, input, view: false, gasLimit, context, admit: new Admission(space(SYSTEM_SPACE), engine).admit })
  }

  #record(address: string): ContractRecord {
    return contractRecord(this.#parts.space(SYSTEM_SPACE), address)
  }

  #gas(): number {
    return this.#parts.metering.at(this.#parts.head().seq + 1).transactionGas
  }
}

/** What the bytes cost: those of the package and of the signature that comes with it in earnest. */
function deployGas(bytes: number): number {
  return (bytes + PACKAGE_SIGNATURE_BYTES) * DEPLOY_GAS_PER_BYTE
}

function first(route: Route): unknown {
  return (JSON.parse(route.args ?? '[]') as unknown[])[0]
}

/** The package in the body, and its bytes without a signature. */
function packageIn(body: Readonly<Record<string, unknown>>): { readonly pkg: ContractPackage, readonly bytes: Uint8Array } {
  const text = body['package']
  if (typeof text !== 'string') throw new CMeshError('CMESH_DEPLOY_MALFORMED', { reason: 'the body lacks a package in base64' })
  const bytes = Buffer.from(text, 'base64')
  try {
    return { pkg: decodePackage(bytes), bytes }
  } catch (error) {
    const { packageBytes } = splitSigned(bytes)
    try {
      return { pkg: decodePackage(packageBytes), bytes: packageBytes }
    } catch {
      // It is neither: what is wrong with it as it came says more.
      throw error
    }
  }
}

function callsIn({ calls = [] }: Readonly<Record<string, unknown>>, caller: string): readonly RecordedCall[] {
  if (!Array.isArray(calls) || calls.length > DRY_RUN_CALLS) throw new CMeshError('CMESH_CONTRACT_REVERT', { contract: SYSTEM_SPACE, reason: `a dry run takes a list of at most ${DRY_RUN_CALLS} calls.` })
  return calls.map((call: unknown) => {
    const { function: name, args = [], caller: by = caller } = (typeof call === 'object' && call !== null ? call : {}) as Record<string, unknown>
    if (typeof name !== 'string' || !Array.isArray(args) || typeof by !== 'string') {
      throw new CMeshError('CMESH_CONTRACT_REVERT', { contract: SYSTEM_SPACE, reason: 'a call of a dry run has a function, a list of arguments and a caller.' })
    }
    return { function: name, args, caller: by }
  })
}

function outcomeOf(result: ContractResult | CMeshError): DryOutcome {
  if (result instanceof CMeshError) return failed(result)
  if (!result.ok) return failed(contractError(result), result.gas)
  const { output, gas, writes, events, sends } = result
  return {
    status: 200, gas, output: shown(output),
    writes: writes.map(({ space, key, value }) => ({ space, key: shown(Buffer.from(key, 'latin1')), value: value === undefined ? null : shown(value) })),
    events: events.map(({ contract, topic, data }) => ({ contract, topic, data: shown(data) })),
    messages: sends.map(({ fqmn, body, reply }) => ({ fqmn, body: shown(body), reply })),
  }
}

function failed(error: CMeshError, gas = 0): DryOutcome {
  return { status: error.status, gas, output: error.toWire(), writes: [], events: [], messages: [] }
}

/** Text where it is UTF-8, else `{"base64": …}`. */
function shown(bytes: Uint8Array): unknown {
  return isUtf8(bytes) ? Buffer.from(bytes).toString('utf8') : { base64: Buffer.from(bytes).toString('base64') }
}

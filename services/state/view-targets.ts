/**
 * Views that were found and may be run, each remembered for all the addresses that ask for it and hung on their routes: who asks again finds
 * it there, and looks at nothing else of the address but its arguments. A target counts as long as the contract has the code that it was found in.
 */
import type { Route } from '../../cmtp/fqmn.ts'
import { encodeHeaders } from '../../cmtp/headers.ts'
import { TwoGenerations } from '../../cmtp/two-generations.ts'
import type { ContractAbi, ContractEngine, ContractResult } from '../contracts/provider.ts'
import { checkedView } from './checked-view.ts'

export class ViewTarget {
  readonly owner: ViewTargets
  /** Text of its own, and once it ran the engine's: one that is cut from an address keeps all of it, and has to be compared. */
  #contract: string
  /** As the code has it. */
  readonly name: string
  /** Of the code it was found in. */
  readonly abi: ContractAbi
  #gas = -1
  #gasNote = 0n
  #headers: Buffer = NO_HEADERS

  constructor(owner: ViewTargets, contract: string, name: string, abi: ContractAbi) {
    this.owner = owner
    this.#contract = contract
    this.name = name
    this.abi = abi
  }

  get contract(): string {
    return this.#contract
  }

  /** A run used so much: most use what the one before did. */
  ran({ gas, observed }: Pick<ContractResult, 'gas' | 'observed'>): void {
    if (gas === this.#gas) return
    this.#contract = observed.spaces[0] ?? this.#contract
    this.#gas = gas
    this.#gasNote = BigInt(gas)
    this.#headers = this.owner.headersOf(gas)
  }

  /** What the last run used. */
  get gasNote(): bigint {
    return this.#gasNote
  }

  /** The headers of its reply. */
  get headers(): Buffer {
    return this.#headers
  }
}

const NO_HEADERS = Buffer.alloc(0)

export class ViewTargets {
  readonly #engine: Pick<ContractEngine, 'abi'>
  readonly #hangs: boolean
  /** By contract and name. */
  readonly #targets = new Map<string, Map<string, ViewTarget>>()
  /** By gas. */
  readonly #headers = new TwoGenerations<number, Buffer>({ entries: 1_024 })

  /** `hangs`: whether there is room for a target on a route: where results are kept, these hang there. */
  constructor(engine: Pick<ContractEngine, 'abi'>, hangs: boolean) {
    this.#engine = engine
    this.#hangs = hangs
  }

  /** The view that an address asks for. Throws `CMESH_STATE_NO_CONTRACT`, `_NO_FUNCTION` or `_NOT_A_VIEW`. */
  of(route: Route): ViewTarget {
    const { kept } = route
    if (kept instanceof ViewTarget && kept.owner === this && this.#stands(kept)) return kept
    const [contract = '', name = ''] = route.segments
    let target = this.#targets.get(contract)?.get(name)
    if (target === undefined || !this.#stands(target)) target = this.#find(contract, name)
    if (this.#hangs) route.kept = target
    return target
  }

  /** Other code may be in force: what was found is found anew. */
  clear(): void {
    this.#targets.clear()
  }

  /** The headers of a view that used so much gas. */
  headersOf(gas: number): Buffer {
    let headers = this.#headers.get(gas)
    if (headers === undefined) {
      headers = encodeHeaders([['content-type', 'application/json'], ['x-cmesh-gas', String(gas)]])
      this.#headers.set(gas, headers)
    }
    return headers
  }

  #stands({ contract, abi }: ViewTarget): boolean {
    return this.#engine.abi(contract) === abi
  }

  #find(contract: string, name: string): ViewTarget {
    const { abi, declared } = checkedView(this.#engine, contract, name)
    const target = new ViewTarget(this, Buffer.from(contract).toString(), declared.name, abi)
    let ofContract = this.#targets.get(contract)
    if (ofContract === undefined) this.#targets.set(target.contract, ofContract = new Map<string, ViewTarget>())
    ofContract.set(target.name, target)
    return target
  }
}

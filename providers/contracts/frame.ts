/**
 * One contract under way in a call: what the host functions read and fill. A frame belongs to one function of one contract and is
 * never used again; nothing in it is a view into the contract's memory but `instance.memory`.
 */
import type { ContractCode } from './code-store.ts'
import type { ContractInstance } from './instance.ts'
import type { Draft, Home } from './journal.ts'
import type { HostCost } from './meter/schedule.ts'
import type { Run } from './run.ts'
import { ContractStop } from './stop.ts'

const EMPTY = new Uint8Array(0)

/** A contract as it stands under an address. */
export interface Contract extends Home {
  /** The code, which several addresses may share: what is put there under one counts for all. */
  readonly program: Program
  /** What a call of it alone observes. */
  readonly spaces: readonly string[]
}

/** Where an address finds its code. A proxy holds that of its target. */
export interface Program {
  /** The address whose deployment decides what stands here. */
  readonly owner: string
  /** Nothing once that contract was removed. */
  code: ContractCode | undefined
}

/** What one function of one contract is run with. */
export interface Entering {
  /** Who calls this contract: the caller of the run, or the contract that calls this one. */
  readonly caller: string
  readonly input: Uint8Array
  readonly view: boolean
  /** 1 for the called contract. */
  readonly depth: number
  readonly gas: number
  readonly slots: number
}

export class Frame {
  readonly run: Run
  readonly contract: Contract
  readonly instance: ContractInstance
  readonly draft: Draft
  readonly caller: string
  readonly input: Uint8Array
  readonly view: boolean
  readonly depth: number
  readonly gasLimit: number
  output: Uint8Array = EMPTY
  register: Uint8Array | undefined

  constructor(run: Run, contract: Contract, instance: ContractInstance, draft: Draft, entering: Entering) {
    this.run = run
    this.contract = contract
    this.instance = instance
    this.draft = draft
    this.caller = entering.caller
    this.input = entering.input
    this.view = entering.view
    this.depth = entering.depth
    this.gasLimit = entering.gas
  }

  /** Takes the gas of a host function over `bytes` bytes, before it does anything. */
  charge(cost: HostCost, bytes = 0): void {
    this.take(cost.base + cost.byte * bytes)
  }

  take(gas: number): void {
    if (!this.instance.take(gas)) throw outOfGas(this.gasLimit)
  }
}

export function outOfGas(limit: number): ContractStop {
  return new ContractStop('CMESH_CONTRACT_OUT_OF_GAS', `its limit was ${limit}`)
}

/** What the mesh says of contracts, as it stands in the JSON of a reply: what is at an address, its versions, and what a call would come to. */
import type { ContractManifest, ContractStrategy } from './package.ts'

/** One version of a contract's code. */
export interface ContractVersion {
  /** 1 and up. */
  readonly version: number
  /** SHA-256 of the module, hex. */
  readonly codeHash: string
  /** DID of who deployed it or put it in the place of the one before. */
  readonly deployer: string
  readonly strategy: ContractStrategy
  readonly manifest: ContractManifest
  /** Block that it is in force from, and the time of the log there in ms since 1970. */
  readonly seq: number
  readonly timeMs: number
}

export interface ContractRecord {
  readonly address: string
  /** Whose code runs here; a proxy follows its replacements. Absent where the code is the contract's own. */
  readonly proxyOf?: string
  /** Of the code in force. */
  readonly version: number
  readonly codeHash: string
  /** DID of who deployed it, and may replace it. */
  readonly deployer: string
  readonly strategy: ContractStrategy
  readonly manifest: ContractManifest
  /** Block that deployed it, and the time of the log there in ms since 1970. */
  readonly seq: number
  readonly deployedAtMs: number
}

/** How a call of a dry run ended, or would have. */
export interface DryOutcome {
  readonly status: number
  readonly gas: number
  /** The result, or the wire error. */
  readonly output: unknown
  readonly writes: readonly { readonly space: string, readonly key: unknown, readonly value: unknown }[]
  readonly events: readonly { readonly contract: string, readonly topic: string, readonly data: unknown }[]
  readonly messages: readonly { readonly fqmn: string, readonly body: unknown, readonly reply: string }[]
}

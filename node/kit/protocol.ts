/**
 * What the kit's process is asked and answers: one operation a process, named with its question as JSON on the command line, the
 * answer as one message on the process's channel. `client/cli/contract/kit-process.ts` is the other side.
 */
import type { WireError } from '../../cmtp/errors.ts'
import type { ModuleReport } from '../../services/contracts/provider.ts'
import type { GasReport } from './gas-report.ts'

/** What one call of a function cost, with zeros and empty texts as arguments, on empty state. */
export interface GasHint {
  readonly gas: number
  /** The code of the failure it ended with; absent when it succeeded. */
  readonly failed?: string
}

export interface InspectReport extends ModuleReport {
  readonly codeHash: string
  readonly hints: Readonly<Record<string, GasHint>>
}

export interface Operations {
  readonly check: { readonly ask: { readonly module: string }, readonly answer: ModuleReport }
  readonly inspect: { readonly ask: { readonly module: string }, readonly answer: InspectReport }
  readonly gas: { readonly ask: { readonly scenario: string, readonly code: string }, readonly answer: GasReport }
}

export type KitMessage = { readonly type: 'answer', readonly value: unknown } | { readonly type: 'failed', readonly error: WireError }

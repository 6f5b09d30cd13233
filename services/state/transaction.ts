/**
 * What the applier asks of whoever executes a transaction. Execution is deterministic: it may use the transaction, the
 * context and the state, and nothing else; no clock, no randomness, no token.
 */
import type { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import type { Transaction } from './batch.ts'
import type { EmittedEvent, Space, Write } from './provider.ts'

export { SYSTEM_SPACE } from './provider.ts'

export interface TransactionContext {
  /** Sequence of the block. */
  readonly seq: number
  /** Log time, ms since 1970. */
  readonly timeMs: number
  /** The chain before this block, 32 bytes: the same on every replica, and known to nobody before the block before is. */
  readonly chain: Uint8Array
  /** The epoch that this block is the first of; missing where it goes on in the one before. */
  readonly begins?: number
  /** The system space, with an undo for this transaction. */
  readonly system: Recorder
}

export interface Execution {
  readonly status: number
  readonly gas: bigint
  readonly output: Uint8Array
  /** Writes outside the system space; those inside it are in the recorder. */
  readonly writes: readonly Write[]
  readonly events: readonly EmittedEvent[]
}

/**
 * Executes transactions of one kind. A `CMeshError` it throws becomes the transaction's outcome and its writes are undone;
 * a `bug` class error or anything else halts the replica: a host's failure is never recorded as a result.
 */
export interface TransactionHandler {
  execute(transaction: Transaction, route: Route, context: TransactionContext): Execution
  /** Called before the transactions of block `seq`. What it throws halts the replica. */
  begin?(seq: number): void
}

export const DONE: Pick<Execution, 'gas' | 'writes' | 'events'> = { gas: 0n, writes: [], events: [] }

export function jsonExecution(value: unknown): Execution {
  return { ...DONE, status: 200, output: Buffer.from(JSON.stringify(value)) }
}

export function failedExecution(error: CMeshError, gas = 0n): Execution {
  return { ...DONE, gas, status: error.status, output: Buffer.from(JSON.stringify(error.toWire())) }
}

/** One transaction's changes to a space: applied at once, recorded, and undone when the transaction fails. */
export class Recorder {
  readonly #name: string
  readonly #space: Space
  /** Made with the first change: most transactions make none. */
  #before: Map<string, Uint8Array | undefined> | undefined

  constructor(name: string, space: Space) {
    this.#name = name
    this.#space = space
  }

  get(key: string): Uint8Array | undefined {
    return this.#space.get(key)
  }

  set(key: string, value: Uint8Array): void {
    this.#remember(key)
    this.#space.set(key, value)
  }

  delete(key: string): void {
    this.#remember(key)
    this.#space.delete(key)
  }

  getJson(key: string): unknown {
    const bytes = this.get(key)
    return bytes === undefined ? undefined : JSON.parse(Buffer.from(bytes).toString('utf8'))
  }

  setJson(key: string, value: unknown): void {
    this.set(key, Buffer.from(JSON.stringify(value)))
  }

  /** What was changed, one entry a key, in the order of first change. */
  writes(): readonly Write[] {
    if (this.#before === undefined) return NO_WRITES
    return [...this.#before.keys()].map(key => ({ space: this.#name, key, value: this.#space.get(key) }))
  }

  undo(): void {
    for (const [key, value] of this.#before ?? []) {
      if (value === undefined) this.#space.delete(key)
      else this.#space.set(key, value)
    }
    this.#before = undefined
  }

  #remember(key: string): void {
    this.#before ??= new Map()
    if (!this.#before.has(key)) this.#before.set(key, this.#space.get(key))
  }
}

const NO_WRITES: readonly Write[] = Object.freeze([])

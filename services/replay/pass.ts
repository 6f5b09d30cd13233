/**
 * One pass over a log in which any number of receipts are replayed, each where it belongs: told of every block before and after the state takes
 * it in. A receipt whose place is another log's is told so; one that cannot be run keeps none of the others from it.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { StatePosition } from '../../cmtp/layer.ts'
import { readMesh } from '../contracts/genesis.ts'
import type { Block, StateHead } from '../state/provider.ts'
import { SYSTEM_SPACE } from '../state/transaction.ts'
import { notReplayable, type Asked } from './asked.ts'
import type { Comparison } from './comparison.ts'
import { grouped } from './grouped.ts'
import type { Past } from './past.ts'
import { Replay, type ReplayOptions } from './replay.ts'

export type Replayed = Comparison | CMeshError

export class ReplayPass {
  readonly results = new Map<Asked, Replayed>()
  /** The last block that has anything to run in it or behind it. */
  readonly last: number
  readonly #past: Past
  readonly #replay: Replay
  readonly #views: ReadonlyMap<number, readonly Asked[]>
  readonly #transactions: ReadonlyMap<number, readonly Asked[]>
  #begun = false

  constructor(past: Past, asked: readonly Asked[], options: ReplayOptions = {}) {
    this.#past = past
    this.#replay = new Replay(past, options)
    const of = (run: Asked['run']): ReadonlyMap<number, readonly Asked[]> => grouped(asked.filter(one => one.run === run), ({ seq }) => seq)
    this.#views = of('view')
    this.#transactions = of('transaction')
    this.last = asked.reduce((last, { seq }) => Math.max(last, seq), 0)
  }

  /** Whether transactions of that block are to be run before the state takes it in. */
  holds(seq: number): boolean {
    return this.#transactions.has(seq)
  }

  before(block: Block): void {
    const wanted = (this.#transactions.get(block.seq) ?? []).filter(asked => this.#settled(asked, () => { this.#check(asked, asked.hop.before) }))
    if (wanted.length === 0) return
    this.#begun = true
    const left = new Set(wanted)
    try {
      this.#replay.block(block, wanted, (asked, comparison) => {
        left.delete(asked)
        this.results.set(asked, comparison)
      })
    } catch (error) {
      const failure = expected(error)
      for (const asked of left) this.results.set(asked, failure)
      return
    }
    for (const asked of left) {
      this.results.set(asked, asked.told === undefined ? notReplayable(`block ${block.seq} holds no transaction of that id`) : this.#replay.unheld(asked, asked.told))
    }
  }

  /** The state has taken in the block. */
  after(block: Block): void {
    if (this.#begun) this.#past.took(block)
    for (const asked of this.#transactions.get(block.seq) ?? []) this.#settled(asked, () => { this.#check(asked, asked.hop.after) })
    for (const asked of this.#views.get(block.seq) ?? []) {
      this.#begun = true
      this.#settled(asked, () => {
        this.#check(asked, asked.hop.before)
        this.results.set(asked, this.#replay.view(asked))
      })
    }
  }

  /** The log has no more blocks than `length`: what is left has no place in it. */
  end(length: number): void {
    for (const asked of [...this.#views.values(), ...this.#transactions.values()].flat()) {
      if (!this.results.has(asked)) this.results.set(asked, otherLog(asked.seq, `it ends at block ${length}`))
    }
  }

  /** Whether the work was done; a failure is its result. */
  #settled(asked: Asked, work: () => void): boolean {
    try {
      work()
      return true
    } catch (error) {
      this.results.set(asked, expected(error))
      return false
    }
  }

  #check({ receipt, seq }: Asked, recorded: StatePosition | undefined): void {
    const mesh = readMesh(this.#past.space(SYSTEM_SPACE))
    // Before the first block it is nobody's.
    if (mesh !== undefined && mesh !== receipt.record.mesh) throw otherLog(seq, `it is the log of the mesh ${mesh}, and the receipt of ${receipt.record.mesh}`)
    if (recorded !== undefined) checkPosition(recorded, this.#past.head)
  }
}

function checkPosition(recorded: StatePosition, head: StateHead): void {
  if (recorded.seq === head.seq && recorded.epoch === head.epoch && Buffer.compare(recorded.chain, head.chain) === 0) return
  const place = ({ epoch, chain }: Pick<StateHead, 'epoch' | 'chain'>): string => `the chain value ${Buffer.from(chain).toString('hex').slice(0, 16)} in epoch ${epoch}`
  throw otherLog(recorded.seq, `there it has ${place(head)}, and the receipt ${place(recorded)}`)
}

function otherLog(seq: number, reason: string): CMeshError {
  return new CMeshError('CMESH_RECEIPT_OTHER_LOG', { seq, reason })
}

function expected(error: unknown): CMeshError {
  if (error instanceof CMeshError && error.retry !== 'bug') return error
  throw error
}

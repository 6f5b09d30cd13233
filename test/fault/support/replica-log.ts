/** A replica's own log, read from outside while its node runs, as far as it has grown since it was read last. Every block is checked on the way. */
import { withLog } from '../../../node/archive/source.ts'
import { LogAudit } from '../../../node/archive/log-audit.ts'
import type { Block } from '../../../services/state/provider.ts'

export class ReplicaLog {
  readonly #dir: string
  readonly #audit: LogAudit
  #blocks = 0
  /** Chain values by sequence, for comparing with other replicas. */
  readonly #chains: string[] = ['']

  constructor(dir: string) {
    this.#dir = dir
    this.#audit = new LogAudit(dir)
  }

  get seq(): number {
    return this.#audit.head.seq
  }

  /** Hex; `undefined` for a sequence that was not read. */
  chainAt(seq: number): string | undefined {
    return this.#chains[seq]
  }

  /** Rejects with `CMESH_STATE_CORRUPT` for a block that does not follow, is not signed, or does not decode. */
  async read(each: (block: Block) => void): Promise<void> {
    await withLog(this.#dir, log => log.read(bytes => {
      const block = this.#audit.take(bytes)
      this.#blocks++
      this.#chains[block.seq] = Buffer.from(this.#audit.head.chain).toString('hex')
      each(block)
    }, this.#blocks))
  }
}

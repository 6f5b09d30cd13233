/** The audit log of a data directory as something to read, whether a node runs there or not: what is written ahead of it counts with it. */
import path from 'node:path'
import { aheadIn, aheadOf, type LogCopy } from '../../providers/registry.ts'
import { asBuffer } from '../../cmtp/wire.ts'
import { withLog } from './source.ts'

export class AuditCopy {
  /** Without what is ahead of it. */
  readonly log: LogCopy
  readonly #ahead: readonly Buffer[]

  constructor(log: LogCopy, ahead: readonly Buffer[]) {
    this.log = log
    this.#ahead = ahead
  }

  get path(): string {
    return this.log.path
  }

  get key(): Uint8Array {
    return this.log.key
  }

  get length(): number {
    return this.log.length + this.#ahead.length
  }

  /** Gives the blocks from `from` to before `to`, in order. Rejects as the log's reading does. */
  async read(take: (block: Buffer, batch: number) => void, from = 0, to = this.length): Promise<void> {
    const { length } = this.log
    if (from < length) await this.log.read((bytes, batch) => { take(asBuffer(bytes), batch) }, from, Math.min(to, length))
    for (let batch = Math.max(from, length); batch < to; batch++) take(this.#ahead[batch - length] as Buffer, batch)
  }
}

/** As `withLog`. */
export async function withAuditLog<T>(dataDir: string, use: (log: AuditCopy) => Promise<T>): Promise<T> {
  // Read before the log is copied: what is put onto it meanwhile is in the copy then.
  const found = await aheadIn(path.join(dataDir, 'audit'))
  return withLog(dataDir, async log => {
    let last: Uint8Array | undefined
    if (log.length > 0) await log.read(bytes => { last = bytes }, log.length - 1, log.length)
    return use(new AuditCopy(log, aheadOf(found, log.length, last).batches.map(({ block }) => asBuffer(block))))
  }, 'audit')
}

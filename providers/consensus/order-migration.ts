/**
 * Gives a log that a stream did not order a stream: one that begins behind it, in an epoch of its own. Making the stream is the whole of it,
 * and one call to the broker, so that whatever is interrupted leaves the log with its stream or without; the log itself is not touched. An
 * epoch is opened once: a stream that has entries is never taken away, and one of another log is left as it is.
 */
import type { JetStreamManager, StreamInfo } from '@nats-io/jetstream'
import { CMeshError } from '../../cmtp/errors.ts'
import type { LogHead } from '../../services/consensus/provider.ts'
import type { JetStreamBus } from '../jetstream/calls.ts'
import { ensureStream, findStream, managerOf, unusable } from '../jetstream/stream.ts'
import { checkGoesOn, orderBehind, orderedStream, otherStream, readOrder, type Order } from './ordered-stream.ts'

export interface OrderMigrationOptions {
  /** Default `CMESH_ORDER`. */
  readonly stream?: string
  readonly replicas: number
  readonly maxBytes: number
}

/** The end of a log, and what is known of it before that. */
export interface MigratedLog extends LogHead {
  readonly chain: Uint8Array
  /** The chain value where the stream that was found begins, hex; `undefined` where the log does not reach it. */
  readonly chainAtBase: string | undefined
}

/** What there is to be done: nothing any more, to make the stream, or to replace one that begins behind an earlier end of this log and was never used. */
export interface MigrationPlan {
  readonly what: 'there' | 'make' | 'replace'
  readonly stream: string
  readonly order: Order
}

export class OrderMigration {
  readonly #manager: JetStreamManager
  readonly #options: Required<OrderMigrationOptions>
  readonly #found: StreamInfo | undefined

  /** Looks at the broker. Rejects with `CMESH_BUS_STREAM`. */
  static async begin(bus: JetStreamBus, options: OrderMigrationOptions): Promise<OrderMigration> {
    const { stream = 'CMESH_ORDER' } = options
    const manager = await managerOf(bus)
    return new OrderMigration(manager, { ...options, stream }, await findStream(manager, stream))
  }

  private constructor(manager: JetStreamManager, options: Required<OrderMigrationOptions>, found: StreamInfo | undefined) {
    this.#manager = manager
    this.#options = options
    this.#found = found
  }

  /** The sequence behind which the stream that was found begins. */
  get base(): number | undefined {
    return this.#order?.base
  }

  /**
   * `log.epoch` is the last one that anything was said in. Throws `CMESH_CONSENSUS_MIGRATED` where the stream that is there is the log's own,
   * and the `CMESH_CONSENSUS_STREAM_*` that says what else it is.
   */
  plan(log: MigratedLog): MigrationPlan {
    const { stream } = this.#options
    const [found, old] = [this.#found, this.#order]
    if (log.seq === 0) throw new CMeshError('CMESH_CONSENSUS_MIGRATED', { reason: 'the log is empty, and a mesh can begin with a stream' })
    const next = (epoch: number): Order => orderBehind({ ...log, epoch: epoch + 1 })
    if (found === undefined) return { what: 'make', stream, order: next(log.epoch) }
    if (found.state.last_seq === 0 && old?.chain !== undefined && old.chain === log.chainAtBase && old.epoch > log.epoch) {
      return old.base === log.seq ? { what: 'there', stream, order: old } : { what: 'replace', stream, order: next(old.epoch) }
    }
    const { base, epoch } = checkGoesOn(stream, found, log)
    throw new CMeshError('CMESH_CONSENSUS_MIGRATED', { reason: `the stream ${stream} orders it in epoch ${epoch}, from sequence ${base + 1} on` })
  }

  /** Resolves when the stream stands. Rejects with `CMESH_BUS_STREAM`, and with `CMESH_CONSENSUS_STREAM_OTHER` where it is not the one any more that was looked at. */
  async run({ what, stream, order }: MigrationPlan): Promise<void> {
    if (what === 'there') return
    if (what === 'replace') await this.#checkUnused(stream)
    try {
      if (what === 'replace') await this.#manager.streams.delete(stream)
    } catch (thrown) {
      throw unusable(stream, thrown)
    }
    await ensureStream(this.#manager, orderedStream(this.#options, order))
  }

  /** Reading the log took a while, in which somebody may have begun to use the stream. */
  async #checkUnused(stream: string): Promise<void> {
    const now = await findStream(this.#manager, stream)
    if (now === undefined || (now.created === this.#found?.created && now.state.last_seq === 0)) return
    throw otherStream(stream, 'it was used or made anew while the log was read; look again')
  }

  get #order(): Order | undefined {
    return readOrder(this.#found?.config.description)
  }
}

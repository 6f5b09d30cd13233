/**
 * What was last seen of the ordering stream: whether it is still the one that this node started on, and how it reads as a Raft
 * group. It asks nothing; whoever has a report of the stream shows it.
 *
 * A stream that is gone, or shorter than what was delivered, is believed after a few reports in a row only: in a cluster
 * a leader that was just deposed, or elected, may say so for a moment. One with another birthday is believed at once. A server that names
 * no leader speaks for itself alone: one that was killed and reads its copy back says for seconds that the stream ends where it has come to.
 */
import type { CMeshError } from '../../cmtp/errors.ts'
import { quorumOf, type ConsensusMember, type ConsensusStatus } from '../../services/consensus/provider.ts'
import type { StreamReport } from '../jetstream/stream-api.ts'
import { lostStream, readOrder, type Order } from './ordered-stream.ts'

/** Reports in a row that say the same. */
const BELIEVED = 4

interface Follower {
  readonly id: string
  readonly lag: number
}

export class StreamView {
  readonly #stream: string
  #order: Order = { epoch: 0, base: 0 }
  #created: string | undefined
  #leader = ''
  #followers: readonly Follower[] = []
  #term = 1
  #gone = 0
  #short = 0

  constructor(stream: string) {
    this.#stream = stream
  }

  /** Takes up the stream as it is now. `server` is who answers where no cluster has a leader to name. */
  begin(order: Order, report: StreamReport, server: string): void {
    this.#order = order
    this.#created = report.created
    this.#members(report, server)
  }

  /**
   * Gives the error that ends the order, or nothing. `delivered` is how far the stream had been delivered when the report was
   * asked for, `now` how far it is.
   */
  look(report: StreamReport | undefined, delivered: number, now: number, server: string): CMeshError | undefined {
    if (report === undefined) return ++this.#gone < BELIEVED ? undefined : lostStream(this.#stream, 'it is gone')
    this.#gone = 0
    const { created, config, state, cluster } = report
    const order = readOrder(config.description)
    if (created !== this.#created || order?.base !== this.#order.base || order.epoch !== this.#order.epoch) {
      return lostStream(this.#stream, `it was made anew at ${created}`)
    }
    if (cluster !== undefined && (cluster.leader ?? '') === '') return undefined
    this.#short = state.last_seq < delivered ? this.#short + 1 : 0
    if (this.#short >= BELIEVED) return lostStream(this.#stream, `it ends at message ${state.last_seq}, and ${delivered} were read`)
    if (state.first_seq > now + 1) return lostStream(this.#stream, `it begins at message ${state.first_seq}, and ${now} were read`)
    this.#members(report, server)
    return undefined
  }

  /** `high`: the stream's newest sequence that is known. What a stream shows is committed. */
  status(high: number): ConsensusStatus {
    const { epoch, base } = this.#order
    const index = base + high
    const members = this.#standing(index)
    const quorum = quorumOf(members)
    return { provider: 'jetstream', epoch, term: this.#term, leader: this.#leader, lastIndex: index, commitIndex: index, quorum, members }
  }

  /** The lag is as old as the last report; but what is committed is held by a quorum, so those behind the least have it. */
  #standing(index: number): ConsensusMember[] {
    const holding = Math.floor((this.#followers.length + 1) / 2)
    const followers = this.#followers.map(({ id, lag }, i): ConsensusMember => {
      return { id, role: 'follower', matchIndex: i < holding ? index : Math.max(this.#order.base, index - lag) }
    })
    return [{ id: this.#leader, role: 'leader', matchIndex: index }, ...followers]
  }

  #members({ cluster }: StreamReport, server: string): void {
    // Between two leaders there is none to name: the last one stands.
    const leader = cluster === undefined ? server : cluster.leader ?? ''
    if (leader === '') return
    if (this.#leader !== '' && leader !== this.#leader) this.#term++
    this.#leader = leader
    const replicas = cluster?.replicas ?? []
    this.#followers = replicas.map(({ name, lag }) => ({ id: name, lag: lag ?? 0 })).sort((a, b) => a.lag - b.lag)
  }
}

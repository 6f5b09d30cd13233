/**
 * A replica that came to another state than a quorum: where it began, and the note that has it rebuilt. It decides nothing about who is
 * right: it is called where a quorum signed a chain value that this log has not.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Bus } from '../../bus/provider.ts'
import type { Log } from '../../log.ts'
import type { LogAnchor, ReplicaLog, StateStore } from '../provider.ts'
import { Peer } from './peer.ts'
import { Peers } from './peers.ts'

/** Who is named where no single one was heard. */
const A_QUORUM = 'of a quorum'

export interface DivergenceParts {
  /** The connection of the services. */
  readonly bus: Pick<Bus, 'request' | 'subscribe' | 'publish'>
  /** DID of this node. */
  readonly did: string
  readonly store: Pick<StateStore, 'head' | 'replica'>
  readonly log: Log
  /** How long one answer may take, in ms. Default 5,000. */
  readonly timeoutMs?: number
  /** How long others may take to say that they are there, in ms. Default 1,000. */
  readonly answerMs?: number
  /** Takes back what this node has claimed of its log: called before it is noted that the log counts no more. Default: nothing was claimed. */
  readonly forget?: () => Promise<void>
}

/**
 * Finds the first sequence whose chain value is another one than those have that signed `quorum`, a place that this log reaches, notes it in the store, and resolves with
 * the `CMESH_STATE_DIVERGED` to stop with. Where nobody of the quorum answers it is `quorum`'s own sequence: the latest it can be.
 */
export async function divergedAt(parts: DivergenceParts, quorum: LogAnchor): Promise<CMeshError> {
  const { store, log } = parts
  const { head, replica } = store
  if (replica === undefined) return new CMeshError('CMESH_STATE_DIVERGED', { seq: quorum.seq, members: A_QUORUM })
  const found = await fromPeers(parts, replica, quorum)
  const seq = found?.seq ?? quorum.seq
  const members = found?.did ?? A_QUORUM
  log.error({ seq, own: describe(head), quorum: describe(quorum), peer: found?.did }, 'the log of this node is not the one that a quorum has')
  // First: a claim that outlived its log would keep the next one from being taken.
  await parts.forget?.()
  await replica.markDiverged({ seq, own: describe(head), peers: [`${members}: ${describe(quorum)}`] })
  return new CMeshError('CMESH_STATE_DIVERGED', { seq, members })
}

/** The first sequence up to `high` at which the peer has another chain value than this log; they must differ at `high`. */
export async function firstDifference(replica: Pick<ReplicaLog, 'chainAt'>, peer: Pick<Peer, 'chainAt'>, high: number): Promise<number> {
  let equal = 0
  let differs = high
  while (differs - equal > 1) {
    const middle = Math.floor((equal + differs) / 2)
    const [ours, theirs] = await Promise.all([replica.chainAt(middle), peer.chainAt(middle)])
    if (Buffer.compare(ours, theirs) === 0) equal = middle
    else differs = middle
  }
  return differs
}

/** Asks those that have the quorum's chain value, and believes the first that answers to the end. */
async function fromPeers(
  { bus, did, log, timeoutMs = 5_000, answerMs = 1_000 }: DivergenceParts, replica: ReplicaLog, quorum: LogAnchor,
): Promise<{ readonly seq: number, readonly did: string } | undefined> {
  const peers = new Peers({ bus, did, answerMs })
  const tried = new Set<string>()
  try {
    peers.ask()
    for (let other = await peers.next(quorum.seq, tried); other !== undefined; other = await peers.next(quorum.seq, tried)) {
      tried.add(other)
      const peer = new Peer(bus, other, { timeoutMs })
      try {
        if (Buffer.compare(await peer.chainAt(quorum.seq), quorum.chain) !== 0) continue
        return { seq: await firstDifference(replica, peer, quorum.seq), did: other }
      } catch (thrown) {
        log.warn({ err: thrown, peer: other }, 'another member could not say where the logs begin to differ')
      }
    }
    return undefined
  } finally {
    peers.close()
  }
}

function describe({ epoch, seq, chain }: LogAnchor): string {
  return `epoch ${epoch}, sequence ${seq}, chain ${Buffer.from(chain).toString('hex')}`
}

/** The Consensus service: what anyone with a session may know of the order: `0xC:status`, `0xC:leader`, `0xC:tx:<id>`; and `0xC:receipt:<id>`. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { ReceiptFinder } from '../audit/finder.ts'
import { jsonReply, type Call, type Reply } from '../call.ts'
import type { AuthContext } from '../iam/guard.ts'
import type { StateService } from '../state/service.ts'
import type { ConsensusProvider } from './provider.ts'

export interface ConsensusServiceParts {
  readonly provider: Pick<ConsensusProvider, 'status'>
  readonly state: Pick<StateService, 'outcome' | 'head' | 'durability' | 'replicas' | 'readChecks'>
  /** Default: it gives none. */
  readonly receipts?: Pick<ReceiptFinder, 'fetch'>
}

export class ConsensusService {
  readonly #parts: ConsensusServiceParts

  constructor(parts: ConsensusServiceParts) {
    this.#parts = parts
  }

  readonly handle = (call: Call, auth: AuthContext): Reply | Promise<Reply> => {
    const { segments, write } = call.route
    const [action = '', argument] = segments
    if (write) throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'consensus', action, access: 'writing' })
    switch (action) {
      case 'status':
        return jsonReply(this.#status())
      case 'leader': {
        const { leader, term } = this.#parts.provider.status()
        return jsonReply({ leader, term })
      }
      case 'tx':
        return jsonReply(this.#transaction(argument ?? ''))
      case 'receipt':
        if (this.#parts.receipts === undefined) throw new CMeshError('CMESH_AUDIT_NO_RECEIPT', { id: argument ?? '' })
        return this.#parts.receipts.fetch(argument ?? '', auth, call.deadlineMs)
      default:
        throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'consensus', action, access: 'reading' })
    }
  }

  #status(): object {
    const { provider, state: { durability, readChecks } } = this.#parts
    return { ...provider.status(), head: this.#head(), durability, reads: readChecks?.mode, mesh: this.#mesh() }
  }

  /** The nodes that hold the log; left out where one node is all there is. */
  #mesh(): object | undefined {
    const { replicas, head } = this.#parts.state
    if (replicas === undefined) return undefined
    const members = replicas.members.map(({ seq, ...member }) => ({ ...member, head: seq, lag: Math.max(0, head.seq - seq) }))
    return { members, quorum: replicas.quorum, confirmed: replicas.confirmed }
  }

  #head(): object {
    const { epoch, seq, timeMs, chain } = this.#parts.state.head
    return { epoch, seq, timeMs, chain: Buffer.from(chain).toString('hex') }
  }

  /** The outcome without its content: who asked what stays between the caller and State. */
  #transaction(id: string): object {
    const outcome = this.#parts.state.outcome(id)
    if (outcome === undefined) throw new CMeshError('CMESH_CONSENSUS_NO_TX', { tx: id })
    const { status, gas, seq, timeMs } = outcome
    return { id, status, gas: gas.toString(), seq, timeMs }
  }
}

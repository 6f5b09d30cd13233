/**
 * Names of event channels: which names only services may publish on, and the name under which a contract's events appear. It never looks at who
 * asks; the Events service does.
 */
import { checkChannel, refusedChannel } from '../../cmtp/channel-name.ts'
import { isContractAddress, isSegment } from '../../cmtp/fqmn.ts'
import { LIMITS } from '../../cmtp/limits.ts'

/** The audit roots of this mesh. Services only. */
export const AUDIT_CHANNEL = 'audit'
/** One event per request that the miner routed: the pair of its request hash and its final hash. Services only. */
export const MINED_CHANNEL = 'events.mined'
/** Where dead letters are looked at and settled: `0xE:events.dead:…`. It has no events of its own. */
export const DEAD_CHANNEL = 'events.dead'

const RESERVED_PREFIX = 'events.'
const CONTRACT_PREFIX = `${RESERVED_PREFIX}state.contracts.`

/** Whether only services may publish on the channel: `audit`, and all that begins with `events.`. */
export function isReservedChannel(channel: string): boolean {
  return channel === AUDIT_CHANNEL || channel.startsWith(RESERVED_PREFIX)
}

export interface ContractEvent {
  /** The contract's address: `0x` and 3 or 64 lower-case hex digits. */
  readonly contract: string
  /** What the contract calls the event. */
  readonly topic: string
}

/**
 * The channel of one kind of event of one contract: `events.state.contracts.<contract>.<topic>`. Throws
 * `CMESH_EVENTS_CHANNEL` (400) for a contract that is no address, or a topic that makes the name invalid.
 */
export function contractEventChannel(contract: string, topic: string): string {
  const channel = `${CONTRACT_PREFIX}${contract}.${topic}`
  if (!isContractAddress(contract)) throw refusedChannel(channel, 'its contract is not an address')
  if (topic.length === 0) throw refusedChannel(channel, 'its topic is empty')
  checkChannel(channel)
  return channel
}

/** The contract and topic of a contract's event channel; `undefined` for every other name. Inverse of `contractEventChannel`. */
export function parseContractEventChannel(channel: string): ContractEvent | undefined {
  if (!channel.startsWith(CONTRACT_PREFIX) || channel.length > LIMITS.channelBytes || !isSegment(channel)) return undefined
  // An address holds no dot, so the first one ends it; a topic may hold more.
  const dot = channel.indexOf('.', CONTRACT_PREFIX.length)
  if (dot === -1 || dot === channel.length - 1) return undefined
  const contract = channel.slice(CONTRACT_PREFIX.length, dot)
  return isContractAddress(contract) ? { contract, topic: channel.slice(dot + 1) } : undefined
}

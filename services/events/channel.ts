/**
 * Names of event channels: what a name may look like, which names only services may publish on, and the name under
 * which a contract's events appear. It never looks at who asks; the Events service does.
 */
import { CMeshError } from '../../cmtp/errors.ts'
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

/** Longest part of a name that an error quotes, so that a hostile name does not fill a log. */
const QUOTED = 64

/**
 * Throws `CMESH_EVENTS_CHANNEL` (400) unless the name is one segment of an FQMN (letters, digits and `. _ - ~ ^`) of 1
 * to `LIMITS.channelBytes` bytes.
 */
export function checkChannel(channel: string): void {
  if (channel.length === 0) throw refused(channel, 'it is empty')
  // A segment is ASCII, so characters are bytes.
  if (channel.length > LIMITS.channelBytes) throw refused(channel, `it is longer than ${LIMITS.channelBytes} bytes`)
  if (!isSegment(channel)) throw refused(channel, 'only letters, digits and . _ - ~ ^ may stand in it')
}

/** Whether only services may publish on the channel: `audit`, and all that begins with `events.`. */
export function isReservedChannel(channel: string): boolean {
  return channel === AUDIT_CHANNEL || channel.startsWith(RESERVED_PREFIX)
}

/** Longest name of a group, in characters. */
const GROUP_CHARACTERS = 64

/** Throws `CMESH_EVENTS_GROUP` unless the name is one segment of an FQMN of 1 to 64 characters. */
export function checkGroup(channel: string, group: string): void {
  if (group.length <= GROUP_CHARACTERS && isSegment(group)) return
  const reason = `its name has 1 to ${GROUP_CHARACTERS} letters, digits and . _ - ~ ^`
  throw new CMeshError('CMESH_EVENTS_GROUP', { channel, group: group.slice(0, QUOTED), reason })
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
  if (!isContractAddress(contract)) throw refused(channel, 'its contract is not an address')
  if (topic.length === 0) throw refused(channel, 'its topic is empty')
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

function refused(channel: string, reason: string): CMeshError {
  const quoted = channel.length > QUOTED ? `${channel.slice(0, QUOTED)}…` : channel
  return new CMeshError('CMESH_EVENTS_CHANNEL', { channel: quoted, reason })
}

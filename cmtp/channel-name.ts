/**
 * Names of event channels and of the groups that share one: what they may look like. Who may publish or take is the Events service's to say.
 */
import { CMeshError } from './errors.ts'
import { isSegment } from './fqmn.ts'
import { LIMITS } from './limits.ts'

/** Longest part of a name that an error quotes, so that a hostile name does not fill a log. */
const QUOTED = 64
/** Longest name of a group, in characters. */
const GROUP_CHARACTERS = 64

/**
 * Throws `CMESH_EVENTS_CHANNEL` (400) unless the name is one segment of an FQMN (letters, digits and `. _ - ~ ^`) of 1
 * to `LIMITS.channelBytes` bytes.
 */
export function checkChannel(channel: string): void {
  if (channel.length === 0) throw refusedChannel(channel, 'it is empty')
  // A segment is ASCII, so characters are bytes.
  if (channel.length > LIMITS.channelBytes) throw refusedChannel(channel, `it is longer than ${LIMITS.channelBytes} bytes`)
  if (!isSegment(channel)) throw refusedChannel(channel, 'only letters, digits and . _ - ~ ^ may stand in it')
}

/** Throws `CMESH_EVENTS_GROUP` unless the name is one segment of an FQMN of 1 to 64 characters. */
export function checkGroup(channel: string, group: string): void {
  if (group.length <= GROUP_CHARACTERS && isSegment(group)) return
  const reason = `its name has 1 to ${GROUP_CHARACTERS} letters, digits and . _ - ~ ^`
  throw new CMeshError('CMESH_EVENTS_GROUP', { channel, group: group.slice(0, QUOTED), reason })
}

export function refusedChannel(channel: string, reason: string): CMeshError {
  const quoted = channel.length > QUOTED ? `${channel.slice(0, QUOTED)}…` : channel
  return new CMeshError('CMESH_EVENTS_CHANNEL', { channel: quoted, reason })
}

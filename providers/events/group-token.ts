/**
 * The token an event in hand is let go by: what the provider needs to find it again, since no node remembers who has what.
 *
 *     <kind>.<delivered>.<seq>.<consumer seq>.<time ns>      kind 0: an event of the channel, 1: one that was put back
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Handed } from '../jetstream/consumer-api.ts'

export interface TokenParts extends Omit<Handed, 'data' | 'headers' | 'pending'> {
  readonly again: boolean
}

const TOKEN = /^[01](?:\.(?:0|[1-9]\d{0,15})){3}\.\d{1,19}$/

export function formatToken({ again, delivered, seq, consumerSeq, timeNs }: TokenParts): string {
  return [again ? 1 : 0, delivered, seq, consumerSeq, timeNs].join('.')
}

/** Throws `CMESH_EVENTS_GROUP` for a text that no event has for a token. */
export function parseToken(channel: string, group: string, token: string): TokenParts {
  if (!TOKEN.test(token)) throw new CMeshError('CMESH_EVENTS_GROUP', { channel, group, reason: 'that is no token of an event in hand' })
  const [kind, delivered, seq, consumerSeq, timeNs = ''] = token.split('.')
  return { again: kind === '1', delivered: Number(delivered), seq: Number(seq), consumerSeq: Number(consumerSeq), timeNs }
}

export function noGroup(channel: string, group: string): CMeshError {
  return new CMeshError('CMESH_EVENTS_NO_GROUP', { channel, group })
}

export function tooMany(channel: string, group: string, limit: number): CMeshError {
  return new CMeshError('CMESH_EVENTS_GROUP', { channel, group, reason: `this mesh has ${limit} groups already, which is the most; remove one` })
}

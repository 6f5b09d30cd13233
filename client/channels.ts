/**
 * Events, as a client publishes, reads and follows them. The channel's rules are the Events service's. Only what would be no part of an address is
 * refused here: the mesh could name a place in the address alone, which nobody has typed.
 */
import { checkChannel, checkGroup } from '../cmtp/channel-name.ts'
import { REQUEST } from '../cmtp/correlate.ts'
import type { CMeshError } from '../cmtp/errors.ts'
import { parseFqmn } from '../cmtp/fqmn.ts'
import type { Connection } from './connection.ts'
import { Member, type GroupHandler, type GroupMember, type GroupOptions, type GroupTerms } from './group.ts'
import { integer, checkOptions } from './options.ts'
import { Follower, type ChannelEvent, type EventHandler, type Subscription } from './subscription.ts'
import type { VerbCall, VerbOptions } from './verbs.ts'

export interface Published {
  readonly channel: string
  /** 1 and up; rises within the channel. */
  readonly seq: number
}

export interface EventRange {
  /** First sequence, inclusive. Default 1. */
  readonly from?: number | undefined
  /** Last sequence, inclusive. Default: the newest. */
  readonly to?: number | undefined
  /** 1 to 1,000. Default 100. */
  readonly limit?: number | undefined
}

/** A group as the mesh has it. */
export interface GroupInfo extends GroupTerms {
  readonly channel: string
  readonly group: string
  /** Events that nobody took yet. */
  readonly waiting: number
  /** Events that somebody took, or that wait for their next attempt. */
  readonly inHand: number
}

export interface ChannelsParts {
  readonly call: VerbCall
  readonly connection: Connection
  readonly onWarning: (error: CMeshError) => void
}

const SEQUENCE = integer(1, Number.MAX_SAFE_INTEGER)
const RANGE_CHECKS = { from: SEQUENCE, to: SEQUENCE, limit: integer(1, 1_000) }

export class Channels {
  readonly #parts: ChannelsParts
  readonly #followers = new Set<Follower | Member>()

  constructor(parts: ChannelsParts) {
    this.#parts = parts
  }

  async publish(channel: string, payload: Uint8Array | string, options: VerbOptions): Promise<Published> {
    checkSource(channel)
    return (await this.#parts.call(`0xEW:${channel}`, { ...options, body: payload })).json()
  }

  async latest(channel: string, options: VerbOptions): Promise<ChannelEvent> {
    checkSource(channel)
    return (await this.#parts.call(`0xE:${channel}:read`, options)).json()
  }

  async range(channel: string, range: EventRange, options: VerbOptions): Promise<readonly ChannelEvent[]> {
    checkSource(channel)
    checkOptions('a range', range, RANGE_CHECKS)
    const body = JSON.stringify([range.from ?? null, range.to ?? null, range.limit ?? null])
    return (await this.#parts.call(`0xE:${channel}:range`, { ...options, body })).json()
  }

  async count(channel: string, options: VerbOptions): Promise<number> {
    checkSource(channel)
    return (await this.#parts.call(`0xE:${channel}:count`, options)).json()
  }

  async subscribe(channel: string, handler: EventHandler, options: VerbOptions): Promise<Subscription> {
    checkSource(channel)
    const { call, connection, onWarning } = this.#parts
    const follower = new Follower({ call, connection, onWarning, channel, handler, onEnd: () => this.#followers.delete(follower) })
    this.#followers.add(follower)
    await follower.start(options)
    return follower
  }

  async group(channel: string, group: string, handler: GroupHandler, options: GroupOptions): Promise<GroupMember> {
    checkChannel(channel)
    checkGroup(channel, group)
    const { call, connection, onWarning } = this.#parts
    const member = new Member({ call, connection, onWarning, channel, group, handler, options, onEnd: () => this.#followers.delete(member) })
    this.#followers.add(member)
    await member.start()
    return member
  }

  async groups(channel: string, options: VerbOptions): Promise<readonly GroupInfo[]> {
    checkChannel(channel)
    return (await this.#parts.call(`0xE:${channel}:groups`, options)).json()
  }

  async removeGroup(channel: string, group: string, options: VerbOptions): Promise<boolean> {
    checkChannel(channel)
    checkGroup(channel, group)
    // Sent once: what a second sending finds is that the group is gone. A node from before does not say whether there was one.
    const reply = await this.#parts.call(`0xEW:${channel}:${group}:remove`, { ...options, resendMs: REQUEST.timeoutMaxMs })
    return reply.json<{ readonly removed?: boolean }>().removed !== false
  }

  /** Ends every subscription and membership: no handler is called any more, and the mesh is told. */
  async close(): Promise<void> {
    await Promise.all([...this.#followers].map((follower) => follower.close()))
  }
}

/** A channel's name, or `0xR:<name>:<event>`. */
function checkSource(channel: string): void {
  if (channel.startsWith('0xR:')) parseFqmn(channel)
  else checkChannel(channel)
}

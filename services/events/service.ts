/**
 * The Events service: reads, publishes and tails channels, after the endpoint wrapper has checked who asks. Channels
 * `audit` and `events.*` are the services' own: nobody publishes there by a request.
 */
import { checkChannel } from '../../cmtp/channel-name.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { sha256 } from '../../cmtp/layer.ts'
import { argumentsOf, jsonBody, jsonReply, jsonTextReply, JSON_HEADERS, type Call, type Reply } from '../call.ts'
import type { AuthContext } from '../iam/guard.ts'
import type { HopNotes } from '../endpoint.ts'
import { traceparentOf } from '../traces/trace.ts'
import { isReservedChannel } from './channel.ts'
import { eventJson } from './event-json.ts'
import { GROUP_ACTIONS, type Groups } from './groups.ts'
import { isOfLetters, LETTER_ACTIONS, type Letters } from './letters.ts'
import type { EventRange, EventsProvider, MeshEvent } from './provider.ts'
import type { Tails } from './tails.ts'

/** Events of a range that gives no limit. */
const RANGE_DEFAULT = 100
/** Events read at once for a range: what is in memory of it beside the reply. */
const RANGE_PAGE = 16

/** Longest id of a tail, in characters. */
const TAIL_ID = 64

export interface EventsServiceParts {
  readonly provider: EventsProvider
  readonly tails: Tails
  readonly groups: Groups
  readonly letters: Letters
}

export class EventsService {
  readonly #provider: EventsProvider
  readonly #tails: Tails
  readonly #groups: Groups
  readonly #letters: Letters
  /** The encoded reply of an event: the newest of a channel is asked for over and over. */
  readonly #replies = new WeakMap<MeshEvent, Reply>()

  constructor(parts: EventsServiceParts) {
    this.#provider = parts.provider
    this.#tails = parts.tails
    this.#groups = parts.groups
    this.#letters = parts.letters
  }

  readonly handle = (call: Call, auth: AuthContext, notes: HopNotes): Reply | Promise<Reply> => {
    const { segments, write } = call.route
    const channel = segments[0] ?? ''
    if (write) return this.#write(channel, call, auth, notes)
    const action = segments[1] ?? 'read'
    if (action === 'read') {
      const event = this.#provider.latest(channel)
      return event instanceof Promise ? event.then(found => this.#latest(channel, found)) : this.#latest(channel, event)
    }
    if (isOfLetters(channel)) return this.#letters.read(action, call, auth)
    checkChannel(channel)
    switch (action) {
      case 'range':
        return this.#range(channel, rangeOf(call))
      case 'count':
        return this.#provider.count(channel).then(count => jsonReply(count))
      case 'groups':
        return this.#groups.list(channel)
      case 'tail':
        return this.#tail(channel, call, auth)
      default:
        throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'events', action, access: 'reading' })
    }
  }

  #latest(channel: string, event: MeshEvent | undefined): Reply {
    if (event === undefined) {
      checkChannel(channel)
      throw new CMeshError('CMESH_EVENTS_NO_CHANNEL', { channel })
    }
    let reply = this.#replies.get(event)
    if (reply === undefined) {
      const body = Buffer.from(JSON.stringify(eventJson(event)))
      reply = { status: 200, headers: JSON_HEADERS, body, bodyHash: sha256(body) }
      this.#replies.set(event, reply)
    }
    return reply
  }

  /** As many as asked for, or fewer: what fits into one body. Whoever wants the rest asks behind the last one it got. */
  async #range(channel: string, { from = 1, to, limit = RANGE_DEFAULT }: EventRange): Promise<Reply> {
    const events: string[] = []
    let bytes = '[]'.length
    for (let next = from; events.length < limit;) {
      const wanted = Math.min(RANGE_PAGE, limit - events.length)
      const page = await this.#provider.range(channel, { from: next, limit: wanted, ...(to !== undefined && { to }) })
      for (const event of page) {
        const text = JSON.stringify(eventJson(event))
        bytes += Buffer.byteLength(text) + 1
        if (bytes > LIMITS.bodyBytes) return jsonTextReply(Buffer.from(`[${events.join(',')}]`))
        events.push(text)
      }
      const last = page.at(-1)
      if (last === undefined || page.length < wanted || (to !== undefined && last.seq >= to)) break
      next = last.seq + 1
    }
    return jsonTextReply(Buffer.from(`[${events.join(',')}]`))
  }

  /** `0xEW:<channel>[:<payload>]` publishes; `0xEW:<channel>:<group>:<action>` is for a group, or for a dead letter. */
  #write(channel: string, call: Call, auth: AuthContext, notes: HopNotes): Promise<Reply> {
    const [, of = '', action] = call.route.segments
    const known = isOfLetters(channel) ? LETTER_ACTIONS : GROUP_ACTIONS
    if (action === undefined || call.route.segments.length > 3 || !known.has(action)) return this.#publish(channel, call)
    if (call.route.args !== undefined) throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: call.route.bare.length, expected: 'arguments in the body' })
    return isOfLetters(channel) ? this.#letters.settle(of, action, call, auth, notes) : this.#groups.handle(channel, of, action, call, auth)
  }

  async #publish(channel: string, call: Call): Promise<Reply> {
    checkChannel(channel)
    if (isReservedChannel(channel)) throw new CMeshError('CMESH_EVENTS_RESERVED', { channel })
    const { segments, args } = call.route
    if (segments.length > 2) throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: call.route.bare.length, expected: 'one payload behind the channel' })
    const inAddress = segments[1] !== undefined || args !== undefined
    if (inAddress && call.body.length > 0) throw new CMeshError('CMESH_FQMN_ARGUMENTS_TWICE')
    const data = inAddress ? Buffer.from(args ?? segments[1] ?? '', 'utf8') : call.body
    if (data.length > LIMITS.eventBytes) throw new CMeshError('CMESH_EVENTS_PAYLOAD', { bytes: data.length, limit: LIMITS.eventBytes })
    const traceparent = traceparentOf(call)
    const id = Buffer.from(call.id).toString('hex')
    const { seq } = await this.#provider.publish(channel, new Uint8Array(data), {
      id, origin: { request: id }, ...(traceparent !== undefined && { traceparent }),
    })
    return jsonReply({ channel, seq })
  }

  /** `0xE:<channel>:tail`: relays the channel to the caller's own inbox for as long as the lease is renewed. */
  #tail(channel: string, call: Call, auth: AuthContext): Reply {
    const body = jsonBody(call.body, '{"inbox", "tail"?, "close"?}')
    const { inbox, tail, close } = body
    if (typeof inbox !== 'string') throw new CMeshError('CMESH_FRAME_MALFORMED', { offset: 0, expected: 'an inbox in the body' })
    if (tail !== undefined && (typeof tail !== 'string' || tail.length > TAIL_ID)) {
      throw new CMeshError('CMESH_FRAME_MALFORMED', { offset: 0, expected: `a text of at most ${TAIL_ID} characters as tail` })
    }
    const request = { channel, inbox, auth, replySubject: call.replySubject, event: eventJson }
    if (close === true) return jsonReply(this.#tails.close(request, tail))
    return jsonReply(this.#tails.open(request, tail))
  }
}

/** `[from, to, limit]`, each optional or null. */
function rangeOf(call: Call): EventRange {
  const bytes = argumentsOf(call)
  if (bytes.length === 0) return {}
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(bytes).toString('utf8'))
  } catch {
    value = undefined
  }
  if (!Array.isArray(value) || value.length > 3) throw new CMeshError('CMESH_EVENTS_RANGE', { reason: 'its arguments are [from, to, limit]' })
  const [from, to, limit] = value.map((item: unknown, i) => {
    if (item === null) return undefined
    if (typeof item !== 'number' || !Number.isSafeInteger(item) || item < 1) throw new CMeshError('CMESH_EVENTS_RANGE', { reason: `argument ${i + 1} is not a whole number from 1` })
    return item
  })
  if (limit !== undefined && limit > LIMITS.eventRange) throw new CMeshError('CMESH_EVENTS_RANGE', { reason: `at most ${LIMITS.eventRange} events at once` })
  if (from !== undefined && to !== undefined && to < from) throw new CMeshError('CMESH_EVENTS_RANGE', { reason: 'it ends before it begins' })
  return { ...(from !== undefined && { from }), ...(to !== undefined && { to }), ...(limit !== undefined && { limit }) }
}

/**
 * Groups of takers: several members share a channel's events, each event goes to one of them until somebody is done with it.
 *
 *     0xEW:<channel>:<group>:open     {from?, ackWaitMs?, attempts?, backoffMs?}     makes the group where there is none
 *     0xEW:<channel>:<group>:pull     {max?, waitMs?}                                takes events
 *     0xEW:<channel>:<group>:ack      {tokens}                                       done with them
 *     0xEW:<channel>:<group>:nack     {token, error?, delayMs?}                      let go: again after a pause, or a dead letter
 *     0xEW:<channel>:<group>:remove
 *     0xE:<channel>:groups                                                           the groups of a channel
 *
 * Taking changes what others get, so it is a write, on the group's own address; who takes must be allowed to read the channel, too. Any node
 * answers any member: all that is known of a group is the provider's.
 *
 * Invariants: an event is handed out at most `attempts` times, then it is a dead letter of its group, and counts as done; a wait is cut
 * into pieces, and between them the caller's right is looked at again and a drain ends it.
 */
import { checkChannel, checkGroup } from '../../cmtp/channel-name.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { jsonBody, jsonReply, jsonTextReply, type Call, type Reply } from '../call.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import { compactJson } from './event-json.ts'
import type { Letters } from './letters.ts'
import type { EventGroups, GroupSettings, GroupState, Taken } from './provider.ts'

export interface GroupsParts {
  readonly provider: { readonly groups: EventGroups }
  readonly letters: Pick<Letters, 'ofEvent'>
  readonly guard: Pick<Guard, 'authorise'>
  /** ms since 1970. */
  readonly now: () => number
}

/** What may stand behind a group. */
export const GROUP_ACTIONS: ReadonlySet<string> = new Set(['open', 'pull', 'ack', 'nack', 'remove'])

const DEFAULTS: GroupSettings = { from: 'new', ackWaitMs: 30_000, attempts: 5, backoffMs: 1_000 }
/** Longest pause between two attempts, in ms. */
const BACKOFF_LAST_MS = 300_000
/** Most events of one pull, and most tokens of one ack. */
const MOST = 64
const WAIT_MOST_MS = 30_000
/** How long a wait goes on before the caller's right is looked at again, in ms. */
const PIECE_MS = 1_000
/** What is left of a deadline for the answer, in ms. */
const ANSWER_MS = 250
/** The most that one event takes of a reply: 64 KiB in base64, and what stands around it. */
const EVENT_JSON_BYTES = Math.ceil(LIMITS.eventBytes / 3) * 4 + 1_024

export class Groups {
  readonly #parts: GroupsParts
  #draining = false

  constructor(parts: GroupsParts) {
    this.#parts = parts
  }

  /** Ends what waits, within a second. */
  drain(): void {
    this.#draining = true
  }

  async list(channel: string): Promise<Reply> {
    return jsonReply((await this.#parts.provider.groups.list(channel)).map(stateJson))
  }

  /** `action`: one of `GROUP_ACTIONS`. */
  async handle(channel: string, group: string, action: string, call: Call, auth: AuthContext): Promise<Reply> {
    checkChannel(channel)
    checkGroup(channel, group)
    const { groups } = this.#parts.provider
    const body = call.body.length === 0 ? {} : jsonBody(call.body, 'what a group is asked')
    switch (action) {
      case 'open':
        this.#mayRead(channel, auth)
        return jsonReply(stateJson(await groups.open(channel, group, settingsOf(body))))
      case 'pull':
        return this.#pull(channel, group, body, call, auth)
      case 'ack':
        return this.#ack(channel, group, body)
      case 'nack':
        return this.#nack(channel, group, body)
      default:
        return jsonReply({ channel, group, removed: await groups.remove(channel, group) })
    }
  }

  async #pull(channel: string, group: string, body: Body, call: Call, auth: AuthContext): Promise<Reply> {
    const max = whole(body, 'max', 1, MOST) ?? 1
    const { now } = this.#parts
    const endMs = Math.min(now() + (whole(body, 'waitMs', 0, WAIT_MOST_MS) ?? 0), call.deadlineMs - ANSWER_MS)
    const events: string[] = []
    let bytes = '[]'.length
    for (;;) {
      this.#mayRead(channel, auth)
      this.#parts.guard.authorise(auth, call.route)
      const room = Math.floor((LIMITS.bodyBytes - bytes) / EVENT_JSON_BYTES)
      const wanted = Math.min(max - events.length, room)
      const waitMs = events.length > 0 || this.#draining ? 0 : Math.max(0, Math.min(PIECE_MS, endMs - now()))
      const taken = wanted === 0 ? [] : await this.#take(channel, group, wanted, waitMs)
      for (const one of taken) {
        const text = takenJson(one)
        bytes += Buffer.byteLength(text) + 1
        events.push(text)
      }
      const over = this.#draining || now() >= endMs
      if (events.length > 0 ? taken.length < wanted || events.length === max || wanted === 0 : over) break
    }
    return jsonTextReply(Buffer.from(`[${events.join(',')}]`))
  }

  /** What there is to take, without what was tried often enough: that becomes dead letters. */
  async #take(channel: string, group: string, max: number, waitMs: number): Promise<readonly Taken[]> {
    const taken = await this.#parts.provider.groups.take(channel, group, { max, waitMs })
    // Only what comes again can have been tried too often: the settings need no look for the rest.
    if (taken.every(({ attempt }) => attempt === 1)) return taken
    const { settings } = await this.#parts.provider.groups.state(channel, group)
    const alive: Taken[] = []
    for (const one of taken) {
      if (one.attempt <= settings.attempts) alive.push(one)
      else {
        const error = new CMeshError('CMESH_EVENTS_NOT_HANDLED', { channel, seq: one.event.seq, ackWaitMs: settings.ackWaitMs })
        await this.#parts.letters.ofEvent(group, one.event, { error, attempts: one.attempt - 1 })
        await this.#parts.provider.groups.done(channel, group, one.token)
      }
    }
    return alive
  }

  async #ack(channel: string, group: string, { tokens }: Body): Promise<Reply> {
    if (!Array.isArray(tokens) || tokens.length > MOST || !tokens.every(token => typeof token === 'string')) throw malformed(`at most ${MOST} tokens`)
    await Promise.all(tokens.map(token => this.#parts.provider.groups.done(channel, group, token)))
    return jsonReply({ done: tokens.length })
  }

  async #nack(channel: string, group: string, body: Body): Promise<Reply> {
    const { token } = body
    if (typeof token !== 'string') throw malformed('a token')
    const delayMs = whole(body, 'delayMs', 0, BACKOFF_LAST_MS)
    const error = errorOf(body['error'])
    const { groups } = this.#parts.provider
    const [{ settings }, { event, attempt }] = await Promise.all([groups.state(channel, group), groups.look(channel, group, token)])
    if (attempt < settings.attempts) {
      const retryMs = delayMs ?? Math.min(BACKOFF_LAST_MS, settings.backoffMs * 2 ** (attempt - 1))
      await groups.again(channel, group, token, retryMs)
      return jsonReply({ retryMs })
    }
    const dead = event === undefined ? null : await this.#parts.letters.ofEvent(group, event, { error, attempts: attempt })
    await groups.done(channel, group, token)
    return jsonReply({ dead })
  }

  #mayRead(channel: string, auth: AuthContext): void {
    this.#parts.guard.authorise(auth, parseFqmn(`0xE:${channel}:range`))
  }
}

type Body = Readonly<Record<string, unknown>>

function settingsOf(body: Body): GroupSettings {
  const { from = DEFAULTS.from } = body
  if (from !== 'new' && from !== 'first' && !(Number.isSafeInteger(from) && (from as number) >= 1)) throw malformed('"new", "first" or a sequence as from')
  return {
    from: from as GroupSettings['from'],
    ackWaitMs: whole(body, 'ackWaitMs', 100, 3_600_000) ?? DEFAULTS.ackWaitMs,
    attempts: whole(body, 'attempts', 1, 100) ?? DEFAULTS.attempts,
    backoffMs: whole(body, 'backoffMs', 0, 60_000) ?? DEFAULTS.backoffMs,
  }
}

function whole(body: Body, key: string, min: number, max: number): number | undefined {
  const value = body[key]
  if (value === undefined) return undefined
  if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) throw malformed(`a whole number from ${min} to ${max} as ${key}`)
  return value as number
}

/** What the member says went wrong. Texts alone, and only so much of them: it may be anything. */
function errorOf(value: unknown): { readonly code: string, readonly message: string } {
  const { code, message } = (typeof value === 'object' && value !== null ? value : {}) as Record<string, unknown>
  return { code: typeof code === 'string' ? code : 'unknown', message: typeof message === 'string' ? message : 'The member gave no reason.' }
}

function takenJson({ event, attempt, token }: Taken): string {
  const { channel, seq, timeMs, data, origin, traceparent } = event
  return JSON.stringify({ channel, seq, timeMs, data: compactJson(data), origin, traceparent, attempt, token })
}

function stateJson({ channel, group, settings, waiting, inHand }: GroupState): object {
  return { channel, group, ...settings, waiting, inHand }
}

function malformed(expected: string): CMeshError {
  return new CMeshError('CMESH_FRAME_MALFORMED', { offset: 0, expected: `in the body ${expected}` })
}

/**
 * Dead letters: what failed for good, with its error, how often it was tried and, of a call, the layers of the last try. Two kinds: an event
 * that a group did not get done, and a delayed call. Who may see a letter may settle it: who may take from the group, the caller of the call,
 * and the operator.
 *
 *     0xE:events.dead:list:[from?,limit?]   0xE:events.dead:show:["id"]
 *     0xEW:events.dead:<id>:replay          0xEW:events.dead:<id>:drop
 *
 * Invariants: a letter is written before what it is of is let go, under an id that follows from it, so that no crash loses one and none is
 * there twice; a replayed or dropped letter is gone, and a second time says so. A call is made again by its own caller alone.
 */
import { hash } from 'node:crypto'
import { CMeshError, type WireError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import type { Layer } from '../../cmtp/layer.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { argumentsOf, jsonReply, type Call, type Reply } from '../call.ts'
import type { HopNotes } from '../endpoint.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import { DEAD_CHANNEL } from './channel.ts'
import { compactJson, dataOf, type JsonData } from './event-json.ts'
import type { DelayedCall } from '../later/records.ts'
import type { LaterFailure } from '../later/runner.ts'
import type { DeadLetters, EventGroups, EventOrigin, MeshEvent, StoredLetter } from './provider.ts'

interface LetterCommon {
  readonly id: string
  /** When it was written, ms since 1970. */
  readonly timeMs: number
  /** Of the last try. */
  readonly error: Pick<WireError, 'code' | 'message'>
  /** How often it was tried. */
  readonly attempts: number
}

interface EventLetter extends LetterCommon {
  readonly kind: 'event'
  readonly channel: string
  readonly group: string
  readonly seq: number
  readonly eventTimeMs: number
  readonly data: JsonData
  readonly origin?: EventOrigin
}

/** A delayed call that failed for good. */
export interface CallLetter extends LetterCommon {
  readonly kind: 'call'
  readonly did: string
  readonly fqmn: string
  readonly body: JsonData
  /** When it was due, ms since 1970. */
  readonly atMs: number
  /** What each hop of the last try said. */
  readonly layers: readonly LetterLayer[]
}

type Letter = EventLetter | CallLetter

interface LetterLayer extends Pick<Layer, 'decision' | 'grant' | 'status' | 'startUs' | 'durationUs'> {
  readonly hop: string
  readonly node: string
  readonly fqmn: string
  readonly gas: string
}

export interface LettersParts {
  readonly provider: { readonly letters: DeadLetters, readonly groups: EventGroups }
  readonly guard: Pick<Guard, 'authorise'>
  readonly isOperator: (did: string) => boolean
  /** Asks once more for a delayed call, due at once, for who makes the call at hand. */
  readonly resend: (letter: CallLetter, call: Call, auth: AuthContext, notes: HopNotes) => Promise<Reply>
  /** ms since 1970. */
  readonly now: () => number
}

/** What may stand behind a letter's id. */
export const LETTER_ACTIONS: ReadonlySet<string> = new Set(['replay', 'drop'])

/** Letters read at once when listing. */
const PAGE = 64
const LIST_DEFAULT = 100
/** Characters of an error's message that a letter keeps. */
const MESSAGE_CHARACTERS = 1_024

export class Letters {
  readonly #parts: LettersParts

  constructor(parts: LettersParts) {
    this.#parts = parts
  }

  /** Writes an event's letter; gives its id. The same event of the same group has the same one. */
  async ofEvent(group: string, event: MeshEvent, { error, attempts }: Pick<EventLetter, 'error' | 'attempts'>): Promise<string> {
    const { channel, seq, timeMs: eventTimeMs } = event
    const id = hash('sha256', `event\0${channel}\0${group}\0${seq}`, 'hex').slice(0, 32)
    const { origin } = event
    const fields = {
      error: shortened(error), attempts, channel, group, seq, eventTimeMs, data: compactJson(event.data), ...(origin !== undefined && { origin }),
    }
    await this.#write({ kind: 'event', id, timeMs: this.#parts.now(), ...fields }, `${channel} ${group}`)
    return id
  }

  /** Writes the letter of a delayed call, under its id. */
  async ofCall({ id, did, fqmn, body, atMs }: DelayedCall, { error, attempts, layers }: LaterFailure): Promise<void> {
    const fields = { error: shortened(error), attempts, did, fqmn, body: compactJson(body), atMs, layers: letterLayers(layers) }
    await this.#write({ kind: 'call', id, timeMs: this.#parts.now(), ...fields }, did)
  }

  async read(action: string, call: Call, auth: AuthContext): Promise<Reply> {
    const args = argumentsIn(call)
    if (action === 'show' && args.length === 1 && typeof args[0] === 'string') {
      const { letter } = await this.#seen(args[0], auth)
      if (letter === undefined) throw new CMeshError('CMESH_EVENTS_NO_LETTER', { id: args[0].slice(0, 64) })
      return jsonReply(letter)
    }
    if (action === 'list' && args.length <= 2 && args.every(isCountOrNull)) {
      const [from, limit] = args as (number | null | undefined)[]
      return jsonReply(await this.#list(from ?? 1, Math.min(limit ?? LIST_DEFAULT, LIMITS.eventRange), auth))
    }
    throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'events', action: `${action} with these arguments`, access: 'reading dead letters' })
  }

  /** `action`: one of `LETTER_ACTIONS`. */
  async settle(id: string, action: string, call: Call, auth: AuthContext, notes: HopNotes): Promise<Reply> {
    const { letter, place } = await this.#seen(id, auth)
    const { letters, groups } = this.#parts.provider
    if (action === 'drop') return jsonReply({ id, dropped: letter !== undefined && await letters.remove(id) })
    if (letter === undefined) return jsonReply({ id, replayed: false })
    if (letter.kind === 'event') {
      const { channel, group, seq, eventTimeMs: timeMs, data, origin } = letter
      // An event that dies again has its letter in another place, so that it can be put back again.
      await groups.putBack(group, { channel, seq, timeMs, data: dataOf(data), ...(origin !== undefined && { origin }) }, `letter ${place}`)
    } else {
      if (letter.did !== auth.sub) throw new CMeshError('CMESH_IAM_DENIED', { permission: 'write', fqmn: call.route.bare })
      const reply = await this.#parts.resend(letter, call, auth, notes)
      if (reply.status >= 400) return reply
    }
    await letters.remove(id)
    return jsonReply({ id, replayed: true })
  }

  async #write(letter: Letter, owner: string): Promise<void> {
    await this.#parts.provider.letters.put(letter.id, Buffer.from(JSON.stringify(letter)), owner)
  }

  /** Those that the caller may see, without what was in them: `show` has that. */
  async #list(from: number, limit: number, auth: AuthContext): Promise<object> {
    const found: object[] = []
    for (let next = from; ;) {
      const page = await this.#parts.provider.letters.list(next, PAGE)
      for (const stored of page) {
        next = stored.place + 1
        const letter = letterOf(stored)
        if (letter === undefined || !this.#maySee(letter, auth)) continue
        found.push({ place: stored.place, ...outlineOf(letter) })
        if (found.length === limit) return { letters: found, next }
      }
      if (page.length < PAGE) return { letters: found, next: null }
    }
  }

  /** No letter where there is none that the caller may see. */
  async #seen(id: string, auth: AuthContext): Promise<{ readonly letter: Letter | undefined, readonly place: number }> {
    const stored = /^[0-9a-f]{1,64}$/.test(id) ? await this.#parts.provider.letters.get(id) : undefined
    const letter = stored === undefined ? undefined : letterOf(stored)
    return { letter: letter !== undefined && this.#maySee(letter, auth) ? letter : undefined, place: stored?.place ?? 0 }
  }

  #maySee(letter: Letter, auth: AuthContext): boolean {
    if (this.#parts.isOperator(auth.sub)) return true
    if (letter.kind === 'call') return letter.did === auth.sub
    const { channel, group } = letter
    try {
      for (const fqmn of [`0xE:${channel}:range`, `0xEW:${channel}:${group}:pull`]) this.#parts.guard.authorise(auth, parseFqmn(fqmn))
      return true
    } catch (error) {
      if (error instanceof CMeshError && error.code === 'CMESH_IAM_DENIED') return false
      throw error
    }
  }
}

/** Layers as a letter has them. */
function letterLayers(layers: readonly Layer[]): LetterLayer[] {
  return layers.map(({ site: { hop, node, fqmn }, decision, grant, status, startUs, durationUs, gas }) =>
    ({ hop, node, fqmn, decision, grant, status, startUs, durationUs, gas: gas.toString() }))
}

/** Whether the address is one of those for dead letters. */
export function isOfLetters(channel: string): boolean {
  return channel === DEAD_CHANNEL
}

function outlineOf(letter: Letter): object {
  const { kind, id, timeMs, error, attempts } = letter
  const what = letter.kind === 'event'
    ? { channel: letter.channel, group: letter.group, seq: letter.seq }
    : { did: letter.did, fqmn: letter.fqmn.slice(0, 256), atMs: letter.atMs }
  return { id, kind, timeMs, attempts, error, ...what }
}

function letterOf({ data }: StoredLetter): Letter | undefined {
  try {
    return JSON.parse(Buffer.from(data).toString('utf8')) as Letter
  } catch {
    // Nobody but the mesh writes there; what it did not write is no letter.
    return undefined
  }
}

function shortened({ code, message }: LetterCommon['error']): LetterCommon['error'] {
  return { code: code.slice(0, 64), message: message.slice(0, MESSAGE_CHARACTERS) }
}

function argumentsIn(call: Call): unknown[] {
  const bytes = argumentsOf(call)
  if (bytes.length === 0) return []
  try {
    const value: unknown = JSON.parse(Buffer.from(bytes).toString('utf8'))
    return Array.isArray(value) ? value : [value]
  } catch {
    return [undefined]
  }
}

function isCountOrNull(value: unknown): boolean {
  return value === null || (Number.isSafeInteger(value) && (value as number) >= 1)
}

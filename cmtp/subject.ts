/**
 * The NATS subjects of the mesh. Only this file builds or splits one. Text that comes from a caller becomes one token in
 * which no `.`, `*`, `>`, space or control character survives.
 *
 * A connection has an id: a newcomer's user nkey, or the session's. Where a broker has accounts it lets each connection use only
 * the subjects and inboxes with its own id in them, so that a subject says who sent the message.
 */

const ROOT = 'cmesh.v1'

/** Where the holder of session `<sid>` sends its requests; the router's queue group listens on the wildcard. */
export const REQUEST_WILDCARD = `${ROOT}.req.*`
/** Where the gateway of session `<via>` sends what it carries for session `<sid>`: `req.<via>.<sid>`. */
export const CARRIED_WILDCARD = `${ROOT}.req.*.*`
const REQUEST_PREFIX = `${ROOT}.req.`
export const ROUTER_QUEUE = 'router'

const HELLO_PREFIX = `${ROOT}.hello.`
/** Steps of the handshake, by the connection they come from (a guest's or a session's), for any node. */
export const HELLO_WILDCARD = `${ROOT}.hello.*`
export const IAM_QUEUE = 'iam'

const MINE_PREFIX = `${ROOT}.mine.`
/** Requests that the miner takes up, by the session they come from; kept in its stream. */
export const MINE_WILDCARD = `${ROOT}.mine.*`

/** Node to node: what was revoked, and the heartbeat of that feed. */
export const REVOKED_SUBJECT = `${ROOT}.ctl.revoked`
/** Node to node: asks the others what was revoked, and by which keys they sign; answered on `revokedAnswerSubject`. */
export const REVOKED_ASK_SUBJECT = `${REVOKED_SUBJECT}.ask`

/** Where that is answered to the run `boot` of a node. */
export function revokedAnswerSubject(boot: string): string {
  return controlSubject('revoked', 'to', boot)
}

/** Node to node: what each member claims to hold of the log. */
export const CLAIM_SUBJECT = `${ROOT}.claim`

/** Where replies go: `_INBOX.<cid>.…`, the connection's own. */
export const INBOX_PREFIX = '_INBOX.'

/** Every event subject; a channel is the one token behind it. */
export const EVENT_WILDCARD = `${ROOT}.evt.*`
const EVENT_PREFIX = `${ROOT}.evt.`
/** Where the stream of events republishes what it stored: a word behind the channel's token keeps it out of the stream itself. */
export const EVENT_STORED = Object.freeze({ wildcard: `${EVENT_WILDCARD}.stored`, mapping: `${EVENT_PREFIX}{{wildcard(1)}}.stored` })

const LETTER_PREFIX = `${ROOT}.dead.`
const AGAIN_PREFIX = `${ROOT}.again.`
/**
 * Dead letters: `dead.<id>.<owner>.<ms since 1970>.<bytes>`, by which the broker tells how much an owner has without reading any; older ones are
 * at `dead.<id>`. And what was put back for one group alone: `again.<channel>.<group>`.
 */
export const LETTER_WILDCARD = `${LETTER_PREFIX}>`
export const AGAIN_WILDCARD = `${AGAIN_PREFIX}*.*`

const FLOOR_PREFIX = `${ROOT}.floor.`
/** Up to where each group has settled its events, noted under the name of its consumer. */
export const FLOOR_WILDCARD = `${FLOOR_PREFIX}*`

/** Where proposals go to get their place in the order that a stream keeps, and where that stream republishes what it stored. */
export function orderSubject(stream: string): string {
  return `${ROOT}.order.${encodeToken(stream)}`
}

export function orderStoredSubject(stream: string): string {
  return `${orderSubject(stream)}.stored`
}

export function requestSubject(sid: string): string {
  return REQUEST_PREFIX + encodeToken(sid)
}

/** The session id of a request subject that no gateway is in; `undefined` for any other subject. */
export function sessionOfSubject(subject: string): string | undefined {
  if (!subject.startsWith(REQUEST_PREFIX)) return undefined
  return plain(subject.slice(REQUEST_PREFIX.length))
}

/** Where the gateway of session `via` sends a request under the token of session `sid`, which it carries. */
export function carriedSubject(via: string, sid: string): string {
  return `${REQUEST_PREFIX}${encodeToken(via)}.${encodeToken(sid)}`
}

/** Whose request a subject is, and which gateway's connection it came from; `undefined` when it is no request subject. */
export function originOfSubject(subject: string): { readonly sid: string, readonly via: string | undefined } | undefined {
  if (!subject.startsWith(REQUEST_PREFIX)) return undefined
  const dot = subject.indexOf('.', REQUEST_PREFIX.length)
  const sid = plain(dot < 0 ? subject.slice(REQUEST_PREFIX.length) : subject.slice(dot + 1))
  if (sid === undefined) return undefined
  if (dot < 0) return { sid, via: undefined }
  const via = plain(subject.slice(REQUEST_PREFIX.length, dot))
  return via === undefined ? undefined : { sid, via }
}

/** A step of the handshake on connection `cid`; with `node` for that node alone. */
export function helloSubject(cid: string, node?: string): string {
  return `${HELLO_PREFIX}${encodeToken(cid)}${node === undefined ? '' : `.${encodeToken(node)}`}`
}

/** What IAM of `node` listens on, beside the wildcard. */
export function helloNodeSubject(node: string): string {
  return `${HELLO_WILDCARD}.${encodeToken(node)}`
}

/** The connection that a step of the handshake came from; `undefined` for a subject that is none. */
export function connectionOfHello(subject: string): string | undefined {
  if (!subject.startsWith(HELLO_PREFIX)) return undefined
  const dot = subject.indexOf('.', HELLO_PREFIX.length)
  return dot < 0 ? plain(subject.slice(HELLO_PREFIX.length)) : plain(subject.slice(HELLO_PREFIX.length, dot))
}

/** Where the holder of session `sid` leaves requests to be mined. */
export function mineSubject(sid: string): string {
  return MINE_PREFIX + encodeToken(sid)
}

/** The session that a request to be mined came from; `undefined` for a subject that is none. */
export function sessionOfMine(subject: string): string | undefined {
  return subject.startsWith(MINE_PREFIX) ? plain(subject.slice(MINE_PREFIX.length)) : undefined
}

/** What every inbox of connection `cid` begins with. */
export function inboxPrefix(cid: string): string {
  return `${INBOX_PREFIX}${encodeToken(cid)}.`
}

/**
 * Whether a reply may go there for a message of connection `cid`, which is one plain token as all that subjects are read for. Anywhere
 * else the mesh's own connection would speak where the caller may not. Allocates nothing.
 */
export function isReplyOf(cid: string, reply: string): boolean {
  return reply.startsWith(INBOX_PREFIX) && reply.startsWith(cid, INBOX_PREFIX.length)
    && reply.charCodeAt(INBOX_PREFIX.length + cid.length) === DOT && reply.length > INBOX_PREFIX.length + cid.length + 1
}

export function serviceSubject(service: string, verb: string): string {
  return `${ROOT}.svc.${encodeToken(service)}.${encodeToken(verb)}`
}

export function eventSubject(channel: string): string {
  return EVENT_PREFIX + encodeToken(channel)
}

/** The channel of an event subject; `undefined` when it is none. */
export function channelOfSubject(subject: string): string | undefined {
  return subject.startsWith(EVENT_PREFIX) ? decodeToken(subject.slice(EVENT_PREFIX.length)) : undefined
}

/** Where letters of before they had owners are. */
export function oldLetterSubject(id: string): string {
  return LETTER_PREFIX + encodeToken(id)
}

/** The letter of that id, whoever's it is. */
export function letterOfId(id: string): string {
  return `${oldLetterSubject(id)}.>`
}

/** All letters of an owner. */
export function lettersOf(owner: string): string {
  return `${LETTER_PREFIX}*.${encodeToken(owner)}.>`
}

export interface LetterPlace {
  readonly owner: string
  readonly timeMs: number
  readonly bytes: number
}

export function letterSubject(id: string, { owner, timeMs, bytes }: LetterPlace): string {
  return `${oldLetterSubject(id)}.${encodeToken(owner)}.${timeMs}.${bytes}`
}

export function letterOfSubject(subject: string): string | undefined {
  return subject.startsWith(LETTER_PREFIX) ? plain(subject.slice(LETTER_PREFIX.length).split('.', 1)[0] as string) : undefined
}

/** When a letter was written, and its size; `undefined` for any other subject. */
export function letterSize(subject: string): Pick<LetterPlace, 'timeMs' | 'bytes'> | undefined {
  const [timeMs, bytes] = subject.startsWith(LETTER_PREFIX) ? subject.slice(LETTER_PREFIX.length).split('.').slice(2).map(Number) : []
  return Number.isSafeInteger(timeMs) && Number.isSafeInteger(bytes) ? { timeMs: timeMs as number, bytes: bytes as number } : undefined
}

export function againSubject(channel: string, group: string): string {
  return `${AGAIN_PREFIX}${encodeToken(channel)}.${encodeToken(group)}`
}

export function floorSubject(consumer: string): string {
  return FLOOR_PREFIX + encodeToken(consumer)
}

/** Node to node: heartbeats, revocations, health, drain. */
export function controlSubject(...tokens: readonly string[]): string {
  return [`${ROOT}.ctl`, ...tokens.map(encodeToken)].join('.')
}

const DOT = 0x2e
const PLAIN = /^[A-Za-z0-9_-]+$/

/** Ids of connections and sessions stand for themselves: what was escaped is none, and no other spelling of one. */
function plain(token: string): string | undefined {
  return PLAIN.test(token) ? token : undefined
}

/**
 * One subject token for any text, reversible. Letters, digits, `_` and `-` stand for themselves, every other byte of the
 * UTF-8 becomes `=` and two hex digits (the quoted-printable spelling, RFC 2045); the empty text is `=`.
 */
export function encodeToken(text: string): string {
  if (PLAIN.test(text)) return text
  let token = ''
  for (const byte of Buffer.from(text, 'utf8')) {
    const plain = (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x30 && byte <= 0x39)
      || byte === 0x5f || byte === 0x2d
    token += plain ? String.fromCharCode(byte) : `=${byte.toString(16).padStart(2, '0')}`
  }
  return token === '' ? '=' : token
}

/** The text of a token; `undefined` when no text encodes to it. */
export function decodeToken(token: string): string | undefined {
  if (PLAIN.test(token)) return token
  if (token === '=') return ''
  const bytes: number[] = []
  for (let i = 0; i < token.length; i++) {
    if (token.charAt(i) === '=') {
      bytes.push(Number.parseInt(token.slice(i + 1, i + 3), 16))
      i += 2
    } else {
      bytes.push(token.charCodeAt(i))
    }
  }
  const text = Buffer.from(bytes.map(byte => (Number.isNaN(byte) ? 0 : byte))).toString('utf8')
  // Re-encoding is the check: it refuses upper-case hex, escapes of plain characters, bad UTF-8 and everything else at once.
  return encodeToken(text) === token ? text : undefined
}

/**
 * The NATS subjects of the mesh. Only this file builds or splits one. Text that comes from a caller becomes one token in
 * which no `.`, `*`, `>`, space or control character survives.
 */

const ROOT = 'cmesh.v1'

/** Where the holder of session `<sid>` sends its requests; the router's queue group listens on the wildcard. */
export const REQUEST_WILDCARD = `${ROOT}.req.*`
const REQUEST_PREFIX = `${ROOT}.req.`
export const ROUTER_QUEUE = 'router'

/** The first step of the handshake, open to anyone. */
export const HELLO_SUBJECT = `${ROOT}.hello`
/** The later steps of every node. */
export const HELLO_WILDCARD = `${HELLO_SUBJECT}.*`
export const IAM_QUEUE = 'iam'

/** Requests that the miner takes up; captured by its stream. */
export const MINE_SUBJECT = `${ROOT}.mine`

/** Node to node: what was revoked, and the heartbeat of that feed. */
export const REVOKED_SUBJECT = `${ROOT}.ctl.revoked`

/** Every event subject; a channel is the one token behind it. */
export const EVENT_WILDCARD = `${ROOT}.evt.*`
const EVENT_PREFIX = `${ROOT}.evt.`
/** Where the stream of events republishes what it stored: a word behind the channel's token keeps it out of the stream itself. */
export const EVENT_STORED = Object.freeze({ wildcard: `${EVENT_WILDCARD}.stored`, mapping: `${EVENT_PREFIX}{{wildcard(1)}}.stored` })

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

/** The session id of a request subject; `undefined` when it is none. */
export function sessionOfSubject(subject: string): string | undefined {
  if (!subject.startsWith(REQUEST_PREFIX)) return undefined
  return decodeToken(subject.slice(REQUEST_PREFIX.length))
}

/** The handshake's later steps, pinned to the node that answered the first. */
export function helloSubject(node: string): string {
  return `${HELLO_SUBJECT}.${encodeToken(node)}`
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

/** Node to node: heartbeats, revocations, health, drain. */
export function controlSubject(...tokens: readonly string[]): string {
  return [`${ROOT}.ctl`, ...tokens.map(encodeToken)].join('.')
}

const PLAIN = /^[A-Za-z0-9_-]+$/

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

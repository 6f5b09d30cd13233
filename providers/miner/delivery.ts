/**
 * What JetStream says about a delivery and what it is told in return (NATS ADR-13 and ADR-15). Text in, text out; nothing
 * is sent from here.
 */

export interface Delivery {
  /** Sequence of the message in its stream. */
  readonly seq: number
  /** How often it was handed out, this time included. */
  readonly count: number
  /** Messages behind it that were not handed out yet. */
  readonly pending: number
}

/** Done: forget it. */
export const ACK = Buffer.from('+ACK')
/** In progress: wait on. */
export const WORKING = Buffer.from('+WPI')
/** Never again: forget it though it is not done. */
export const TERM = Buffer.from('+TERM')

/** Not done: hand it out again after so many ms. */
export function nak(delayMs: number): Buffer {
  return Buffer.from(delayMs > 0 ? `-NAK {"delay":${delayMs * 1e6}}` : '-NAK')
}

/**
 * Reads the subject where the broker wants to hear about a delivery:
 * `$JS.ACK.<stream>.<consumer>.<count>.<stream seq>.<consumer seq>.<time>.<pending>`, or the longer form that has domain and
 * account hash behind `ACK` and may have more at its end. `undefined` for any other subject.
 */
export function deliveryOf(reply: string | undefined): Delivery | undefined {
  const tokens = reply?.split('.') ?? []
  if (tokens[0] !== '$JS' || tokens[1] !== 'ACK') return undefined
  const at = tokens.length === 9 ? 4 : 6
  const [count, seq, pending] = [tokens[at], tokens[at + 1], tokens[at + 4]].map(Number)
  if (count === undefined || seq === undefined || pending === undefined) return undefined
  return count > 0 && seq > 0 && pending >= 0 ? { seq, count, pending } : undefined
}

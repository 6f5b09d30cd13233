/**
 * What was recorded of a request beside what it comes to when it is run again, layer by layer. A layer that ran nothing on state is not
 * compared: grants and decisions of that time are what `receipt verify` is for.
 */
import { isUtf8 } from 'node:buffer'
import type { DecodedLayer } from '../../cmtp/layer.ts'
import type { EmittedEvent, Write } from '../state/provider.ts'
import type { Asked } from './asked.ts'

/** `target`: what a name stood for. `request`: what the log says was asked. */
export type Part = 'target' | 'request' | 'status' | 'gas' | 'result' | 'writes' | 'events'

export interface Difference {
  readonly part: Part
  readonly recorded: unknown
  readonly replayed: unknown
}

export interface ComparedLayer {
  readonly hop: string
  readonly address: string
  /** `verified`: nothing of it was run again. `unseen`: it comes behind the first that differs, or is kept back. */
  readonly outcome: 'same' | 'differs' | 'verified' | 'unseen'
}

export interface Comparison {
  readonly verdict: 'identical' | 'differs'
  /** The block that a view ran behind, or that holds the transaction. */
  readonly seq: number
  readonly layers: readonly ComparedLayer[]
  /** Index of the first layer that differs. */
  readonly layer: number | undefined
  /** In that layer. */
  readonly differences: readonly Difference[]
}

/** An event where it is read. */
interface OnChannel {
  readonly channel: string
  readonly data: Uint8Array
}

/** Collects what differs in one layer. */
export class Differences {
  readonly found: Difference[] = []

  /** Compared as they are shown. */
  add(part: Part, recorded: unknown, replayed: unknown): void {
    if (JSON.stringify(recorded) !== JSON.stringify(replayed)) this.found.push({ part, recorded, replayed })
  }

  bytes(part: Part, recorded: Uint8Array, replayed: Uint8Array): void {
    if (Buffer.compare(recorded, replayed) !== 0) this.found.push({ part, recorded: shown(recorded), replayed: shown(replayed) })
  }

  /** In their order, which is part of the block. */
  writes(recorded: readonly Write[], replayed: readonly Write[]): void {
    this.add('writes', recorded.map(shownWrite), replayed.map(shownWrite))
  }

  /** An event that was told, and what stands in its place; `undefined` for nothing. */
  told(recorded: OnChannel, replayed: OnChannel | undefined): void {
    this.add('events', [shownTold(recorded)], replayed === undefined ? [] : [shownTold(replayed)])
  }

  events(recorded: readonly EmittedEvent[], replayed: readonly EmittedEvent[]): void {
    this.add('events', recorded.map(shownEvent), replayed.map(shownEvent))
  }
}

/** `compare` gives what differs in a layer, `undefined` where nothing of it was run. */
export function compared({ layers, seq }: Asked, compare: (layer: DecodedLayer) => Differences | undefined): Comparison {
  let layer: number | undefined
  let differences: readonly Difference[] = []
  const each = layers.map((decoded, i): ComparedLayer => {
    if (decoded === undefined) return { hop: 'kept back', address: '', outcome: 'unseen' }
    const { hop, fqmn, target } = decoded
    const at = { hop, address: target ?? fqmn }
    if (layer !== undefined) return { ...at, outcome: 'unseen' }
    const found = compare(decoded)?.found
    if (found === undefined) return { ...at, outcome: 'verified' }
    if (found.length === 0) return { ...at, outcome: 'same' }
    layer = i
    differences = found
    return { ...at, outcome: 'differs' }
  })
  return { verdict: layer === undefined ? 'identical' : 'differs', seq, layers: each, layer, differences }
}

function shownWrite({ space, key, value }: Write): object {
  return { contract: space, key: shown(Buffer.from(key, 'latin1')), value: value === undefined ? null : shown(value) }
}

function shownEvent({ contract, topic, data }: EmittedEvent): object {
  return { contract, topic, data: shown(data) }
}

function shownTold({ channel, data }: OnChannel): object {
  return { channel, data: shown(data) }
}

/** Text where it is text without control characters, else `hex:…`; so is text that begins like that, since what is shown alike counts as the same. */
function shown(bytes: Uint8Array): string {
  const text = isUtf8(bytes) ? Buffer.from(bytes).toString('utf8') : undefined
  return text !== undefined && !/^hex:|\p{Cc}/u.test(text) ? text : `hex:${Buffer.from(bytes).toString('hex')}`
}

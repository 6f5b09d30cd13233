/**
 * The headers of a stored event: which trace it belongs to, and what it came from. How they are written, and how they are read back, from a message and
 * from a header block as the broker's API gives it. What cannot be read is not there.
 *
 *   traceparent    W3C Trace Context
 *   cmesh-origin   message id of the request, 32 hex digits [ · space · sequence of the block that holds the event · space · its index ]
 */
import type { MsgHdrs } from '@nats-io/nats-core'
import type { EventOrigin, MeshEvent } from '../../services/events/provider.ts'

type Said = Pick<MeshEvent, 'traceparent' | 'origin'>

const TRACEPARENT = 'traceparent'
const ORIGIN = 'cmesh-origin'
const IN_BLOCK = /\r\n(traceparent|cmesh-origin): ?([^\r\n]+)(?=\r\n)/g
const ORIGIN_TEXT = /^([0-9a-f]{32})(?: ([1-9][0-9]{0,15}) (0|[1-9][0-9]{0,5}))?$/

/** The headers of an event, by name; `undefined` where it has none. */
export function eventHeaders({ traceparent, origin }: Said): Record<string, string> | undefined {
  if (traceparent === undefined && origin === undefined) return undefined
  return { ...(traceparent !== undefined && { [TRACEPARENT]: traceparent }), ...(origin !== undefined && { [ORIGIN]: originText(origin) }) }
}

export function saidBy(headers: MsgHdrs | undefined): Said {
  return headers === undefined ? {} : said(headers.get(TRACEPARENT), headers.get(ORIGIN))
}

/** The same of a header block in base64. */
export function saidByBlock(block: string | undefined): Said {
  if (block === undefined) return {}
  const found = new Map(Array.from(Buffer.from(block, 'base64').toString('latin1').matchAll(IN_BLOCK), ([, name = '', value = '']) => [name, value]))
  return said(found.get(TRACEPARENT) ?? '', found.get(ORIGIN) ?? '')
}

function said(traceparent: string, originAsText: string): Said {
  const origin = originOf(originAsText)
  return { ...(traceparent !== '' && { traceparent }), ...(origin !== undefined && { origin }) }
}

function originText({ request, block, index }: EventOrigin): string {
  return block === undefined || index === undefined ? request : `${request} ${block} ${index}`
}

function originOf(text: string): EventOrigin | undefined {
  const [, request, block, index] = ORIGIN_TEXT.exec(text) ?? []
  if (request === undefined || !Number.isSafeInteger(Number(block ?? 1))) return undefined
  return { request, ...(block !== undefined && { block: Number(block), index: Number(index) }) }
}

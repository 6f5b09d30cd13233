/** An event as JSON, and what is read back of it: its data as text where it is UTF-8, otherwise as `{"base64": …}`. */
import type { EventOrigin, MeshEvent } from './provider.ts'

/** Data as it stands in JSON. */
export type JsonData = string | { readonly base64: string }

export function eventJson(event: MeshEvent): Omit<MeshEvent, 'data'> & { readonly data: JsonData } {
  const { channel, seq, timeMs, origin, traceparent } = event
  return { channel, seq, timeMs, data: dataJson(event.data), ...(origin !== undefined && { origin }), ...(traceparent !== undefined && { traceparent }) }
}

export function dataJson(data: Uint8Array): JsonData {
  return textOf(data) ?? { base64: Buffer.from(data).toString('base64') }
}

/** The same where its size is bounded: text full of control characters grows sixfold in JSON, and its bytes do not. */
export function compactJson(data: Uint8Array): JsonData {
  const text = textOf(data)
  if (text !== undefined && Buffer.byteLength(JSON.stringify(text)) <= Math.ceil(data.length / 3) * 4 + 2) return text
  return { base64: Buffer.from(data).toString('base64') }
}

/** What the body of a reply says of an event. Total: of what cannot be read there is nothing. */
export function readEventJson(body: Uint8Array): { readonly data: Uint8Array | undefined, readonly origin: EventOrigin | undefined } {
  let value: unknown
  try {
    value = JSON.parse(Buffer.from(body).toString('utf8'))
  } catch {
    return { data: undefined, origin: undefined }
  }
  const { data, origin } = fieldsOf(value)
  return { data: isData(data) ? dataOf(data) : undefined, origin: readOrigin(origin) }
}

function isData(value: unknown): value is JsonData {
  return typeof value === 'string' || typeof fieldsOf(value)['base64'] === 'string'
}

function readOrigin(value: unknown): EventOrigin | undefined {
  const { request, block, index } = fieldsOf(value)
  if (typeof request !== 'string' || !/^[0-9a-f]{32}$/.test(request)) return undefined
  return isCountFrom(1, block) && isCountFrom(0, index) ? { request, block, index } : { request }
}

function fieldsOf(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? value as Readonly<Record<string, unknown>> : {}
}

function isCountFrom(least: number, value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= least
}

/** Inverse of `dataJson`. */
export function dataOf(json: JsonData): Uint8Array {
  return typeof json === 'string' ? Buffer.from(json, 'utf8') : Buffer.from(json.base64, 'base64')
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function textOf(data: Uint8Array): string | undefined {
  try {
    return UTF8.decode(data)
  } catch {
    return undefined
  }
}

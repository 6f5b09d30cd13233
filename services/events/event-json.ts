/** An event as JSON: its data as text where it is UTF-8, otherwise as `{"base64": …}`. */
import type { MeshEvent } from './provider.ts'

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

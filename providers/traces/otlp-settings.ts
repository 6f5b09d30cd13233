/** What the `otlp` exporter is configured with, read and checked once. */
import { CMeshError } from '../../cmtp/errors.ts'

export interface OtlpSettings {
  readonly endpoint?: string | undefined
  readonly headers?: string | undefined
  /** Of this software. */
  readonly version?: string
}

/** Each setting's own check; each throws `CMESH_CONFIG_INVALID`. */
export const OTLP_CHECKS = { endpoint: parseEndpoint, headers: parseHeaders } as const

/** RFC 9110 section 5.6.2 token. */
const NAME = /^[A-Za-z0-9!#$%&'*+\-.^_`|~]+$/
/** Visible characters with spaces between them. */
const VALUE = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/

/** The URL of a receiver. Credentials belong into headers: a URL gets into logs. */
export function parseEndpoint(text: string): string {
  let url: URL | undefined
  try {
    url = new URL(text)
  } catch {
    url = undefined
  }
  if (url === undefined || !/^https?:$/.test(url.protocol)) throw invalid('endpoint', 'it is an http or https URL')
  if (url.username !== '' || url.password !== '') throw invalid('endpoint', 'it holds no credentials; they go into traces.headers')
  return url.href
}

/** `name=value,name=value`, values percent-encoded, as in `OTEL_EXPORTER_OTLP_HEADERS`. */
export function parseHeaders(text: string): Readonly<Record<string, string>> {
  const pairs = text.split(',').map(pair => pair.trim()).filter(pair => pair !== '').map(pair => {
    const at = pair.indexOf('=')
    const name = pair.slice(0, Math.max(at, 0)).trim()
    const value = decoded(pair.slice(at + 1).trim())
    if (!NAME.test(name) || value === undefined || !VALUE.test(value)) throw invalid('headers', 'it is name=value,name=value with percent-encoded values')
    return [name.toLowerCase(), value] as const
  })
  return Object.fromEntries(pairs)
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

function invalid(name: string, reason: string): CMeshError {
  return new CMeshError('CMESH_CONFIG_INVALID', { key: `traces.${name}`, reason })
}

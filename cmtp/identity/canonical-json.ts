/**
 * Canonical JSON (RFC 8785, JCS): one byte string for one value, so that two sides hash and sign the same thing. What has no
 * JSON form is refused, never dropped as `JSON.stringify` does. `parseCanonicalJson` takes the canonical spelling alone, so a
 * repeated key, a space or a second spelling of a number never reaches anything that was signed.
 */
import { CMeshError } from '../errors.ts'

/** Deepest nesting, in both directions. */
const MAX_DEPTH = 32

/** The canonical text. Throws `CMESH_FRAME_JSON` with the path of what has no JSON form. */
export function canonicalJson(value: unknown): string {
  return write(value, '$', 0)
}

/** The canonical text in UTF-8. */
export function canonicalBytes(value: unknown): Buffer {
  return Buffer.from(write(value, '$', 0), 'utf8')
}

/** The value of canonical bytes. Throws `CMESH_FRAME_JSON` for bytes that are not UTF-8, not JSON or not canonical. */
export function parseCanonicalJson(bytes: Uint8Array): unknown {
  let text: string
  let value: unknown
  try {
    text = UTF8.decode(bytes)
    value = JSON.parse(text)
  } catch (cause) {
    throw new CMeshError('CMESH_FRAME_JSON', { path: '$', reason: 'it is not JSON in UTF-8' }, { cause })
  }
  if (write(value, '$', 0) !== text) throw refused('$', 'it is not in canonical form (RFC 8785)')
  return value
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const LONE_SURROGATE = /\p{Surrogate}/u

function write(value: unknown, path: string, depth: number): string {
  switch (typeof value) {
    case 'string':
      return writeString(value, path)
    case 'number':
      if (!Number.isFinite(value)) throw refused(path, `${value} has no JSON form`)
      // ECMAScript's own number format is the one RFC 8785, 3.2.2.3 prescribes.
      return String(value)
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      if (depth === MAX_DEPTH) throw refused(path, `it nests more than ${MAX_DEPTH} levels deep`)
      return Array.isArray(value) ? writeArray(value, path, depth) : writeObject(value, path, depth)
    default:
      throw refused(path, `a value of type ${typeof value} has no JSON form`)
  }
}

function writeArray(array: readonly unknown[], path: string, depth: number): string {
  const parts: string[] = []
  for (let i = 0; i < array.length; i++) parts.push(write(array[i], `${path}[${i}]`, depth + 1))
  return `[${parts.join(',')}]`
}

function writeObject(object: object, path: string, depth: number): string {
  const prototype = Object.getPrototypeOf(object) as object | null
  // Not compared with Object.prototype: a plain object of another realm (`node:vm`) is one too.
  if (prototype !== null && Object.getPrototypeOf(prototype) !== null) throw refused(path, 'only plain objects have a JSON form')
  const parts: string[] = []
  // The default order of sort is by UTF-16 code units, which is the one RFC 8785, 3.2.3 prescribes.
  for (const key of Object.keys(object).sort()) {
    const at = `${path}.${key.length > 32 ? `${key.slice(0, 32)}…` : key}`
    parts.push(`${writeString(key, at)}:${write((object as Record<string, unknown>)[key], at, depth + 1)}`)
  }
  return `{${parts.join(',')}}`
}

function writeString(text: string, path: string): string {
  if (LONE_SURROGATE.test(text)) throw refused(path, 'a lone surrogate has no UTF-8 form')
  return JSON.stringify(text)
}

function refused(path: string, reason: string): CMeshError {
  return new CMeshError('CMESH_FRAME_JSON', { path, reason })
}

/**
 * The header block of a message: HTTP's names and meanings, encoded compactly. A name in the static table takes one byte;
 * any other is spelled out. Names are lower case, values are text. Unknown names pass through untouched, in order.
 *
 *     block  = *header
 *     header = index value            ; index 1..n of the static table
 *            / 0x00 length8 name value
 *     value  = length16 UTF-8
 */
import { CMeshError } from './errors.ts'
import { LIMITS } from './limits.ts'

export type HeaderList = readonly (readonly [name: string, value: string])[]

/** Positions are wire format: only append. */
const STATIC_NAMES = [
  'accept', 'accept-encoding', 'accept-language', 'host', 'if-none-match', 'if-modified-since', 'user-agent',
  'idempotency-key', 'traceparent', 'tracestate', 'content-type', 'content-length', 'content-encoding', 'cache-control',
  'etag', 'last-modified', 'date', 'expires', 'vary', 'retry-after', 'x-cmesh-durability', 'x-cmesh-sequence',
  'x-cmesh-transaction', 'x-cmesh-target',
] as const

export type StaticName = (typeof STATIC_NAMES)[number]

const NO_VALUES: readonly string[] = []
const INDEX = new Map<string, number>(STATIC_NAMES.map((name, i) => [name, i + 1]))
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const EMPTY = Buffer.alloc(0)
const DIGIT_0 = 0x30

/** Encodes a block. Throws `CMESH_FRAME_TOO_LARGE` past `LIMITS.headerCount` or `headerBytes`, `CMESH_FRAME_MALFORMED` for a bad name. */
export function encodeHeaders(headers: HeaderList): Buffer {
  if (headers.length === 0) return EMPTY
  if (headers.length > LIMITS.headerCount) throw tooLarge('header count', headers.length, LIMITS.headerCount)
  const parts: Buffer[] = []
  for (const [name, value] of headers) {
    const index = INDEX.get(name)
    if (index !== undefined) {
      parts.push(Buffer.of(index))
    } else {
      if (!isHeaderName(name)) throw new CMeshError('CMESH_FRAME_MALFORMED', { offset: 0, expected: 'lower-case header names of 1 to 255 token characters' })
      parts.push(Buffer.of(0, name.length), Buffer.from(name, 'latin1'))
    }
    const bytes = Buffer.from(value, 'utf8')
    if (bytes.length > LIMITS.headerBytes) throw tooLarge('header block', bytes.length, LIMITS.headerBytes)
    parts.push(Buffer.of(bytes.length >> 8, bytes.length & 0xff), bytes)
  }
  const block = Buffer.concat(parts)
  if (block.length > LIMITS.headerBytes) throw tooLarge('header block', block.length, LIMITS.headerBytes)
  return block
}

/** Decodes a block. `base` is its offset in the frame, for the offsets of errors. Throws `CMESH_FRAME_*`. */
export function decodeHeaders(block: Uint8Array, base = 0): HeaderList {
  if (block.length === 0) return []
  if (block.length > LIMITS.headerBytes) throw tooLarge('header block', block.length, LIMITS.headerBytes)
  const headers: [string, string][] = []
  let at = 0
  const take = (length: number, expected: string): Uint8Array => {
    if (at + length > block.length) throw malformed(base + at, expected)
    at += length
    return block.subarray(at - length, at)
  }
  while (at < block.length) {
    if (headers.length >= LIMITS.headerCount) throw tooLarge('header count', headers.length + 1, LIMITS.headerCount)
    const start = at
    const index = take(1, 'a header')[0] ?? 0
    let name: string | undefined
    if (index === 0) {
      const length = take(1, 'a length of a header name')[0] ?? 0
      name = Buffer.from(take(length, 'a header name')).toString('latin1')
      // One spelling for each header, so that equal headers have equal bytes and hashes.
      if (!isHeaderName(name) || INDEX.has(name)) throw malformed(base + start, 'a lower-case header name outside the static table')
    } else {
      name = STATIC_NAMES[index - 1]
      if (name === undefined) throw malformed(base + start, `a header index up to ${STATIC_NAMES.length}`)
    }
    const [high = 0, low = 0] = take(2, 'a length of a header value')
    const valueAt = at
    try {
      headers.push([name, UTF8.decode(take((high << 8) | low, 'a header value'))])
    } catch (error) {
      throw error instanceof CMeshError ? error : malformed(base + valueAt, 'UTF-8 in a header value')
    }
  }
  return headers
}

/** Every value of a header of the static table, with nothing else decoded: none where the block cannot be read. Bytes outside ASCII stand for themselves. */
export function encodedValues(block: Uint8Array, name: StaticName): readonly string[] {
  const wanted = INDEX.get(name)
  const found: string[] = []
  for (let at = 0; at < block.length;) {
    const index = block[at++] as number
    if (index === 0) at += 1 + (block[at] ?? 0)
    const end = at + 2 + ((block[at] ?? 0) << 8 | (block[at + 1] ?? 0))
    if (end > block.length) return NO_VALUES
    if (index === wanted) found.push(Buffer.from(block.subarray(at + 2, end)).toString('latin1'))
    at = end
  }
  return found
}

/**
 * The first value of a header of the static table as a decimal number, read where it stands: in the block that lies in `bytes` between `from` and `to`.
 * 0 where no such header is, where its value is anything but digits, and where the block cannot be read.
 */
export function encodedNumber(bytes: Uint8Array, from: number, to: number, name: StaticName): number {
  const wanted = INDEX.get(name)
  let found: number | undefined
  for (let at = from; at < to;) {
    const index = bytes[at++] as number
    if (index === 0) at += 1 + (bytes[at] ?? 0)
    const end = at + 2 + ((bytes[at] ?? 0) << 8 | (bytes[at + 1] ?? 0))
    if (end > to) return 0
    if (index === wanted) found ??= decimal(bytes, at + 2, end)
    at = end
  }
  return found ?? 0
}

/** The digits from `from` to `end` as a number; 0 where one of them is none. */
function decimal(bytes: Uint8Array, from: number, end: number): number {
  let number = 0
  for (let at = from; at < end; at++) {
    const digit = (bytes[at] as number) - DIGIT_0
    if (digit < 0 || digit > 9) return 0
    number = number * 10 + digit
  }
  return number
}

/** The first value of `name`, which is lower case. */
export function headerValue(headers: HeaderList, name: string): string | undefined {
  return headers.find(([n]) => n === name)?.[1]
}

/** RFC 9110 section 5.6.2 token, in lower case. */
function isHeaderName(name: string): boolean {
  return name.length <= 255 && /^[a-z0-9!#$%&'*+\-.^_`|~]+$/.test(name)
}

function malformed(offset: number, expected: string): CMeshError {
  return new CMeshError('CMESH_FRAME_MALFORMED', { offset, expected })
}

function tooLarge(part: string, bytes: number, limit: number): CMeshError {
  return new CMeshError('CMESH_FRAME_TOO_LARGE', { part, bytes, limit })
}

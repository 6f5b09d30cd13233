/**
 * The FQMN (fully qualified mesh name): the address of one function, name, channel or peer. This file owns its grammar,
 * parser and formatter. It gives no meaning to an address beyond the shape its opcode asks for: services do that.
 *
 *     fqmn      = opcode ":" resource
 *     opcode    = "0x" service [ "W" ]              ; W = the call may change state
 *     service   = "I" / "R" / "S" / "E" / "A" / "C" / "P"
 *     resource  = fqmn / ( segment *( ":" segment ) [ ":" ( args / fqmn ) ] )   ; at most 3 opcodes in all
 *     args      = JSON array text                   ; starts at the first ":[" and runs to the end of the string
 *     segment   = 1*( ALPHA / DIGIT / "." / "_" / "-" / "~" / "^" )
 *     contract  = "0x" ( 3lhex / 64lhex )           ; the first segment of S and A
 *
 * Invariants: `formatFqmn(parseFqmn(text)) === text` for every accepted text; any other text throws a coded error with
 * the byte offset and what was expected there; one forward pass, no regular expression on the hot path.
 */
import { CMeshError } from './errors.ts'
import type { LayerSite } from './layer.ts'
import { findJsonArrayFault } from './json-text.ts'
import { LIMITS } from './limits.ts'
import { TwoGenerations } from './two-generations.ts'

/** The services an opcode can name: IAM, Registrar, State, Events, Assembly, Consensus, Peer. */
export type ServiceLetter = 'I' | 'R' | 'S' | 'E' | 'A' | 'C' | 'P'

/** A parsed FQMN. Immutable and shared: equal texts from one `RouteCache` give the same object. */
export interface Route {
  /** The address, byte for byte as it was given. */
  readonly text: string
  readonly service: ServiceLetter
  /** The opcode carries W: the call may change state. */
  readonly write: boolean
  /** What stands between the opcode and the arguments or the nested address. Empty only when an address nests at once. */
  readonly segments: readonly string[]
  /** The JSON array text behind the last segment of this address (never of the nested one). */
  readonly args: string | undefined
  /** The nested address. */
  readonly inner: Route | undefined
  /** The address without any arguments: what policies, layers and metrics see. */
  readonly bare: string
  /** What hops remember of this address for their layers, as long as the route is kept: theirs alone (`siteAt` in layer.ts). */
  readonly sites: (LayerSite | undefined)[]
  /** What whoever answers this address remembers for it, as long as the route is kept: only its owner knows what it is. */
  kept: { readonly owner: object } | undefined
}

/** Parses an address. Throws `CMESH_FQMN_*` (400). */
export function parseFqmn(text: string): Route {
  if (text.length > LIMITS.fqmnBytes || (text.length * 3 > LIMITS.fqmnBytes && Buffer.byteLength(text) > LIMITS.fqmnBytes)) {
    throw new CMeshError('CMESH_FQMN_TOO_LONG', { bytes: Buffer.byteLength(text), limit: LIMITS.fqmnBytes })
  }
  return parseAt(text, 0, 1)
}

/** The text of a route built from its parts. */
export function formatFqmn(route: Pick<Route, 'service' | 'write' | 'segments' | 'args' | 'inner'>): string {
  let text = `0x${route.service}${route.write ? 'W' : ''}`
  for (const segment of route.segments) text += `:${segment}`
  if (route.inner !== undefined) text += `:${formatFqmn(route.inner)}`
  return route.args === undefined ? text : `${text}:${route.args}`
}

/** Whether the text is a contract's address: `0x` and 3 or 64 lower-case hex digits. */
export function isContractAddress(text: string): boolean {
  if ((text.length !== 5 && text.length !== 66) || !text.startsWith('0x')) return false
  for (let i = 2; i < text.length; i++) {
    const c = text.charCodeAt(i)
    if (!((c >= 0x30 && c <= 0x39) || (c >= 0x61 && c <= 0x66))) return false
  }
  return true
}

/** Whether the text is one segment of an address. */
export function isSegment(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (!isSegmentCode(text.charCodeAt(i))) return false
  return text.length > 0
}

/** Most bytes of addresses in one generation of a cache: a flood of addresses with long arguments must not fill the memory. */
const GENERATION_BYTES = 4_194_304

/**
 * Parsed routes by the bytes they came in, so that an address seen before costs one look-up and allocates nothing but its
 * key. Bounded by number and by bytes.
 */
export class RouteCache {
  readonly #routes: TwoGenerations<string, Route>

  /**
   * `size`: routes kept at least, 1 and up, while they are no longer than 256 bytes on average. Default 16,384; at most twice
   * as many are held.
   */
  constructor(size = 16_384) {
    this.#routes = new TwoGenerations({ entries: size, weight: GENERATION_BYTES })
  }

  /** The route of the UTF-8 bytes `[start, end)`. Throws `CMESH_FQMN_*`. */
  fromBytes(bytes: Buffer, start: number, end: number): Route {
    // latin1 maps bytes to code units one to one, so it is a faithful key whatever the bytes are, and the cheapest to make.
    const key = bytes.toString('latin1', start, end)
    return this.#routes.get(key, key.length) ?? this.#add(key, decodeUtf8(bytes.subarray(start, end)))
  }

  /** The route of a text. Throws `CMESH_FQMN_*`. */
  fromText(text: string): Route {
    if (isAscii(text)) return this.#routes.get(text, text.length) ?? this.#add(text, text)
    const key = Buffer.from(text).toString('latin1')
    const route = this.#routes.get(key, key.length) ?? this.#add(key, text)
    // UTF-8 turns a lone surrogate into U+FFFD, so two texts can share a key; only one of them is an address.
    return route.text === text ? route : parseFqmn(text)
  }

  #add(key: string, text: string): Route {
    const route = parseFqmn(text)
    this.#routes.set(key, route, key.length)
    return route
  }
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

function decodeUtf8(bytes: Uint8Array): string {
  if (bytes.length > LIMITS.fqmnBytes) throw new CMeshError('CMESH_FQMN_TOO_LONG', { bytes: bytes.length, limit: LIMITS.fqmnBytes })
  try {
    return UTF8.decode(bytes)
  } catch (cause) {
    throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: firstBadUtf8(bytes), expected: 'UTF-8' }, { cause })
  }
}

/** Length of the longest prefix that is whole, well-formed UTF-8. */
function firstBadUtf8(bytes: Uint8Array): number {
  const replaced = Buffer.from(bytes).toString('utf8')
  let offset = 0
  for (const character of replaced) {
    const width = Buffer.byteLength(character)
    if (character === '\ufffd' && !Buffer.from(bytes.subarray(offset, offset + 3)).equals(REPLACEMENT)) return offset
    offset += width
  }
  return offset
}

const REPLACEMENT = Buffer.from('\ufffd')

function parseAt(text: string, start: number, depth: number): Route {
  if (depth > LIMITS.fqmnDepth) throw new CMeshError('CMESH_FQMN_TOO_DEEP', { limit: LIMITS.fqmnDepth, offset: start })
  const opcodeEnd = opcodeAt(text, start)
  if (opcodeEnd === 0) throw new CMeshError('CMESH_FQMN_OPCODE', { offset: start + opcodeFault(text, start) })
  if (text.charCodeAt(opcodeEnd) !== COLON) throw syntax(opcodeEnd, '":" after the opcode')

  const segments: string[] = []
  const offsets: number[] = []
  let args: string | undefined
  let inner: Route | undefined
  let at = opcodeEnd + 1
  let bareEnd = text.length
  // Where the segments end and the arguments, the nested address or nothing begins.
  let behind = text.length
  for (;;) {
    if (text.charCodeAt(at) === OPEN_BRACKET && segments.length > 0) {
      checkArguments(text, at)
      args = text.slice(at)
      bareEnd = at - 1
      behind = at
      break
    }
    const nested = opcodeAt(text, at)
    if (nested !== 0 && text.charCodeAt(nested) === COLON) {
      inner = parseAt(text, at, depth + 1)
      bareEnd = at + inner.bare.length
      behind = at
      break
    }
    const end = segmentEnd(text, at)
    if (end === at) throw syntax(byteOffset(text, at), segments.length === 0 ? 'a segment' : 'a segment, an opcode or "["')
    segments.push(text.slice(at, end))
    offsets.push(at)
    if (end === text.length) break
    if (text.charCodeAt(end) !== COLON) throw syntax(byteOffset(text, end), 'a letter, a digit, one of . _ - ~ ^, or ":"')
    at = end + 1
  }

  const route: Route = {
    text: text.slice(start),
    service: text.charAt(start + 2) as ServiceLetter,
    write: opcodeEnd - start === 4,
    segments,
    args,
    inner,
    bare: text.slice(start, bareEnd),
    sites: [],
    kept: undefined,
  }
  checkShape(route, offsets, behind)
  return route
}

/** What each opcode asks of its segments, so that a wrong address fails with its offset and not deep inside a service. */
function checkShape(route: Route, offsets: readonly number[], behind: number): void {
  const { segments } = route
  const needSegment = (index: number, expected: string): number => {
    const offset = offsets[index]
    if (offset === undefined) throw syntax(behind, expected)
    return offset
  }
  const refuseSegment = (index: number, expected: string): void => {
    const offset = offsets[index]
    if (offset !== undefined) throw syntax(offset, expected)
  }
  switch (route.service) {
    case 'S': {
      const offset = needSegment(0, 'a contract')
      if (!isContractAddress(segments[0] ?? '')) throw syntax(offset, 'a contract: 0x and 3 or 64 lower-case hex digits')
      refuseSegment(2, 'arguments as a JSON array, or the end')
      if (route.args !== undefined) needSegment(1, 'a function')
      if (route.inner !== undefined) throw syntax(behind, 'no nested address')
      break
    }
    case 'A': {
      const offset = needSegment(1, 'a version range and a contract')
      if (!isContractAddress(segments[1] ?? '')) throw syntax(offset, 'a contract: 0x and 3 or 64 lower-case hex digits')
      needSegment(2, 'a function')
      refuseSegment(3, 'arguments as a JSON array, or the end')
      if (route.inner !== undefined) throw syntax(behind, 'no nested address')
      break
    }
    case 'P':
      needSegment(0, 'a peer')
      refuseSegment(1, 'an address behind the peer')
      if (route.inner === undefined) throw syntax(behind, 'an address behind the peer')
      break
    default:
      if (route.inner === undefined || route.service !== 'E') needSegment(0, 'a segment')
  }
}

const COLON = 0x3a
const OPEN_BRACKET = 0x5b

/** Index behind the opcode that starts at `at`, or 0 when none does. */
function opcodeAt(text: string, at: number): number {
  if (text.charCodeAt(at) !== 0x30 || text.charCodeAt(at + 1) !== 0x78) return 0
  switch (text.charCodeAt(at + 2)) {
    case 0x49: case 0x52: case 0x53: case 0x45: case 0x41: case 0x43: case 0x50:
      return text.charCodeAt(at + 3) === 0x57 ? at + 4 : at + 3
    default:
      return 0
  }
}

function opcodeFault(text: string, at: number): number {
  if (text.charCodeAt(at) !== 0x30) return 0
  return text.charCodeAt(at + 1) === 0x78 ? 2 : 1
}

function segmentEnd(text: string, at: number): number {
  while (isSegmentCode(text.charCodeAt(at))) at++
  return at
}

/** ALPHA / DIGIT / "." / "_" / "-" / "~" / "^" */
function isSegmentCode(c: number): boolean {
  return (c >= 0x61 && c <= 0x7a) || (c >= 0x30 && c <= 0x39) || (c >= 0x41 && c <= 0x5a)
    || c === 0x2e || c === 0x5f || c === 0x2d || c === 0x7e || c === 0x5e
}

function checkArguments(text: string, at: number): void {
  const fault = findJsonArrayFault(text, at)
  if (fault !== undefined) throw new CMeshError('CMESH_FQMN_ARGUMENTS', { offset: byteOffset(text, fault.index), expected: fault.expected })
}

function syntax(offset: number, expected: string): CMeshError {
  return new CMeshError('CMESH_FQMN_SYNTAX', { offset, expected })
}

function byteOffset(text: string, index: number): number {
  return Buffer.byteLength(text.slice(0, index))
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0x7f) return false
  return true
}

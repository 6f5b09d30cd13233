/**
 * The final hash a second time, from the words of `cmtp/SPEC.md` sections 8 and 9 and nothing of `cmtp/layer.ts`: plain
 * concatenation and `createHash`, so that an error in the real one cannot hide in both.
 */
import { createHash } from 'node:crypto'

export interface SpecPosition { readonly epoch: number, readonly seq: number, readonly chain: Uint8Array }

export interface SpecLayer {
  readonly hop: string
  readonly node: string
  readonly fqmn: string
  readonly target?: string | undefined
  readonly decision: string
  readonly grant: string
  readonly status: number
  readonly startUs: number
  readonly durationUs: number
  readonly gas: bigint
  readonly before?: SpecPosition | undefined
  readonly after?: SpecPosition | undefined
  readonly argumentsHash?: Uint8Array | undefined
  /** The layer's own, of version 1. */
  readonly salt?: Uint8Array
}

export interface SpecBinding {
  /** Of version 1. */
  readonly salt?: Uint8Array
  readonly id: Uint8Array
  readonly status: number
  readonly sid: string
  readonly sub: string
  readonly requestBody: Uint8Array
  readonly replyBody: Uint8Array
  readonly replyHeaders: Uint8Array
}

const HOPS = ['router', 'registrar', 'state', 'contract', 'consensus', 'events', 'iam', 'peer']
const DECISIONS = ['none', 'allowed', 'denied']

const integer = (value: number | bigint, bytes: number): Buffer =>
  Buffer.from(BigInt(value).toString(16).padStart(bytes * 2, '0'), 'hex')
const text = (value: string): Buffer => Buffer.concat([integer(Buffer.byteLength(value), 2), Buffer.from(value)])
const sha256 = (...parts: Uint8Array[]): Buffer => parts.reduce((hash, part) => hash.update(part), createHash('sha256')).digest()
const position = ({ epoch, seq, chain }: SpecPosition): Buffer => Buffer.concat([integer(epoch, 4), integer(seq, 8), chain])
const NOTHING = Buffer.alloc(0)

export function specArgumentsHash(salt: Uint8Array, args: Uint8Array): Buffer {
  return sha256(salt, args)
}

/** What a layer says of where it was added. */
export function specTexts({ node, fqmn, target, grant }: Pick<SpecLayer, 'node' | 'fqmn' | 'target' | 'grant'>): Buffer {
  return Buffer.concat([text(node), text(fqmn), target === undefined ? NOTHING : text(target), text(grant)])
}

/** A layer, of version 1 where it has a salt. */
export function specLayer(layer: SpecLayer): Buffer {
  const flags = [layer.before, layer.after, layer.argumentsHash, layer.target]
    .reduce<number>((bits, field, i) => bits + (field === undefined ? 0 : 2 ** i), 0)
  return Buffer.concat([
    integer(layer.salt === undefined ? 0 : 1, 1), integer(HOPS.indexOf(layer.hop) + 1, 1), integer(flags, 1), integer(DECISIONS.indexOf(layer.decision), 1),
    integer(layer.status, 2), integer(layer.startUs, 8), integer(layer.durationUs, 4), integer(layer.gas, 8),
    sha256(Buffer.of(0x02), specTexts(layer)), layer.salt ?? NOTHING,
    layer.before ? position(layer.before) : NOTHING, layer.after ? position(layer.after) : NOTHING,
    layer.argumentsHash ?? NOTHING,
  ])
}

/** A layer as it stands in a layers block, with its texts. */
export function specBlockLayer(layer: SpecLayer): Buffer {
  return Buffer.concat([specLayer(layer), specTexts(layer)])
}

/** The final hash of version 0. */
export function specFinalHash(layers: readonly SpecLayer[], binding: SpecBinding): Buffer {
  return sha256(
    Buffer.of(0x01),
    integer(0, 1), binding.id, integer(binding.status, 2), sha256(binding.requestBody), sha256(binding.replyBody),
    integer(binding.replyHeaders.length, 2), binding.replyHeaders, text(binding.sid), text(binding.sub),
    integer(layers.length, 1), ...layers.map(specLayer),
  )
}

/** The salted hash of bodies and headers that the final hash of version 1 holds. */
export function specContent({ salt = NOTHING, requestBody, replyBody, replyHeaders }: SpecBinding): Buffer {
  return sha256(Buffer.of(0x03), salt, sha256(requestBody), sha256(replyBody), replyHeaders)
}

/** The final hash of version 1; every layer has a salt. */
export function specFinalHash1(layers: readonly SpecLayer[], binding: SpecBinding): Buffer {
  return sha256(
    Buffer.of(0x01),
    integer(1, 1), binding.id, integer(binding.status, 2), specContent(binding), text(binding.sid), text(binding.sub),
    integer(layers.length, 1), ...layers.map(layer => sha256(Buffer.of(0x04), specLayer(layer))),
  )
}

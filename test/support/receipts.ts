/** The final hash of a reply at level `full`, worked out again by the words of the specification from what the reply itself shows. */
import { decodeLayers, type DecodedLayer } from '../../cmtp/layer.ts'
import { specArgumentsHash, specFinalHash1, type SpecLayer } from './final-hash.ts'

/** A reply, or an entry of a batch reply. */
export interface Sealed {
  readonly status: number
  readonly finalHash: Buffer
  readonly headers: Buffer
  readonly layers: Buffer
  readonly body: Buffer
}

/** What the caller knows besides. */
export interface Witness {
  readonly id: Uint8Array
  readonly sid: string
  readonly sub: string
  readonly requestBody?: Uint8Array
}

export function recomputedHash(reply: Sealed, { id, sid, sub, requestBody = Buffer.alloc(0) }: Witness): string {
  const { salt, layers } = decodeLayers(reply.layers)
  return specFinalHash1(layers.map(specLayerOf), {
    id, sid, sub, requestBody, salt, status: reply.status, replyBody: reply.body, replyHeaders: reply.headers,
  }).toString('hex')
}

/** The salted hash that every layer of the reply must show for these arguments. */
export function expectedArgumentsHash(reply: Pick<Sealed, 'layers'>, args: Uint8Array | string): string {
  return specArgumentsHash(decodeLayers(reply.layers).salt, Buffer.from(args)).toString('latin1')
}

function specLayerOf(layer: DecodedLayer): SpecLayer {
  return { ...layer, salt: layer.bytes.subarray(58, 74), argumentsHash: layer.argumentsHash === undefined ? undefined : Buffer.from(layer.argumentsHash, 'latin1') }
}

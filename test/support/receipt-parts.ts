/** Parts of receipts, any that their codecs take. */
import fc from 'fast-check'
import { layerSite, sha256, type Layer } from '../../cmtp/layer.ts'

export const bytesOf = (length: number): fc.Arbitrary<Buffer> => fc.uint8Array({ minLength: length, maxLength: length }).map(each => Buffer.from(each))

const position = fc.option(bytesOf(32).map(chain => ({ epoch: 1, seq: 7, chain })), { nil: undefined })

export const anyReceiptLayer: fc.Arbitrary<Layer> = fc.record({
  site: fc.tuple(fc.constantFrom('router', 'state'), fc.string(), fc.option(fc.string(), { nil: undefined })).map(([hop, fqmn, target]) => layerSite(hop as 'router', 'a node', fqmn, target)),
  decision: fc.constantFrom('none', 'allowed'), grant: fc.string(), status: fc.integer({ min: 100, max: 599 }), startUs: fc.nat(), durationUs: fc.nat(),
  gas: fc.bigInt({ min: 0n, max: 9n }), before: position, after: position, argumentsHash: fc.option(fc.constant(sha256(Buffer.of(1))), { nil: undefined }),
})

const links = bytesOf(32).map(member => ({
  version: 1 as const, links: [], claims: [{ at: 0, member, level: 'os' as const, out: 1, timeMs: 2, version: '1', certificate: undefined, signature: Buffer.alloc(64, 1) }],
}))
const outcome = fc.tuple(bytesOf(32), fc.array(bytesOf(32), { maxLength: 8 })).map(([member, path]) => ({
  version: 2 as const, members: 3, asked: member, result: member, index: 5, count: 200, path,
  claims: [{ member, level: 'disk' as const, timeMs: 2, certificate: { issued: 7, signature: Buffer.alloc(64, 2) }, signature: Buffer.alloc(64, 1) }],
}))
export const anyEvidence = fc.oneof(links, outcome)

export const anyCertificate = bytesOf(64).map(signature => ({ issued: 5, signature }))

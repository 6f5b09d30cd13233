import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from '@jest/globals'
import { encodeLayers, layerSite, placeOf, sha256, type Layer } from '../../../cmtp/layer.ts'
import { entryId } from '../../../cmtp/message-id.ts'
import { encodeBareCertificate } from '../../../cmtp/receipt/bare-certificate.ts'
import { FullPart, partHead } from '../../../cmtp/receipt/full-part.ts'
import { MerkleTree } from '../../../cmtp/receipt/merkle.ts'
import { decodeSealing, encodeReceipt, evidenceBytes, flagsOf } from '../../../cmtp/receipt/receipt.ts'
import { encodeRecorded } from '../../../cmtp/receipt/recorded.ts'
import { LayerSealer } from '../../../cmtp/sealer.ts'

const bytes = (length: number): fc.Arbitrary<Buffer> => fc.uint8Array({ minLength: length, maxLength: length }).map(each => Buffer.from(each))
const position = fc.option(bytes(32).map(chain => ({ epoch: 1, seq: 7, chain })), { nil: undefined })
const layer: fc.Arbitrary<Layer> = fc.record({
  site: fc.tuple(fc.constantFrom('router', 'state'), fc.string(), fc.option(fc.string(), { nil: undefined })).map(([hop, fqmn, target]) => layerSite(hop as 'router', 'a node', fqmn, target)),
  decision: fc.constantFrom('none', 'allowed'), grant: fc.string(), status: fc.integer({ min: 100, max: 599 }), startUs: fc.nat(), durationUs: fc.nat(),
  gas: fc.bigInt({ min: 0n, max: 9n }), before: position, after: position, argumentsHash: fc.option(fc.constant(sha256(Buffer.of(1))), { nil: undefined }),
})
const links = bytes(32).map(member => ({
  version: 1 as const, links: [], claims: [{ at: 0, member, level: 'os' as const, out: 1, timeMs: 2, version: '1', certificate: undefined, signature: Buffer.alloc(64, 1) }],
}))
const outcome = fc.tuple(bytes(32), fc.array(bytes(32), { maxLength: 8 })).map(([member, path]) => ({
  version: 2 as const, members: 3, asked: member, result: member, index: 5, count: 200, path,
  claims: [{ member, level: 'disk' as const, timeMs: 2, certificate: { issued: 7, signature: Buffer.alloc(64, 2) }, signature: Buffer.alloc(64, 1) }],
}))
const evidence = fc.oneof(links, outcome)

test('a receipt of a record is, byte for byte, the one of what the record says', () => {
  const sealer = new LayerSealer()
  fc.assert(fc.property(
    fc.array(layer, { minLength: 1, maxLength: 5 }), fc.string(), fc.string(), bytes(16), fc.array(bytes(32), { maxLength: 9 }),
    fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
    fc.option(evidence, { nil: undefined }), fc.option(bytes(64).map(signature => ({ issued: 5, signature })), { nil: undefined }), bytes(253),
    (layers, sid, sub, id, path, shown, claims, certificate, root) => {
      const final = Buffer.from(sealer.seal(layers, {
        id, status: 200, sid, sub, requestBodyHash: sha256(id), replyBodyHash: sha256(root), replyHeaders: Buffer.alloc(3),
      }), 'latin1')
      const record = sealer.record()
      const texts = layers.map(({ site, grant }, i) => (shown[i] === true ? placeOf(site, grant).texts : undefined))
      const { salt: _salt, ...sealing } = decodeSealing(record)
      const parts = { final, index: 3, path, root, certificate, evidence: claims }
      expect(encodeRecorded({ record, texts, ...parts })).toEqual(encodeReceipt({
        ...sealing, ...parts,
        layers: sealing.layers.map((each, i) => ({
          hash: createHash('sha256').update(Buffer.of(4)).update(each).digest(), shown: texts[i] && { layer: each, texts: texts[i] },
        })),
      }))
    },
  ))
})

test('the layers part of a reply at `full` is the layers block and, byte for byte, the receipt of the record, also under another id', () => {
  const sealer = new LayerSealer()
  fc.assert(fc.property(
    fc.array(layer, { minLength: 1, maxLength: 5 }), fc.string(), fc.string(), bytes(16), bytes(16), fc.integer({ min: 1, max: 40 }), fc.nat(),
    fc.option(evidence, { nil: undefined }), fc.option(bytes(64).map(signature => ({ issued: 5, signature })), { nil: undefined }), bytes(253), bytes(16),
    (layers, sid, sub, batch, ownId, count, nth, claims, certificate, root, salt) => {
      const made = sealer.preimage(layers, {
        id: ownId, status: 200, sid, sub, requestBodyHash: sha256(ownId), replyBodyHash: sha256(root), replyHeaders: Buffer.alloc(3), salt,
      })
      const texts = layers.map(({ site, grant }) => placeOf(site, grant).texts)
      const head = partHead(made, texts)
      const final = sealer.sealAs(made, batch, nth % 40)
      const index = nth % count
      const tree = new MerkleTree(Buffer.concat(Array.from({ length: count }, (_, i) => createHash('sha256').update(Buffer.of(i)).digest())))
      const part = new FullPart(head, entryId(batch, nth % 40), final, {
        index, tree, record: root, flags: flagsOf({ certificate, evidence: claims }),
        certificate: certificate === undefined ? Buffer.alloc(0) : encodeBareCertificate(certificate),
        evidence: claims === undefined ? Buffer.alloc(0) : evidenceBytes(claims),
      })
      const written = Buffer.alloc(part.length + 2, 0xee)
      part.put(written, 1)
      const encoded = layers.map((_, i) => Buffer.concat([(made.layers[i] as Buffer).subarray(1), texts[i] as Buffer]))
      const receipt = encodeRecorded({
        record: sealer.record(), texts, final: Buffer.from(final, 'latin1'), index, path: tree.path(index), root, certificate, evidence: claims,
      })
      expect(written).toEqual(Buffer.concat([Buffer.of(0xee), encodeLayers(salt, encoded), receipt, Buffer.of(0xee)]))
    },
  ))
})

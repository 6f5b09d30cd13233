import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { expect, test } from '@jest/globals'
import { placeOf, sha256 } from '../../../cmtp/layer.ts'
import { decodeSealing, encodeReceipt } from '../../../cmtp/receipt/receipt.ts'
import { encodeRecorded } from '../../../cmtp/receipt/recorded.ts'
import { LayerSealer } from '../../../cmtp/sealer.ts'
import { anyCertificate, anyEvidence, anyReceiptLayer, bytesOf as bytes } from '../../support/receipt-parts.ts'

test('a receipt of a record is, byte for byte, the one of what the record says', () => {
  const sealer = new LayerSealer()
  fc.assert(fc.property(
    fc.array(anyReceiptLayer, { minLength: 1, maxLength: 5 }), fc.string(), fc.string(), bytes(16), fc.array(bytes(32), { maxLength: 9 }),
    fc.array(fc.boolean(), { minLength: 5, maxLength: 5 }),
    fc.option(anyEvidence, { nil: undefined }), fc.option(anyCertificate, { nil: undefined }), bytes(253),
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

/** The layers part of a reply at `full`: of one alone, and of the entries of a batch, which share what they have in common. */
import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, test } from '@jest/globals'
import { BatchReplyWriter, decodeBatchReply } from '../../../cmtp/batch-reply.ts'
import { CMeshError } from '../../../cmtp/errors.ts'
import { encodeLayers, placeOf } from '../../../cmtp/layer.ts'
import { entryId } from '../../../cmtp/message-id.ts'
import { encodeBareCertificate } from '../../../cmtp/receipt/bare-certificate.ts'
import { layersPart, partHead } from '../../../cmtp/receipt/full-part.ts'
import { leafHash, MerkleTree } from '../../../cmtp/receipt/merkle.ts'
import { hashesBeside, MerklePaths } from '../../../cmtp/receipt/merkle-paths.ts'
import { evidenceBytes, flagsOf } from '../../../cmtp/receipt/receipt.ts'
import { encodeRecorded } from '../../../cmtp/receipt/recorded.ts'
import { Repeated } from '../../../cmtp/repeated.ts'
import { LayerSealer } from '../../../cmtp/sealer.ts'
import { repeated as recordUnder } from '../../../services/audit/messages.ts'
import { sha256 } from '../../../cmtp/layer.ts'
import { everyBitFlip, everyTruncation } from '../../support/damage.ts'
import { anyCertificate, anyEvidence, anyReceiptLayer, bytesOf as bytes } from '../../support/receipt-parts.ts'

const EMPTY = Buffer.alloc(0)
const repeated = new Repeated()
const hashOf = (n: number): Buffer => createHash('sha256').update(Buffer.of(n >> 8, n & 0xff)).digest()

test('is the layers block and, byte for byte, the receipt of the record, also under another id', () => {
  const sealer = new LayerSealer()
  fc.assert(fc.property(
    fc.array(anyReceiptLayer, { minLength: 1, maxLength: 5 }), fc.string(), fc.string(), bytes(16), bytes(16), fc.integer({ min: 1, max: 40 }), fc.nat(),
    fc.option(anyEvidence, { nil: undefined }), fc.option(anyCertificate, { nil: undefined }), bytes(253), bytes(16),
    (layers, sid, sub, batch, ownId, count, nth, claims, certificate, root, salt) => {
      sealer.seal(layers, {
        id: ownId, status: 200, sid, sub, requestBodyHash: sha256(ownId), replyBodyHash: sha256(root), replyHeaders: Buffer.alloc(3), salt,
      })
      const made = sealer.last
      const texts = layers.map(({ site, grant }) => placeOf(site, grant).texts)
      const head = partHead(made, texts)
      const id = entryId(batch, nth % 40)
      const final = Buffer.from(repeated.seal(batch, nth % 40, [Buffer.from(made.final)]).subarray(0, 32))
      const index = nth % count
      const tree = new MerkleTree(Buffer.concat(Array.from({ length: count }, (_, i) => hashOf(i))))
      const part = layersPart(head, {
        id, final, index, path: tree.pathBytes(index), root, flags: flagsOf({ certificate, evidence: claims }),
        certificate: certificate === undefined ? EMPTY : encodeBareCertificate(certificate),
        evidence: claims === undefined ? EMPTY : evidenceBytes(claims),
      })
      const block = encodeLayers(salt, layers.map((_, i) => Buffer.concat([(made.layers[i] as Buffer).subarray(1), texts[i] as Buffer])))
      const record = recordUnder(sealer.record(), id)
      const receipt = encodeRecorded({ record, texts, final, index, path: tree.path(index), root, certificate, evidence: claims })
      expect(part).toEqual(Buffer.concat([block, receipt]))
      expect(layersPart(head)).toEqual(block)
    },
  ))
})

describe('the paths of some leaves, told together', () => {
  test('are those of the tree, whichever leaves they are, and need no hash twice', () => {
    fc.assert(fc.property(fc.integer({ min: 1, max: 300 }), fc.array(fc.nat(), { minLength: 1, maxLength: 80 }), (count, picks) => {
      const hashes = Array.from({ length: count }, (_, i) => hashOf(i))
      const tree = new MerkleTree(Buffer.concat(hashes))
      const indexes = [...new Set(picks.map(pick => pick % count))].sort((a, b) => a - b)
      const besides = hashesBeside(tree, indexes)
      const paths = new MerklePaths(new Map(indexes.map(index => [index, hashes[index] as Buffer])), count, besides)
      for (const index of indexes) expect(paths.path(index)).toEqual(tree.pathBytes(index))
      const told = besides.toString('hex').match(/.{64}/g) ?? []
      expect(new Set(told).size).toBe(told.length)
      expect(told.length).toBeLessThanOrEqual(indexes.reduce((sum, index) => sum + tree.pathBytes(index).length / 32, 0))
      for (const other of [besides.subarray(32), Buffer.concat([besides, Buffer.alloc(32)])]) {
        if (other.length === besides.length) continue
        expect(() => new MerklePaths(new Map(indexes.map(index => [index, hashes[index] as Buffer])), count, other)).toThrow(RangeError)
      }
    }))
  })

  test('of all leaves need nothing, of leaves that stand together only what is beside them', () => {
    const tree = new MerkleTree(Buffer.concat(Array.from({ length: 1_024 }, (_, i) => hashOf(i))))
    expect(hashesBeside(tree, Array.from({ length: 1_024 }, (_, i) => i))).toHaveLength(0)
    // 64 to 127 are one subtree of 64: four levels are left above it.
    expect(hashesBeside(tree, Array.from({ length: 64 }, (_, i) => 64 + i))).toHaveLength(4 * 32)
  })

  test('of a leaf that the tree has not are refused, in a tree of 2^32 - 1 too', () => {
    expect(() => new MerklePaths(new Map([[3, hashOf(3)]]), 3, EMPTY)).toThrow('a tree of 3 leaves has no leaf 3')
    const most = 0xffff_ffff
    const besides = Buffer.concat(Array.from({ length: 31 }, (_, i) => hashOf(i)))
    // The last leaf of an odd number: it goes up alone once, and stands at the right from there on.
    expect(new MerklePaths(new Map([[most - 1, hashOf(40)]]), most, besides).path(most - 1)).toEqual(besides)
  })
})

describe('what the entries of a batch share', () => {
  const sealer = new LayerSealer()
  const id = Buffer.from('0102030405060708090a0b0cfffffffe', 'hex')
  const [layer] = fc.sample(anyReceiptLayer, { numRuns: 1, seed: 7 })
  if (layer === undefined) throw new Error('no layer')
  sealer.seal([layer], {
    id, status: 200, sid: 's', sub: 'did', requestBodyHash: sha256(id), replyBodyHash: sha256(id), replyHeaders: EMPTY, salt: Buffer.alloc(16, 9),
  })
  const made = sealer.last
  const head = partHead(made, [placeOf(layer.site, layer.grant).texts])
  const sealed = repeated.seal(id, 0, Array<Buffer>(3).fill(Buffer.from(made.final)))
  const finals = [0, 1, 2].map(i => Buffer.from(sealed.subarray(32 * i, 32 * i + 32)))
  const strangers = [0, 1, 2, 3].map(hashOf)
  const own = finals.map((final, i) => leafHash(entryId(id, i), final))
  // The entries stand at 2, 3 and 5 of a tree of seven.
  const tree = new MerkleTree(Buffer.concat([strangers[0], strangers[1], own[0], own[1], strangers[2], own[2], strangers[3]] as Buffer[]))
  const indexes = [2, 3, 5]
  const record = Buffer.alloc(253, 1)
  record.fill(0, 97, 189)
  record.writeUInt32BE(7, 113)
  const certificate = Buffer.alloc(72, 0x33)
  const evidence = Buffer.from('evidence')
  const frameOf = (besides = hashesBeside(tree, indexes)): Buffer => {
    const writer = new BatchReplyWriter(id, 4, 'full')
    finals.forEach((final, i) => {
      const index = indexes[i] as number
      writer.add(200, final.toString('latin1'), EMPTY, { head: 0, root: 0, index }, EMPTY)
    })
    writer.add(413, '\0'.repeat(32), EMPTY, undefined, EMPTY)
    return writer.finish([{ record, certificate, besides }], [head], [{ entry: 1, flags: 4, bytes: evidence }])
  }

  test('gives each the very part that a reply alone has, and none to the one that has none', () => {
    const { entries } = decodeBatchReply(frameOf())
    finals.forEach((final, i) => {
      const index = indexes[i] as number
      const path = tree.pathBytes(index)
      const alone = { id: entryId(id, i), final, index, path, root: record, certificate, flags: i === 1 ? 5 : 1, evidence: i === 1 ? evidence : EMPTY }
      expect(entries[i]?.layers).toEqual(layersPart(head, alone))
    })
    expect(entries[3]?.layers).toHaveLength(0)
  })

  test('is told once: three entries take little more than one', () => {
    expect(frameOf().length).toBeLessThan(head.length + 253 + 72 + 4 * (12 + 32 + 8) + 8 * 32)
  })

  test('gives layers or a coded error, whichever bit is turned and wherever it ends', () => {
    const whole = frameOf()
    const outcome = (frame: Uint8Array): string => {
      try {
        return decodeBatchReply(frame).entries.map(({ layers }) => layers.toString('hex')).join()
      } catch (error) {
        if (error instanceof CMeshError) return error.code
        throw error
      }
    }
    const right = outcome(whole)
    expect(right).toMatch(/^[0-9a-f,]+$/)
    for (const cut of everyTruncation(whole)) expect(outcome(cut)).toMatch(/^CMESH_FRAME_/)
    for (const flipped of everyBitFlip(whole)) expect(outcome(flipped)).toMatch(/^(CMESH_FRAME_[A-Z_]+|[0-9a-f,]+)$/)
    expect(outcome(frameOf(EMPTY))).toBe('CMESH_FRAME_MALFORMED')
  })

  test('that does not hold together is refused once, however often it is asked for, and does not cost each entry anew', () => {
    const writer = new BatchReplyWriter(id, 3, 'full')
    // Two entries with one leaf.
    finals.forEach((final, i) => { writer.add(200, final.toString('latin1'), EMPTY, { head: 0, root: 0, index: [2, 3, 3][i] as number }, EMPTY) })
    const { entries } = decodeBatchReply(writer.finish([{ record, certificate, besides: hashesBeside(tree, [2, 3]) }], [head]))
    const faults = entries.map(entry => {
      try {
        return entry.layers
      } catch (error) {
        return error
      }
    })
    expect(faults[0]).toMatchObject({ code: 'CMESH_FRAME_MALFORMED' })
    expect(faults[1]).toBe(faults[0])
  })

  test('is refused with heads that would come to more than memory should hold', () => {
    const entries = 1_024
    const writer = new BatchReplyWriter(id, entries, 'full')
    for (let i = 0; i < entries; i++) writer.add(200, '\0'.repeat(32), EMPTY, { head: 0, root: undefined, index: 0 }, EMPTY)
    expect(() => decodeBatchReply(writer.finish([], [Buffer.alloc(1_000_000)])).entries[0]?.layers).toThrow(/heads of at most 75497472 bytes/)
  })

  test.each([
    ['more roots than entries', [[], 5, 0], 'no more roots than entries'], ['more heads than entries', [[], 0, 5], 'no more heads than entries'],
    ['evidence of no entry', [[4], 0, 0], 'an entry behind the one before'], ['evidence twice', [[1, 1], 0, 0], 'an entry behind the one before'],
  ] as const)('refuses %s', (_, [evidences, roots, heads], expected) => {
    const writer = new BatchReplyWriter(id, 4, 'full')
    for (let i = 0; i < 4; i++) writer.add(413, '\0'.repeat(32), EMPTY, undefined, EMPTY)
    const frame = writer.finish(
      Array.from({ length: roots }, () => ({ record, certificate, besides: EMPTY })), Array.from({ length: heads }, () => head),
      evidences.map(entry => ({ entry, flags: 4, bytes: evidence })),
    )
    expect(() => decodeBatchReply(frame)).toThrow(expected)
  })

  test.each([
    ['a head that is not there', 0x44, 0x01], ['a root that is not there', 0x46, 0x07],
  ])('refuses %s', (_, at, value) => {
    const frame = frameOf()
    frame[at + 1] = value
    expect(() => decodeBatchReply(frame).entries[0]?.layers).toThrow(/malformed|expected/i)
  })
})

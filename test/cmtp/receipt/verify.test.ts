import { readFileSync } from 'node:fs'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { layerSite, sha256, type Layer } from '../../../cmtp/layer.ts'
import { claimants } from '../../../cmtp/receipt/claims.ts'
import type { LinkEvidence } from '../../../cmtp/receipt/evidence.ts'
import type { OutcomeClaim, OutcomeEvidence } from '../../../cmtp/receipt/outcome-evidence.ts'
import { decodeReceipt, decodeSealing, encodeReceipt, RECEIPT_BYTES, redactReceipt, type Receipt, type ReceiptLayer } from '../../../cmtp/receipt/receipt.ts'
import { verifyReceipt, type VerifyOptions } from '../../../cmtp/receipt/verify.ts'
import { decodeWitness, encodeWitness, type Witness } from '../../../cmtp/receipt/witness.ts'
import { LayerSealer } from '../../../cmtp/sealer.ts'
import { damaged, decodeTotally, everyTruncation } from '../../support/damage.ts'
import { evidenceOf } from '../../support/evidence.ts'
import { receiptsOf, toldByRecord } from '../../support/receipt-files.ts'
import { refusal } from '../../support/refusal.ts'

const MESH = KeyPair.fromSeed(Buffer.alloc(32, 0x51))
const NODE = KeyPair.fromSeed(Buffer.alloc(32, 0x52))
const OTHER = KeyPair.fromSeed(Buffer.alloc(32, 0x53))
const AREA = /^CMESH_RECEIPT_/

const golden = (file: string): Buffer => readFileSync(new URL(`../../vectors/receipts/${file}`, import.meta.url))
const WRITE = golden('a-write.receipt')
const WRITE_WITNESS = golden('a-write.witness')
const CLAIMED = golden('a-write-that-members-claim.receipt')
const CLAIMED_WITNESS = golden('a-write-that-members-claim.witness')
const VIEW = golden('a-view-read.receipt')
const VIEW_WITNESS = golden('a-view-read.witness')

/** The verdict as the specification spells it. */
function verdictOn(receipt: Uint8Array, options: VerifyOptions = {}, mesh = MESH.did): string {
  const verdict = verifyReceipt(receipt, mesh, options)
  if (verdict.valid) return 'valid'
  expect(verdict.error.code).toBe(verdict.at === 'format' ? 'CMESH_RECEIPT_FORMAT' : 'CMESH_RECEIPT_INVALID')
  return `${verdict.at}${verdict.index === undefined ? '' : ` ${verdict.index}`}: ${verdict.reason}`
}
const withChange = (bytes: Buffer, change: (receipt: Receipt) => Partial<Receipt>): Buffer => {
  const receipt = decodeReceipt(bytes)
  return encodeReceipt({ ...receipt, ...change(receipt) })
}
const layerChanged = (bytes: Buffer, at: number, change: (shown: NonNullable<ReceiptLayer['shown']>) => NonNullable<ReceiptLayer['shown']>): Buffer =>
  withChange(bytes, ({ layers }) => ({ layers: layers.map((layer, i) => i === at && layer.shown ? { ...layer, shown: change(layer.shown) } : layer) }))
const otherWitness = (bytes: Buffer, change: Partial<Witness>): Buffer => encodeWitness({ ...decodeWitness(bytes), ...change })
const claimsChanged = (change: (evidence: LinkEvidence) => Omit<LinkEvidence, 'version'>): Buffer =>
  withChange(WRITE, ({ evidence }) => ({ evidence: { version: 1, ...change(evidence as LinkEvidence) } }))
const outcomeChanged = (change: (evidence: OutcomeEvidence) => Partial<OutcomeEvidence>, bytes = CLAIMED): Buffer =>
  withChange(bytes, ({ evidence }) => ({ evidence: { ...evidence as OutcomeEvidence, ...change(evidence as OutcomeEvidence) } }))
const claimChanged = (at: number, change: (claim: OutcomeClaim) => Partial<OutcomeClaim>): Buffer =>
  outcomeChanged(({ claims }) => ({ claims: claims.map((claim, i) => i === at ? { ...claim, ...change(claim) } : claim) }))
/** Which of the claims is whose. */
const claimOf = (key: KeyPair): number => {
  const { claims } = decodeReceipt(CLAIMED).evidence as OutcomeEvidence
  return claims.findIndex(({ member }) => Buffer.compare(member, key.publicKey.toBytes()) === 0)
}

describe('a receipt', () => {
  test('has one encoding', () => {
    for (const bytes of [WRITE, CLAIMED, VIEW]) expect(encodeReceipt(decodeReceipt(bytes))).toEqual(bytes)
    for (const bytes of [WRITE_WITNESS, VIEW_WITNESS]) expect(encodeWitness(decodeWitness(bytes))).toEqual(bytes)
  })

  test('tells what it says once it holds', () => {
    const verdict = verifyReceipt(WRITE, MESH.did, { witness: WRITE_WITNESS, claims: 3 })
    expect(verdict).toMatchObject({ valid: true, root: { mesh: MESH.did, node: NODE.did }, layers: [{ hop: 'registrar', status: 200 }, { hop: 'router', status: 200 }] })
    const after = verdict.valid ? verdict.layers[0]?.after?.seq ?? -1 : -1
    const members = [MESH, NODE, OTHER].map(({ did }) => expect.objectContaining({ member: did, level: 'os' }) as object)
    expect(verdict).toMatchObject({ claims: expect.arrayContaining(members) as unknown })
    if (verdict.valid) expect(verdict.claims.map(({ seq }) => seq).sort((a, b) => a - b)).toEqual([after, after + 1, after + 2])
  })

  test('tells who claims the outcome of a write, once that holds', () => {
    const verdict = verifyReceipt(CLAIMED, MESH.did, { witness: CLAIMED_WITNESS, claims: 3 })
    const { epoch, seq } = (verdict.valid ? verdict.layers[0]?.after : undefined) ?? {}
    const members = [MESH, NODE, OTHER].map(({ did }) => ({ member: did, epoch, seq, level: 'disk' }))
    expect(verdict).toMatchObject({ valid: true, claims: expect.arrayContaining(members) as unknown })
    expect([CLAIMED, WRITE].map(bytes => decodeReceipt(bytes).evidence).map(evidence => evidence && claimants(evidence))).toEqual([
      { count: 3, members: 3, level: 'disk' }, { count: 3, members: undefined, level: 'os' },
    ])
    expect(verdictOn(outcomeChanged(({ claims }) => ({ claims: claims.slice(1) })), { witness: CLAIMED_WITNESS, claims: 2 })).toBe('valid')
  })

  test('still holds with any of its layers kept back, and does not hold what they said', () => {
    const receipt = decodeReceipt(VIEW)
    for (let kept = 0; kept < 2 ** receipt.layers.length; kept++) {
      const redacted = redactReceipt(VIEW, i => (kept >> i & 1) === 1)
      expect(verdictOn(redacted, { witness: VIEW_WITNESS })).toBe('valid')
      const verdict = verifyReceipt(redacted, MESH.did)
      expect(verdict.valid && verdict.layers.map(layer => layer === undefined)).toEqual(receipt.layers.map((_, i) => (kept >> i & 1) === 1))
      receipt.layers.forEach(({ shown }, i) => { expect(redacted.includes(Buffer.from(shown?.layer ?? ''))).toBe((kept >> i & 1) === 0) })
    }
    // Evidence is of what one layer shows: it stays with that one, and goes with it.
    const { layers, evidence } = decodeReceipt(WRITE)
    expect(decodeReceipt(redactReceipt(WRITE, i => i === layers.length - 1)).evidence).toEqual(evidence)
    expect(decodeReceipt(redactReceipt(WRITE, i => i === 0)).evidence).toBeUndefined()
    for (const keptBack of [0, 1, -1]) expect(verdictOn(redactReceipt(WRITE, i => i === keptBack || keptBack === -1))).toBe('valid')
    const bare = withChange(WRITE, receipt => ({ layers: receipt.layers.map(layer => ({ ...layer, shown: undefined })) }))
    expect(verdictOn(bare)).toBe('claims: no layer shows where the write left the state')
  })

  test.each<[string, () => string, string]>([
    ['another mesh', () => verdictOn(VIEW, {}, OTHER.did), 'key: it is of another mesh'],
    ['a DID that is none', () => verdictOn(VIEW, {}, 'nobody'), 'key: it is of another mesh'],
    ['a certificate left out', () => verdictOn(withChange(VIEW, () => ({ certificate: undefined }))), 'certificate: the certificate of the node is missing'],
    ['another certificate', () => verdictOn(withChange(VIEW, () => ({ certificate: { issued: 1, signature: Buffer.alloc(64) } }))), 'certificate: the mesh did not sign the certificate of the node'],
    ['another signature', () => verdictOn(withChange(VIEW, ({ root }) => ({ root: Buffer.concat([root.subarray(0, 189), Buffer.alloc(64, 1)]) }))), 'signature: the node did not sign the root'],
    ['a shorter path', () => verdictOn(withChange(VIEW, ({ path }) => ({ path: path.slice(1) }))), 'path: its path does not lead to the root'],
    ['another id', () => verdictOn(withChange(VIEW, () => ({ id: Buffer.alloc(16) }))), 'path: its path does not lead to the root'],
    ['another status', () => verdictOn(withChange(VIEW, () => ({ status: 201 }))), 'final: the final hash is not that of the message and the hashes of its layers'],
    ['another caller', () => verdictOn(withChange(VIEW, () => ({ sub: OTHER.did }))), 'final: the final hash is not that of the message and the hashes of its layers'],
    ['layers in another order', () => verdictOn(withChange(VIEW, ({ layers }) => ({ layers: [...layers].reverse() }))), 'final: the final hash is not that of the message and the hashes of its layers'],
    ['a changed layer', () => verdictOn(layerChanged(VIEW, 1, shown => ({ ...shown, layer: Buffer.concat([shown.layer.subarray(0, -1), Buffer.of(0)]) }))), 'layer 1: its hash is another'],
    ['other texts', () => verdictOn(layerChanged(VIEW, 0, shown => ({ ...shown, texts: Buffer.concat([shown.texts, Buffer.of(0)]) }))), 'layer 0: its texts are not those of its place'],
    ['a witness of another message', () => verdictOn(VIEW, { witness: WRITE_WITNESS }), 'body: the witness is of another message'],
    ['another address', () => verdictOn(VIEW, { witness: otherWitness(VIEW_WITNESS, { fqmn: '0xS:0x001:other:["Dexter"]' }) }), 'body: another address was asked for'],
    ['another reply', () => verdictOn(VIEW, { witness: otherWitness(VIEW_WITNESS, { replyBody: Buffer.from('x') }) }), 'body: bodies, headers and salt are not those of the message'],
    ['other headers', () => verdictOn(VIEW, { witness: otherWitness(VIEW_WITNESS, { replyHeaders: Buffer.alloc(0) }) }), 'body: bodies, headers and salt are not those of the message'],
    ['other arguments', () => verdictOn(VIEW, { witness: otherWitness(VIEW_WITNESS, { fqmn: '0xS:0x001:hello_world:["Debra"]' }) }), 'body 0: its arguments are others'],
    ['a witness that is none', () => verdictOn(VIEW, { witness: VIEW }), 'format: byte 0 is not "CMRW"'],
    ['too few claims', () => verdictOn(WRITE, { claims: 4 }), 'claims: it has 3 claims where 4 are needed'],
    ['no claims', () => verdictOn(withChange(WRITE, () => ({ evidence: undefined })), { claims: 1 }), 'claims: it has 0 claims where 1 are needed'],
    ['a layer kept back and too few claims', () => verdictOn(redactReceipt(withChange(CLAIMED, () => ({ evidence: undefined })), i => i === 0), { claims: 1 }), 'claims: it has 0 claims where 1 are needed'],
    ['the layer kept back that its claims are of', () => verdictOn(withChange(CLAIMED, ({ layers }) => ({ layers: layers.map((layer, i) => i === 0 ? { ...layer, shown: undefined } : layer) }))), 'claims: no layer shows where the write left the state'],
    ['another request claimed', () => verdictOn(outcomeChanged(() => ({ asked: Buffer.alloc(32) })), { witness: CLAIMED_WITNESS }), 'claims: another request was executed'],
    ['another result claimed', () => verdictOn(outcomeChanged(() => ({ result: Buffer.alloc(32) })), { witness: CLAIMED_WITNESS }), 'claims: it had another result'],
    ['another request claimed, unwitnessed', () => verdictOn(outcomeChanged(() => ({ asked: Buffer.alloc(32) }))), 'claims 0: the member did not sign it'],
    ['another result claimed of a failure', () => verdictOn(outcomeChanged(() => ({ result: Buffer.alloc(32) }), golden('a-failure-that-members-claim.receipt')), { witness: golden('a-failure-that-members-claim.witness') }), 'claims 0: the member did not sign it'],
    ['another transaction of the block claimed', () => verdictOn(outcomeChanged(({ index }) => ({ index: index + 1 }))), 'claims 0: the member did not sign it'],
    ['a path that is too short', () => verdictOn(outcomeChanged(({ path }) => ({ path: path.slice(1) }))), 'claims: its path leads to no root'],
    ['a place beyond the last', () => verdictOn(outcomeChanged(({ count }) => ({ index: count }))), 'claims: its path leads to no root'],
    ['another number of members', () => verdictOn(outcomeChanged(({ members }) => ({ members: members - 1 }))), 'claims 0: the member did not sign it'],
    ['claims of another write', () => verdictOn(outcomeChanged(() => decodeReceipt(golden('a-write-with-a-body-that-members-claim.receipt')).evidence as OutcomeEvidence)), 'claims 0: the member did not sign it'],
    ['another level of a claim', () => verdictOn(claimChanged(1, () => ({ level: 'os' }))), 'claims 1: the member did not sign it'],
    ['another time of a claim', () => verdictOn(claimChanged(2, ({ timeMs }) => ({ timeMs: timeMs + 1 }))), 'claims 2: the member did not sign it'],
    ['a claim of nobody', () => verdictOn(claimChanged(0, () => ({ member: Buffer.alloc(32) }))), 'claims 0: it names no member'],
    ['a claim without its certificate', () => verdictOn(claimChanged(claimOf(OTHER), () => ({ certificate: undefined }))), `claims ${claimOf(OTHER)}: the certificate of the member is missing`],
    ['a claim of the mesh with a certificate', () => verdictOn(claimChanged(claimOf(MESH), () => ({ certificate: { issued: 1, signature: Buffer.alloc(64) } }))), `claims ${claimOf(MESH)}: a certificate is where none is needed`],
    ['a claim that the mesh does not stand for', () => verdictOn(claimChanged(claimOf(OTHER), () => ({ certificate: { issued: 1, signature: Buffer.alloc(64) } }))), `claims ${claimOf(OTHER)}: the mesh did not sign the certificate of the member`],
    ['evidence of both kinds', () => verdictOn(Buffer.concat([CLAIMED.subarray(0, 5), Buffer.of(7), CLAIMED.subarray(6)])), 'format: byte 5 is not known flags'],
    ['a missing link', () => verdictOn(claimsChanged(({ links, claims }) => ({ links: links.slice(1), claims: claims.slice(0, 1).map(claim => ({ ...claim, at: 0 })) }))), 'claims: a block does not follow the one before'],
    ['a member that is none', () => verdictOn(claimsChanged(({ links, claims }) => ({ links, claims: [{ ...claims[0] as (typeof claims)[0], member: Buffer.alloc(32) }] }))), 'claims 0: it names no member'],
    ['another level', () => verdictOn(claimsChanged(({ links, claims }) => ({ links, claims: claims.map((claim, i) => i === 1 ? { ...claim, level: 'disk' } : claim) }))), 'claims 1: the member did not sign it'],
    ['a claim for another position', () => verdictOn(claimsChanged(({ links, claims }) => ({ links, claims: claims.map(claim => ({ ...claim, at: (claim.at + 1) % 3 })) }))), 'claims 0: the member did not sign it'],
    ['a claim of somebody the mesh does not know', () => verdictOn(claimsChanged(({ links, claims }) => ({
      links, claims: claims.map(claim => claim.certificate === undefined ? claim : { ...claim, certificate: { ...claim.certificate, issued: 5 } }),
    }))).replace(/\d/, '*'), 'claims *: the mesh did not sign the certificate of the member'],
  ])('with %s is refused, and the verdict names it', (_, judge, verdict) => {
    expect(judge()).toBe(verdict)
  })

  test('with a layer that its node should not have sealed is refused, though all hashes hold', () => {
    const sealer = new LayerSealer()
    const layer: Layer = {
      site: layerSite('router', NODE.did, '0xS:0x001'), decision: 'none', grant: '', status: 200, startUs: 1, durationUs: 1, gas: 0n,
      before: undefined, after: undefined, argumentsHash: undefined,
    }
    sealer.seal([layer], { id: Buffer.alloc(16, 1), status: 200, sid: '', sub: '', requestBodyHash: sha256(Buffer.alloc(0)), replyBodyHash: sha256(Buffer.alloc(0)), replyHeaders: Buffer.alloc(0) })
    const record = sealer.record()
    // A hop that there is none of.
    record[record.length - 74 + 1] = 99
    const told = toldByRecord(record, [layer.site.place?.texts ?? Buffer.alloc(0)], '')
    const bound = Buffer.concat([Buffer.of(1), record.subarray(16, record.length - 75)])
    const final = Buffer.from(sha256(Buffer.concat([bound, ...told.layers.map(({ hash }) => hash)])), 'latin1')
    const [receipt] = receiptsOf([{ ...told, final }], { mesh: MESH, node: NODE }) as [Buffer]
    expect(verdictOn(receipt)).toBe('layer 0: it is no layer of version 1')
    expect(verdictOn(redactReceipt(receipt, () => true))).toBe('valid')
  })

  test('with a bit of any byte changed, or cut anywhere, is refused with a verdict', () => {
    VIEW.forEach((byte, at) => {
      const flipped = Buffer.from(VIEW)
      flipped[at] = byte ^ 1 << at % 8
      if (verifyReceipt(flipped, MESH.did).valid) throw new Error(`it holds with byte ${at} changed`)
    })
    for (const whole of [WRITE, CLAIMED]) for (const cut of everyTruncation(whole)) expect(decodeTotally(decodeReceipt, cut, AREA).refusal?.code).toBe('CMESH_RECEIPT_FORMAT')
  })

  test('any bytes give a receipt, a witness, a record or a coded error', () => {
    fc.assert(fc.property(damaged(fc.constantFrom(WRITE, CLAIMED, VIEW)), bytes => { decodeTotally(decodeReceipt, bytes, AREA) }), { numRuns: 1_000 })
    fc.assert(fc.property(damaged(fc.constantFrom(WRITE_WITNESS, VIEW_WITNESS)), bytes => { decodeTotally(decodeWitness, bytes, AREA) }), { numRuns: 1_000 })
    const record = Buffer.concat([Buffer.alloc(16), Buffer.of(1), Buffer.alloc(54), Buffer.of(1, 3, 1, 2, 3)])
    expect(decodeSealing(record)).toMatchObject({ sid: '', sub: '', layers: [Buffer.of(1, 2, 3)] })
    fc.assert(fc.property(damaged(fc.constant(record)), bytes => { decodeTotally(decodeSealing, bytes, AREA) }), { numRuns: 500 })
    expect(refusal(() => decodeReceipt(Buffer.concat([WRITE, Buffer.alloc(RECEIPT_BYTES)])))).toMatchObject({ code: 'CMESH_RECEIPT_FORMAT', detail: { expected: 'the end' } })
  })

  test('is not written with what it has no room for', () => {
    const position = { epoch: 1, seq: 1, chain: Buffer.alloc(32) }
    const evidence = evidenceOf(position, MESH, [NODE])
    expect(() => withChange(WRITE, () => ({ evidence: { ...evidence, claims: [] } }))).toThrow('at most 1024 links, and 1 to 64 claims')
    expect(() => withChange(WRITE, () => ({ evidence: { ...evidence, claims: evidence.claims.map(claim => ({ ...claim, version: 'a"b' })) } })))
      .toThrow('a version that a receipt can hold has at most 255 printable characters of ASCII')
    expect(() => outcomeChanged(() => ({ claims: [] }))).toThrow('1 to 64 claims')
    expect(() => layerChanged(WRITE, 0, shown => ({ ...shown, layer: Buffer.alloc(256) }))).toThrow('a layer has 1 to 255 bytes, and its texts 65,535 at most')
  })
})

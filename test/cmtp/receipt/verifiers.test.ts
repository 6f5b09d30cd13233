/**
 * Two verifiers that share nothing but the specification: `cmtp/receipt/verify.ts` and `docs/verify/verify.py`. Over the golden receipts,
 * fresh ones, changed ones and noise they give the same verdict. TEST_LONG=1 for the whole of the noise.
 */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import { decodeLayer, layerSite, sha256, type Hop, type Layer } from '../../../cmtp/layer.ts'
import { decodeReceipt, encodeReceipt, type DecodedReceipt, type ReceiptLayer } from '../../../cmtp/receipt/receipt.ts'
import type { OutcomeClaim, OutcomeEvidence } from '../../../cmtp/receipt/outcome-evidence.ts'
import { encodeRootRecord, verifyByKey, type Verify } from '../../../cmtp/receipt/root.ts'
import { verifyReceipt } from '../../../cmtp/receipt/verify.ts'
import { decodeWitness, encodeWitness } from '../../../cmtp/receipt/witness.ts'
import { LayerSealer } from '../../../cmtp/sealer.ts'
import { damaged } from '../../support/damage.ts'
import { evidenceOf, outcomeEvidenceOf } from '../../support/evidence.ts'
import { receiptsOf, toldByRecord } from '../../support/receipt-files.ts'
import { readVectors } from '../../support/vectors.ts'

const FRESH = 1_000
const CHANGED = 10_000
const NOISE = process.env['TEST_LONG'] === '1' ? 100_000 : 2_000

/** Changed witnesses, beside the receipt that they were of. */
const WITNESSES = NOISE / 2

const MESH = KeyPair.fromSeed(Buffer.alloc(32, 0x51))
const NODE = KeyPair.fromSeed(Buffer.alloc(32, 0x52))
const OTHER = KeyPair.fromSeed(Buffer.alloc(32, 0x53))

const HAS_PYTHON = spawnSync('python3', ['--version']).status === 0
const onPython = HAS_PYTHON ? test : test.skip
const REASON = HAS_PYTHON ? '' : ' (skipped: there is no python3 on this machine)'

interface Case {
  readonly receipt: Uint8Array
  readonly witness?: Uint8Array
}
interface Told {
  readonly valid: boolean
  readonly at?: string
  readonly index?: number
  readonly reason?: string
}

const GOLDEN = readVectors<{ readonly mesh: string, readonly vectors: readonly { readonly name: string, readonly file: string }[] }>('receipts/index.json')
const golden = (file: string): Buffer => readFileSync(new URL(`../../vectors/receipts/${file}`, import.meta.url))

/** Both keys are checked over and over: what was seen is remembered, as the other verifier does. */
function remembering(): Verify {
  const seen = new Map<string, boolean>()
  return (did, message, signature) => {
    const asked = did + sha256(message) + Buffer.from(signature).toString('latin1')
    const known = seen.get(asked) ?? verifyByKey(did, message, signature)
    seen.set(asked, known)
    return known
  }
}

function byTypeScript(cases: readonly Case[]): Told[] {
  const verify = remembering()
  return cases.map(({ receipt, witness }) => {
    const verdict = verifyReceipt(receipt, MESH.did, { verify, ...(witness && { witness }) })
    if (verdict.valid) return { valid: true }
    const { at, index, reason } = verdict
    return { valid: false, at, ...(index !== undefined && { index }), reason }
  })
}

function byPython(cases: readonly Case[]): Told[] {
  const input = Buffer.concat(cases.flatMap(({ receipt, witness = Buffer.alloc(0) }) => [receipt, witness].flatMap(part => {
    const length = Buffer.alloc(4)
    length.writeUInt32BE(part.length)
    return [length, part]
  })))
  const script = fileURLToPath(new URL('../../../docs/verify/verify.py', import.meta.url))
  const { status, stdout, stderr } = spawnSync('python3', ['-B', script, MESH.did, '--batch', '-'], { input, maxBuffer: 64 * 1_048_576, encoding: 'utf8' })
  if (status !== 0) throw new Error(`verify.py ended with ${String(status)}: ${stderr}`)
  return stdout.trim().split('\n').map(line => JSON.parse(line) as Told)
}

/** A generator of numbers below `n` that a seed decides (xorshift). */
function drawOf(seed: number): (n: number) => number {
  let state = seed
  return n => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % n
  }
}

const HOPS: readonly Hop[] = ['registrar', 'state', 'events', 'iam', 'router']

/** Receipts of made-up messages that a sealer has sealed, `each` to a batch. */
function freshReceipts(count: number, each: number): Buffer[] {
  const draw = drawOf(7)
  const sealer = new LayerSealer()
  const told = Array.from({ length: count }, (_, n) => {
    const position = { epoch: 1, seq: n, chain: Buffer.alloc(32, draw(256)) }
    const layers: Layer[] = Array.from({ length: 1 + draw(4) }, (_, i) => ({
      site: layerSite(HOPS[draw(HOPS.length)] as Hop, NODE.did, `0xS:0x001:f${n}`, draw(2) === 0 ? undefined : '0xS:0x001'), decision: 'allowed', grant: '0xS:>',
      status: 200, startUs: 1_800_000_000_000_000 + n, durationUs: draw(1_000), gas: BigInt(draw(9_999)), before: draw(2) === 0 ? undefined : position,
      after: i === 0 && n % 50 === 0 ? position : undefined, argumentsHash: draw(2) === 0 ? undefined : sha256(Buffer.of(n & 255)),
    }))
    const id = Buffer.from(sha256(Buffer.from(`id ${n}`)), 'latin1').subarray(0, 16)
    const final = sealer.seal(layers, {
      id, status: 200, sid: `s-${n % 7}`, sub: OTHER.did, requestBodyHash: sha256(Buffer.of(1)), replyBodyHash: sha256(Buffer.of(2)), replyHeaders: Buffer.alloc(draw(40)),
    })
    const [{ after, status, gas }] = layers as [Layer]
    const members = [NODE, MESH, OTHER]
    const evidence = after === undefined ? undefined : n % 100 === 0 ? evidenceOf(after, MESH, members) : outcomeEvidenceOf({
      id, status, gas, after, asked: Buffer.alloc(32, n), result: Buffer.alloc(32, n + 1),
    }, MESH, members, { index: draw(8), count: 9 })
    return toldByRecord(sealer.record(), layers.map(layer => layer.site.place?.texts ?? Buffer.alloc(0)), final, evidence)
  })
  return Array.from({ length: Math.ceil(count / each) }, (_, batch) =>
    receiptsOf(told.slice(batch * each, (batch + 1) * each), { mesh: MESH, node: batch % 5 === 0 ? MESH : NODE, batch })).flat()
}

/** One change to a receipt, of the kind that `n` says: a bit, a layer, the path, a key; now and then to what members say of a write, of those `claimed`. */
function changed(receipts: readonly Buffer[], claimed: readonly DecodedReceipt[], n: number, draw: (n: number) => number): Uint8Array {
  if (n % 50 === 49) return otherClaims(claimed, draw)
  const bytes = receipts[draw(receipts.length)] as Buffer
  if (n % 4 === 0) {
    const flipped = Buffer.from(bytes)
    const bit = draw(bytes.length * 8)
    flipped[bit >> 3] = (flipped[bit >> 3] as number) ^ 1 << (bit & 7)
    return flipped
  }
  const receipt = decodeReceipt(bytes)
  if (n % 4 === 1) return encodeReceipt({ ...receipt, layers: otherLayers(receipt, decodeReceipt(receipts[draw(receipts.length)] as Buffer), draw) })
  if (n % 4 === 2) {
    const { path } = receipt
    return encodeReceipt({ ...receipt, path: [path.slice(0, -1), path.slice(1), [...path, Buffer.alloc(32)]][draw(3)] as Uint8Array[] })
  }
  return otherKey(receipt, draw)
}

function otherLayers({ layers, id }: DecodedReceipt, other: DecodedReceipt, draw: (n: number) => number): ReceiptLayer[] {
  const at = draw(layers.length)
  const from = Buffer.compare(other.id, id) === 0 ? 'itself' : 'another'
  const foreign = { ...(other.layers[0] as ReceiptLayer), ...(from === 'itself' && { hash: Buffer.alloc(32) }) }
  if (layers.length === 1 || draw(3) === 0) return layers.map((layer, i) => i === at ? foreign : layer)
  const next = (at + 1) % layers.length
  const swapped = [...layers]
  const keepHashes = draw(2) === 0
  swapped[at] = { ...layers[next] as ReceiptLayer, ...(keepHashes && { hash: (layers[at] as ReceiptLayer).hash }) }
  swapped[next] = { ...layers[at] as ReceiptLayer, ...(keepHashes && { hash: (layers[next] as ReceiptLayer).hash }) }
  return swapped
}

function otherKey(receipt: DecodedReceipt, draw: (n: number) => number): Buffer {
  const { record } = receipt
  const kind = draw(3)
  // Another mesh throughout; another node with the certificate of this one; this node as another would sign for it.
  const keys = [{ mesh: OTHER.did, node: OTHER.did }, { node: OTHER.did }, {}][kind]
  const root = encodeRootRecord({ ...record, ...keys }, bytes => OTHER.sign(bytes))
  return encodeReceipt({ ...receipt, root })
}

/** One of the writes whose claims are of their outcomes, with one part of that changed. */
function otherClaims(claimed: readonly DecodedReceipt[], draw: (n: number) => number): Buffer {
  const receipt = claimed[draw(claimed.length)] as DecodedReceipt
  const evidence = receipt.evidence as OutcomeEvidence
  const other = claimed[(claimed.indexOf(receipt) + 1) % claimed.length]?.evidence as OutcomeEvidence
  const at = draw(3)
  const [claim, from] = [evidence.claims[at] as OutcomeClaim, other.claims[at] as OutcomeClaim]
  const parts: Partial<OutcomeEvidence>[] = [
    { members: evidence.members + 1 }, { asked: other.asked }, { result: other.result }, { index: (evidence.index + 1) % 12 }, { count: evidence.count - 1 },
    { path: evidence.path.slice(1) }, { path: [...evidence.path].reverse() }, { path: other.path.map(() => Buffer.alloc(32)) },
    ...[{ level: 'os' as const }, { timeMs: claim.timeMs + 1 }, { signature: from.signature }, { certificate: claim.certificate === undefined ? { issued: 1, signature: claim.signature } : undefined }]
      .map(part => ({ claims: evidence.claims.map((each, i) => i === at ? { ...each, ...part } : each) })),
    { claims: [{ ...claim, member: KeyPair.fromSeed(Buffer.alloc(32, 0x54)).publicKey.toBytes() }] }, { claims: [{ ...claim, member: Buffer.alloc(32) }] },
  ]
  return encodeReceipt({ ...receipt, evidence: { ...evidence, ...parts[draw(parts.length)] } })
}

function isUnread(receipt: Uint8Array): boolean {
  const shown = decodeReceipt(receipt).layers.at(-1)?.shown
  return shown !== undefined && decodeLayer(Buffer.concat([shown.layer, shown.texts])).fqmn === ''
}

describe('both verifiers', () => {
  const fresh = freshReceipts(FRESH, 125)
  // Once for all: decoding a thousand for each change takes longer than everything else here.
  const claimed = fresh.map(decodeReceipt).filter(({ evidence }) => evidence?.version === 2)
  const draw = drawOf(99)
  const mutants = Array.from({ length: CHANGED }, (_, n) => ({ receipt: changed(fresh, claimed, n, draw) }))
  const sources = fc.constantFrom(...fresh.slice(0, 20), golden('a-write.receipt'), golden('a-write-that-members-claim.receipt'))
  const noise = fc.sample(damaged(sources), { numRuns: NOISE, seed: 5 }).map(receipt => ({ receipt }))
  const [verdicts, ofNoise] = [byTypeScript(mutants), byTypeScript(noise)]
  const files = GOLDEN.vectors.map(({ file }) => ({ receipt: golden(`${file}.receipt`), witness: golden(`${file}.witness`) }))

  /** Golden ones beside a witness of the same message with other arguments, or with some where there were none; but for the one that nobody could read. */
  const invented = files.flatMap(({ receipt, witness: bytes }) => {
    const witness = decodeWitness(bytes)
    const bare = witness.fqmn.split(':[')[0] as string
    return isUnread(receipt) ? [] : [{ receipt, witness: encodeWitness({ ...witness, fqmn: `${bare}:["invented"]` }) }]
  })
  const short = fc.constantFrom(...files.filter(({ witness }) => witness.length < 10_000))
  const beside = short.chain(({ receipt, witness }) => damaged(fc.constant(witness)).map(other => ({ receipt, witness: other })))
  const witnessed = fc.sample(beside, { numRuns: WITNESSES, seed: 6 })
    // One of no bytes stands for none where there are many.
    .filter(({ witness }) => witness.length > 0)

  /** Golden ones whose claims are of something else than their witness shows. */
  const others = files.flatMap(({ receipt: bytes, witness }) => {
    const receipt = decodeReceipt(bytes)
    const { evidence } = receipt
    if (evidence?.version !== 2) return []
    const parts = [{ asked: Buffer.alloc(32) }, { result: Buffer.alloc(32) }]
    return parts.map(part => ({ receipt: encodeReceipt({ ...receipt, evidence: { ...evidence, ...part } }), witness }))
  })

  test('accept every golden receipt with its witness', () => {
    expect(GOLDEN.mesh).toBe(MESH.did)
    expect(files.length).toBeGreaterThanOrEqual(18)
    expect(byTypeScript(files)).toEqual(files.map(() => ({ valid: true })))
    expect(byTypeScript(others).map(({ at, reason }) => `${at}: ${reason}`)).toEqual([
      'claims: another request was executed', 'claims: it had another result', 'claims: another request was executed', 'claims: it had another result',
      'claims: another request was executed', 'claims: the member did not sign it', 'claims: the member did not sign it', 'claims: the member did not sign it',
    ])
  })

  test('accept no arguments that were not asked with', () => {
    expect(invented).toHaveLength(files.length - 1)
    expect(byTypeScript(invented).filter(({ at }) => at !== 'body')).toEqual([])
  })

  test('accept every fresh receipt, and no changed one', () => {
    expect(byTypeScript(fresh.map(receipt => ({ receipt }))).filter(({ valid }) => !valid)).toEqual([])
    expect(verdicts.filter(({ valid }) => valid)).toEqual([])
    const found = new Set(verdicts.map(({ at }) => at))
    expect([...found].sort()).toEqual(['certificate', 'claims', 'final', 'format', 'key', 'layer', 'path', 'signature'])
  })

  test(`end on noise with a verdict (${NOISE} of it)`, () => {
    expect(ofNoise.filter(({ valid }) => typeof valid === 'boolean')).toHaveLength(NOISE)
  })

  onPython(`say the same of golden, fresh and changed receipts, and of noise${REASON}`, () => {
    const cases: Case[] = [...files, ...others, ...invented, ...witnessed, ...fresh.map(receipt => ({ receipt })), ...mutants, ...noise]
    const one = [...byTypeScript(cases.slice(0, -NOISE - CHANGED)), ...verdicts, ...ofNoise]
    const other = byPython(cases)
    expect(other).toHaveLength(cases.length)
    const apart = cases.flatMap((_, i) => JSON.stringify(one[i]) === JSON.stringify(other[i]) ? [] : [{ i, typescript: one[i], python: other[i] }])
    expect(apart.slice(0, 5)).toEqual([])
  })
})

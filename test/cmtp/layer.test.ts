import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { encodeHeaders, type HeaderList } from '../../cmtp/headers.ts'
import {
  argumentsHash, decodeLayer, decodeLayers, EMPTY_HASH, encodeLayer, encodeLayers, layerSite, sha256,
  type DecodedLayer, type Decision, type Hop, type Layer,
} from '../../cmtp/layer.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { Repeated } from '../../cmtp/repeated.ts'
import { LayerSealer, type Binding } from '../../cmtp/sealer.ts'
import { damaged, decodeTotally, everyBitFlip, everyTruncation } from '../support/damage.ts'
import {
  specArgumentsHash, specBlockLayer, specContent, specFinalHash, specFinalHash1, specLayer, type SpecBinding, type SpecLayer,
} from '../support/final-hash.ts'
import { runs } from '../support/runs.ts'
import { saltsOf } from '../support/salts.ts'
import { anyBytes, anyHeaders, anyMessageId, anyStatus, anyTime } from '../support/messages.ts'
import { refusal } from '../support/refusal.ts'
import { bytesOf, readVectors, type CodecVectors } from '../support/vectors.ts'

interface PositionMeaning { readonly epoch: number, readonly seq: number, readonly chain: string }
type PlainField = 'node' | 'fqmn' | 'target' | 'grant' | 'status' | 'startUs' | 'durationUs'
interface LayerMeaning extends Pick<SpecLayer, PlainField> {
  readonly hop: Hop
  readonly decision: Decision
  readonly gas: string
  readonly before?: PositionMeaning
  readonly after?: PositionMeaning
  readonly argumentsHash?: string
  readonly place?: string
}
interface BindingMeaning {
  readonly id: string
  readonly status: number
  readonly sid: string
  readonly sub: string
  readonly requestBody: string
  readonly replyBody: string
  readonly replyHeaders: HeaderList
}
interface FinalVector {
  readonly name: string
  readonly layers: readonly LayerMeaning[]
  readonly binding: BindingMeaning
  readonly salt: string
  readonly block: string
  readonly final: string
}
interface FinalVectors {
  readonly arguments: string
  readonly argumentsSalt: string
  readonly argumentsHash: string
  readonly vectors: readonly FinalVector[]
}
const LAYERS = readVectors<CodecVectors<{ readonly salt: string, readonly layers: readonly LayerMeaning[] }>>('cmtp/layers.json')
const FINAL = readVectors<FinalVectors>('cmtp/final-hash.json')

const latin1 = (bytes: Uint8Array): string => Buffer.from(bytes).toString('latin1')
const position = (meaning: PositionMeaning): NonNullable<SpecLayer['before']> => ({ ...meaning, chain: bytesOf(meaning.chain) })
const specOf = ({ gas, before, after, argumentsHash: hash, ...rest }: LayerMeaning): SpecLayer => ({
  ...rest, gas: BigInt(gas), before: before && position(before), after: after && position(after),
  argumentsHash: hash === undefined ? undefined : bytesOf(hash),
})
/** The same layer in the form that the code under test takes. */
const layerOf = (spec: SpecLayer): Layer => ({
  site: layerSite(spec.hop as Hop, spec.node, spec.fqmn, spec.target), decision: spec.decision as Decision, grant: spec.grant,
  status: spec.status, startUs: spec.startUs, durationUs: spec.durationUs, gas: spec.gas, before: spec.before, after: spec.after,
  argumentsHash: spec.argumentsHash && latin1(spec.argumentsHash),
})
const specBinding = ({ id, requestBody, replyBody, replyHeaders, ...rest }: BindingMeaning): SpecBinding => ({
  ...rest, id: bytesOf(id), requestBody: bytesOf(requestBody), replyBody: bytesOf(replyBody),
  replyHeaders: encodeHeaders(replyHeaders),
})
const bindingOf = ({ requestBody, replyBody, ...rest }: SpecBinding): Binding =>
  ({ ...rest, requestBodyHash: sha256(requestBody), replyBodyHash: sha256(replyBody) })
const hashHex = (hash: string): string => Buffer.from(hash, 'latin1').toString('hex')

/** A decoded layer in the vectors' spelling. */
function meaningOf(layer: DecodedLayer): LayerMeaning {
  const spell = (at: Layer['before']): PositionMeaning | undefined =>
    at && { ...at, chain: Buffer.from(at.chain).toString('hex') }
  const { bytes: _bytes, version: _version, gas, before, after, argumentsHash: hash, place, ...rest } = layer
  // JSON drops what is undefined, as the vectors do.
  return JSON.parse(JSON.stringify({
    ...rest, gas: String(gas), before: spell(before), after: spell(after), place: hashHex(place),
    argumentsHash: hash === undefined ? undefined : hashHex(hash),
  })) as LayerMeaning
}

const maybe = <T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> => fc.option(arbitrary, { nil: undefined })
const anyText = fc.string({ unit: 'grapheme', maxLength: 24 })
const anyHash = fc.uint8Array({ minLength: 32, maxLength: 32 })
const anyPosition = fc.record({ epoch: fc.nat(0xffff_ffff), seq: fc.maxSafeNat(), chain: anyHash })
const anyLayer: fc.Arbitrary<SpecLayer> = fc.record({
  hop: fc.constantFrom('router', 'registrar', 'state', 'contract', 'consensus', 'events', 'iam', 'peer'),
  node: anyText, fqmn: anyText, target: maybe(anyText), decision: fc.constantFrom('none', 'allowed', 'denied'), grant: anyText,
  status: anyStatus, startUs: anyTime, durationUs: fc.nat(0xffff_ffff),
  gas: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
  before: maybe(anyPosition), after: maybe(anyPosition), argumentsHash: maybe(anyHash),
})
const anyLayers = fc.array(anyLayer, { minLength: 1, maxLength: 5 })
const anyBinding: fc.Arbitrary<SpecBinding> = fc.record({
  id: anyMessageId, status: anyStatus, sid: anyText, sub: anyText, requestBody: anyBytes, replyBody: anyBytes,
  replyHeaders: anyHeaders.map(encodeHeaders),
})
const anyBlock = fc.tuple(anyMessageId, anyLayers).map(([salt, layers]) => encodeLayers(salt, layers.map(specBlockLayer)))

interface FinalVector1 {
  readonly name: string
  readonly layerSalts: readonly string[]
  readonly layerHashes: readonly string[]
  readonly content: string
  readonly block: string
  readonly final: string
}
const FINAL1 = readVectors<{ readonly vectors: readonly FinalVector1[] }>('cmtp/final-hash-1.json').vectors

/** The layers with the salts that a sealer over the same `saltsOf` gives them, when it is given that of the content. */
const salted = (layers: readonly SpecLayer[], salts = saltsOf()): SpecLayer[] => layers.map(layer => {
  const salt = Buffer.alloc(16)
  salts.put(salt, 0)
  return { ...layer, salt }
})

describe('the final hash', () => {
  test.each(FINAL.vectors)('of version 0: $name', ({ layers, binding, block, final }) => {
    const specs = layers.map(specOf)
    expect(specFinalHash(specs, specBinding(binding)).toString('hex')).toBe(final)
    expect(decodeLayers(bytesOf(block)).layers.map(layer => layer.bytes)).toEqual(specs.map(specLayer))
  })

  test.each(FINAL1)('of version 1: $name', ({ name, layerSalts, layerHashes, content, block, final }) => {
    const { layers, binding, salt } = FINAL.vectors.find(each => each.name === name) as FinalVector
    const specs = layers.map((layer, i) => ({ ...specOf(layer), salt: bytesOf(layerSalts[i] ?? '') }))
    const bound = { ...specBinding(binding), salt: bytesOf(salt) }
    let given = 0
    const sealer = new LayerSealer({ put: (target, at) => { target.set(bytesOf(layerSalts[given++] ?? ''), at) } })
    const encoded: Buffer[] = []
    expect(hashHex(sealer.seal(layers.map(layer => layerOf(specOf(layer))), bindingOf(bound), encoded))).toBe(final)
    expect(encodeLayers(bytesOf(salt), encoded).toString('hex')).toBe(block)
    expect(specFinalHash1(specs, bound).toString('hex')).toBe(final)
    expect(specContent(bound).toString('hex')).toBe(content)
    expect(specs.map(layer => hashHex(sha256(Buffer.concat([Buffer.of(4), specLayer(layer)]))))).toEqual(layerHashes)
  })

  test('is what the words of the specification give, for any layers and any message', () => {
    fc.assert(fc.property(anyLayers, anyBinding, anyMessageId, (layers, binding, salt) => {
      const encoded: Buffer[] = []
      const specs = salted(layers)
      const bound = { ...binding, salt }
      expect(hashHex(new LayerSealer(saltsOf()).seal(layers.map(layerOf), bindingOf(bound), encoded))).toBe(specFinalHash1(specs, bound).toString('hex'))
      expect(encoded).toEqual(specs.map(specBlockLayer))
    }), { numRuns: 500 })
  })

  test('has salts of its own where none is given, which its record tells', () => {
    fc.assert(fc.property(anyLayers, anyBinding, (layers, binding) => {
      const sealer = new LayerSealer()
      const final = hashHex(sealer.seal(layers.map(layerOf), bindingOf(binding)))
      const record = sealer.record()
      const bound = { ...binding, salt: record.subarray(0, 16) }
      let at = 16 + 1 + 16 + 2 + 32
      at += 2 + record.readUInt16BE(at)
      at += 2 + record.readUInt16BE(at)
      expect(record.subarray(16, 67)).toEqual(Buffer.concat([Buffer.of(1), bound.id, Buffer.of(bound.status >> 8, bound.status & 255), specContent(bound)]))
      expect(record[at++]).toBe(layers.length)
      const specs = layers.map(layer => {
        const bytes = record.subarray(at + 1, at + 1 + (record[at] ?? 0))
        at += 1 + bytes.length
        const spec = { ...layer, salt: bytes.subarray(58, 74) }
        expect(bytes).toEqual(specLayer(spec))
        return spec
      })
      expect(at).toBe(record.length)
      expect(specFinalHash1(specs, bound).toString('hex')).toBe(final)
      expect(new Set([bound.salt, ...specs.map(({ salt }) => salt)].map(salt => salt.toString('hex'))).size).toBe(1 + layers.length)
    }), { numRuns: 100 })
    expect(() => new LayerSealer().record()).toThrow('nothing was sealed yet')
  })

  test('as another entry of a batch is that of the same message under the other id', () => {
    const sealer = new LayerSealer(saltsOf())
    const { layers, binding, salt } = FINAL.vectors[0] as FinalVector
    const bound = { ...specBinding(binding), salt: bytesOf(salt) }
    sealer.seal(layers.map(layer => layerOf(specOf(layer))), bindingOf(bound))
    const kept = sealer.kept()
    sealer.seal(layers.slice(1).map(layer => layerOf(specOf(layer))), bindingOf(bound))
    const other = salted(layers.map(specOf))
    const finals = new Repeated().seal(bytesOf(binding.id), 5, [kept, kept])
    expect([finals.toString('hex', 0, 32), finals.toString('hex', 32, 64)])
      .toEqual(['0c', '0d'].map(last => specFinalHash1(other, { ...bound, id: bytesOf(binding.id.replace(/07$/, last)) }).toString('hex')))
  })

  test('changes with every field of the binding and with every bit of every layer', () => {
    const { layers, binding } = FINAL.vectors[0] as FinalVector
    const specs = layers.map(specOf)
    const bound = specBinding(binding)
    const seal = (changed: readonly SpecLayer[], against: SpecBinding): string =>
      hashHex(new LayerSealer(saltsOf()).seal(changed.map(layerOf), bindingOf(against)))
    const elsewhere = { epoch: 9, seq: 9, chain: Buffer.alloc(32) }
    const finals = [
      seal(specs, bound),
      ...[
        { id: Buffer.alloc(16) }, { status: 201 }, { sid: 'other' }, { sub: 'other' }, { sid: bound.sid + bound.sub, sub: '' },
        { salt: Buffer.alloc(16, 1) }, { requestBody: Buffer.from('x') }, { replyBody: Buffer.from('x') }, { replyHeaders: encodeHeaders([['etag', 'x']]) },
      ].map(change => seal(specs, { ...bound, ...change })),
      seal(specs.slice(1), bound), seal([...specs].reverse(), bound),
      ...specs.flatMap((spec, i) => [
        { hop: 'peer' }, { node: 'n' }, { fqmn: 'f' }, { target: 't' }, { decision: 'denied' }, { grant: 'g' }, { status: 500 },
        { startUs: 1 }, { durationUs: 1 }, { gas: 7n }, { before: elsewhere }, { after: elsewhere },
        { argumentsHash: Buffer.alloc(32) },
      ].map(change => seal(specs.map((other, j) => (i === j ? { ...spec, ...change } : other)), bound))),
    ]
    expect(new Set(finals).size).toBe(finals.length)
  })

  test('a hop that asks for one grant after another on one address names each where it belongs', () => {
    const { layers, binding } = FINAL.vectors[0] as FinalVector
    const spec = specOf(layers[0] as LayerMeaning)
    const { site } = layerOf(spec)
    const bound = { ...specBinding(binding), salt: Buffer.alloc(16) }
    for (const grant of ['0xS:>', '', '0xS:>', '0xR:*']) {
      const sealed = new LayerSealer(saltsOf()).seal([{ ...layerOf(spec), site, grant }], bindingOf(bound))
      expect(hashHex(sealed)).toBe(specFinalHash1(salted([{ ...spec, grant }]), bound).toString('hex'))
    }
  })

  test('covers 1 to 32 layers', () => {
    const sealer = new LayerSealer()
    const layer = layerOf(specOf((FINAL.vectors[0] as FinalVector).layers[0] as LayerMeaning))
    const binding = bindingOf(specBinding((FINAL.vectors[0] as FinalVector).binding))
    expect(sealer.seal(Array<Layer>(LIMITS.layers).fill(layer), binding)).toHaveLength(32)
    expect(() => sealer.seal([], binding)).toThrow('a message has 1 to 32 layers')
    expect(() => sealer.seal(Array<Layer>(LIMITS.layers + 1).fill(layer), binding)).toThrow(RangeError)
  })

  test('arguments enter as a salted hash', () => {
    const salt = bytesOf(FINAL.argumentsSalt)
    expect(hashHex(argumentsHash(salt, Buffer.from(FINAL.arguments)))).toBe(FINAL.argumentsHash)
    expect(specArgumentsHash(salt, Buffer.from(FINAL.arguments)).toString('hex')).toBe(FINAL.argumentsHash)
    expect(hashHex(argumentsHash(Buffer.alloc(16), Buffer.from(FINAL.arguments)))).not.toBe(FINAL.argumentsHash)
    expect(hashHex(EMPTY_HASH)).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855')
  })
})

describe('the layers block', () => {
  test.each(LAYERS.accepted)('$name', ({ hex, meaning }) => {
    const { salt, layers } = decodeLayers(bytesOf(hex))
    expect({ salt: salt.toString('hex'), layers: layers.map(meaningOf) }).toEqual(meaning)
    const specs = meaning.layers.map(specOf)
    expect(encodeLayers(salt, specs.map(spec => encodeLayer(layerOf(spec)))).toString('hex')).toBe(hex)
    expect(layers.map(layer => layer.bytes)).toEqual(specs.map(specLayer))
  })

  test.each(LAYERS.refused)('refused: $name', ({ hex, code, detail }) => {
    expect(refusal(() => decodeLayers(bytesOf(hex)))).toMatchObject({ code, detail })
  })

  test('whatever is sealed decodes to the same', () => {
    fc.assert(fc.property(anyLayers, anyMessageId, (layers, salt) => {
      const decoded = decodeLayers(encodeLayers(salt, layers.map(specBlockLayer)))
      expect(new Uint8Array(decoded.salt)).toEqual(salt)
      const copy = (at: SpecLayer['before']): SpecLayer['before'] => at && { ...at, chain: Buffer.from(at.chain) }
      expect(decoded.layers.map(({ bytes: _bytes, version: _version, place: _place, ...layer }) => layer)).toEqual(layers.map(layer => ({
        ...layer, before: copy(layer.before), after: copy(layer.after),
        argumentsHash: layer.argumentsHash && latin1(layer.argumentsHash),
      })))
    }), { numRuns: 300 })
  })

  test('any bytes give the layers, or a coded error with its offset', () => {
    fc.assert(fc.property(damaged(anyBlock), bytes => { decodeTotally(decodeLayers, bytes) }), { numRuns: runs(3_000) })
    for (const { hex } of LAYERS.accepted.slice(1, 3)) {
      for (const flipped of everyBitFlip(bytesOf(hex))) decodeTotally(decodeLayers, flipped)
      for (const cut of everyTruncation(bytesOf(hex))) expect(decodeTotally(decodeLayers, cut).refusal).toBeDefined()
    }
  })

  test('a duration past its field is written as the longest there is', () => {
    const layer = layerOf({ ...specOf((FINAL.vectors[0] as FinalVector).layers[0] as LayerMeaning), durationUs: 2 ** 40 })
    expect(decodeLayer(encodeLayer(layer)).durationUs).toBe(0xffff_ffff)
  })
})

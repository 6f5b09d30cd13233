import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { EMPTY_HASH, layerSite, sha256, type Layer, type LayerSite, type StatePosition } from '../../cmtp/layer.ts'
import { saltsOf } from '../support/salts.ts'
import { LayerSealer, type Binding } from '../../cmtp/sealer.ts'

const HEADERS = [Buffer.alloc(0), Buffer.from('one header'), Buffer.alloc(2_000, 'h')]
const POSITIONS: readonly (StatePosition | undefined)[] = [
  undefined, { epoch: 0, seq: 1, chain: Buffer.alloc(32, 1) }, { epoch: 0, seq: 2, chain: Buffer.alloc(32, 2) },
]
const HASHES = [EMPTY_HASH, sha256(Buffer.from('a')), sha256(Buffer.from('b'))]
const SITES = [
  { hop: 'registrar', fqmn: '0xR:a.mcom', target: '0xS:0x001:a' }, { hop: 'state', fqmn: '0xS:0x001:a', target: undefined },
  { hop: 'router', fqmn: '0xR:a.mcom', target: '0xS:0x001:a' }, { hop: 'router', fqmn: '0xS:0x001:b', target: undefined },
] as const

const SAME_SALTS = { put: (target: Uint8Array, at: number) => { target.fill(7, at, at + 16) } }

function sites(): readonly LayerSite[] {
  return SITES.map(({ hop, fqmn, target }) => layerSite(hop, 'did:key:z6Mk', fqmn, target))
}

const pick = <T>(values: readonly T[]): fc.Arbitrary<T> => fc.constantFrom(...values)
const layer = fc.record({
  site: fc.nat({ max: SITES.length - 1 }), decision: pick(['none', 'allowed', 'denied'] as const), grant: pick(['', 'read >']), status: pick([200, 404]),
  startUs: fc.nat({ max: 2 ** 52 }), durationUs: pick([0, 7, 2 ** 32 - 1, 2 ** 32 + 5]), gas: pick([0n, 2n ** 40n]),
  before: pick(POSITIONS), after: pick(POSITIONS), argumentsHash: pick([undefined, HASHES[1], HASHES[2]]),
})
const binding: fc.Arbitrary<Binding> = fc.record({
  id: fc.uint8Array({ minLength: 16, maxLength: 16 }), status: pick([200, 403]), sid: pick(['', 'sid-1', 'sid-2', 'a longer sid']), sub: pick(['', 'did:key:a', 'did:key:b']),
  requestBodyHash: pick(HASHES), replyBodyHash: pick(HASHES), replyHeaders: pick(HEADERS),
})

describe('a sealer that keeps what it hashed', () => {
  test('gives each message of any sequence the final hash that a sealer gives which has seen nothing', () => {
    // Mostly the same few messages over and over, so that what is kept is used, and each kind of change after a use of it.
    const message = fc.record({ layers: fc.array(layer, { minLength: 1, maxLength: 3 }), binding })
    const sequence = fc.tuple(fc.array(message, { minLength: 1, maxLength: 3 }), fc.array(fc.record({
      which: fc.nat({ max: 2 }), id: fc.uint8Array({ minLength: 16, maxLength: 16 }), startUs: fc.nat({ max: 2 ** 52 }), sid: pick(['sid-1', 'sid-2', 'a longer sid']),
      salted: pick(HASHES), change: fc.option(layer, { freq: 4 }),
    }), { minLength: 4, maxLength: 24 }))
    fc.assert(fc.property(sequence, ([messages, steps]) => {
      let salts = saltsOf()
      const sealer = new LayerSealer({ put: (target, at) => { salts.put(target, at) } })
      const kept = sites()
      for (const { which, id, startUs, sid, salted, change } of steps) {
        const { layers, binding } = messages[which % messages.length] as { layers: (Omit<Layer, 'site'> & { site: number })[], binding: Binding }
        const own = (change === null ? layers : [change, ...layers.slice(1)]).map(each => ({
          ...each, argumentsHash: each.argumentsHash === undefined ? undefined : salted,
        }))
        const at = (of: readonly LayerSite[]): Layer[] => own.map(each => ({ ...each, startUs, site: of[each.site] as LayerSite }))
        const bound = { ...binding, id, sid }
        salts = saltsOf(which * 40 + 1)
        const fresh = new LayerSealer(saltsOf(which * 40 + 1))
        expect(sealer.seal(at(kept), bound)).toBe(fresh.seal(at(sites()), bound))
        expect(sealer.record()).toEqual(fresh.record())
      }
    }), { numRuns: 300 })
  })

  const [, atOne, atTwo] = POSITIONS
  const layerChanges: readonly Partial<Layer>[] = [
    { decision: 'denied' }, { grant: 'write >' }, { status: 404 }, { gas: 1n }, { gas: 2n ** 60n }, { before: atTwo }, { before: undefined }, { argumentsHash: undefined },
    { startUs: 2 ** 51 }, { durationUs: 2 ** 32 + 1 }, { argumentsHash: HASHES[2] },
  ]
  const bindingChanges: readonly Partial<Binding>[] = [
    { id: Buffer.alloc(16, 9) }, { status: 403 }, { sid: 'sid-2' }, { sid: 'another length' }, { sub: 'did:key:b' }, { requestBodyHash: HASHES[2] as string },
    { replyBodyHash: HASHES[2] as string }, { replyHeaders: Buffer.from('two header') },
  ]
  const changes = [...layerChanges.map(layer => ({ layer, binding: {} })), ...bindingChanges.map(binding => ({ layer: {}, binding }))]
  const cases = [
    ...changes.map(change => ({ before: atOne, after: undefined, ...change })), { before: atOne, after: undefined, layer: { after: atOne }, binding: {} },
    // The same of a message that moved state.
    ...changes.map(change => ({ before: atOne, after: atOne, ...change })),
    ...[{ after: atTwo }, { after: undefined }, { before: undefined, after: atTwo }].map(layer => ({ before: atOne, after: atOne, layer, binding: {} })),
    { before: undefined, after: atOne, layer: { after: atTwo }, binding: {} },
  ]
  test.each(cases)('sees that one thing changed: %#', ({ before, after, ...change }) => {
    const sealer = new LayerSealer(SAME_SALTS)
    const message = (of: readonly LayerSite[], changed: boolean): [Layer[], Binding] => [
      [1, 2].map((site, i) => ({
        site: of[site] as LayerSite, decision: 'allowed', grant: 'read >', status: 200, startUs: 1, durationUs: 1, gas: 0n, before, after,
        argumentsHash: HASHES[1], ...(changed && i === 0 && change.layer),
      })),
      { id: Buffer.alloc(16), status: 200, sid: 'sid-1', sub: 'did:key:a', requestBodyHash: EMPTY_HASH, replyBodyHash: HASHES[1] as string, replyHeaders: HEADERS[1] as Buffer, ...(changed && change.binding) },
    ]
    const kept = sites()
    const hashes = [false, false, false, true, false].map(changed => sealer.seal(...message(kept, changed)))
    expect(hashes[3]).toBe(new LayerSealer(SAME_SALTS).seal(...message(sites(), true)))
    expect(hashes[3]).not.toBe(hashes[2])
    expect(hashes[4]).toBe(hashes[2])
    expect(new Set(hashes).size).toBe(2)
  })

  test('puts new salts in for each message, those it is given and its own', () => {
    const sealer = new LayerSealer()
    const [site] = sites() as [LayerSite]
    const layers: Layer[] = [{ site, decision: 'none', grant: '', status: 200, startUs: 1, durationUs: 1, gas: 0n, before: undefined, after: undefined, argumentsHash: undefined }]
    const bound: Binding = { id: Buffer.alloc(16), status: 200, sid: 's', sub: 'd', requestBodyHash: EMPTY_HASH, replyBodyHash: EMPTY_HASH, replyHeaders: HEADERS[0] as Buffer }
    const hashes = Array.from({ length: 5 }, () => sealer.seal(layers, bound))
    expect(new Set(hashes).size).toBe(5)
    const [one, other] = [1, 2].map(salt => {
      sealer.seal(layers, { ...bound, salt: Buffer.alloc(16, salt) })
      return sealer.record()
    }) as [Buffer, Buffer]
    expect([one[0], other[0]]).toEqual([1, 2])
    // The content, and the salt of the layer behind its place.
    expect(one.subarray(35, 67)).not.toEqual(other.subarray(35, 67))
    expect(one.subarray(-16)).not.toEqual(other.subarray(-16))
  })

  test('a level that shows the layers gets them all, also of a message that is kept', () => {
    const sealer = new LayerSealer(SAME_SALTS)
    const [site] = sites() as [LayerSite]
    const layers: Layer[] = [{ site, decision: 'none', grant: '', status: 200, startUs: 1, durationUs: 1, gas: 0n, before: undefined, after: undefined, argumentsHash: undefined }]
    const bound: Binding = { id: Buffer.alloc(16), status: 200, sid: 's', sub: 'd', requestBodyHash: EMPTY_HASH, replyBodyHash: EMPTY_HASH, replyHeaders: HEADERS[0] as Buffer }
    const hashes = [sealer.seal(layers, bound), sealer.seal(layers, bound), sealer.seal(layers, bound)]
    const encoded: Buffer[] = []
    expect(new Set([...hashes, sealer.seal(layers, bound, encoded)]).size).toBe(1)
    const fresh: Buffer[] = []
    new LayerSealer(SAME_SALTS).seal(layers, bound, fresh)
    expect(encoded).toEqual(fresh)
  })
})

/** How the keys of contracts are kept in memory, held against a `Map`; what they take, and what who goes over them sees. */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyHash } from '../../providers/state/key-hash.ts'
import { PackedSpace } from '../../providers/state/packed-space.ts'
import { RememberedSpace } from '../../providers/state/remembered-space.ts'
import { Draw } from '../support/draw.ts'
import { runs } from '../support/runs.ts'

const FORMS = [['packed', PackedSpace], ['remembered', RememberedSpace]] as const

/** Bytes in slabs that values are views into, each slab once. */
function heldBy(space: PackedSpace): number {
  return [...new Set([...space].map(([, { buffer }]) => buffer))].reduce((sum, { byteLength }) => sum + byteLength, 0)
}

const valueOf = (n: number, length: number): Uint8Array => new Uint8Array(length).fill(n)

describe.each(FORMS)('a space, %s', (_, Form) => {
  const key = fc.oneof(fc.constantFrom('', '\0', '\0\0', 'k', 'key'), fc.uint8Array({ maxLength: 70 }).map(bytes => Buffer.from(bytes).toString('latin1')))
  const length = fc.oneof(fc.nat(20), fc.constantFrom(63, 64, 65, 300, 70_000, 300_000))
  const step = fc.record({ how: fc.constantFrom('set', 'set', 'set', 'bytes', 'delete', 'deleteBytes', 'get', 'clear'), key, length, fill: fc.nat(255) })

  test('is what a map of the same keys and values is, whatever is done to it', () => {
    fc.assert(fc.property(fc.array(step, { maxLength: 60 }), fc.array(key), (steps, others) => {
      const space = new Form()
      const map = new Map<string, Uint8Array>()
      for (const { how, key, length, fill } of steps) {
        const value = valueOf(fill, length)
        const bytes = Buffer.concat([Buffer.from(`before${key}`, 'latin1'), value, Buffer.from('behind')])
        if (how === 'set') space.set(key, value)
        if (how === 'bytes') space.setBytes(bytes, 6, key.length, 6 + key.length, length)
        if (how === 'set' || how === 'bytes') map.set(key, value)
        if (how === 'delete') expect(space.delete(key)).toBe(map.delete(key))
        if (how === 'deleteBytes') expect(space.deleteBytes(bytes, 6, key.length)).toBe(map.delete(key))
        if (how === 'clear' && fill < 50) for (const each of [space, map]) each.clear()
        expect(Buffer.compare(space.get(key) ?? Buffer.of(), map.get(key) ?? Buffer.of())).toBe(0)
        const found = space instanceof PackedSpace ? space.getBytes(bytes, 6, key.length) : space.get(key)
        expect(found && Buffer.compare(found, map.get(key) ?? Buffer.of(1))).toBe(map.has(key) ? 0 : undefined)
        expect(space.has(key)).toBe(map.has(key))
        expect(space.size).toBe(map.size)
      }
      for (const other of others) expect(space.has(other)).toBe(map.has(other))
      expect([...space.keys()].sort()).toEqual([...map.keys()].sort())
      expect([...space].every(([key, value]) => Buffer.compare(value, map.get(key) ?? Buffer.of(1)) === 0)).toBe(true)
    }), { numRuns: runs(500) })
  })

  test('takes no key that is no byte string, and has none', () => {
    const space = new Form()
    space.set('A', valueOf(1, 1))
    expect(() => space.set('\u0141', valueOf(2, 1))).toThrow(new RangeError('a key is not a byte string in latin1'))
    expect(space.get('\u0141')).toBeUndefined()
    expect(space.delete('\u0141')).toBe(false)
    expect([...space.keys()]).toEqual(['A'])
  })

  test('has every key that was there throughout for who goes over it, whatever is written meanwhile', () => {
    const draw = new Draw(7)
    for (let round = 0; round < 20; round++) {
      const space = new Form()
      const stays = new Set<string>()
      for (let i = 0; i < 400; i++) space.set(`k${i}`, valueOf(i, draw.below(200)))
      for (let i = 0; i < 400; i++) stays.add(`k${i}`)
      let left = 2_000
      for (const key of space.keys()) {
        stays.delete(key)
        for (let i = draw.below(4); i > 0 && left > 0; i--, left--) {
          const at = draw.below(400)
          // The keys that end in 7 come and go; the others change, some of them into large ones.
          if (at % 10 === 7) space.delete(`k${at}`)
          if (at % 10 === 7) stays.delete(`k${at}`)
          space.set(`k${at}`, valueOf(at, draw.below(50) === 0 ? 70_000 : draw.below(200)))
        }
      }
      expect([...stays]).toEqual([])
    }
  })

  test('has a key whose large value became a small one while somebody goes over it', () => {
    const space = new Form()
    space.set('small', valueOf(1, 8))
    for (const key of ['large', 'shrinks']) space.set(key, valueOf(1, 70_000))
    const met: string[] = []
    for (const key of space.keys()) {
      met.push(key)
      if (key === 'large') space.set('shrinks', valueOf(2, 8))
    }
    expect(met).toContain('shrinks')
  })
})

describe('a packed space', () => {
  test('takes memory for what is there, however much was written and whatever went', () => {
    const space = new PackedSpace()
    const draw = new Draw(3)
    /** Half of a slab may be out of use, and the newest empty. */
    const mostFor = ({ size }: PackedSpace): number => 2 * size * 128 + 65_536
    for (let i = 0; i < 20_000; i++) space.set(`k${draw.below(20_000)}`, valueOf(i, 100))
    for (let i = 0; i < 200_000; i++) space.set(`k${draw.below(20_000)}`, valueOf(i, 100))
    expect(heldBy(space)).toBeLessThan(mostFor(space))
    for (const key of [...space.keys()]) if (draw.below(1_000) > 0) space.delete(key)
    expect(heldBy(space)).toBeLessThan(mostFor(space))
    for (const key of [...space.keys()]) space.delete(key)
    space.set('k', valueOf(1, 8))
    expect(heldBy(space)).toBeLessThanOrEqual(512)
  })

  test('leaves a value that was handed out what it was', () => {
    const space = new PackedSpace()
    space.set('k', valueOf(1, 100))
    const held = space.get('k')
    for (let i = 0; i < 5_000; i++) space.set(`k${i % 50 || ''}`, valueOf(2, 100))
    space.clear()
    for (let i = 0; i < 50; i++) space.set(`k${i}`, valueOf(3, 100))
    expect(held).toEqual(valueOf(1, 100))
  })

  test('takes up a view of its own as a value', () => {
    const space = new PackedSpace()
    for (let i = 0; i < 300; i++) space.set(`k${i}`, valueOf(i, 90))
    for (let i = 0; i < 3_000; i++) space.set(`k${i % 300}`, space.get(`k${i % 300}`) as Uint8Array)
    expect([...space].every(([key, value]) => value.length === 90 && value.every(byte => byte === Number(key.slice(1)) % 256))).toBe(true)
  })
})

describe('a remembered space', () => {
  test('gives the very bytes again until the key is written, however it is', () => {
    const space = new RememberedSpace()
    const line = Buffer.from('keyvalue')
    const writes = [
      () => space.set('key', valueOf(2, 5)), () => { space.setBytes(line, 0, 3, 3, 5) }, () => space.delete('key'), () => space.set('key', valueOf(3, 5)),
      () => space.deleteBytes(line, 0, 3), () => { space.setBytes(line, 0, 3, 3, 5) }, () => { space.clear() },
    ]
    space.set('key', valueOf(1, 5))
    for (const write of writes) {
      const before = space.get('key')
      for (let i = 0; i < 100; i++) space.set(`other ${i}`, valueOf(i, 5))
      expect(space.get('key')).toBe(before)
      write()
      expect(space.get('key')).not.toBe(before)
    }
    expect(space.get('key')).toBeUndefined()
  })

  test('keeps copies in use that hold nothing but themselves', () => {
    const space = new RememberedSpace()
    for (let i = 0; i < 50; i++) space.set(`k${i}`, valueOf(i, 10))
    expect(space.get('k7')?.buffer.byteLength).toBe(10)
  })
})

describe('the hash of a key', () => {
  /** HalfSipHash-1-3 as its authors write it: bytes, 64 bits of key, 32 bits out. */
  function halfSipHash(bytes: Uint8Array, k0: number, k1: number): number {
    const v = [k0, k1, 0x6c796765 ^ k0, 0x74656462 ^ k1] as [number, number, number, number]
    const turn = (x: number, by: number): number => (x << by) | (x >>> (32 - by))
    const round = (): void => {
      v[0] += v[1]; v[1] = turn(v[1], 5) ^ v[0]; v[0] = turn(v[0], 16)
      v[2] += v[3]; v[3] = turn(v[3], 8) ^ v[2]
      v[0] += v[3]; v[3] = turn(v[3], 7) ^ v[0]
      v[2] += v[1]; v[1] = turn(v[1], 13) ^ v[2]; v[2] = turn(v[2], 16)
    }
    const padded = new Uint8Array((bytes.length + 3) & ~3)
    padded.set(bytes)
    const words = [...new Int32Array(padded.buffer), bytes.length]
    for (const word of words) {
      v[3] ^= word
      round()
      v[0] ^= word
    }
    v[2] ^= 0xff
    for (let i = 0; i < 3; i++) round()
    return (v[1] ^ v[3]) | 0
  }

  test('is that of a secret and of every byte of it', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(3), fc.integer(), fc.integer(), (bytes, at, k0, k1) => {
      const padded = new Uint8Array(4 * at + 44)
      padded.set(bytes, 4 * at)
      expect(new KeyHash(Int32Array.of(k0, k1)).of(new Int32Array(padded.buffer), at, bytes.length)).toBe(halfSipHash(bytes, k0, k1))
    }), { numRuns: runs(500) })
  })

  test('is another in every table', () => {
    const key = new Int32Array(4)
    expect(new Set(Array.from({ length: 20 }, () => new KeyHash().of(key, 0, 16))).size).toBeGreaterThan(1)
  })
})

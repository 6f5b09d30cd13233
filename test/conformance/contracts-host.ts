/** What every contract engine must offer to contracts: the host functions beyond plain state, by value. */
import { createHash } from 'node:crypto'
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { KeyPair } from '../../cmtp/identity/keys.ts'
import type { Space } from '../../services/state/provider.ts'
import { abiText, contractModule } from '../support/contract-module.ts'
import { ADDRESS, Rig, SEED, bytes, failure, success, text } from '../support/engine-rig.ts'
import { rawModule } from '../support/hand-made-contracts.ts'
import type { EngineMaker } from './contracts.ts'

/**
 * `scan`: first does to state what its input says (`+k` writes, `-k` deletes), then scans with the bounds behind the two `/`; the output
 * is the list as hexadecimal. Input: `changes/from/to/limit flags`, the last two as one character each from `0`.
 */
const SCANNER = contractModule(`
  (func $digit (param i32) (result i32)
    (i32.add (i32.add (local.get 0) (i32.const 48)) (i32.mul (i32.gt_u (local.get 0) (i32.const 9)) (i32.const 39))))
  (func (export "call_scan") (local $p i32) (local $q i32) (local $r i32) (local $i i32) (local $n i32)
    (local.set $n (i32.add (i32.const 1024) (call $input))) (call $reg (i32.const 1024))
    (local.set $p (i32.const 1024))
    (block $changed (loop $more
      (br_if $changed (i32.eq (i32.load8_u (local.get $p)) (i32.const 47)))
      (if (i32.eq (i32.load8_u (local.get $p)) (i32.const 43))
        (then (call $set (i32.add (local.get $p) (i32.const 1)) (i32.const 1) (local.get $p) (i32.const 2)))
        (else (drop (call $del (i32.add (local.get $p) (i32.const 1)) (i32.const 1)))))
      (local.set $p (i32.add (local.get $p) (i32.const 2)))
      (br $more)))
    (local.set $q (i32.add (local.get $p) (i32.const 1)))
    (block $found (loop $more
      (br_if $found (i32.eq (i32.load8_u (local.get $q)) (i32.const 47)))
      (local.set $q (i32.add (local.get $q) (i32.const 1)))
      (br $more)))
    (local.set $r (i32.sub (local.get $n) (i32.const 3)))
    (drop (call $scan
      (i32.add (local.get $p) (i32.const 1)) (i32.sub (i32.sub (local.get $q) (local.get $p)) (i32.const 1))
      (i32.add (local.get $q) (i32.const 1)) (i32.sub (i32.sub (local.get $r) (local.get $q)) (i32.const 1))
      (i32.sub (i32.load8_u (i32.add (local.get $r) (i32.const 1))) (i32.const 48))
      (i32.sub (i32.load8_u (i32.add (local.get $r) (i32.const 2))) (i32.const 48))))
    (call $reg (i32.const 4096))
    (block $done (loop $more
      (br_if $done (i32.eq (local.get $i) (call $reglen)))
      (local.set $p (i32.load8_u (i32.add (i32.const 4096) (local.get $i))))
      (i32.store8 (i32.add (i32.const 8192) (i32.shl (local.get $i) (i32.const 1))) (call $digit (i32.shr_u (local.get $p) (i32.const 4))))
      (i32.store8 (i32.add (i32.const 8193) (i32.shl (local.get $i) (i32.const 1))) (call $digit (i32.and (local.get $p) (i32.const 15))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $more)))
    (call $output (i32.const 8192) (i32.shl (call $reglen) (i32.const 1))))`)

/** Entries of the packed list that `scan` gives. */
function entries(list: Buffer): [string, string][] {
  const found: [string, string][] = []
  for (let at = 0; at < list.length;) {
    const keyEnd = at + 2 + list.readUInt16LE(at)
    const valueEnd = keyEnd + 4 + list.readUInt32LE(keyEnd)
    found.push([list.toString('latin1', at + 2, keyEnd), list.toString('latin1', keyEnd + 4, valueEnd)])
    at = valueEnd
  }
  return found
}

export function hostConformance(engine: EngineMaker): void {
  describe('scan', () => {
    test('gives the entries of a sorted map, whatever the call changed before, and charges for what it looks at', () => {
      const key = fc.constantFrom(...'abcdefgh')
      const change = fc.tuple(fc.constantFrom('+', '-'), key).map((parts) => parts.join(''))
      const bound = fc.oneof(fc.constant(''), key, fc.tuple(key, key).map((parts) => parts.join('')))
      const scans = fc.tuple(fc.array(change, { maxLength: 6 }), bound, bound, fc.nat(9), fc.nat(3))
      fc.assert(fc.property(fc.array(key, { maxLength: 8 }), fc.array(scans, { maxLength: 4 }), (before, calls) => {
        const space: Space = new Map(before.map((name) => [name, bytes(`=${name}`)]))
        const { call } = new Rig(made, SCANNER, space)
        const model = new Map([...space].map(([name, value]) => [name, text(value)]))
        for (const [changes, from, to, limit, flags] of calls) {
          for (const [sign, name] of changes as unknown as [string, string][]) {
            if (sign === '+') model.set(name, `+${name}`)
            else model.delete(name)
          }
          const inside = [...model].filter(([name]) => name >= from && (to === '' || name < to)).sort(([a], [b]) => a < b ? -1 : 1)
          if ((flags & 1) !== 0) inside.reverse()
          const expected = inside.slice(0, limit).map(([name, value]) => [name, (flags & 2) === 0 ? value : ''])
          const { output } = success(call('scan', { input: bytes(`${changes.join('')}/${from}/${to}/${limit}${flags}`) }))
          expect(entries(Buffer.from(text(output), 'hex'))).toEqual(expected)
        }
      }), { numRuns: 300, seed: 3 })
    })
    const made = engine()

    test('sees what others than the engine set and deleted, once it is told', () => {
      const space: Space = new Map(['a', 'c'].map((name) => [name, bytes('x')]))
      const rig = new Rig(engine(), SCANNER, space)
      const keys = (): string[] => entries(Buffer.from(text(success(rig.call('scan', { input: bytes('///90') })).output), 'hex')).map(([name]) => name)
      expect(keys()).toEqual(['a', 'c'])
      space.delete('a')
      space.set('b', bytes('y'))
      for (const name of ['a', 'b', 'none']) rig.engine.changed(ADDRESS, name)
      rig.engine.changed('0x002', 'b')
      expect(keys()).toEqual(['b', 'c'])
    })

    test('keys are ordered by bytes, and none is lost among thousands', () => {
      const names = Array.from({ length: 3_000 }, (_, i) => String.fromCharCode(i % 256, (i * 7) % 251, i >> 8))
      const { raw, space } = new Rig(engine(), rawModule(), new Map(names.map((name) => [name, new Uint8Array(0)])))
      const sorted = [...new Set(names)].sort((a, b) => a < b ? -1 : 1)
      // All keys, by pages of 256.
      expect(success(raw('scan', [0, 0, 0, 0, 256, 2])).gas).toBeGreaterThan(256 * 100)
      expect(space.size).toBe(sorted.length + 1)
    })

    test('at most 256 entries and 65,536 bytes come at once, and an entry that is larger comes alone', () => {
      const count = contractModule(`
        (func (export "call_count") (local $n i32)
          (local.set $n (call $scan (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0)))
          (drop (memory.grow (i32.const 3)))
          (call $reg (i32.const 65536))
          (i32.store (i32.const 0) (i32.add (i32.const 0x30303030) (i32.or (i32.or
            (i32.div_u (local.get $n) (i32.const 100))
            (i32.shl (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10)) (i32.const 8)))
            (i32.shl (i32.rem_u (local.get $n) (i32.const 10)) (i32.const 16)))))
          (call $output (i32.const 0) (i32.const 3)))`)
      const counted = (...sizes: number[]) => {
        const space = new Map(sizes.map((size, i) => [String.fromCharCode(i >> 8, i & 255), new Uint8Array(size)]))
        return text(success(new Rig(engine(), count, space).call('count')).output)
      }
      expect(counted(...Array<number>(256).fill(1))).toBe('256')
      expect(counted(...Array<number>(300).fill(1))).toBe('256')
      // Two keys of 2 bytes and four lengths take 16 bytes.
      expect(counted(32_760, 32_760)).toBe('002')
      expect(counted(32_760, 32_761)).toBe('001')
      expect(counted(65_536, 1)).toBe('001')
      expect(counted(1, 65_536)).toBe('001')
      expect(counted()).toBe('000')
    })

    test('an unknown flag, a long bound', () => {
      const { raw } = new Rig(engine(), rawModule())
      expect(failure(raw('scan', [0, 0, 0, 0, 1, 4]))).toEqual(['ABI', 'a scan has no such flag'])
      expect(failure(raw('scan', [0, 257, 0, 0, 1, 0]))).toEqual(['KEY_SIZE', 'a key has 257 bytes; at most 256 are allowed'])
    })
  })

  describe('computing', () => {
    const COMPUTE = contractModule(`
      (func (export "call_sha256") (call $sha256 (i32.const 1024) (call $load) (i32.const 0)) (call $keep (i32.const 32)))
      (func (export "call_verify") (drop (call $load))
        (i32.store (i32.const 0) (call $verify (i32.const 1024) (i32.const 1056) (i32.const 1120) (i32.sub (call $reglen) (i32.const 96))))
        (call $keep (i32.const 4)))
      (func (export "call_seeds") (call $seed (i32.const 0)) (call $seed (i32.const 32)) (call $keep (i32.const 64)))
      (data (i32.const 512) "given")
      (func $load (result i32) (drop (call $get (i32.const 512) (i32.const 5))) (call $reg (i32.const 1024)) (call $reglen))
      (func $keep (param $n i32) (call $set (i32.const 512) (i32.const 1) (i32.const 0) (local.get $n)))`)
    const computed = (name: string, given: Uint8Array): Buffer => {
      const { call, space } = new Rig(engine(), COMPUTE, new Map([['given', given]]))
      success(call(name))
      return Buffer.from(space.get('g') ?? [])
    }

    test('sha256 is SHA-256', () => {
      for (const given of [new Uint8Array(0), bytes('abc'), new Uint8Array(10_000).fill(3)]) {
        expect(computed('sha256', given)).toEqual(createHash('sha256').update(given).digest())
      }
    })

    test('verify takes a signature of the key over the message, and nothing else', () => {
      const pair = KeyPair.fromSeed(new Uint8Array(32).fill(9))
      const message = bytes('pay 5')
      const signed = Buffer.concat([pair.publicKey.toBytes(), pair.sign(message), message])
      const verified = (given: Buffer) => computed('verify', given).readInt32LE(0)
      expect(verified(signed)).toBe(1)
      for (const at of [0, 31, 32, 63, 95, 96]) {
        const changed = Buffer.from(signed)
        changed[at] = (changed[at] ?? 0) ^ 1
        expect([at, verified(changed)]).toEqual([at, 0])
      }
      // A point of small order verifies one signature for every message in a library that allows it.
      const small = Buffer.alloc(32)
      small[0] = 1
      expect(verified(Buffer.concat([small, small, Buffer.alloc(32), message]))).toBe(0)
    })

    test('seed gives the next number of the call\'s own sequence', () => {
      const number = (count: number) => createHash('sha256').update(SEED).update(Uint8Array.of(count, 0, 0, 0)).digest()
      expect(computed('seeds', new Uint8Array(0))).toEqual(Buffer.concat([number(0), number(1)]))
    })
  })

  describe('send', () => {
    const other = `0x${'12'.repeat(32)}`
    const sending = (fqmn: string) => new Rig(engine(), contractModule(`
      (data (i32.const 0) "${fqmn.replaceAll('"', '\\22')}") (data (i32.const 512) "bodytakedo") (data (i32.const 1000) "args")
      (func $send_it (param $reply i32) (param $gas i64)
        (i32.store8 (i32.const 900) (i32.add (i32.const 48)
          (call $send (i32.const 0) (i32.const ${fqmn.length}) (i32.const 512) (i32.const 4) (i32.const 516) (local.get $reply) (local.get $gas))))
        (call $output (i32.const 900) (i32.const 1)))
      (func (export "call_plain") (call $send_it (i32.const 0) (i64.const 77)))
      (func (export "call_answered") (call $send_it (i32.const 4) (i64.const 5000)))
      (func (export "call_gasless") (call $send_it (i32.const 4) (i64.const 0)))
      (func (export "call_greedy") (call $send_it (i32.const 4) (i64.const 9223372036854775807)))
      (func (export "call_unknown") (call $send_it (i32.const 6) (i64.const 5000)))
      (func (export "call_sixteen") (call $many (i32.const 16))) (func (export "call_seventeen") (call $many (i32.const 17)))
      (func $many (param $n i32)
        (loop $l (call $send_it (i32.const 0) (i64.const 0))
          (br_if $l (local.tee $n (i32.sub (local.get $n) (i32.const 1))))))
      (func (export "call_take"))`, { abi: abiText([
      ...['plain', 'answered', 'gasless', 'greedy', 'unknown', 'sixteen', 'seventeen'].map((name) => ({ name })), { name: 'take', mode: 'reply' },
    ]) }))

    test('a message goes into the result as it was given, its gas set aside', () => {
      const { call } = sending(`0xSW:${other}:pay:[1]`)
      const plain = success(call('plain'))
      expect(plain.sends).toEqual([{ from: ADDRESS, fqmn: `0xSW:${other}:pay:[1]`, body: bytes('body'), reply: '', gas: 77 }])
      expect(text(plain.output)).toBe('0')
      const answered = success(call('answered'))
      expect(answered.sends).toEqual([{ from: ADDRESS, fqmn: `0xSW:${other}:pay:[1]`, body: bytes('body'), reply: 'take', gas: 5_000 }])
      expect(answered.gas).toBeGreaterThan(plain.gas + 5_000 - 77)
    })

    test('a reply needs a function for it, and gas that is there', () => {
      const { call } = sending(`0xSW:${other}:pay`)
      expect(failure(call('unknown'))).toEqual(['NO_FUNCTION', 'there is no reply function takedo'])
      expect(failure(call('gasless'))).toEqual(['ABI', 'a message with a reply function sets gas aside for it'])
      expect(failure(call('greedy'))).toEqual(['OUT_OF_GAS', 'its limit was 20000000'])
      expect(failure(call('plain', { view: true }))).toEqual(['READONLY', 'a view may not write state, emit events or send messages'])
    })

    test('sixteen messages may be sent, one more is refused', () => {
      const { call } = sending(`0xSW:${other}:pay`)
      const sixteen = success(call('sixteen'))
      expect([sixteen.sends.length, text(sixteen.output)]).toEqual([16, '?'])
      expect(failure(call('seventeen'))).toEqual(['LIMIT', 'a call sends at most 16 messages'])
    })

    test('whoever runs the call may refuse a message, which it sees as it would go out', () => {
      const { call } = sending(`0xSW:${other}:pay`)
      const seen: unknown[] = []
      const refused = call('plain', {
        admit: (message) => { seen.push(message); return { failure: 'CMESH_CONTRACT_NO_CONTRACT', reason: 'there is nobody' } },
      })
      expect(failure(refused)).toEqual(['NO_CONTRACT', 'there is nobody'])
      expect(seen).toEqual(success(call('plain', { admit: () => undefined })).sends)
    })

    test('what is no address is refused as such', () => {
      expect(failure(sending('0xSW:nowhere').call('plain'))[0]).toBe('ADDRESS')
    })
  })
}

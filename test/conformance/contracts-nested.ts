/** What every contract engine must do when contracts call each other and send messages. */
import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import type { ContractResult } from '../../services/contracts/provider.ts'
import { contractModule } from '../support/contract-module.ts'
import { ADDRESS, CALLER, ORIGIN, OTHER, Rig, bytes, callOf, failure, output, snapshot, success, text } from '../support/engine-rig.ts'
import { failingModule, relayModule } from '../support/hand-made-contracts.ts'
import { refusal } from '../support/refusal.ts'
import type { EngineMaker } from './contracts.ts'

const RELAY = relayModule()
const A = `0xSW:${ADDRESS}`
const B = `0xSW:${OTHER}`

class Pair extends Rig {
  readonly other = new Map<string, Uint8Array>()

  constructor(engine: EngineMaker) {
    super(engine(), RELAY)
    this.engine.install(OTHER, RELAY, this.other)
  }

  /** Runs the first function with the rest of the script as its input. */
  script(...script: string[]): ContractResult {
    return this.call(script[0] ?? '', { input: bytes(script.slice(1).join(' ')) })
  }
}

const whole = (result: ContractResult) => {
  const { output: given, writes, events, sends } = success(result)
  return {
    output: text(given), events: events.map(({ contract, topic }) => [contract, topic]), sends: sends.map(({ from, fqmn }) => [from, fqmn]),
    writes: writes.map(({ space, key, value }) => [space, key, value && text(value)]),
  }
}

export function nestedConformance(engine: EngineMaker): void {
  describe('nested calls', () => {
    test('the inner contract sees the outer one as its caller and the outermost origin', () => {
      const pair = new Pair(engine)
      expect(output(pair.script('who'))).toBe(`${CALLER} ${ADDRESS} ${ORIGIN}`)
      expect(output(pair.script('relay', `${B}:who`))).toBe(`0${ADDRESS} ${OTHER} ${ORIGIN}`)
      expect(output(pair.script('relay', `${B}:relay`, `${A}:who`))).toBe(`00${OTHER} ${ADDRESS} ${ORIGIN}`)
    })

    test('writes, events and messages of all count, each under its own name; a re-entered contract sees what it wrote before', () => {
      const pair = new Pair(engine)
      expect(whole(pair.script('mark', `${B}:mark`, `${A}:look`))).toEqual({
        output: '00m', events: [[ADDRESS, 'mine'], [OTHER, 'mine']], sends: [], writes: [[ADDRESS, 'mine', 'm'], [OTHER, 'mine', 'm']],
      })
      expect(whole(pair.script('mark', `${B}:relay`, `${A}:put`))).toEqual({
        output: '00', events: [[ADDRESS, 'mine'], [ADDRESS, 'put']], sends: [[ADDRESS, `${A}:again`]], writes: [[ADDRESS, 'mine', 'put']],
      })
      expect([snapshot(pair.space), snapshot(pair.other)]).toEqual([[['mine', '707574']], [['mine', '6d']]])
    })

    test.each([
      ['put_and_fail', 'CMESH_CONTRACT_REVERT: because'],
      ['put_and_trap', 'CMESH_CONTRACT_TRAP: unreachable code was reached'],
    ])('what %s did is undone, and the outer contract goes on', (name, reason) => {
      const pair = new Pair(engine)
      expect(whole(pair.script('mark', `${B}:${name}`))).toEqual({
        output: `1${reason}`, events: [[ADDRESS, 'mine']], sends: [], writes: [[ADDRESS, 'mine', 'm']],
      })
      expect(whole(pair.script('mark', `${B}:mark`, `${A}:${name}`))).toEqual({
        output: `01${reason}`, events: [[ADDRESS, 'mine'], [OTHER, 'mine']], sends: [], writes: [[ADDRESS, 'mine', 'm'], [OTHER, 'mine', 'm']],
      })
      expect([snapshot(pair.space), snapshot(pair.other)]).toEqual([[['mine', '6d']], [['mine', '6d']]])
    })

    test('when the outer contract fails, nothing of the inner one stays', () => {
      const pair = new Pair(engine)
      expect(failure(pair.script('strict', `${B}:strict`, `${A}:put_and_fail`))).toEqual(['TRAP', 'unreachable code was reached'])
      expect(failure(pair.script('strict', `${B}:strict`, `${B}:put_and_trap`))).toEqual(['TRAP', 'unreachable code was reached'])
      expect([pair.space.size, pair.other.size]).toEqual([0, 0])
    })

    test('scripts of nested calls give the model\'s outcome, whatever fails on the way', () => {
      const step = fc.tuple(fc.constantFrom(ADDRESS, OTHER), fc.constantFrom('relay', 'strict', 'mark'))
      const last = fc.tuple(fc.constantFrom(ADDRESS, OTHER), fc.constantFrom('put', 'put_and_fail', 'put_and_trap', 'look'))
      const pair = new Pair(engine)
      const model = new Model()
      fc.assert(fc.property(fc.array(step, { maxLength: 10 }), last, (steps, end) => {
        const script: Step[] = [[ADDRESS, 'relay'], ...steps, end]
        const expected = model.run(script)
        const [[, first], ...rest] = script as [Step, ...Step[]]
        const result = pair.script(first, ...rest.map(([address, name]) => `0xSW:${address}:${name}`))
        expect({ output: output(result), events: whole(result).events, mine: pair.space.get('mine'), other: pair.other.get('mine') })
          .toEqual({ ...expected, mine: model.bytes(ADDRESS), other: model.bytes(OTHER) })
      }), { numRuns: 300, seed: 4 })
    })

    test.each([
      [`0xR:name.mesh:${ADDRESS}`, 'ADDRESS', 'only 0xS and 0xSW addresses can be called; `send` reaches others'],
      ['0xSW:0x000:deploy', 'ADDRESS', '0x000 cannot be called by a contract'],
      [`0xS:${ADDRESS}`, 'ADDRESS', 'the address names no function'],
      ['0xSW:0x12:run', 'ADDRESS', 'The FQMN is malformed at byte 5: expected a contract: 0x and 3 or 64 lower-case hex digits'],
      ['', 'ADDRESS', 'The FQMN has no known opcode at byte 0; one of 0xI, 0xR, 0xS, 0xE, 0xA, 0xC, 0xP is expected'],
      ['0xSW:0x123:run', 'NO_CONTRACT', '0x123'],
      [`${B}:missing`, 'NO_FUNCTION', `${OTHER} has no function missing to call`],
      [`${B}:begin`, 'NO_FUNCTION', `${OTHER} has no function begin to call`],
      [`${B}:migrate`, 'NO_FUNCTION', `${OTHER} has no function migrate to call`],
      [`${B}:take`, 'NO_FUNCTION', `${OTHER} has no function take to call`],
      [`0xS:${OTHER}:put`, 'READONLY', `put of ${OTHER} is no view`],
    ])('%s cannot be called: %s', (fqmn, code, reason) => {
      const pair = new Pair(engine)
      const shown = output(pair.script('relay', fqmn))
      expect(shown.slice(0, `1CMESH_CONTRACT_${code}: `.length)).toBe(`1CMESH_CONTRACT_${code}: `)
      if (fqmn !== '') expect(shown).toBe(`1CMESH_CONTRACT_${code}: ${reason}`)
    })

    test('arguments stand in the address or in the input', () => {
      const { call } = new Rig(engine(), RELAY)
      expect(output(call('relay', { input: bytes(`${A}:relay:["x"]`) }))).toMatch(/^01CMESH_CONTRACT_ADDRESS: /)
      expect(output(call('relay', { input: bytes(`${A}:relay:["x"] y`) }))).toBe('1CMESH_CONTRACT_ADDRESS: arguments stand in the address and in the input')
    })

    test('a view calls views, and nothing else', () => {
      const pair = new Pair(engine)
      pair.script('put')
      expect(output(pair.script('view_relay', `0xS:${ADDRESS}:look`))).toBe('0put')
      expect(output(pair.script('view_relay', `${A}:look`))).toBe('0put')
      expect(output(pair.script('view_relay', `${A}:peek`))).toBe(`1CMESH_CONTRACT_READONLY: peek of ${ADDRESS} is no view`)
      expect(output(pair.call('relay', { view: true, input: bytes(`${A}:peek`) }))).toBe(`1CMESH_CONTRACT_READONLY: peek of ${ADDRESS} is no view`)
    })

    test('a contract that calls itself without end is stopped at eight', () => {
      const shown = output(new Pair(engine).script('again'))
      expect(shown).toBe('00000001CMESH_CONTRACT_CALL_DEPTH: at most 8 contracts stand one inside the other')
    })

    test('a ring of contracts is stopped at eight', () => {
      const ring = Array.from({ length: 12 }, (_, i) => `${i % 2 === 0 ? B : A}:relay`)
      expect(output(new Pair(engine).script('relay', ...ring))).toMatch(/^00000001CMESH_CONTRACT_CALL_DEPTH: at most 8/)
    })

    test('an inner contract that spins leaves the outer one a 64th of its gas', () => {
      const pair = new Pair(engine)
      const result = success(pair.call('mark', { input: bytes(`${B}:put_and_spin`), gasLimit: 6_500_000 }))
      expect(text(result.output)).toMatch(/^1CMESH_CONTRACT_OUT_OF_GAS: its limit was 62\d{5}$/)
      expect([result.gas > 6_250_000, result.gas < 6_500_000, pair.other.size, pair.space.size]).toEqual([true, true, 0, 1])
    })

    test('what the outer contract allows is the limit of the inner one', () => {
      const pair = new Pair(engine)
      expect(output(pair.script('limited', `${B}:put_and_spin`))).toBe('1CMESH_CONTRACT_OUT_OF_GAS: its limit was 300000')
      expect(output(pair.script('limited', `${B}:look`))).toBe('0-')
    })

    test('every space that was read or whose code ran is observed, that of an address without a contract too', () => {
      const pair = new Pair(engine)
      const spaces = (...script: string[]) => pair.script(...script).observed.spaces
      expect(spaces('look')).toEqual([ADDRESS])
      expect(spaces('relay', `${B}:look`)).toEqual([ADDRESS, OTHER])
      expect(spaces('relay', '0xS:0x123:look')).toEqual([ADDRESS, '0x123'])
      expect(spaces('strict', `${B}:put_and_fail`)).toEqual([ADDRESS, OTHER])
    })

    test('who calls an inner contract does not follow from who calls the outer one', () => {
      const pair = new Pair(engine)
      pair.engine.install(OTHER, contractModule('(func (export "call_ask") (drop (call $ctxs (i32.const 0))))'), pair.other)
      expect(success(pair.script('relay', `${B}:ask`)).observed.caller).toBe(false)
      expect(success(pair.call('ask', { address: OTHER })).observed.caller).toBe(true)
      expect(success(new Pair(engine).script('relay', `${B}:who`)).observed.caller).toBe(true)
    })
  })

  describe('a proxy', () => {
    const PROXY = `0x${'ee'.repeat(32)}`
    test('runs the code of its target on its own state, as itself', () => {
      const pair = new Pair(engine)
      const space = new Map<string, Uint8Array>()
      expect(pair.engine.proxy(PROXY, ADDRESS, space)).toEqual(pair.engine.abi(ADDRESS))
      const result = success(pair.call('put', { address: PROXY }))
      expect([space.size, pair.space.size, result.events[0]?.contract, result.sends[0]?.from]).toEqual([1, 0, PROXY, PROXY])
      expect(output(pair.call('who', { address: PROXY }))).toBe(`${CALLER} ${PROXY} ${ORIGIN}`)
      expect(pair.call('look', { address: PROXY }).observed.spaces).toEqual([PROXY, ADDRESS])
      expect(output(pair.script('relay', `0xS:${PROXY}:look`))).toBe('0put')
    })

    test('follows its target when that is replaced, and ends with it', () => {
      const pair = new Pair(engine)
      pair.engine.proxy(PROXY, ADDRESS, new Map())
      pair.engine.install(ADDRESS, failingModule(), pair.space)
      expect(pair.engine.abi(PROXY)).toEqual(pair.engine.abi(ADDRESS))
      expect(pair.call('dirty', { address: PROXY }).ok).toBe(true)
      pair.engine.remove(ADDRESS)
      expect([pair.engine.has(PROXY), refusal(() => pair.call('dirty', { address: PROXY })).code]).toEqual([false, 'CMESH_STATE_NO_CONTRACT'])
    })

    test('needs a target, and is no longer one once code is installed in its place', () => {
      const pair = new Pair(engine)
      for (const target of [`0x${'99'.repeat(32)}`, PROXY]) {
        expect(refusal(() => pair.engine.proxy(PROXY, target, new Map()))).toMatchObject({ code: 'CMESH_STATE_NO_CONTRACT', message: `There is no contract ${target}.` })
      }
      expect(refusal(() => pair.engine.proxy(ADDRESS, ADDRESS, new Map())).code).toBe('CMESH_STATE_NO_CONTRACT')
      pair.engine.proxy(PROXY, ADDRESS, new Map())
      pair.engine.install(PROXY, failingModule(), new Map())
      expect(pair.engine.abi(ADDRESS)?.functions.map(({ name }) => name)).toContain('relay')
      expect(pair.engine.abi(PROXY)?.functions.map(({ name }) => name)).toContain('dirty')
      expect(pair.engine.dryRun(callOf('look')).ok).toBe(true)
    })
  })
}

type Step = readonly [string, string]

/** What a script of nested calls does to the two spaces. */
class Model {
  #spaces = new Map<string, string>()

  bytes(address: string): Uint8Array | undefined {
    const value = this.#spaces.get(address)
    return value === undefined ? undefined : bytes(value)
  }

  run(script: readonly Step[]): { readonly output: string, readonly events: [string, string][] } {
    const events: [string, string][] = []
    const shown = this.#step(script, 1, events)
    return { output: shown, events }
  }

  /** Throws the text of a failure. */
  #step([step, ...rest]: readonly Step[], depth: number, events: [string, string][]): string {
    const [address, name] = step ?? ['', '']
    if (name === 'look') return this.#spaces.get(address) ?? '-'
    if (name.startsWith('put')) {
      this.#spaces.set(address, 'put')
      events.push([address, 'put'])
      if (name === 'put_and_fail') throw new Failed('CMESH_CONTRACT_REVERT: because')
      if (name === 'put_and_trap') throw new Failed('CMESH_CONTRACT_TRAP: unreachable code was reached')
      return ''
    }
    if (name === 'mark') {
      this.#spaces.set(address, 'm')
      events.push([address, 'mine'])
    }
    const [spaces, count] = [new Map(this.#spaces), events.length]
    try {
      if (depth === 8) throw new Failed('CMESH_CONTRACT_CALL_DEPTH: at most 8 contracts stand one inside the other')
      return `0${this.#step(rest, depth + 1, events)}`
    } catch (thrown) {
      if (!(thrown instanceof Failed)) throw thrown
      this.#spaces = spaces
      events.length = count
      if (name === 'strict') throw new Failed('CMESH_CONTRACT_TRAP: unreachable code was reached')
      return `1${thrown.message}`
    }
  }
}

class Failed extends Error {}

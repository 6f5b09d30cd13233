import { describe, expect, test } from '@jest/globals'
import fc from 'fast-check'
import { parseFqmn, RouteCache } from '../../../cmtp/fqmn.ts'
import { KeyPair } from '../../../cmtp/identity/keys.ts'
import type { Session } from '../../../cmtp/identity/login.ts'
import { OPERATOR_SET } from '../../../cmtp/permission.ts'
import { jsonReply } from '../../../services/call.ts'
import { ViewCache, type ContractVersion } from '../../../services/state/view-cache.ts'
import { abiText, contractModule } from '../../support/contract-module.ts'
import { startMesh, type TestMesh } from '../../support/mesh.ts'
import { versionedContract } from '../../support/versioned-contracts.ts'
import { deploymentOf, packageOf, replacementOf } from '../../support/replica.ts'

const reply = jsonReply('kept')
const PURE = { caller: false, clock: false }

describe('a cached view', () => {
  const routes = new RouteCache()
  const route = routes.fromText('0xS:0x001:f')
  const version: ContractVersion = { value: 0, seq: 1 }

  test('is given for the same address until its contract changes', () => {
    const cache = new ViewCache()
    cache.set(route, 'did:a', 1, PURE, [version], reply)
    expect(cache.get(route, 'did:b', 9)).toBe(reply)
    expect(cache.get(routes.fromText('0xS:0x001:g'), 'did:a', 1)).toBeUndefined()
    version.value++
    expect(cache.get(route, 'did:a', 1)).toBeUndefined()
  })

  test('is given as long as every contract it read stands', () => {
    const cache = new ViewCache()
    const [own, other] = [{ value: 3, seq: 4 }, { value: 7, seq: 6 }]
    cache.set(route, 'did:a', 1, PURE, [own, other], reply)
    const span = { from: 0 }
    expect(cache.get(route, 'did:a', 9, span)).toBe(reply)
    expect(span).toEqual({ from: 6 })
    other.value++
    expect(cache.get(route, 'did:a', 1)).toBeUndefined()
  })

  test('is gone once the cache is cleared', () => {
    const cache = new ViewCache()
    cache.set(route, 'did:a', 1, PURE, [version], reply)
    cache.clear()
    expect(cache.get(route, 'did:a', 1)).toBeUndefined()
  })

  test('that asked who calls is for that caller alone', () => {
    const cache = new ViewCache()
    cache.set(route, 'did:a', 1, { caller: true, clock: false }, [version], reply)
    expect(cache.get(route, 'did:b', 1)).toBeUndefined()
    expect(cache.get(route, 'did:a', 2)).toBe(reply)
  })

  test('that asked the time is good for its block alone', () => {
    const cache = new ViewCache()
    cache.set(route, 'did:a', 1, { caller: false, clock: true }, [version], reply)
    expect(cache.get(route, 'did:a', 2)).toBeUndefined()
    expect(cache.get(route, 'did:b', 1)).toBe(reply)
  })

  test('of one cache is none of another, though both keep results for the same address', () => {
    const [mine, yours] = [new ViewCache(), new ViewCache()]
    const shared = parseFqmn('0xS:0x001:shared')
    mine.set(shared, 'did:a', 1, PURE, [version], reply)
    expect(yours.get(shared, 'did:a', 1)).toBeUndefined()
    const other = jsonReply('other')
    yours.set(shared, 'did:a', 1, PURE, [version], other)
    expect([mine.get(shared, 'did:a', 1), yours.get(shared, 'did:a', 1)]).toEqual([undefined, other])
    mine.clear()
    expect(yours.get(shared, 'did:a', 1)).toBe(other)
  })

  test('takes the place of the one before, again and again, and drives nothing else out', () => {
    const cache = new ViewCache({ entries: 8 })
    const [quiet, busy] = [parseFqmn('0xS:0x001:quiet'), parseFqmn('0xS:0x001:busy')]
    cache.set(quiet, 'did:a', 1, PURE, [version], reply)
    const own = { value: 0, seq: 1 }
    for (let i = 0; i < 100; i++) {
      own.value++
      const newer = jsonReply(i)
      expect(cache.get(busy, 'did:a', 1)).toBeUndefined()
      cache.set(busy, 'did:a', 1, PURE, [own], newer)
      expect(cache.get(busy, 'did:a', 1)).toBe(newer)
    }
    expect(cache.get(quiet, 'did:a', 1)).toBe(reply)
  })

  test('that nobody asks for is forgotten, and one that is asked for is not, however many come', () => {
    const cache = new ViewCache({ entries: 8 })
    const made = Array.from({ length: 64 }, (_, i) => parseFqmn(`0xS:0x001:many${i}`))
    const asked = made[0] as (typeof made)[number]
    for (const each of made) {
      cache.set(each, 'did:a', 1, PURE, [version], reply)
      expect(cache.get(asked, 'did:a', 1)).toBe(reply)
    }
    const held = made.filter(({ kept }) => kept !== undefined).length
    expect([held >= 8, held <= 16, made[1]?.kept]).toEqual([true, true, undefined])
  })

  test('is kept nowhere when the cache is off', () => {
    const cache = new ViewCache({ entries: 0 })
    cache.set(route, 'did:a', 1, PURE, [version], reply)
    expect(cache.get(route, 'did:a', 1)).toBeUndefined()
  })

  test('that takes the place of a smaller one counts with what it has grown to', () => {
    const cache = new ViewCache({ entries: 1_000, bytes: 10_000 })
    const asked = Array.from({ length: 100 }, (_, i) => routes.fromText(`0xS:0x001:grows:[${i}]`))
    const put = (length: number): void => { for (const each of asked) cache.set(each, 'did:a', 1, PURE, [version], jsonReply('x'.repeat(length))) }
    put(10)
    version.value++
    put(1_000)
    const kept = asked.filter(each => cache.get(each, 'did:a', 1) !== undefined)
    expect(kept.length).toBeLessThanOrEqual(20)
    // Those that came last are among them.
    expect(kept.at(-1)).toBe(asked.at(-1))
  })

  test('counts with its bytes, again and again, however often it is asked for', () => {
    const cache = new ViewCache({ bytes: 10_000 })
    const made = Array.from({ length: 40 }, (_, i) => parseFqmn(`0xS:0x001:f${i}`))
    const large = { ...reply, body: Buffer.alloc(2_000) }
    const held = (): number => made.filter(each => cache.get(each, 'did:a', 1) !== undefined).length
    for (const each of made) {
      cache.set(each, 'did:a', 1, PURE, [version], large)
      // Asking moves what is old among the young: there it weighs what it did.
      expect(held()).toBeLessThanOrEqual(10)
    }
    expect(held()).toBeGreaterThanOrEqual(4)
  })
})

/** Views that look at everything a view may look at, and a write; each gives what it saw as text. */
function lookingModule(): Uint8Array {
  const digits = '(func $put (param $n i64) (i64.store (i32.const 64) (i64.add (i64.const 0x3030303030303030) (i64.and (local.get $n) (i64.const 0x0f)))) (call $output (i32.const 64) (i32.const 8)))'
  return contractModule(`
    (data (i32.const 0) "k")
    ${digits}
    (func (export "call_value") (drop (call $get (i32.const 0) (i32.const 1))) (call $reg (i32.const 16)) (call $output (i32.const 16) (call $reglen)))
    (func (export "call_caller") (drop (call $ctxs (i32.const 0))) (call $reg (i32.const 1024)) (call $output (i32.const 1024) (call $reglen)))
    (func (export "call_seq") (call $put (call $ctx (i32.const 0))))
    (func (export "call_time") (call $put (call $ctx (i32.const 1))))
    (func (export "call_constant") (call $output (i32.const 0) (i32.const 1)))
    (func (export "call_put") (local $n i32)
      (local.set $n (call $input)) (call $reg (i32.const 128))
      (call $set (i32.const 0) (i32.const 1) (i32.const 128) (local.get $n)))
    (func (export "call_break") (call $set (i32.const 0) (i32.const 1) (i32.const 0) (i32.const 1)) (unreachable))`, {
    abi: abiText(['value', 'caller', 'seq', 'time', 'constant'].map(name => ({ name, mode: 'view' })).concat([{ name: 'put', mode: 'write' }, { name: 'break', mode: 'write' }])),
  })
}

const VIEWS = ['value', 'caller', 'seq', 'time', 'constant'] as const

type Step =
  | { readonly do: 'view', readonly contract: number, readonly view: (typeof VIEWS)[number], readonly who: number, readonly named: boolean }
  | { readonly do: 'put', readonly contract: number, readonly text: string }
  | { readonly do: 'break', readonly contract: number }
  | { readonly do: 'wait', readonly ms: number }

const anyStep: fc.Arbitrary<Step> = fc.oneof(
  { weight: 8, arbitrary: fc.record({ do: fc.constant('view' as const), contract: fc.nat(1), view: fc.constantFrom(...VIEWS), who: fc.nat(1), named: fc.boolean() }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('put' as const), contract: fc.nat(1), text: fc.stringMatching(/^[a-z]{1,3}$/) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('break' as const), contract: fc.nat(1) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.integer({ min: 1, max: 9 }) }) },
)

describe('a view that asks another contract', () => {
  const ASKED = '0x0b2'
  const ASKING = contractModule(`
    (data (i32.const 0) "0xS:${ASKED}:value") (data (i32.const 64) "0xS:0x0c3:value")
    (func $through (param $at i32) (drop (call $call (local.get $at) (i32.const 15) (i32.const 0) (i32.const 0) (i64.const 0)))
      (call $reg (i32.const 1024)) (call $output (i32.const 1024) (call $reglen)))
    (func (export "call_through") (call $through (i32.const 0))) (func (export "call_missing") (call $through (i32.const 64)))`, {
    abi: abiText(['through', 'missing'].map(name => ({ name, mode: 'view' }))),
  })

  test('is kept while that one stands, and no longer: not over a write, a replacement or a change of the costs', async () => {
    const mesh = await startMesh({ genesis: genesis => ({ ...genesis, contracts: [...genesis.contracts,
      { address: '0x0a1', pkg: packageOf(ASKING) }, { address: ASKED, pkg: packageOf(versionedContract({ which: 1 })) }] }) })
    const ask = async (): Promise<readonly [string, number]> => {
      const { frame } = await mesh.askRaw(mesh.root, '0xS:0x0a1:through')
      return [frame.body.toString(), mesh.state.stats.viewHits]
    }
    await mesh.ask(mesh.root, `0xSW:${ASKED}:put`, { body: '1' })
    expect([await ask(), await ask()]).toEqual([['1', 0], ['1', 1]])
    await mesh.ask(mesh.root, `0xSW:${ASKED}:put`, { body: '2' })
    expect([await ask(), await ask()]).toEqual([['2', 1], ['2', 2]])
    await mesh.ask(mesh.root, '0xSW:0x002:increment')
    expect(await ask()).toEqual(['2', 3])
    const body = replacementOf(ASKED, 2, versionedContract({ which: 2, migrate: 'keeps' }), {}, mesh.operator)
    expect(await mesh.ask(mesh.root, `0xSW:0x000:replace:["${ASKED}"]`, { body })).toMatchObject({ status: 200 })
    expect([await ask(), await ask()]).toEqual([['["1.0.0"]', 3], ['["1.0.0"]', 4]])
    expect(await mesh.ask(mesh.root, '0xSW:0x000:meter:[1,1,19000000]')).toMatchObject({ status: 200 })
    expect(await ask()).toEqual(['["1.0.0"]', 4])
    // What is not there is part of what was read too.
    const missing = async (): Promise<string> => (await mesh.askRaw(mesh.root, '0xS:0x0a1:missing')).frame.body.toString()
    expect(await missing()).toMatch(/^CMESH_CONTRACT_NO_CONTRACT/)
    await mesh.stop()
  })
})

describe('a service with a cache', () => {
  test('answers exactly as one without, to whoever asks whatever when', async () => {
    const [key, operator] = [KeyPair.generate(), KeyPair.generate()]
    const make = async (entries: number): Promise<{ mesh: TestMesh, sessions: Session[], contracts: string[] }> => {
      const mesh = await startMesh({ key, state: { viewCache: { entries } } })
      mesh.grants.set(operator.did, OPERATOR_SET)
      const sessions = [mesh.root, await mesh.open({ identity: operator })]
      const contracts: string[] = []
      for (const salt of ['[1]', '[2]']) {
        // What tells the two apart is in the package, so that both meshes give them addresses of their own.
        const body = deploymentOf(lookingModule(), { salt: Buffer.from(salt.padEnd(16)) }, mesh.operator)
        const { value } = await mesh.ask(mesh.root, '0xSW:0x000:deploy', { body })
        contracts.push((value as { address: string }).address)
      }
      for (const [i, address] of contracts.entries()) await mesh.register(mesh.root, mesh.operator, `c${i}.mcom`, `0xS:${address}`)
      return { mesh, sessions, contracts }
    }
    const [cached, plain] = [await make(1_000), await make(0)]

    const run = async ({ mesh, sessions, contracts }: Awaited<ReturnType<typeof make>>, step: Step): Promise<unknown> => {
      switch (step.do) {
        case 'view': {
          const target = step.named ? `0xR:c${step.contract}.mcom:${step.view}` : `0xS:${contracts[step.contract] ?? ''}:${step.view}`
          const { status, frame } = await mesh.askRaw(sessions[step.who], target)
          const text = frame.body.toString('latin1')
          // Callers and addresses of the two meshes are others: what counts is which of the two callers it is.
          if (step.view === 'caller') return sessions.findIndex(session => session.sub === text)
          return [status, status < 400 ? text : (JSON.parse(text) as { code: string }).code]
        }
        case 'put':
          return (await mesh.askRaw(mesh.root, `0xSW:${contracts[step.contract] ?? ''}:put`, { body: step.text })).status
        case 'break':
          return (await mesh.askRaw(mesh.root, `0xSW:${contracts[step.contract] ?? ''}:break`)).status
        default:
          mesh.time.ms += step.ms
          return undefined
      }
    }
    const property = fc.asyncProperty(fc.array(anyStep, { minLength: 10, maxLength: 40 }), async steps => {
      for (const step of steps) {
        const expected = await run(plain, step)
        expect({ step, got: await run(cached, step) }).toEqual({ step, got: expected })
      }
    })
    // Until both ways were taken.
    do await fc.assert(property, { numRuns: 40 }); while (cached.mesh.state.stats.viewHits <= 50)
    expect(plain.mesh.state.stats.viewHits).toBe(0)
    await cached.mesh.stop()
    await plain.mesh.stop()
  })
})

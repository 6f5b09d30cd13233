/** Results of views as they are handed out: what becomes of their bytes. */
import { describe, expect, test } from '@jest/globals'
import { parseFqmn, type Route } from '../../../cmtp/fqmn.ts'
import { decodeHeaders, headerValue } from '../../../cmtp/headers.ts'
import { WasmEngine } from '../../../providers/contracts/wasm.ts'
import type { Call, Reply } from '../../../services/call.ts'
import type { AuthContext } from '../../../services/iam/guard.ts'
import { Views, type ViewsParts } from '../../../services/state/views.ts'
import { abiText, contractModule } from '../../support/contract-module.ts'
import { bytes, callOf, success, text } from '../../support/engine-rig.ts'

/** Gives what it is given. */
const ECHO = contractModule(`(func (export "call_echo") (local $length i32)
  (local.set $length (call $input)) (call $reg (i32.const 100)) (call $output (i32.const 100) (local.get $length)))`, { abi: abiText([{ name: 'echo', mode: 'view' }]) })
const AUTH = { sub: 'did:key:z6MkCaller' } as AuthContext

interface Rig {
  readonly engine: WasmEngine
  readonly read: (args: string, body?: string) => Reply
  /** The same for a route that may be asked for again. */
  readonly ask: (route: Route, body?: string) => Reply
}

function viewsWith(entries: number): Rig {
  const engine = new WasmEngine()
  const space = new Map<string, Uint8Array>()
  engine.install('0x001', ECHO, space)
  const parts = {
    store: { head: { epoch: 1, seq: 1, chain: new Uint8Array(32), timeMs: 0 }, space: () => space }, engine, metering: { at: () => undefined },
    guard: {}, reads: {}, confirm: () => undefined, clock: { nowMs: () => 0 },
    stats: { views: 0, viewHits: 0, viewGas: 0, contractFailures: 0 }, cache: { entries },
  } as unknown as ViewsParts
  const views = new Views(parts)
  const ask = (route: Route, body = ''): Reply => {
    const call = { route, body: bytes(body), deadlineMs: 1 } as unknown as Call
    const reply = views.read(call, AUTH, { gas: 0n, before: undefined, after: undefined })
    if (reply instanceof Promise) throw new Error('a view had to wait')
    return reply
  }
  return { engine, ask, read: (args, body) => ask(parseFqmn(`0xS:0x001:echo${args && `:${args}`}`), body) }
}

describe('the result of a view', () => {
  test('stays what it was, whatever is asked behind it', () => {
    const { read } = viewsWith(0)
    const asked = Array.from({ length: 200 }, (_, i) => `["${String(i).padStart(1 + (i * 7) % 60, '-')}"]`)
    const replies = asked.map(args => read(args))
    expect(replies.map(({ body }) => text(body))).toEqual(asked)
  })

  test('that is kept keeps no memory but its own', () => {
    const { read } = viewsWith(100)
    const args = `["${'k'.repeat(90)}"]`
    for (const { body } of [read(args), read(args)]) expect([text(body), body.buffer.byteLength]).toEqual([args, args.length])
    // One that nobody keeps need not.
    expect(read('', args).body.buffer.byteLength).toBeGreaterThan(args.length)
  })

  test('that a transaction asked for keeps no memory but its own', () => {
    const { output } = success(viewsWith(0).engine.call(callOf('echo', { address: '0x001', input: bytes(`["${'t'.repeat(90)}"]`) })))
    expect([output.length, output.buffer.byteLength]).toEqual([94, 94])
  })
})

describe('an address that was asked for before', () => {
  const SAYS = (text: string, mode: string): Uint8Array => contractModule(`(data (i32.const 0) "${text}") (func (export "call_echo") (call $output (i32.const 0) (i32.const ${text.length})))`,
    { abi: abiText([{ name: 'echo', mode }]) })

  test('is answered by the code that stands there now', () => {
    const { engine, ask } = viewsWith(0)
    const route = parseFqmn('0xS:0x001:echo:["a"]')
    const said = (): string => text(ask(route).body)
    expect([said(), said()]).toEqual(['["a"]', '["a"]'])
    engine.install('0x001', SAYS('7', 'view'), new Map())
    expect([said(), said()]).toEqual(['7', '7'])
    engine.install('0x001', SAYS('8', 'write'), new Map())
    expect(said).toThrow(expect.objectContaining({ code: 'CMESH_STATE_NOT_A_VIEW' }))
    engine.remove('0x001')
    expect(said).toThrow(expect.objectContaining({ code: 'CMESH_STATE_NO_CONTRACT' }))
  })

  test('is answered by whoever is asked, though another remembers something of it too', () => {
    const [one, another] = [viewsWith(0), viewsWith(0)]
    another.engine.install('0x001', SAYS('9', 'view'), new Map())
    const route = parseFqmn('0xS:0x001:echo:["a"]')
    const said = ({ ask }: Rig): string => text(ask(route).body)
    expect([said(one), said(another), said(one), said(another)]).toEqual(['["a"]', '9', '["a"]', '9'])
  })

  test('says what this run used, also when the one before used another amount', () => {
    const { ask } = viewsWith(0)
    const gasOf = (args: string): string | undefined => headerValue(decodeHeaders(ask(parseFqmn(`0xS:0x001:echo:${args}`)).headers), 'x-cmesh-gas')
    const [short, long] = [gasOf('["a"]'), gasOf('["aaaaaaaa"]')]
    expect(Number(long)).toBeGreaterThan(Number(short))
    expect([gasOf('["b"]'), gasOf('["bbbbbbbb"]')]).toEqual([short, long])
  })
})

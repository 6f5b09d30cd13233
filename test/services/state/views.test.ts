/** Results of views as they are handed out: what becomes of their bytes. */
import { describe, expect, test } from '@jest/globals'
import { parseFqmn } from '../../../cmtp/fqmn.ts'
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

function viewsWith(entries: number): { readonly engine: WasmEngine, readonly read: (args: string, body?: string) => Reply } {
  const engine = new WasmEngine()
  const space = new Map<string, Uint8Array>()
  engine.install('0x001', ECHO, space)
  const parts = {
    store: { head: { epoch: 1, seq: 1, chain: new Uint8Array(32), timeMs: 0 }, space: () => space }, engine, metering: { at: () => undefined },
    guard: {}, reads: {}, confirm: () => undefined, clock: { nowMs: () => 0 },
    stats: { views: 0, viewHits: 0, viewGas: 0, contractFailures: 0 }, cache: { entries },
  } as unknown as ViewsParts
  const views = new Views(parts)
  const read = (args: string, body = ''): Reply => {
    const call = { route: parseFqmn(`0xS:0x001:echo${args && `:${args}`}`), body: bytes(body), deadlineMs: 1 } as unknown as Call
    const reply = views.read(call, AUTH, { gas: 0n, before: undefined, after: undefined })
    if (reply instanceof Promise) throw new Error('a view had to wait')
    return reply
  }
  return { engine, read }
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

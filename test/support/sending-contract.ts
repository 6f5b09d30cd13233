/** Contracts in WebAssembly text that send messages and hear the answers. */
import { abiText, contractModule } from './contract-module.ts'

export interface MessageText {
  readonly fqmn: string
  readonly body?: string
  /** `heard`, `heard_badly` or another function of the same contract. Default: none. */
  readonly reply?: string
  /** `most`: what is left, but for the little that the rest of the call takes. Default 1,000,000. */
  readonly gas?: number | 'most'
  /** Sent so often in one call. Default 1. */
  readonly times?: number
  /** What kind of function sends it. Default `write`. */
  readonly mode?: 'write' | 'reply'
}

/**
 * A function for each message, which sends it. Beside them: `note` keeps who called it and its input, `who` and `noted` give these;
 * `heard` keeps its input, `heard_badly` too but fails then; `last` gives what was kept. `refuse` refuses, `spin` never ends.
 */
export function sendingContract(messages: Readonly<Record<string, MessageText>> = {}): Uint8Array {
  let at = 16_384
  const data: string[] = []
  const place = (text: string): string => {
    const bytes = Buffer.from(text)
    data.push(`(data (i32.const ${at}) "${[...bytes].map(byte => `\\${byte.toString(16).padStart(2, '0')}`).join('')}")`)
    const range = `(i32.const ${at}) (i32.const ${bytes.length})`
    at += bytes.length
    return range
  }
  const senders = Object.entries(messages).map(([name, { fqmn, body = '', reply = '', gas = 1_000_000, times = 1 }]) => {
    const send = `(drop (call $send ${place(fqmn)} ${place(body)} ${place(reply)} ${gas === 'most' ? '(i64.sub (call $ctx (i32.const 2)) (i64.const 20000))' : `(i64.const ${gas})`}))`
    return `(func (export "call_${name}") (local $i i32) (loop $next ${send}
      (local.set $i (i32.add (local.get $i) (i32.const 1))) (br_if $next (i32.lt_u (local.get $i) (i32.const ${times})))))`
  })
  const keep = (key: number): string => `(local.set $n (call $input)) (call $reg (i32.const 65536)) (call $set (i32.const ${key}) (i32.const 1) (i32.const 65536) (local.get $n))`
  const give = (key: number): string => `(if (i32.ge_s (call $get (i32.const ${key}) (i32.const 1)) (i32.const 0)) (then (call $reg (i32.const 65536)) (call $output (i32.const 65536) (call $reglen))))`
  const modes = [
    ['note', 'write'], ['who', 'view'], ['noted', 'view'], ['heard', 'reply'], ['heard_badly', 'reply'], ['last', 'view'], ['refuse', 'write'], ['spin', 'write'],
    ...Object.entries(messages).map(([name, { mode = 'write' }]) => [name, mode]),
  ]
  return contractModule(`
    (data (i32.const 0) "whn")
    ${senders.join('\n')}
    (func (export "call_note") (local $n i32) ${keep(2)}
      (local.set $n (call $ctxs (i32.const 0))) (call $reg (i32.const 65536)) (call $set (i32.const 0) (i32.const 1) (i32.const 65536) (local.get $n)))
    (func (export "call_who") ${give(0)})
    (func (export "call_noted") ${give(2)})
    (func (export "call_heard") (local $n i32) ${keep(1)})
    (func (export "call_heard_badly") (local $n i32) ${keep(1)} (unreachable))
    (func (export "call_last") ${give(1)})
    (func (export "call_refuse") (call $fail (i32.const 0) (i32.const 1)))
    (func (export "call_spin") (loop $for_ever (br $for_ever)))
    ${data.join('\n')}`, { abi: abiText(modes.map(([name, mode]) => ({ name, mode }))), memory: '(memory (export "memory") 3 64)' })
}

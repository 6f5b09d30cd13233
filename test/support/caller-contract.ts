/** A contract that tells who asks. */
import { abiText, contractModule } from './contract-module.ts'

/** `who`, a view, gives the caller as text; `sign`, a write, keeps the caller, whom `last` gives. */
export function callerContract(): Uint8Array {
  const caller = '(local.set $n (call $ctxs (i32.const 0))) (call $reg (i32.const 1024))'
  return contractModule(`
    (data (i32.const 0) "l")
    (func (export "call_who") (local $n i32) ${caller} (call $output (i32.const 1024) (local.get $n)))
    (func (export "call_sign") (local $n i32) ${caller} (call $set (i32.const 0) (i32.const 1) (i32.const 1024) (local.get $n)))
    (func (export "call_last")
      (if (i32.ge_s (call $get (i32.const 0) (i32.const 1)) (i32.const 0)) (then (call $reg (i32.const 1024)) (call $output (i32.const 1024) (call $reglen)))))`, {
    abi: abiText([{ name: 'who', mode: 'view' }, { name: 'sign' }, { name: 'last', mode: 'view' }]),
  })
}

;; A contract in plain WebAssembly text: counts votes per option. It shows the ABI (contracts/ABI.md) with nothing in between. The section
;; `cmesh.abi` is tally.abi.json, added when the module is assembled.
(module
  (import "cmesh" "input" (func $input (result i32)))
  (import "cmesh" "reg" (func $reg (param i32)))
  (import "cmesh" "output" (func $output (param i32 i32)))
  (import "cmesh" "get" (func $get (param i32 i32) (result i32)))
  (import "cmesh" "set" (func $set (param i32 i32 i32 i32)))
  (import "cmesh" "emit" (func $emit (param i32 i32 i32 i32)))
  (import "cmesh" "ctxs" (func $ctxs (param i32) (result i32)))
  (import "cmesh" "fail" (func $fail (param i32 i32)))
  (memory (export "memory") 1 1)

  ;; 0: the number of votes, as it is stored. 16 to 32: digits. 64: texts. 256: the input, or the voter between quotes.
  (data (i32.const 64) "voted")
  (data (i32.const 80) "one option of 1 to 64 characters is expected")

  ;; Reads `["option"]` and gives the length of the option, which then stands at 258.
  (func $option (result i32) (local $n i32)
    (local.set $n (call $input))
    (if (i32.or (i32.lt_u (local.get $n) (i32.const 5)) (i32.gt_u (local.get $n) (i32.const 68)))
      (then (call $fail (i32.const 80) (i32.const 44))))
    (call $reg (i32.const 256))
    (if (i32.ne (i32.load16_u (i32.const 256)) (i32.const 0x225b))
      (then (call $fail (i32.const 80) (i32.const 44))))
    (i32.sub (local.get $n) (i32.const 4)))

  ;; The votes of the option of that length.
  (func $votes (param $length i32) (result i32)
    (if (i32.lt_s (call $get (i32.const 258) (local.get $length)) (i32.const 0)) (then (return (i32.const 0))))
    (call $reg (i32.const 0))
    (i32.load (i32.const 0)))

  ;; Gives a number as JSON: its digits, from the last one on.
  (func $give (param $number i32) (local $at i32)
    (local.set $at (i32.const 32))
    (loop $next
      (local.set $at (i32.sub (local.get $at) (i32.const 1)))
      (i32.store8 (local.get $at) (i32.add (i32.const 48) (i32.rem_u (local.get $number) (i32.const 10))))
      (br_if $next (local.tee $number (i32.div_u (local.get $number) (i32.const 10)))))
    (call $output (local.get $at) (i32.sub (i32.const 32) (local.get $at))))

  (func (export "call_vote") (local $length i32) (local $votes i32)
    (local.set $length (call $option))
    (local.set $votes (i32.add (call $votes (local.get $length)) (i32.const 1)))
    (i32.store (i32.const 0) (local.get $votes))
    (call $set (i32.const 258) (local.get $length) (i32.const 0) (i32.const 4))
    (call $emit (i32.const 64) (i32.const 5) (i32.const 258) (local.get $length))
    (call $give (local.get $votes)))

  (func (export "call_count") (call $give (call $votes (call $option))))

  (func (export "call_voter") (local $length i32)
    (local.set $length (call $ctxs (i32.const 0)))
    (call $reg (i32.const 257))
    (i32.store8 (i32.const 256) (i32.const 34))
    (i32.store8 (i32.add (i32.const 257) (local.get $length)) (i32.const 34))
    (call $output (i32.const 256) (i32.add (local.get $length) (i32.const 2)))))

/**
 * The host interface, exactly as `contracts/ABI.md` states it. Pointers and lengths are i32 into the contract's own
 * memory; the host hands bytes back through one register, which `take` copies into a fresh buffer.
 */

/** Puts the input into the register and gives its length. */
@external('cmesh', 'input')
export declare function input(): i32

/** Copies the register to `pointer`. */
@external('cmesh', 'reg')
export declare function reg(pointer: usize): void

/** Length of the register, −1 when it is empty. */
@external('cmesh', 'reglen')
export declare function reglen(): i32

/** Sets the result of the call: JSON text in UTF-8. */
@external('cmesh', 'output')
export declare function output(pointer: usize, length: i32): void

/** Puts the value of a key into the register and gives its length, −1 when there is none. */
@external('cmesh', 'get')
export declare function get(key: usize, keyLength: i32): i32

@external('cmesh', 'set')
export declare function set(key: usize, keyLength: i32, value: usize, valueLength: i32): void

/** Gives 1 when there was something to delete, 0 otherwise. */
@external('cmesh', 'del')
export declare function del(key: usize, keyLength: i32): i32

@external('cmesh', 'emit')
export declare function emit(topic: usize, topicLength: i32, data: usize, dataLength: i32): void

/** A number of the context: 0 the sequence, 1 the log time in ms, 2 the gas left. */
@external('cmesh', 'ctx')
export declare function ctx(field: i32): i64

/** Puts a text of the context into the register and gives its length: 0 the caller, 1 this contract, 2 the origin. */
@external('cmesh', 'ctxs')
export declare function ctxs(field: i32): i32

/** Ends the call with a reason; never returns. */
@external('cmesh', 'fail')
export declare function fail(pointer: usize, length: i32): void

/**
 * Fills the register with entries whose keys lie in [from, to), in byte order, and gives how many: u16 length of the key, key, u32
 * length of the value, value, lengths little-endian. Flags: 1 backwards, 2 keys only. At most 256 entries and 65,536 bytes.
 */
@external('cmesh', 'scan')
export declare function scan(from: usize, fromLength: i32, to: usize, toLength: i32, limit: i32, flags: i32): i32

/** Calls another contract: 0 and the register holds its output, 1 and it holds `CODE: reason`. No gas given is all there is. */
@external('cmesh', 'call')
export declare function call(fqmn: usize, fqmnLength: i32, input: usize, inputLength: i32, gas: i64): i32

/** Sends a message after the block; gives its number within the call. */
@external('cmesh', 'send')
export declare function send(
  fqmn: usize, fqmnLength: i32, body: usize, bodyLength: i32, reply: usize, replyLength: i32, gas: i64,
): i32

/** Writes 32 bytes to `to`. */
@external('cmesh', 'sha256')
export declare function sha256(data: usize, length: i32, to: usize): void

/** Ed25519: 1 when the 64 bytes are the signature of the message by the key of 32 bytes, 0 otherwise. */
@external('cmesh', 'verify')
export declare function verify(publicKey: usize, signature: usize, message: usize, length: i32): i32

/** Writes the next 32 bytes of the call's own sequence to `to`. */
@external('cmesh', 'seed')
export declare function seed(to: usize): void

/** Bytes that `room` has, and so the most that `glance` reads without an allocation. */
export const ROOM = 512
/** For bytes that nobody keeps: the input while it is read, a value while it becomes something else, a result on its way out. */
export const room = memory.data(512)

/** The register, `length` bytes of it, where they stand until somebody glances again. */
// @ts-ignore: a decorator of the compiler's.
@inline
export function glance(length: i32): usize {
  const at = length <= ROOM ? room : heap.alloc(length)
  reg(at)
  return at
}

/** The register, `length` bytes of it, as a buffer of the contract's own. */
export function take(length: i32): ArrayBuffer {
  // Every byte of it is written: there is no need for zeros.
  const bytes = __new(length, idof<ArrayBuffer>())
  reg(bytes)
  return changetype<ArrayBuffer>(bytes)
}

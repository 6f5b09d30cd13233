/**
 * Hashes, signatures, and numbers that nobody chose. All of it is the same on every replica.
 */
import { revert } from './errors'
import { seed as hostSeed, sha256 as hostSha256, verify as hostVerify } from './host'

const KEY_BYTES = 32
const SIGNATURE_BYTES = 64

export namespace crypto {
  /** SHA-256, 32 bytes. `T`: string (as UTF-8), Uint8Array or ArrayBuffer. */
  export function sha256<T>(data: T): Uint8Array {
    const hash = new Uint8Array(32)
    if (isString<T>()) {
      const text = String.UTF8.encode(changetype<string>(data))
      hostSha256(changetype<usize>(text), text.byteLength, hash.dataStart)
    } else if (idof<T>() == idof<Uint8Array>()) {
      hostSha256(changetype<Uint8Array>(data).dataStart, changetype<Uint8Array>(data).byteLength, hash.dataStart)
    } else if (idof<T>() == idof<ArrayBuffer>()) {
      hostSha256(changetype<usize>(data), changetype<ArrayBuffer>(data).byteLength, hash.dataStart)
    } else {
      ERROR('crypto.sha256 takes a string, a Uint8Array or an ArrayBuffer')
    }
    return hash
  }

  /** Whether this is the Ed25519 signature of the message. A key without 32 bytes or a signature without 64 is none. */
  export function verify(publicKey: Uint8Array, signature: Uint8Array, message: Uint8Array): bool {
    if (publicKey.byteLength != KEY_BYTES || signature.byteLength != SIGNATURE_BYTES) return false
    return hostVerify(publicKey.dataStart, signature.dataStart, message.dataStart, message.byteLength) != 0
  }

  /**
   * The next 32 bytes of this call's own sequence. Nobody chooses them; but whoever orders blocks knows them first, and a caller may
   * try a call and let it fail when it does not like the outcome: decide nothing of value by them in the call that asked.
   */
  export function seed(): Uint8Array {
    const bytes = new Uint8Array(32)
    hostSeed(bytes.dataStart)
    return bytes
  }

  /** A number from 0 to `below` − 1, each as likely, made from `seed`. */
  export function random(below: u64): u64 {
    if (!below) revert('there is no number below 0')
    // The highest numbers would make the lowest likelier: they are drawn again.
    const most = u64.MAX_VALUE - u64.MAX_VALUE % below
    while (true) {
      const drawn = load<u64>(seed().dataStart)
      if (drawn < most) return drawn % below
    }
  }
}

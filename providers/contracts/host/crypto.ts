/** Host functions that compute: hashes, signatures, numbers nobody can choose. */
import { createHash } from 'node:crypto'
import { CMeshError } from '../../../cmtp/errors.ts'
import { PublicKey } from '../../../cmtp/identity/keys.ts'
import type { Frame } from '../frame.ts'
import { copy, put, start } from './bytes.ts'

const KEY_BYTES = 32
const SIGNATURE_BYTES = 64

export function sha256(frame: Frame, pointer: number, length: number, to: number): void {
  const bytes = length >>> 0
  frame.charge(frame.run.costs.sha256, bytes)
  const at = start(frame, pointer, bytes)
  put(frame, to, createHash('sha256').update(frame.instance.memory.bytes.subarray(at, at + bytes)).digest())
}

/** Ed25519 as identities use it (`cmtp/identity/keys.ts`): a key that no identity may have verifies nothing. */
export function verify(frame: Frame, key: number, signature: number, message: number, length: number): number {
  const bytes = length >>> 0
  frame.charge(frame.run.costs.verify, bytes)
  const [keyBytes, signatureBytes] = [copy(frame, key, KEY_BYTES), copy(frame, signature, SIGNATURE_BYTES)]
  return verifies(keyBytes, copy(frame, message, bytes), signatureBytes) ? 1 : 0
}

function verifies(key: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  try {
    return PublicKey.fromBytes(key).verify(message, signature)
  } catch (thrown) {
    if (thrown instanceof CMeshError && thrown.code === 'CMESH_IAM_KEY') return false
    throw thrown
  }
}

/** The next number of the call: SHA-256(seed ‖ how many came before, as 4 bytes little-endian). */
export function seed(frame: Frame, to: number): void {
  const { run } = frame
  frame.charge(run.costs.seed)
  const count = Buffer.alloc(4)
  count.writeUInt32LE(run.seeds)
  run.seeds++
  run.readClock = true
  put(frame, to, createHash('sha256').update(run.context.seed).update(count).digest())
}

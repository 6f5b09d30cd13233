/** Batches of an audit log as its tests make them. */
import { NOTE_HEADER_BYTES, putNoteHeader } from '../../services/audit/messages.ts'
import type { AuditBatch } from '../../services/audit/provider.ts'

/** A note with `payload`. */
export function note(kind: number, batch: number, index: number, key: Uint8Array, payload: string): Buffer {
  const bytes = Buffer.alloc(NOTE_HEADER_BYTES + payload.length)
  bytes.write(payload, putNoteHeader(bytes, 0, kind, batch, index, payload.length, key), 'latin1')
  return bytes
}

export function batchOf(number: number, notes: readonly Buffer[], apart = number === 0): AuditBatch {
  return { number, block: Buffer.from(`block ${number}`), notes: Buffer.concat(notes), apart }
}

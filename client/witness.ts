/** What was asked, read back from the frame that asked it: the caller's half of a witness. */
import { BatchFrame } from '../cmtp/batch.ts'
import { RequestFrame } from '../cmtp/frame.ts'
import type { Witness } from '../cmtp/receipt/witness.ts'
import { frameKind, KIND_REQUEST } from '../cmtp/wire.ts'

export type AskedFor = Pick<Witness, 'fqmn' | 'deadlineMs' | 'requestHeaders' | 'requestBody'>

/** Of a request, or of the entry of a batch; byte fields are views into the frame. Throws `CMESH_FRAME_*` for other bytes. */
export function askedFor(frame: Buffer, index: number): AskedFor {
  if (frameKind(frame) === KIND_REQUEST) {
    const { fqmn, deadlineMs, headers, body } = RequestFrame.decode(frame)
    return { fqmn, deadlineMs, requestHeaders: headers, requestBody: body }
  }
  const { bytes, deadlineMs, entries } = BatchFrame.decode(frame)
  const entry = entries[index]
  if (entry === undefined) throw new RangeError(`the batch has no entry ${index}`)
  const { fqmnStart, fqmnEnd, headersEnd, end } = entry
  return {
    fqmn: bytes.toString('utf8', fqmnStart, fqmnEnd), deadlineMs, requestHeaders: bytes.subarray(fqmnEnd, headersEnd), requestBody: bytes.subarray(headersEnd, end),
  }
}

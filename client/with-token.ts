/** The same request under another token: what a new session makes of a frame that was built under the last one. */
import { BatchFrame, encodeBatch } from '../cmtp/batch.ts'
import { encodeRequest, RequestFrame } from '../cmtp/frame.ts'
import { frameKind, KIND_REQUEST } from '../cmtp/wire.ts'

/** A copy of a request or batch frame with `token` (ASCII) in place of its own; id, deadline and all else stay. */
export function withToken(frame: Buffer, token: Uint8Array): Buffer {
  if (frameKind(frame) === KIND_REQUEST) {
    const { id, fqmn, deadlineMs, receipt, bundle, hops, headers, body } = RequestFrame.decode(frame)
    return encodeRequest({ id, fqmn, token, deadlineMs, receipt, bundle, hops, headers, body })
  }
  const batch = BatchFrame.decode(frame)
  const { id, deadlineMs, receipt, hops } = batch
  const entries = batch.entries.map(({ fqmnStart, fqmnEnd, headersEnd, end }) => ({
    fqmn: frame.toString('utf8', fqmnStart, fqmnEnd),
    headers: frame.subarray(fqmnEnd, headersEnd),
    body: frame.subarray(headersEnd, end),
  }))
  return encodeBatch({ id, token, deadlineMs, receipt, hops, entries })
}

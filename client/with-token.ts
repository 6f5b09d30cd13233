/** The same request under another token, or signed for one: what a new session makes of a frame that was built under the last one. */
import { BatchFrame, encodeBatch } from '../cmtp/batch.ts'
import { encodeRequest, RequestFrame } from '../cmtp/frame.ts'
import { decodeHeaders, encodeHeaders } from '../cmtp/headers.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { makeRequestProof, PROOF_HEADER } from '../cmtp/identity/request-proof.ts'
import { formatMessageId } from '../cmtp/message-id.ts'
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

/** A copy of a request frame with the signature of `signer` over it and the whole `token`, in place of one it had. */
export function withProof(frame: Buffer, token: Uint8Array, signer: KeyPair): Buffer {
  const request = RequestFrame.decode(frame)
  const { id, fqmn, deadlineMs, receipt, bundle, hops, body } = request
  const proof = makeRequestProof({ id: formatMessageId(id), fqmn, body, deadlineMs, token }, signer)
  const headers = encodeHeaders([...decodeHeaders(request.headers).filter(([name]) => name !== PROOF_HEADER), [PROOF_HEADER, proof]])
  return encodeRequest({ id, fqmn, token: request.token, deadlineMs, receipt, bundle, hops, headers, body })
}

/** The header of a stored event that says which trace it belongs to, and how it is read back. */
import type { MsgHdrs } from '@nats-io/nats-core'
import type { MeshEvent } from '../../services/events/provider.ts'

type Traced = Pick<MeshEvent, 'traceparent'>

const IN_BLOCK = /\r\ntraceparent: ?([^\r\n]+)\r\n/

export function traceOf(headers: MsgHdrs | undefined): Traced {
  const traceparent = headers?.get('traceparent') ?? ''
  return traceparent === '' ? {} : { traceparent }
}

/** The same from a header block as the broker's API gives it, in base64. */
export function traceOfBlock(block: string | undefined): Traced {
  const traceparent = block === undefined ? undefined : IN_BLOCK.exec(Buffer.from(block, 'base64').toString('latin1'))?.[1]
  return traceparent === undefined ? {} : { traceparent }
}

/** How the steps of a handshake and of a session's life reach IAM: requests without a token, over a newcomer's link or the current one. */
import { REQUEST } from '../cmtp/correlate.ts'
import { CMeshError } from '../cmtp/errors.ts'
import { encodeRequest } from '../cmtp/frame.ts'
import type { SendStep } from '../cmtp/identity/login.ts'
import type { MessageIds } from '../cmtp/message-id.ts'
import { helloSubject } from '../cmtp/subject.ts'
import type { RequestOptions } from './link.ts'
import { readReply } from './reply.ts'

/** What carries a step. Its id stands in the subject; `undefined` while nothing can be carried. */
export interface StepRoute {
  readonly cid: string | undefined
  request(subject: string, frame: Uint8Array, options: RequestOptions): Promise<Uint8Array>
}

/** Longest wait for one step, in ms. */
const STEP_MS = 5_000

/** `now`: ms since 1970. `mostMs`: waits no longer for a step, where no person acts meanwhile. */
export function stepsOver(route: StepRoute, ids: MessageIds, now: () => number, mostMs = STEP_MS): SendStep {
  return async (action, body, node, until) => {
    const { cid } = route
    if (cid === undefined) throw new CMeshError('CMESH_BUS_DISCONNECTED')
    const waitMs = until === undefined ? Math.min(mostMs, STEP_MS) : personMs(until - now())
    const fields = { id: ids.next(), fqmn: `0xIW:${action}`, token: Buffer.alloc(0), deadlineMs: now() + waitMs, receipt: 'none' as const, body }
    const frame = encodeRequest(fields)
    const data = await route.request(helloSubject(cid, node), frame, { timeoutMs: waitMs })
    const reply = readReply(data, frame, 'none')
    const error = reply.error()
    if (error !== undefined) throw error
    return reply.body
  }
}

/** How long to wait for a step while a person acts, `leftMs` by the node's clock. Clocks that disagree say nothing: the longest it is. */
const personMs = (leftMs: number): number => (leftMs > STEP_MS && leftMs < REQUEST.timeoutMaxMs ? Math.ceil(leftMs) : REQUEST.timeoutMaxMs)

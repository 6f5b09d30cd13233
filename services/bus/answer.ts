/**
 * Sending an answer over the bus: where one may go, and what becomes of one that cannot leave. Nothing is kept and nothing is
 * sent twice; a caller who gets none sees its deadline pass and asks again.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { INBOX_PREFIX } from '../../cmtp/subject.ts'
import type { Log } from '../log.ts'
import type { Bus } from './provider.ts'

/** Whether an answer to another node may go there: services share their account, and ask from inboxes of any name. */
export function isInbox(subject: string): boolean {
  return subject.startsWith(INBOX_PREFIX)
}

export interface AnswerParts {
  readonly bus: Pick<Bus, 'status' | 'publish'>
  readonly log: Log
}

/** Sends an answer; where the broker does not take one that large, what `refuse` makes of the error. Never throws. */
export function sendAnswer({ bus, log }: AnswerParts, subject: string, frame: Uint8Array, refuse?: (error: CMeshError) => Uint8Array): void {
  // A closed bus means that nobody can be answered any more.
  if (bus.status === 'closed') return
  try {
    bus.publish(subject, frame)
  } catch (thrown) {
    const error = CMeshError.from(thrown, 'the bus')
    if (refuse !== undefined && error.code === 'CMESH_FRAME_TOO_LARGE') sendAnswer({ bus, log }, subject, refuse(error))
    else log.warn({ err: error, code: error.code }, 'an answer could not be sent')
  }
}

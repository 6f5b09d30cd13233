/** What requests need of the current session, made once for each token. */
import type { Session } from '../cmtp/identity/login.ts'
import { tokenReference } from '../cmtp/identity/token.ts'
import type { MessageIds } from '../cmtp/message-id.ts'
import { carriedSubject, requestSubject } from '../cmtp/subject.ts'
import { RequestTemplates } from './request-templates.ts'

export interface ActiveSession {
  readonly session: Session
  /** What stands in a frame for the token: the token itself, or its reference once a node took it. */
  readonly token: Buffer
  /** `token` is the reference. */
  readonly introduced: boolean
  /** Where the session's requests go. */
  readonly subject: string
  readonly templates: RequestTemplates
}

export function activeSession(session: Session, ids: MessageIds, introduced: boolean): ActiveSession {
  const { sid, via } = session
  const whole = Buffer.from(session.token, 'ascii')
  const token = introduced ? tokenReference(whole) : whole
  const subject = via === undefined ? requestSubject(sid) : carriedSubject(via, sid)
  return { session, token, introduced, subject, templates: new RequestTemplates(token, ids) }
}

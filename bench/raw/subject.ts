/** Where the baseline asks: as a session does, whose login lets it publish there and nowhere else. */
import { REQUEST_WILDCARD, requestSubject } from '../../cmtp/subject.ts'

export const ECHO_SESSION = 'baseline'
export const ECHO_SUBJECT = requestSubject(ECHO_SESSION)
export const ECHO_WILDCARD = REQUEST_WILDCARD

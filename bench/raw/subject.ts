/** Where the baseline asks: subjects of the same shape as a session's, which the broker's rules let a client publish on. */
export const ECHO_SUBJECT = 'cmesh.v1.req.raw'
export const ECHO_WILDCARD = 'cmesh.v1.req.*'

/** Errors that say that this node could ask nobody just now. Of whom it would have asked they say nothing: it was not tried, and is no failure of theirs. */
import type { CMeshError } from '../cmtp/errors.ts'

const CODES: ReadonlySet<string> = new Set(['CMESH_STATE_CLOCK', 'CMESH_STATE_NOT_MEMBER', 'CMESH_ROUTER_DRAINING'])

export function wasNotAsked({ code }: Pick<CMeshError, 'code'>): boolean {
  return CODES.has(code)
}

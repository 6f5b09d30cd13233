/**
 * What JetStream refuses, told apart: for want of a leader, of a quorum, of a broker that is ready, which passes; and for good. Of the codes of
 * its API, `err_code`, this is the one list.
 */
import { JetStreamApiError } from '@nats-io/jetstream'
import { errors } from '@nats-io/nats-core'
import { CMeshError } from '../../cmtp/errors.ts'
import { brokerAway } from '../bus/patience.ts'

/** The error in an answer of the API. */
export interface ApiRefusal {
  readonly code: number
  readonly err_code?: number
  readonly description?: string
}

/**
 * `err_code` of refusals that pass: too few servers, of which one may be starting, no leader, cluster not ready, insufficient resources, JetStream not ready
 * or not enabled yet after a restart, storage failure. Any other refusal is final. None of them stores or makes anything.
 */
const PASSING: ReadonlySet<number> = new Set([10005, 10008, 10009, 10023, 10039, 10047, 10076, 10077, 10118])
const UNAVAILABLE = 503
const STORAGE_EXCEEDED = 10047
/** What such an answer would say of a stream whose leader is being elected, where a follower answers for itself. */
export const NO_LEADER: ApiRefusal = { code: UNAVAILABLE, description: 'it has no leader now' }

export function passesByCode({ code, err_code: errCode = 0 }: ApiRefusal): boolean {
  return PASSING.has(errCode) || code === UNAVAILABLE
}

/** `CMESH_BUS_STORE` that keeps what it was refused for. */
export function refused(stream: string, refusal: ApiRefusal): CMeshError {
  return new CMeshError('CMESH_BUS_STORE', { stream, reason: refusal.description ?? `error ${refusal.code}` }, { cause: refusal })
}

/** Whether what failed is worth doing again: JetStream has no leader, is not ready, or cannot be reached. */
export function passes(failure: unknown): boolean {
  if (failure instanceof CMeshError) return failure.code === 'CMESH_BUS_STORE' ? isRefusal(failure.cause) && passesByCode(failure.cause) : brokerAway(failure)
  if (failure instanceof JetStreamApiError) return passesByCode(failure.apiError())
  if (!(failure instanceof Error)) return false
  if (failure instanceof errors.PermissionViolationError || failure instanceof errors.ClosedConnectionError) return false
  // The library wraps what it was: a time-out, nobody who answers, a connection that went.
  return failure.cause === undefined || passes(failure.cause)
}

/** Whether the servers have not the room on their disks that a stream of this bound might take. */
export function isWithoutRoom(failure: unknown): boolean {
  return failure instanceof JetStreamApiError && failure.apiError().err_code === STORAGE_EXCEEDED
}

function isRefusal(cause: unknown): cause is ApiRefusal {
  return typeof cause === 'object' && cause !== null && 'code' in cause && typeof cause.code === 'number'
}

/**
 * One delayed call, made: the way of a request from inside. Names are resolved and endpoints authorise, as for anybody; who asks is the DID
 * that asked for it, by a context that the guard makes from what that DID may do now.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import type { Layer } from '../../cmtp/layer.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { errorReply, NO_BODY, type Call, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import type { HopNotes } from '../endpoint.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import { RegistrarService } from '../registrar/service.ts'
import type { Deadlines } from '../router/deadlines.ts'
import type { Dispatcher } from '../router/dispatcher.ts'
import type { StateService } from '../state/service.ts'
import { laterCallId, laterJti, type DelayedCall } from './records.ts'

export interface LaterDeliveryParts {
  readonly guard: Pick<Guard, 'delayedPrincipal'>
  readonly registrar: Pick<RegistrarService, 'resolve'>
  readonly dispatcher: Pick<Dispatcher, 'dispatch'>
  readonly deadlines: Pick<Deadlines, 'race'>
  readonly clock: Clock
}

export interface LaterOutcome {
  /** `undefined` where it went well. */
  readonly error: CMeshError | undefined
  /** It was ordered, so that its record went with it. */
  readonly ordered: boolean
  readonly layers: readonly Layer[]
}

/** Where a delayed call is asked for. */
const LATER = parseFqmn('0xSW:0x000:later')

/** How long whoever is called may take, in ms. */
const CALL_MS = 10_000

/** Never rejects. */
export async function callLater(later: DelayedCall, attempt: number, parts: LaterDeliveryParts): Promise<LaterOutcome> {
  let call: Call
  try {
    call = callOf(later, attempt, parts)
  } catch (error) {
    return { error: CMeshError.from(error, 'a delayed call', later.id), ordered: false, layers: [] }
  }
  const ordered = isOrdered(call)
  const { status, body } = await ask(call, ordered, parts)
  const error = status < 400 ? undefined : CMeshError.fromWire(JSON.parse(Buffer.from(body).toString('utf8')))
  return { error, ordered, layers: call.layers }
}

/** Throws what the grammar or the Registrar says. */
function callOf({ id, did, fqmn, body }: DelayedCall, attempt: number, { guard, registrar, clock }: LaterDeliveryParts): Call {
  const asked = parseFqmn(fqmn)
  const route = RegistrarService.isByName(asked) ? registrar.resolve(asked) : asked
  const tries = isOrdered({ route }) ? attempt : 0
  return {
    id: Buffer.from(laterCallId(id, tries), 'hex'), route, body, headers: NO_BODY, deadlineMs: clock.nowMs() + LIMITS.deadlineAheadMs, token: NO_BODY, sid: '',
    replySubject: '', hops: 0, auth: guard.delayedPrincipal(did, laterJti(id)), layers: [], markUs: clock.nowUs(), salt: undefined, proposed: false,
  }
}

async function ask(call: Call, ordered: boolean, { dispatcher, deadlines, clock }: LaterDeliveryParts): Promise<Reply> {
  const reply = dispatcher.dispatch(call)
  // What became of a transaction is in the log, and that is where the answer comes from, however long it takes.
  if (!(reply instanceof Promise) || ordered) return reply
  return deadlines.race(reply, clock.nowMs() + CALL_MS, () => new CMeshError('CMESH_ROUTER_TIMEOUT'))
    .catch((error: unknown) => errorReply(CMeshError.from(error, 'a delayed call')))
}

function isOrdered({ route }: Pick<Call, 'route'>): boolean {
  return route.write && (route.service === 'S' || route.service === 'R')
}

/** Asks for a delayed call that failed once more, due at once, in the name of who makes the call at hand. */
export function resendLater(
  { fqmn, body }: { readonly fqmn: string, readonly body: unknown },
  { call: asking, auth, notes }: { readonly call: Call, readonly auth: AuthContext, readonly notes: HopNotes },
  { guard, state }: { readonly guard: Pick<Guard, 'authorise'>, readonly state: Pick<StateService, 'write'> },
): Promise<Reply> {
  guard.authorise(auth, LATER)
  const call = { ...asking, body: Buffer.from(JSON.stringify({ fqmn, body, inMs: 0 })) }
  return state.write(call, auth, notes, LATER)
}

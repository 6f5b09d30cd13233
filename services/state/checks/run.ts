/**
 * Running a read so that it can be compared: its result, also where that is an error, with the stretch of the log on which it is that. Which
 * reads can be is decided here.
 */
import { CMeshError } from '../../../cmtp/errors.ts'
import type { Route } from '../../../cmtp/fqmn.ts'
import { errorReply, type Call, type Reply } from '../../call.ts'
import type { HopNotes } from '../../endpoint.ts'
import type { AuthContext } from '../../iam/guard.ts'
import { SYSTEM_SPACE } from '../transaction.ts'
import type { ExactView } from '../views.ts'
import { resultHash, type CheckResult } from './wire.ts'

/** Runs a view here and now, or when it is its caller's turn. */
export type RunView = (call: Call, auth: AuthContext, notes: HopNotes, exact?: ExactView) => Reply | Promise<Reply>

export interface Ran extends CheckResult {
  readonly reply: Reply
}

/** Of the system contract's reads those that show state as it is; a proof has signatures, a dry run changes code, the others read the log. */
const SYSTEM_READS: readonly (string | undefined)[] = [undefined, 'versions', 'code', 'get']

/** Whether every member has the same answer to it. */
export function isComparable({ service, write, segments: [contract, name] }: Route): boolean {
  return service === 'S' && !write && (contract !== SYSTEM_SPACE || SYSTEM_READS.includes(name))
}

/** Rejects with what says nothing of state: no right, no time, a fault of this node. Its first part runs at once. */
export async function runExactly(run: RunView, call: Call, auth: AuthContext, notes: HopNotes, gasLimit: number): Promise<Ran> {
  const exact = { from: 0, to: 0, gasLimit }
  let reply: Reply
  try {
    reply = await run(call, auth, notes, exact)
  } catch (error) {
    if (!(error instanceof CMeshError) || !isOfState(error)) throw error
    reply = errorReply(error)
  }
  return { reply, from: exact.from, to: exact.to, hash: resultHash(reply) }
}

function isOfState({ code, retry }: CMeshError): boolean {
  return retry === 'terminal' && !code.startsWith('CMESH_IAM_') && !code.startsWith('CMESH_ROUTER_')
}

/** The record of an entry that was passed at the operator's word: who let it pass, which, and why, for every replica and every proof. */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { checkSkip, type Skip } from '../../cmtp/skip.ts'
import type { Transaction } from '../state/batch.ts'
import { skipKey } from '../state/skips.ts'
import { DONE, SYSTEM_SPACE, type Execution, type TransactionContext } from '../state/transaction.ts'
import { readMesh, readOperator } from './genesis.ts'
import { isMember } from './members.ts'

export const SKIPPED_FQMN = `0xSW:${SYSTEM_SPACE}:skipped`

/** A member's. Throws `CMESH_STATE_SKIP`, or `CMESH_IAM_DENIED`. */
export function recordSkip({ sub, body }: Transaction, route: Route, { system, seq }: TransactionContext): Execution {
  if (!isMember(system, sub)) throw new CMeshError('CMESH_IAM_DENIED', { permission: 'write', fqmn: route.bare })
  const skip = parsed(body)
  if (skip.mesh !== readMesh(system) || skip.operator !== readOperator(system)) throw new CMeshError('CMESH_STATE_SKIP', { reason: 'it is not by who operates this mesh' })
  if (skip.seq >= seq) throw new CMeshError('CMESH_STATE_SKIP', { reason: `sequence ${skip.seq} is not passed` })
  if (system.get(skipKey(skip.seq)) === undefined) system.setJson(skipKey(skip.seq), skip)
  return { ...DONE, status: 200, output: body }
}

function parsed(body: Uint8Array): Skip {
  try {
    return checkSkip(JSON.parse(Buffer.from(body).toString('utf8')))
  } catch (thrown) {
    throw thrown instanceof CMeshError ? thrown : new CMeshError('CMESH_STATE_SKIP', { reason: 'it is no JSON' })
  }
}

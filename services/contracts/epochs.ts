/**
 * Epochs of the log. A new one begins where an operator changed what orders it (`cmesh consensus migrate`) or gave up a part of it
 * (`cmesh consensus accept-loss`); sequences go on. Its first entry puts it on record in the system space, for every replica and every proof:
 *
 *     epoch   {"epoch", "base", "chain"}   the newest one, the sequence behind which it begins, and the chain value there in hex
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import type { Transaction } from '../state/batch.ts'
import { jsonExecution, SYSTEM_SPACE, type Execution, type TransactionContext } from '../state/transaction.ts'
import { isMember } from './members.ts'

export const EPOCH_FQMN = `0xSW:${SYSTEM_SPACE}:epoch`
const EPOCH_KEY = 'epoch'

/** A member's, as the first entry of an epoch; of several that ask for it the first is. Throws `CMESH_IAM_DENIED`. */
export function openEpoch({ sub }: Transaction, route: Route, { system, seq, chain, begins }: TransactionContext): Execution {
  if (!isMember(system, sub)) throw new CMeshError('CMESH_IAM_DENIED', { permission: 'write', fqmn: route.bare })
  if (begins !== undefined) system.setJson(EPOCH_KEY, { epoch: begins, base: seq - 1, chain: Buffer.from(chain).toString('hex') })
  return jsonExecution(system.getJson(EPOCH_KEY) ?? null)
}

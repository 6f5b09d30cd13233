/**
 * Transactions on names: `register`, `update`, `transfer`, `renew`, `release`. Deterministic, run by the applier alone. A
 * record carries its owner's signature, so a name can be proven without trusting the node that answers. Where another DID took the owner's
 * place, the record stays as it was signed, and that one owns the name.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { didFromSegment } from '../../cmtp/identity/did.ts'
import { verifyNameRecord, type SignableNameRecord } from '../../cmtp/identity/name-record.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { LIMITS } from '../../cmtp/limits.ts'
import { nameSkeleton, normaliseName } from '../../cmtp/name.ts'
import { jsonBody } from '../call.ts'
import { heirOf } from '../iam/rotations.ts'
import type { Transaction } from '../state/batch.ts'
import { jsonExecution, type Execution, type Recorder, type TransactionContext, type TransactionHandler } from '../state/transaction.ts'
import { GRACE_MS, nameKey, ownedKey, readName, readText, skeletonKey, TERM_MS, type RegisteredName } from './records.ts'
import { TARGET_SERVICES } from './resolver.ts'

export class NameTransactions implements TransactionHandler {
  execute(transaction: Transaction, route: Route, context: TransactionContext): Execution {
    const [action = '', typed = ''] = route.segments
    const name = normaliseName(typed)
    switch (action) {
      case 'register':
        return this.#register(name, route, transaction, context)
      case 'update':
        return this.#update(name, route, transaction, context)
      case 'transfer':
        return this.#transfer(name, route, transaction, context)
      case 'renew':
        return this.#renew(name, transaction, context)
      case 'release':
        return this.#release(name, transaction, context)
      default:
        throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'registrar', action, access: 'writing' })
    }
  }

  #register(name: string, route: Route, transaction: Transaction, { system, timeMs }: TransactionContext): Execution {
    const owner = transaction.sub
    const old = readName(system, name)
    if (old !== undefined) {
      const heldUntilMs = heirOf(system, old.owner) === owner ? old.expiresAtMs : old.expiresAtMs + GRACE_MS
      if (timeMs < heldUntilMs) throw taken(system, old)
    }
    const record = signed({ name, target: targetOf(route), owner, sequence: 1 }, transaction)
    // First what the expired record left behind, then what the new one leaves: both may stand under the same skeleton.
    if (old !== undefined) forget(system, old)
    refuseConfusable(system, name)
    own(system, owner, 1)
    return keep(system, { ...record, registeredAtMs: timeMs, expiresAtMs: timeMs + TERM_MS })
  }

  #update(name: string, route: Route, transaction: Transaction, { system, timeMs }: TransactionContext): Execution {
    const old = owned(system, name, transaction.sub, timeMs, 'update')
    const record = signed({ name, target: targetOf(route), owner: transaction.sub, sequence: old.sequence + 1 }, transaction)
    return keep(system, { ...old, ...record })
  }

  #transfer(name: string, route: Route, transaction: Transaction, { system, timeMs }: TransactionContext): Execution {
    const old = owned(system, name, transaction.sub, timeMs, 'transfer')
    const owner = didFromSegment(route.segments[2] ?? '')
    const record = signed({ name, target: old.target, owner, sequence: old.sequence + 1 }, transaction)
    own(system, old.owner, -1)
    own(system, owner, 1)
    return keep(system, { ...old, ...record })
  }

  #renew(name: string, transaction: Transaction, { system, timeMs }: TransactionContext): Execution {
    const old = owned(system, name, transaction.sub, timeMs, 'renew')
    return keep(system, { ...old, expiresAtMs: timeMs + TERM_MS })
  }

  #release(name: string, transaction: Transaction, { system, timeMs }: TransactionContext): Execution {
    const old = owned(system, name, transaction.sub, timeMs, 'release')
    forget(system, old)
    return jsonExecution({ name, released: true })
  }
}

/** The address a name is to map to. Throws `CMESH_REGISTRAR_TARGET`. */
export function targetOf(route: Route): string {
  const { inner } = route
  if (inner === undefined) throw new CMeshError('CMESH_REGISTRAR_TARGET', { fqmn: '(nothing)', reason: 'an FQMN must stand behind the name' })
  if (!TARGET_SERVICES.has(inner.service)) {
    throw new CMeshError('CMESH_REGISTRAR_TARGET', { fqmn: inner.bare, reason: 'a name maps to a 0xS, 0xR or 0xE address' })
  }
  if (inner.inner !== undefined) throw new CMeshError('CMESH_REGISTRAR_TARGET', { fqmn: inner.bare, reason: 'it nests another address' })
  if (inner.args !== undefined) throw new CMeshError('CMESH_REGISTRAR_TARGET', { fqmn: inner.bare, reason: 'arguments belong to the call, not to the name' })
  return inner.text
}

/** The record with the signature that came in the body, checked. The caller signs: for a transfer that is the former owner. */
function signed(record: SignableNameRecord, transaction: Transaction): SignableNameRecord & { signature: string } {
  const { signature, sequence } = jsonBody(transaction.body, '{"signature", "sequence"}')
  if (sequence !== record.sequence) {
    throw new CMeshError('CMESH_REGISTRAR_SEQUENCE', { name: record.name, current: record.sequence - 1, expected: typeof sequence === 'number' ? sequence - 1 : 'missing' })
  }
  if (typeof signature !== 'string' || !verifyNameRecord(record, signature, transaction.sub)) {
    throw new CMeshError('CMESH_REGISTRAR_SIGNATURE', { name: record.name })
  }
  return { ...record, signature }
}

function owned(system: Recorder, name: string, caller: string, timeMs: number, action: string): RegisteredName {
  const record = readName(system, name)
  // Past its grace a name is nobody's, but counts for who had it until that one lets go of it or another takes it.
  const owner = record === undefined ? undefined : heirOf(system, record.owner)
  const mayGo = action === 'release' && owner === caller
  if (record === undefined || (timeMs >= record.expiresAtMs + GRACE_MS && !mayGo)) throw new CMeshError('CMESH_REGISTRAR_NOT_FOUND', { name })
  if (owner !== caller) throw new CMeshError('CMESH_REGISTRAR_NOT_OWNER', { name, owner: owner as string, action })
  return record
}

/** Moves an owner's count of names; past the quota it throws `CMESH_REGISTRAR_QUOTA`. */
function own(system: Recorder, named: string, change: 1 | -1): void {
  const did = heirOf(system, named)
  const count = Number(readText(system, ownedKey(did)) ?? '0') + change
  if (change > 0 && count > LIMITS.namesPerOwner) throw new CMeshError('CMESH_REGISTRAR_QUOTA', { limit: LIMITS.namesPerOwner })
  if (count <= 0) system.delete(ownedKey(did))
  else system.set(ownedKey(did), Buffer.from(String(count)))
}

/** A name that looks like another is refused, whichever of the two came first. */
function refuseConfusable(system: Recorder, name: string): void {
  const skeleton = nameSkeleton(name)
  const existing = readText(system, skeletonKey(skeleton)) ?? (skeleton !== name && system.get(nameKey(skeleton)) !== undefined ? skeleton : undefined)
  if (existing !== undefined && existing !== name) throw new CMeshError('CMESH_NAME_CONFUSABLE', { name, existing })
  if (skeleton !== name) system.set(skeletonKey(skeleton), Buffer.from(name))
}

function keep(system: Recorder, record: RegisteredName): Execution {
  system.setJson(nameKey(record.name), record)
  return jsonExecution(record)
}

function forget(system: Recorder, record: RegisteredName): void {
  system.delete(nameKey(record.name))
  const skeleton = nameSkeleton(record.name)
  if (skeleton !== record.name) system.delete(skeletonKey(skeleton))
  own(system, record.owner, -1)
}

function taken(system: Recorder, record: RegisteredName): CMeshError {
  const expires = new Date(record.expiresAtMs).toISOString()
  return new CMeshError('CMESH_REGISTRAR_TAKEN', { name: record.name, owner: heirOf(system, record.owner), expires })
}

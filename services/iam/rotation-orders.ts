/**
 * The orders of rotation, run by the applier alone, deterministic:
 *
 *     prepare  {mesh, next}        by a DID: the digest of the one that may take its place. Once in its life
 *     rotate   {mesh, old, next}   by that one: from this place in the log on, it counts for `old`, and has committed to `next`
 *
 * Both need the signature of the sender's DID key over this one request, which stands in the log (`cmtp/identity/request-proof.ts`): a stolen
 * session commits to nothing, and no member can make up either. The old key signs no rotation: who has lost it must be able to rotate, and
 * what a thief has as well proves nothing.
 *
 * A DID that has committed takes no place any more: it is somebody's already. Its key stolen, it would be made the heir of a line of the thief's,
 * whose length and bans would be its own from then on.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { checkRequestProof } from '../../cmtp/identity/request-proof.ts'
import { commitmentTo } from '../../cmtp/identity/rotation.ts'
import { readMesh } from '../contracts/genesis.ts'
import { ownedKey, readText } from '../registrar/records.ts'
import type { Transaction } from '../state/batch.ts'
import { jsonExecution, type Execution, type TransactionContext } from '../state/transaction.ts'
import {
  capabilitiesKey, grantsKey, GRANTSEQ_KEY, readRecord, RECORD_LIMITS, takenBackKey, uncapKey, type CapabilitiesRecord, type GrantsRecord, type UncapRecord,
} from './records.ts'
import { readPrepare, readRotate } from './requests.ts'
import type { Rights } from './rights.ts'
import {
  heirKey, MAX_ROTATIONS, predecessorsOf, preparedKey, rotatedKey, rotatedToKey, type LineRecord, type Moved, type PreparedRecord, type RotatedRecord,
} from './rotations.ts'

type System = TransactionContext['system']

/** Throws `CMESH_IAM_ROTATION`, `CMESH_IAM_PROOF` or `CMESH_FRAME_MALFORMED`. */
export function prepare(transaction: Transaction, { system, seq }: TransactionContext, rights: Rights): Execution {
  const { sub } = transaction
  const { mesh, next } = readPrepare(transaction.body)
  checkRequestProof(transaction.proof, transaction)
  checkMesh(system, mesh)
  if (rights.isMember(system, sub)) throw ofMember()
  commit(system, sub, next, seq)
  return jsonExecution({ did: sub, next })
}

/** Throws as `prepare` does. Asked again after it was done, it answers the same and changes nothing. */
export function rotate(transaction: Transaction, context: TransactionContext, rights: Rights): Execution {
  const { sub } = transaction
  const { system, seq, timeMs } = context
  const { mesh, old, next } = readRotate(transaction.body)
  checkRequestProof(transaction.proof, transaction)
  checkMesh(system, mesh)
  const done = readRecord<RotatedRecord>(system, rotatedKey(old))
  if (done !== undefined) {
    if (done.to !== sub) throw refused('another DID took the place of the old one already')
    return jsonExecution({ old, did: sub, next: readRecord<PreparedRecord>(system, preparedKey(sub))?.next, seq: done.seq, moved: done.moved })
  }
  if (rights.isMember(system, old) || rights.isMember(system, sub)) throw ofMember()
  if (rights.isBanned(system, old)) throw refused('the old DID is banned')
  const committed = readRecord<PreparedRecord>(system, preparedKey(old))
  if (committed === undefined) throw refused('the old DID has committed to no other')
  if (committed.next !== commitmentTo(sub)) throw refused('the old DID has committed to another one')
  if (predecessorsOf(system, sub).length > 0) throw refused('the new DID took the place of another already')
  if (readRecord(system, preparedKey(sub)) !== undefined) {
    throw refused(
      'the new DID has committed to another itself, as an identity of its own, and takes no place any more: have what the old one may do granted to it anew',
    )
  }
  const line = [...predecessorsOf(system, old), old]
  if (line.length > MAX_ROTATIONS) throw refused(`an identity is rotated ${MAX_ROTATIONS} times at most`)
  commit(system, sub, next, seq)
  const moved = move(context, rights, old, sub)
  system.delete(preparedKey(old))
  system.setJson(rotatedKey(old), { to: sub, seq, timeMs, moved } satisfies RotatedRecord)
  system.setJson(rotatedToKey(sub), { from: line } satisfies LineRecord)
  system.set(heirKey(line[0] as string), Buffer.from(sub))
  joinTakenBack(system, sub, line[0] as string, seq)
  system.set(GRANTSEQ_KEY, Buffer.from(String(seq)))
  return jsonExecution({ old, did: sub, next, seq, moved })
}

/** A commitment is never replaced but by the rotation it is for: whoever stole the key of today would replace it first. */
function commit(system: System, did: string, next: string, seq: number): void {
  const standing = readRecord<PreparedRecord>(system, preparedKey(did))
  if (standing?.next === next) return
  if (standing !== undefined) throw refused('it has committed to another DID, and keeps to it until it is rotated')
  if (next === commitmentTo(did)) throw refused('a DID cannot take its own place')
  system.setJson(preparedKey(did), { next, seq } satisfies PreparedRecord)
}

/** What is kept under a DID: all else names one, and is compared by its heir. */
function move({ system, seq, timeMs }: TransactionContext, rights: Rights, old: string, to: string): Moved {
  const grants = rights.grants(system, old)
  const allGrants = [...grants, ...rights.grants(system, to)].filter(({ notAfter }) => notAfter === undefined || notAfter > timeMs)
  if (allGrants.length > RECORD_LIMITS.grants) throw refused(`the two have more than ${RECORD_LIMITS.grants} grants together`)
  const caps = rights.capabilities(system, old)
  const allCaps = [...caps, ...rights.capabilities(system, to)].filter(({ exp }) => exp * 1_000 > timeMs)
  const permissions = allCaps.reduce((sum, { perms }) => sum + perms.length, 0)
  if (allCaps.length > RECORD_LIMITS.capabilities || permissions > RECORD_LIMITS.capabilityPermissions) {
    throw refused(`the two have more than ${RECORD_LIMITS.capabilities} capabilities, or ${RECORD_LIMITS.capabilityPermissions} permissions by them, together`)
  }
  const names = countOf(system, old)
  system.delete(grantsKey(old))
  if (allGrants.length > 0) system.setJson(grantsKey(to), { seq, grants: allGrants } satisfies GrantsRecord)
  system.delete(capabilitiesKey(old))
  if (allCaps.length > 0) system.setJson(capabilitiesKey(to), { caps: allCaps } satisfies CapabilitiesRecord)
  system.delete(ownedKey(old))
  if (names > 0) system.set(ownedKey(to), Buffer.from(String(names + countOf(system, to))))
  return { grants: grants.length, capabilities: caps.length, names }
}

/** What the new DID took back before it took the place counts for the line as well. */
function joinTakenBack(system: System, did: string, line: string, seq: number): void {
  for (const jti of readRecord<UncapRecord>(system, uncapKey(did))?.jtis ?? []) {
    system.delete(takenBackKey(did, jti))
    system.set(takenBackKey(line, jti), Buffer.from(String(seq)))
  }
}

function countOf(system: System, did: string): number {
  return Number(readText(system, ownedKey(did)) ?? '0')
}

/** The signature says for which mesh it is, so that the log of one is no source of orders for another. */
function checkMesh(system: System, mesh: string): void {
  if (mesh !== readMesh(system)) throw refused('it is meant for another mesh')
}

function ofMember(): CMeshError {
  return refused('the DID of a node signs the log itself and cannot be rotated')
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_ROTATION', { reason })
}

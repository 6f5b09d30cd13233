/**
 * Transactions on rights. Deterministic, run by the applier alone:
 *
 *     grant         {did, permission, notBefore?, notAfter?, aal?, attribute?, seed?}
 *     ungrant       {did, id} | {did, permission} | {did, all: true}
 *     ban, unban    {did, reason?}; ban also {sid}: one session
 *     capability    {links}: presented by its holder
 *     prepare       {mesh, next}, rotate {mesh, old, next}: `rotation-orders.ts`
 *     uncapability  {jti}: a link that the sender issued, or that stands below one
 *     recheck       a member's: from the next block on every transaction is checked against the records
 *
 * An order that names a DID whose place another took counts for that one.
 * Nobody grants more than it holds by itself and under no condition, the operator included, who holds all but the services' own `exec`;
 * members do, because they carry the configuration into the log.
 */
import { checkChain } from '../../cmtp/identity/capability.ts'
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import {
  ACTIONS, actionName, actionOf, compilePermissions, covers, formatPermission, formatPermissions, isCovered, parsePermission,
  type CompiledPermissions, type Permission,
} from '../../cmtp/permission.ts'
import { readMesh } from '../contracts/genesis.ts'
import type { Transaction } from '../state/batch.ts'
import { jsonExecution, type Execution, type TransactionContext, type TransactionHandler } from '../state/transaction.ts'
import { conditionOf } from './conditions.ts'
import {
  bannedKey, capabilitiesKey, GRANTSEQ_KEY, grantsKey, RECHECK_KEY, RECORD_LIMITS, REVOKED_KEY, REVOKED_MS, seededKey, takenBackKey, uncapKey,
  type BanRecord, type CapabilitiesRecord, type Grant, type GrantsRecord, type HeldCapability, type UncapRecord,
} from './records.ts'
import { readBan, readCapability, readGrant, readUncap, readUngrant } from './requests.ts'
import { Rights } from './rights.ts'
import { prepare, rotate } from './rotation-orders.ts'
import { heirOf, isRotated, lineOf } from './rotations.ts'

type Context = TransactionContext

/** The orders of rights that a session may ask for. */
export const RIGHTS_ORDERS: ReadonlySet<string> = new Set(['grant', 'ungrant', 'ban', 'unban', 'capability', 'uncapability', 'prepare', 'rotate'])

export class IdentityTransactions implements TransactionHandler {
  readonly #rights = new Rights()
  readonly #compiled = new WeakMap<readonly Permission[], CompiledPermissions>()

  execute(transaction: Transaction, route: Route, context: Context): Execution {
    const [action = '', ...more] = route.segments
    if (more.length > 0 || route.inner !== undefined || route.args !== undefined) {
      throw new CMeshError('CMESH_FQMN_SYNTAX', { offset: route.bare.length, expected: 'the end of the address' })
    }
    this.#refuseUngranted(transaction, route, context)
    switch (action) {
      case 'grant': return this.#grant(transaction, context)
      case 'ungrant': return this.#ungrant(transaction, context)
      case 'ban': return this.#ban(transaction, context)
      case 'unban': return this.#unban(transaction, context)
      case 'capability': return this.#capability(transaction, context)
      case 'uncapability': return this.#uncapability(transaction, context)
      case 'prepare': return prepare(transaction, context, this.#rights)
      case 'rotate': return rotate(transaction, context, this.#rights)
      case 'recheck': return this.#recheck(transaction, context)
      default: throw new CMeshError('CMESH_ROUTER_ACTION', { service: 'iam', action, access: 'writing' })
    }
  }

  #grant({ id: tx, sub, body }: Transaction, { system, seq, timeMs }: Context): Execution {
    const { did: named, permission, seed, ...condition } = readGrant(body)
    const did = heirOf(system, named)
    const parsed = parsePermission(permission)
    if ((parsed.actions & ACTIONS.exec) !== 0) throw refused('exec is for services alone')
    const perm = formatPermission(parsed)
    const member = this.#rights.isMember(system, sub)
    if (seed !== undefined && !member) throw refused('only a member carries the configuration into the log')
    if (!member && !isCovered(parsed, this.#rights.grantable(system, sub))) throw refused(`${perm} is wider than what its granter may do itself, under no condition`)
    if (condition.notAfter !== undefined && condition.notAfter <= timeMs) throw refused('it would have ended already')
    const standing = this.#rights.grants(system, did).filter(grant => grant.notAfter === undefined || grant.notAfter > timeMs)
    const same = standing.find(grant => grant.id === seed || (grant.perm === perm && sameCondition(grant, condition)))
    if (same !== undefined) {
      // It stands already: the configuration's is dealt with from now on, and whoever takes it back does so for good.
      if (seed !== undefined && same.id !== seed) system.set(seededKey(seed), Buffer.from(String(seq)))
      return jsonExecution({ did, ...same })
    }
    if (seed !== undefined && system.get(seededKey(seed)) !== undefined) throw refused('it was taken back; grant it anew')
    if (standing.length >= RECORD_LIMITS.grants) throw refused(`a DID has at most ${RECORD_LIMITS.grants} grants`)
    const grant: Grant = { id: seed ?? tx, perm, by: sub, seq, timeMs, ...condition }
    changed(system, seq)
    system.setJson(grantsKey(did), { seq, grants: [...standing, grant] } satisfies GrantsRecord)
    return jsonExecution({ did, ...grant })
  }

  #ungrant({ sub, body }: Transaction, { system, seq }: Context): Execution {
    const { did: named, ...which } = readUngrant(body)
    const did = heirOf(system, named)
    const all = this.#rights.grants(system, did)
    const perm = which.permission === undefined ? undefined : formatPermission(parsePermission(which.permission))
    const meant = all.filter(grant => which.all === true || grant.id === which.id || grant.perm === perm)
    const out = this.#isFounder(system, sub) ? meant : meant.filter(grant => heirOf(system, grant.by) === sub)
    if (out.length === 0) throw refused(meant.length === 0 ? 'there is no such grant' : 'somebody else granted it')
    // What the configuration granted would be back with the next start of its node.
    for (const { id, by } of out) if (this.#rights.isMember(system, by)) system.set(seededKey(id), Buffer.from(String(seq)))
    const left = all.filter(grant => !out.includes(grant))
    if (left.length === 0) system.delete(grantsKey(did))
    else system.setJson(grantsKey(did), { seq, grants: left } satisfies GrantsRecord)
    changed(system, seq)
    return jsonExecution({ did, revoked: out.map(({ id, perm: text }) => ({ id, perm: text })) })
  }

  #ban({ sub, body }: Transaction, { system, seq, timeMs }: Context): Execution {
    const { did: named, sid, reason } = readBan(body)
    changed(system, seq)
    if (sid !== undefined) {
      const sessions = Object.entries((system.getJson(REVOKED_KEY) ?? {}) as Record<string, number>).filter(([, at]) => at + REVOKED_MS > timeMs)
      if (sessions.length >= RECORD_LIMITS.sessions) throw refused(`at most ${RECORD_LIMITS.sessions} sessions can be ended by order within an hour`)
      system.setJson(REVOKED_KEY, Object.fromEntries([...sessions, [sid, timeMs]]))
      return jsonExecution({ sid })
    }
    const did = heirOf(system, named as string)
    if (this.#isFounder(system, did)) throw refused('the operator and the members of the mesh cannot be banned')
    system.setJson(bannedKey(did), { seq, timeMs, by: sub, reason } satisfies BanRecord)
    return jsonExecution({ did, reason })
  }

  #unban({ body }: Transaction, { system, seq }: Context): Execution {
    const { did: named } = readBan(body)
    const did = named === undefined ? undefined : heirOf(system, named)
    if (did === undefined || !this.#rights.isBanned(system, did)) throw refused('it is not banned')
    system.delete(bannedKey(did))
    changed(system, seq)
    return jsonExecution({ did })
  }

  #capability({ sub, body }: Transaction, { system, seq, timeMs }: Context): Execution {
    const texts = readCapability(body)
    const mesh = readMesh(system) ?? ''
    const { root, holder, permissions, exp, links } = checkChain(texts, { mesh, nowS: Math.floor(timeMs / 1_000) })
    if (heirOf(system, holder) !== sub) throw unfit('it was handed to somebody else')
    // Whoever stole a key that was rotated since signs with it still.
    if (links.some(({ iss }) => isRotated(system, iss))) throw unfit('a link of it is signed by a key that another took the place of since')
    const cap: HeldCapability = {
      root, perms: permissions.map(formatPermission), exp, links: links.map(({ jti, iss }) => ({ jti, by: iss })), importedSeq: seq,
    }
    if (!this.#rights.look(system, timeMs).isLive(cap)) throw unfit('a link of it was taken back, or its issuer is banned')
    const jti = links.at(-1)?.jti as string
    const standing = this.#rights.capabilities(system, sub).filter(held => held.exp * 1_000 > timeMs)
    // Presented again it changes nothing, and costs neither log nor memory.
    if (standing.some(held => JSON.stringify({ ...held, importedSeq: seq }) === JSON.stringify(cap))) {
      return jsonExecution({ root, holder, perms: formatPermissions(permissions), exp, jti })
    }
    const others = standing.filter(held => held.links.at(-1)?.jti !== jti)
    if (others.length >= RECORD_LIMITS.capabilities) throw unfit(`a DID holds at most ${RECORD_LIMITS.capabilities}`)
    const all = others.reduce((sum, { perms }) => sum + perms.length, cap.perms.length)
    if (all > RECORD_LIMITS.capabilityPermissions) throw unfit(`the capabilities of a DID have at most ${RECORD_LIMITS.capabilityPermissions} permissions together`)
    system.setJson(capabilitiesKey(sub), { caps: [...others, cap] } satisfies CapabilitiesRecord)
    changed(system, seq)
    return jsonExecution({ root, holder, perms: formatPermissions(permissions), exp, jti })
  }

  #uncapability({ sub, body }: Transaction, { system, seq }: Context): Execution {
    const { jti } = readUncap(body)
    const { jtis = [] } = (system.getJson(uncapKey(sub)) ?? {}) as Partial<UncapRecord>
    if (!jtis.includes(jti)) {
      if (jtis.length >= RECORD_LIMITS.uncaps) throw unfit(`a DID takes back at most ${RECORD_LIMITS.uncaps} links`)
      system.setJson(uncapKey(sub), { jtis: [...jtis, jti] } satisfies UncapRecord)
      system.set(takenBackKey(lineOf(system, sub), jti), Buffer.from(String(seq)))
      changed(system, seq)
    }
    return jsonExecution({ jti })
  }

  #recheck({ sub }: Transaction, { system, seq }: Context): Execution {
    if (!this.#rights.isMember(system, sub)) throw refused('only a member of the mesh may order it')
    if (system.get(RECHECK_KEY) === undefined) system.set(RECHECK_KEY, Buffer.from(String(seq + 1)))
    return jsonExecution({ from: Number(Buffer.from(system.get(RECHECK_KEY) as Uint8Array).toString('latin1')) })
  }

  /** The same question as the guard's, asked of the records: whoever proposed it is not to be believed. */
  #refuseUngranted({ sub }: Transaction, route: Route, { system, timeMs }: Context): void {
    if (this.#isFounder(system, sub) || covers(this.#compile(this.#rights.of(system, sub, timeMs, 'log')), actionOf(route), route)) return
    throw new CMeshError('CMESH_IAM_DENIED', { permission: actionName(actionOf(route)), fqmn: route.bare })
  }

  #compile(permissions: readonly Permission[]): CompiledPermissions {
    let compiled = this.#compiled.get(permissions)
    if (compiled === undefined) this.#compiled.set(permissions, compiled = compilePermissions(permissions))
    return compiled
  }

  #isFounder(system: Context['system'], did: string): boolean {
    return this.#rights.isOperator(system, did) || this.#rights.isMember(system, did)
  }
}

function changed(system: Context['system'], seq: number): void {
  system.set(GRANTSEQ_KEY, Buffer.from(String(seq)))
}

function sameCondition(a: Grant, b: Partial<Grant>): boolean {
  return JSON.stringify(conditionOf(a)) === JSON.stringify(conditionOf(b))
}

function refused(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_GRANT', { reason })
}

function unfit(reason: string): CMeshError {
  return new CMeshError('CMESH_IAM_CAPABILITY', { reason })
}

/**
 * The members of a mesh: the nodes whose batches are applied, whose claims count, and who may order in the mesh's own name. Genesis names
 * the first; others join with a certificate that the mesh's key signed, and leave at the operator's word. Records of the system space, so
 * that every replica and every proof has the same members at the same sequence:
 *
 *     members      {"seq", "dids"}   who they are since block `seq`, once somebody joined or left; sorted
 *     joined/<did> ms                when the certificate was issued with which it joined, by the clock of whoever issued it
 *     left/<did>   ms                log time when a member left, or when its certificate was issued where that is later: none that was issued
 *                                    until then counts any more
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Route } from '../../cmtp/fqmn.ts'
import { checkCertificate } from '../../cmtp/identity/certificate.ts'
import type { Batch, Transaction } from '../state/batch.ts'
import type { Block } from '../state/provider.ts'
import { jsonExecution, SYSTEM_SPACE, type Execution, type TransactionContext } from '../state/transaction.ts'
import { parseGenesis, readGenesis, readMesh, readOperator } from './genesis.ts'
import { systemArguments } from './arguments.ts'

interface Records { get(key: string): Uint8Array | undefined }

interface MembersRecord { readonly seq: number, readonly dids: readonly string[] }

const MEMBERS_KEY = 'members'
export const GENESIS_FQMN = `0xSW:${SYSTEM_SPACE}:genesis`
/** Where a node asks to be one; the body is its certificate as JSON. */
export const JOIN_FQMN = `0xSW:${SYSTEM_SPACE}:join`
/** Most members of a mesh: each of them hears the claims of all. */
const MOST = 64

const leftKey = (did: string): string => `left/${did}`
const joinedKey = (did: string): string => `joined/${did}`

function readMs(system: Records, key: string): number | undefined {
  const bytes = system.get(key)
  return bytes === undefined ? undefined : Number(Buffer.from(bytes).toString('latin1'))
}

/** Parsed records: whoever asks does so for every batch and every claim. */
const parsed = new WeakMap<Uint8Array, readonly string[]>()

/** DIDs of the members as of the last applied block; empty before genesis. */
export function readMembers(system: Records): readonly string[] {
  const bytes = system.get(MEMBERS_KEY)
  if (bytes === undefined) return readGenesis(system)?.members ?? []
  let dids = parsed.get(bytes)
  if (dids === undefined) parsed.set(bytes, dids = (JSON.parse(Buffer.from(bytes).toString('utf8')) as MembersRecord).dids)
  return dids
}

export function isMember(system: Records, did: string): boolean {
  return readMembers(system).includes(did)
}

/** Whether the block changed who they are. */
export function changesMembers({ transactions }: Block): boolean {
  return transactions.some(({ writes }) => writes.some(({ space, key }) => space === SYSTEM_SPACE && key === MEMBERS_KEY))
}

/** A batch, whenever it was proposed. */
type Proposal = Pick<Batch, 'member' | 'transactions'>

/** Whether a batch by that signer counts: a member's, one that is nothing but the wish to become one, and the one that begins a mesh. */
export function mayOrder(system: Records, batch: Proposal): boolean {
  const members = readMembers(system)
  return members.length === 0 ? isBeginning(batch) : members.includes(batch.member) || isJoin(batch)
}

/** Whether a batch is nothing but its signer's wish to be a member. Its certificate decides, when it is executed. */
export function isJoin({ member, transactions: [only, ...more] }: Proposal): boolean {
  return only !== undefined && more.length === 0 && only.sub === member && only.fqmn === JOIN_FQMN
}

/** Whoever begins a mesh is its first member, by its own word where its key is the mesh's, else by a certificate. */
function isBeginning({ member, transactions: [only, ...more] }: Proposal): boolean {
  if (only === undefined || more.length > 0 || only.fqmn !== GENESIS_FQMN) return false
  try {
    const { members, mesh = member, certificate } = parseGenesis(only.body)
    if (members[0] !== member) return false
    if (mesh === member) return true
    const shown = checkCertificate(certificate)
    return shown.mesh === mesh && shown.node === member
  } catch (error) {
    if (error instanceof CMeshError) return false
    throw error
  }
}

/** Makes the sender a member. Throws `CMESH_IAM_CERTIFICATE`, or `CMESH_STATE_MEMBERS` for one too many. */
export function join({ sub, body }: Transaction, { system, seq }: TransactionContext): Execution {
  const { mesh, node, issued } = checkCertificate(readJson(body))
  const refused = (reason: string): CMeshError => new CMeshError('CMESH_IAM_CERTIFICATE', { reason })
  if (mesh !== readMesh(system)) throw refused('it is of another mesh')
  if (node !== sub) throw refused('it was issued to another node')
  if (issued <= (readMs(system, leftKey(sub)) ?? -1)) throw refused('the node left the mesh after it was issued')
  const before = readMembers(system)
  if (before.includes(sub)) return jsonExecution({ members: before })
  if (before.length >= MOST) throw new CMeshError('CMESH_STATE_MEMBERS', { reason: `a mesh has at most ${MOST} of them` })
  system.set(joinedKey(sub), Buffer.from(String(issued)))
  return write({ system, seq }, [...before, sub])
}

/** Takes `["<did>"]` out of the members; the operator's. Throws `CMESH_IAM_DENIED`, or `CMESH_STATE_MEMBERS`. */
export function leave({ sub }: Transaction, route: Route, { system, seq, timeMs }: TransactionContext): Execution {
  if (readOperator(system) !== sub) throw new CMeshError('CMESH_IAM_DENIED', { permission: 'write', fqmn: route.bare })
  const [did] = systemArguments(route, 'leave takes ["<DID of a member>"]', value => typeof value === 'string') as [string]
  const before = readMembers(system)
  if (!before.includes(did)) throw new CMeshError('CMESH_STATE_MEMBERS', { reason: `${did} is none of them` })
  if (before.length === 1) throw new CMeshError('CMESH_STATE_MEMBERS', { reason: 'the last of them cannot leave' })
  // The clock of who issues certificates may be ahead of the log's time: what the node joined with is over all the same.
  system.set(leftKey(did), Buffer.from(String(Math.max(timeMs, readMs(system, joinedKey(did)) ?? 0))))
  system.delete(joinedKey(did))
  return write({ system, seq }, before.filter(member => member !== did))
}

function write({ system, seq }: Pick<TransactionContext, 'system' | 'seq'>, members: readonly string[]): Execution {
  const dids = [...members].sort()
  system.setJson(MEMBERS_KEY, { seq, dids } satisfies MembersRecord)
  return jsonExecution({ members: dids })
}

function readJson(body: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(body).toString('utf8')) as unknown
  } catch {
    return undefined
  }
}

/**
 * Reads of state as it is kept, by key, where a view of a contract shows what its code makes of it:
 *
 *     0xS:0x000:get:["<contract>","<key, hex>"]                      the value now
 *     0xS:0x000:proof:["<contract>","<key, hex>"]                    the same at the newest checkpoint, with a proof
 *     0xS:0x000:at:["<contract>","<key, hex>",seq,from?]             the value after block `seq`
 *     0xS:0x000:diff:[from,to,"<contract>" or null,seq?,skip?]       what changed after block `from` up to block `to`
 *
 * A contract answers whom it wants and its keys hide nothing, so they take a right of their own: `read 0xSW:<contract>:~state`, which no
 * right to its views holds. Its deployer has it, and anybody has it for those records of the mesh that others answer to anybody.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { isContractAddress, parseFqmn, type Route } from '../../cmtp/fqmn.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import { ACTIONS } from '../../cmtp/permission.ts'
import { formatStateProof, statementBytes } from '../../cmtp/state-proof.ts'
import { jsonReply, jsonTextReply, type Call, type Reply } from '../call.ts'
import type { Clock } from '../clock.ts'
import { systemArguments } from '../contracts/arguments.ts'
import { contractKey } from '../contracts/records.ts'
import type { AuthContext, Guard } from '../iam/guard.ts'
import { capabilitiesKey, grantsKey, readRecord } from '../iam/records.ts'
import { heirOf } from '../iam/rotations.ts'
import type { Checkpoints } from './checkpoints.ts'
import { History } from './history.ts'
import type { Space, StateStore } from './provider.ts'
import { SYSTEM_SPACE } from './transaction.ts'

/** Who signs proofs here. */
export interface Attester {
  /** DID of the mesh, and of this node. */
  readonly mesh: string
  readonly node: string
  readonly sign: (bytes: Uint8Array) => Uint8Array
  /** Where the node's key is not the mesh's. */
  readonly certificate?: Certificate | undefined
}

export interface StateReadsParts {
  readonly store: StateStore
  readonly checkpoints: Pick<Checkpoints, 'show'>
  readonly attester: Attester
  readonly guard: Pick<Guard, 'authorise'>
  /** Throws when the caller may no longer read, or nobody may. */
  readonly confirm: (auth: AuthContext) => void
  readonly clock: Pick<Clock, 'nowMs'>
}

export const STATE_READS: readonly string[] = ['get', 'proof', 'at', 'diff']

/** Records of the mesh that the Registrar, the contracts' own reads or every reply tell anybody. */
const PUBLIC = ['name/', 'skeleton/', 'contract/', 'version/', 'code/'] as const
const PUBLIC_KEYS: ReadonlySet<string> = new Set(['genesis', 'meter', 'checkpoint', 'recheck'])
/** Longest key, in bytes: longer than any there is. */
const KEY_BYTES = 1_024

export class StateReads {
  readonly #parts: StateReadsParts
  readonly #history: History

  constructor(parts: StateReadsParts) {
    this.#parts = parts
    this.#history = new History(parts.store)
  }

  /** The caller's context was confirmed, and that it may call the address. */
  read(name: string, call: Call, auth: AuthContext): Reply | Promise<Reply> {
    switch (name) {
      case 'get': return this.#get(call, auth)
      case 'proof': return this.#proof(call, auth)
      case 'at': return this.#at(call, auth)
      default: return this.#diff(call, auth)
    }
  }

  #get({ route }: Call, auth: AuthContext): Reply {
    const { contract, key } = valueAsked(route)
    this.#authorise(auth, contract, key)
    return valueReply(this.#parts.store, contract, key)
  }

  async #proof({ route }: Call, auth: AuthContext): Promise<Reply> {
    const [contract, hex] = systemArguments(route, 'proof takes ["<contract>","<key, hex digits>"]', isContract, isKey) as [string, string]
    const key = keyOf(hex)
    this.#authorise(auth, contract, key)
    const { store, checkpoints, attester, clock, confirm } = this.#parts
    const { checkpoint: { root: _root, ...block }, value, page, path } = checkpoints.show(contract, key)
    const { mesh, node, certificate } = attester
    const head = store.head.seq
    const { epoch, seq, chain, ...rest } = block
    // What is signed is on the disk, as far as this node's durability goes.
    await store.flush()
    confirm(auth)
    const statement = { mesh, node, epoch, seq, chain, head, atMs: Math.floor(clock.nowMs()) }
    const signature = Buffer.from(attester.sign(statementBytes(statement))).toString('base64url')
    const signed = { node, head, atMs: statement.atMs, signature, ...(certificate !== undefined && { certificate }) }
    return jsonTextReply(Buffer.from(formatStateProof({ mesh, contract, key, value, page, path, block: { epoch, seq, ...rest }, signatures: [signed] })))
  }

  async #at({ route }: Call, auth: AuthContext): Promise<Reply> {
    const usage = 'at takes ["<contract>","<key, hex digits>",sequence,from?]'
    const [contract, hex, seq, from] = systemArguments(route, usage, isContract, isKey, isSequence, isMaybe(isSequence)) as [string, string, number, number?]
    const key = keyOf(hex)
    this.#authorise(auth, contract, key)
    spaceOf(this.#parts.store, contract)
    const then = await this.#history.at(contract, key, seq, from)
    this.#parts.confirm(auth)
    return jsonReply({ contract, key: base64url(Buffer.from(key, 'latin1')), at: seq, ...then })
  }

  async #diff({ route }: Call, auth: AuthContext): Promise<Reply> {
    const usage = 'diff takes [from,to,"<contract>" or null,sequence?,skip?]'
    const [from, to, contract, seq, skip = 0] = systemArguments(
      route, usage, isSequence, isSequence, value => value === null || isContract(value), isMaybe(isSequence), isMaybe(isSequence),
    ) as [number, number, string | null, number?, number?]
    if (contract !== null) {
      this.#authorise(auth, contract, undefined)
      spaceOf(this.#parts.store, contract)
    }
    const seen = new Map<string, boolean>()
    const sees = (space: string): boolean => {
      let may = contract === null ? seen.get(space) : space === contract
      if (may === undefined) seen.set(space, may = this.#mayRead(auth, space))
      return may
    }
    const page = await this.#history.changes({ from, to }, sees, seq === undefined ? undefined : { seq, skip })
    this.#parts.confirm(auth)
    return jsonReply({ from, to, ...page, hidden: contract === null ? page.hidden : 0 })
  }

  #mayRead(auth: AuthContext, contract: string): boolean {
    try {
      this.#authorise(auth, contract, undefined)
      return true
    } catch (error) {
      if (error instanceof CMeshError && error.code === 'CMESH_IAM_DENIED') return false
      throw error
    }
  }

  /** Throws `CMESH_IAM_DENIED` unless the caller may read this key, or all keys where none is given. */
  #authorise(auth: AuthContext, contract: string, key: string | undefined): void {
    if (contract === SYSTEM_SPACE) {
      if (key !== undefined && (isPublic(key) || key === grantsKey(auth.sub) || key === capabilitiesKey(auth.sub))) return
    } else {
      const system = this.#parts.store.space(SYSTEM_SPACE)
      const deployer = readRecord<{ readonly deployer?: string }>(system, contractKey(contract))?.deployer
      if (deployer !== undefined && heirOf(system, deployer) === auth.sub) return
    }
    this.#parts.guard.authorise(auth, parseFqmn(`0xSW:${contract}:~state`), ACTIONS.read)
  }
}

/** What `0xS:0x000:get` asks for. Throws where its arguments are others. */
export function valueAsked(route: Route): { readonly contract: string, readonly key: string } {
  const [contract, hex] = systemArguments(route, 'get takes ["<contract>","<key, hex digits>"]', isContract, isKey) as [string, string]
  return { contract, key: keyOf(hex) }
}

/** The answer to it, for whoever may have it. */
export function valueReply(store: Pick<StateStore, 'head' | 'space'>, contract: string, key: string): Reply {
  const { seq, timeMs } = store.head
  return jsonReply({ contract, key: base64url(Buffer.from(key, 'latin1')), value: base64url(spaceOf(store, contract).get(key)), seq, timeMs })
}

/** Throws `CMESH_STATE_NO_CONTRACT` where nothing was ever deployed. */
function spaceOf(store: Pick<StateStore, 'space'>, contract: string): Pick<Space, 'get'> {
  if (contract !== SYSTEM_SPACE && !store.space(SYSTEM_SPACE).has(contractKey(contract))) throw new CMeshError('CMESH_STATE_NO_CONTRACT', { contract })
  return store.space(contract)
}

function isPublic(key: string): boolean {
  return PUBLIC_KEYS.has(key) || PUBLIC.some(prefix => key.startsWith(prefix))
}

function isContract(value: unknown): boolean {
  return typeof value === 'string' && isContractAddress(value)
}

function isKey(value: unknown): boolean {
  return typeof value === 'string' && value.length <= 2 * KEY_BYTES && /^(?:[0-9a-f]{2})*$/.test(value)
}

function isSequence(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0
}

function isMaybe(check: (value: unknown) => boolean): (value: unknown) => boolean {
  return value => value === undefined || check(value)
}

function keyOf(hex: string): string {
  return Buffer.from(hex, 'hex').toString('latin1')
}

function base64url(bytes: Uint8Array | undefined): string | null {
  return bytes === undefined ? null : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64url')
}

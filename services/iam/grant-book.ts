/**
 * The book of grants as this node reads it: what a DID may do now, why, and when that changes by itself. It owns nothing but what it
 * remembers of the records of the system space; those are changed by transactions alone (`transactions.ts`). Before state is open it
 * knows the configuration only: the operator, this node, and that everybody else is a newcomer.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Permission } from '../../cmtp/permission.ts'
import type { Block } from '../state/provider.ts'
import { SYSTEM_SPACE } from '../state/transaction.ts'
import type { Facts } from './provider.ts'
import { bannedDid, GRANTSEQ_KEY, isRightsKey, readRecord, readSeq, REVOKED_KEY, type Grant, type HeldCapability, type Records } from './records.ts'
import { Rights } from './rights.ts'
import { heirOf, rotatedDid } from './rotations.ts'

export interface GrantBookParts {
  /** The system space. Asked anew each time, so that it may be opened later. */
  readonly records: () => Records
  /** This node's DID. */
  readonly node: string
  /** The operator's DID as configured; genesis' own takes its place. */
  readonly operator: string
  /** ms since 1970. Default `Date.now`. */
  readonly now?: () => number
}

/** What a block changed, for those who keep something of it. */
export interface RightsChange {
  /** DIDs that were banned or rotated: their sessions are over. */
  readonly banned: readonly string[]
  /** Whether sessions were ended by order. */
  readonly sessions: boolean
}

export class GrantBook {
  readonly rights: Rights
  readonly #records: () => Records
  readonly #now: () => number

  constructor({ records, node, operator, now = Date.now }: GrantBookParts) {
    this.rights = new Rights({ node, operator })
    this.#records = records
    this.#now = now
  }

  get records(): Records {
    return this.#records()
  }

  get operator(): string {
    return this.rights.operator(this.records) as string
  }

  /** Sequence of the last block that changed what anybody may do; 0 where none did. */
  get seq(): number {
    return readSeq(this.records, GRANTSEQ_KEY)
  }

  /** What the DID may do right now. Without facts of a session no condition that asks for any counts as met. */
  readonly grantsOf = (did: string, facts?: Facts): readonly Permission[] => (
    this.rights.of(this.records, did, facts?.nowMs ?? this.#now(), facts ?? 'none')
  )

  /** All that a session of the DID may come to do: what a token may carry, since the guard narrows it at each use. */
  readonly possible = (did: string): readonly Permission[] => this.rights.of(this.records, did, this.#now(), 'ever')

  /** When time alone changes what `grantsOf` answers, ms since 1970; `Infinity` for never. */
  readonly changesAt = (did: string, nowMs: number): number => this.rights.changesAt(this.records, did, nowMs)

  /** Of a DID that was rotated, its heir's: there they count, and there the configuration finds its own. */
  grants(did: string): readonly Grant[] {
    return this.rights.grants(this.records, heirOf(this.records, did))
  }

  /** Those that were imported, each with whether it still counts. */
  capabilities(did: string): readonly (HeldCapability & { readonly live: boolean })[] {
    const look = this.rights.look(this.records, this.#now())
    return this.rights.capabilities(this.records, did).map(cap => ({ ...cap, live: look.isLive(cap) }))
  }

  isBanned(did: string): boolean {
    return this.rights.isBanned(this.records, did)
  }

  /** What a banned DID is told that asks for a session; `undefined` for any other. */
  readonly barred = (did: string): CMeshError | undefined => (
    this.isBanned(did) ? new CMeshError('CMESH_IAM_BANNED', { did, operator: this.operator }) : undefined
  )

  /** Sessions that were ended by order, as far as they are remembered. */
  get revokedSessions(): readonly string[] {
    return Object.keys(readRecord<Record<string, number>>(this.records, REVOKED_KEY) ?? {})
  }

  /** What a block changed of all this; `undefined` when it touched none of it. */
  static changeOf(block: Block): RightsChange | undefined {
    let touched = false
    let sessions = false
    const banned: string[] = []
    for (const { writes } of block.transactions) {
      for (const { space, key, value } of writes) {
        if (space !== SYSTEM_SPACE || !isRightsKey(key)) continue
        touched = true
        sessions ||= key === REVOKED_KEY
        const did = value === undefined ? undefined : bannedDid(key) ?? rotatedDid(key)
        if (did !== undefined) banned.push(did)
      }
    }
    return touched ? { banned, sessions } : undefined
  }
}

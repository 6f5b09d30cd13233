/**
 * Audits the blocks of a log: what `LogCheck` holds each to, and that whoever is behind its batch was a member of the mesh and signed it.
 * It reads and writes nothing.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { LogCheck, signatureCheck } from '../../providers/registry.ts'
import { readMesh } from '../../services/contracts/genesis.ts'
import { isJoin, readMembers } from '../../services/contracts/members.ts'
import { decodeBatch, verifyBatch } from '../../services/state/batch.ts'
import type { Block, StateHead } from '../../services/state/provider.ts'
import { SYSTEM_SPACE } from '../../services/state/transaction.ts'

/** Where a log stands, and whose it is; what every command on a log says. */
export interface LogFacts {
  /** DID of the mesh. */
  readonly mesh: string
  /** How many members it has. */
  readonly members: number
  readonly blocks: number
  readonly transactions: number
  readonly epoch: number
  readonly seq: number
  readonly timeMs: number
  /** Hex. */
  readonly chain: string
  readonly root: string
}

export class LogAudit {
  readonly #path: string
  readonly #check: LogCheck
  readonly #signed = signatureCheck()
  #mesh: string | undefined
  #members: readonly string[] = []
  #transactions = 0

  constructor(path: string) {
    this.#path = path
    this.#check = new LogCheck(path)
  }

  get head(): StateHead {
    return this.#check.head
  }

  /** Throws `CMESH_STATE_CORRUPT` with path and block. */
  take(bytes: Uint8Array): Block {
    const index = this.#check.blocks
    const before = this.#members
    const block = this.#check.take(bytes)
    const system = this.#check.space(SYSTEM_SPACE)
    this.#members = readMembers(system)
    this.#mesh ??= readMesh(system)
    this.#transactions += block.transactions.length
    // The batch of the beginning makes its own member. One that no member signed changes nothing but takes its place.
    if (block.transactions.length > 0 && !this.#isSigned(block, [...before, ...this.#members])) {
      throw new CMeshError('CMESH_STATE_CORRUPT', { path: this.#path, block: index, reason: 'no member of the mesh signed its batch' })
    }
    return block
  }

  facts(): LogFacts {
    const { epoch, seq, timeMs, chain } = this.#check.head
    return {
      mesh: this.#mesh ?? '', members: this.#members.length, blocks: this.#check.blocks, transactions: this.#transactions, epoch, seq, timeMs,
      chain: Buffer.from(chain).toString('hex'), root: Buffer.from(this.#check.root).toString('hex'),
    }
  }

  #isSigned(block: Block, members: readonly string[]): boolean {
    try {
      const batch = decodeBatch(block.message)
      return verifyBatch(block.message, batch, (did, bytes, signature) => {
        // Whoever asks to become a member is none yet.
        return (members.includes(did) || isJoin(batch)) && this.#signed(did, bytes, signature)
      })
    } catch (error) {
      if (error instanceof CMeshError) return false
      throw error
    }
  }
}

/**
 * Entries that are passed at the operator's word: where an entry halts the applier on every node, and always would. A skip counts when the one
 * who operates the mesh as of that place in the log signed it, for that entry alone; the block then holds the entry and nothing that came of
 * it, so that its bytes follow from the order on every node that has the skip. A node without it halts, so that claims over what follows are
 * those of members who have it: without a quorum of them nothing behind is acknowledged.
 */
import { hash } from 'node:crypto'
import { CMeshError } from '../../cmtp/errors.ts'
import { checkSkip, type Halt, type Skip } from '../../cmtp/skip.ts'
import type { LogEntry } from '../consensus/provider.ts'
import { readMesh, readOperator } from '../contracts/genesis.ts'
import type { Log } from '../log.ts'
import type { Space, StateStore } from './provider.ts'

/** The skips that were given to a node, and the place where it halted. */
export interface KeptSkips {
  readonly all: readonly Skip[]
  /** Notes durably where the node halted, before it stops. Throws what keeps it from doing so. */
  halted(halt: Halt): void
  /** The log goes up to there: a halt that was noted before is none any more. Never throws. */
  passed(seq: number): void
}

export interface SkipsParts {
  readonly kept: KeptSkips
  readonly system: Pick<Space, 'get'>
  readonly log: Log
}

export class Skips {
  readonly #parts: SkipsParts

  constructor(parts: SkipsParts) {
    this.#parts = parts
  }

  /** Whether the entry is to be passed. Asked before anything of it is executed. */
  readonly passes = (entry: LogEntry): boolean => {
    const { kept, log } = this.#parts
    const skip = kept.all.find(({ seq, epoch }) => seq === entry.seq && epoch === entry.epoch)
    if (skip === undefined) return false
    try {
      this.#check(skip, entry)
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'a skip')
      log.error({ err: error, code: error.code, seq: entry.seq }, 'a skip does not count; the entry is applied like any other')
      return false
    }
    log.warn({ seq: entry.seq, reason: skip.reason, operator: skip.operator }, 'an entry is passed at the operator\'s word; nothing comes of it')
    return true
  }

  /** The error to stop with where an entry cannot be applied; noted for the operator, who may let it pass. */
  halted(entry: LogEntry, cause: CMeshError): CMeshError {
    const { kept, system, log } = this.#parts
    const { epoch, seq } = entry
    const [mesh, operator, digest] = [readMesh(system), readOperator(system), sha256(entry.data)]
    // Before there is a mesh there is nobody whose word would count.
    if (mesh === undefined || operator === undefined) return cause
    const error = new CMeshError('CMESH_STATE_STUCK', { seq, epoch, hash: digest, reason: `${cause.message} (${cause.code})` }, { cause })
    try {
      kept.halted({ v: 1, mesh, operator, epoch, seq, hash: digest, code: cause.code, reason: cause.message })
    } catch (thrown) {
      log.error({ err: thrown }, 'where the node halted could not be noted')
    }
    return error
  }

  /** Those of entries that the log has passed, where it has no record of them yet. What was noted of a halt there is forgotten. */
  async unrecorded(store: Pick<StateStore, 'head' | 'readBack'>): Promise<readonly Skip[]> {
    const { kept, system } = this.#parts
    kept.passed(store.head.seq)
    const found: Skip[] = []
    for (const skip of kept.all) {
      if (skip.seq > store.head.seq || system.get(skipKey(skip.seq)) !== undefined) continue
      await store.readBack?.(skip.seq, skip.seq, ({ epoch, message, transactions }) => {
        if (epoch === skip.epoch && transactions.length === 0 && sha256(message) === skip.hash) found.push(skip)
      })
    }
    return found
  }

  #check(value: Skip, { data }: LogEntry): void {
    const { mesh, operator, hash: named } = checkSkip(value)
    const { system } = this.#parts
    const refused = (reason: string): CMeshError => new CMeshError('CMESH_STATE_SKIP', { reason })
    if (mesh !== readMesh(system)) throw refused(`it is for the mesh ${mesh}`)
    if (operator !== readOperator(system)) throw refused(`${operator} does not operate the mesh`)
    if (named !== sha256(data)) throw refused('the entry has other bytes than it names')
  }
}

/** Where the record of a skip stands in the system space: the skip itself. */
export function skipKey(seq: number): string {
  return `skip/${seq}`
}

function sha256(bytes: Uint8Array): string {
  return hash('sha256', bytes, 'hex')
}

/**
 * Evidence for the receipt of a write: what this node's log and the members say came of it. Nothing is claimed that this node's own log does not
 * hold just as the layer says.
 */
import { readUint64 } from '../../cmtp/frame.ts'
import { SALT_AT, SALT_BYTES } from '../../cmtp/layer.ts'
import { MESSAGE_ID_BYTES } from '../../cmtp/message-id.ts'
import type { OutcomeEvidence } from '../../cmtp/receipt/outcome-evidence.ts'
import { outcomeLeaf } from '../../cmtp/receipt/outcome.ts'
import type { LoggedOutcome, LoggedOutcomes } from '../state/logged-outcomes.ts'
import type { OutcomesAsker } from './claims/asker.ts'
import { saltedOutcome } from './claims/leaf.ts'

export interface EvidenceMakerParts {
  readonly outcomes: Pick<LoggedOutcomes, 'remembered' | 'find'>
  readonly asker: Pick<OutcomesAsker, 'gather' | 'bytes'>
}

const FLAGS_AT = 2
const STATUS_AT = 4
const GAS_AT = 18
const HAS_BEFORE = 1
const HAS_AFTER = 2
const POSITION_BYTES = 44
/** In a record: salt, version, id, status, content, session. */
const ID_AT = SALT_BYTES + 1
const SID_AT = SALT_BYTES + 51

export class EvidenceMaker {
  readonly #parts: EvidenceMakerParts

  constructor(parts: EvidenceMakerParts) {
    this.#parts = parts
  }

  /** The most that evidence takes in a receipt, in bytes. */
  get bytes(): number {
    return this.#parts.asker.bytes
  }

  /** For what a sealer recorded; `undefined` where no layer moved state. Resolves with `undefined` where nobody can say. Never rejects. */
  readonly of = (record: Buffer): Promise<OutcomeEvidence | undefined> | undefined => {
    const moved = movedLayer(record)
    if (moved === undefined) return undefined
    const id = record.toString('hex', ID_AT, ID_AT + MESSAGE_ID_BYTES)
    const seq = readUint64(moved, positionAt(moved) + 4)
    const known = this.#parts.outcomes.remembered(id, seq)
    if (known !== undefined) return this.#gather(record, moved, seq, known)
    return this.#parts.outcomes.find(id, seq).then(found => found && this.#gather(record, moved, seq, found), () => undefined)
  }

  async #gather(record: Buffer, moved: Buffer, seq: number, logged: LoggedOutcome): Promise<OutcomeEvidence | undefined> {
    const salt = record.subarray(0, SALT_BYTES)
    const id = record.subarray(ID_AT, ID_AT + MESSAGE_ID_BYTES)
    if (!isOf(moved, logged)) return undefined
    const outcome = saltedOutcome(id, salt, logged)
    const gathered = await this.#parts.asker.gather({ seq, id, salt, leaf: outcomeLeaf(outcome) })
    return gathered && { version: 2, asked: outcome.asked, result: outcome.result, ...gathered }
  }
}

/** Whether the layer says of the write what the log does. */
function isOf(moved: Buffer, { status, gas, after }: LoggedOutcome): boolean {
  const at = positionAt(moved)
  return moved.readUInt16BE(STATUS_AT) === status && moved.readBigUInt64BE(GAS_AT) === gas
    && moved.readUInt32BE(at) === after.epoch && moved.subarray(at + 12, at + POSITION_BYTES).equals(after.chain)
}

/** Where a layer has its position after. */
function positionAt(layer: Buffer): number {
  return SALT_AT + SALT_BYTES + (((layer[FLAGS_AT] ?? 0) & HAS_BEFORE) === 0 ? 0 : POSITION_BYTES)
}

/** The last layer with a position after, of those in a sealer's record. */
function movedLayer(record: Buffer): Buffer | undefined {
  const subAt = SID_AT + 2 + record.readUInt16BE(SID_AT)
  let at = subAt + 2 + record.readUInt16BE(subAt) + 1
  let moved: Buffer | undefined
  while (at < record.length) {
    const end = at + 1 + (record[at] as number)
    if (((record[at + 1 + FLAGS_AT] ?? 0) & HAS_AFTER) !== 0) moved = record.subarray(at + 1, end)
    at = end
  }
  return moved
}

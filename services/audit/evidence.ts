/**
 * What this node says of the state behind a write in a receipt: that it holds the log up to there, by a claim that it signs for just that
 * position. One claim serves all writes of a block.
 */
import { signClaim, type ClaimLevel } from '../../cmtp/claim.ts'
import { readUint64 } from '../../cmtp/frame.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import { decodeDid } from '../../cmtp/identity/did.ts'
import { SALT_AT, SALT_BYTES } from '../../cmtp/layer.ts'
import { bareCertificate } from '../../cmtp/receipt/bare-certificate.ts'
import type { Evidence } from '../../cmtp/receipt/evidence.ts'
import type { Clock } from '../clock.ts'

export interface OwnEvidenceParts {
  readonly did: string
  readonly sign: (bytes: Uint8Array) => Uint8Array
  readonly certificate: Certificate | undefined
  readonly level: ClaimLevel
  readonly version: string
  /** The last block whose events are out. */
  readonly out: () => number
  readonly clock: Pick<Clock, 'nowMs'>
}

const FLAGS_AT = 2
const HAS_BEFORE = 1
const HAS_AFTER = 2
const POSITION_BYTES = 44
/** Behind the salt, in a record: version, id, status, content. */
const SID_AT = SALT_BYTES + 51

export class OwnEvidence {
  readonly #parts: OwnEvidenceParts
  #of = ''
  #evidence: Evidence | undefined

  constructor(parts: OwnEvidenceParts) {
    this.#parts = parts
  }

  /** For what a sealer recorded; `undefined` where no layer moved state. */
  readonly of = (record: Buffer): Evidence | undefined => {
    const moved = movedLayer(record)
    if (moved === undefined) return undefined
    const at = SALT_AT + SALT_BYTES + (((moved[FLAGS_AT] ?? 0) & HAS_BEFORE) === 0 ? 0 : POSITION_BYTES)
    const position = Buffer.from(moved.subarray(at, at + POSITION_BYTES))
    const text = position.toString('latin1')
    if (text !== this.#of) {
      this.#evidence = this.#claim(position)
      this.#of = text
    }
    return this.#evidence
  }

  #claim(position: Buffer): Evidence {
    const { did, sign, certificate, level, version, out, clock } = this.#parts
    const { signature, ...claim } = signClaim({
      did, epoch: position.readUInt32BE(0), seq: readUint64(position, 4), chain: position.toString('hex', 12), level, out: out(), timeMs: clock.nowMs(), version,
    }, { sign })
    return {
      links: [],
      claims: [{
        at: 0, member: decodeDid(did), level, out: claim.out, timeMs: claim.timeMs, version,
        certificate: certificate && bareCertificate(certificate), signature: Buffer.from(signature, 'base64url'),
      }],
    }
  }
}

/** The first layer with a position after, of those in a sealer's record. */
function movedLayer(record: Buffer): Buffer | undefined {
  const subAt = SID_AT + 2 + record.readUInt16BE(SID_AT)
  let at = subAt + 2 + record.readUInt16BE(subAt) + 1
  while (at < record.length) {
    const end = at + 1 + (record[at] as number)
    if (((record[at + 1 + FLAGS_AT] ?? 0) & HAS_AFTER) !== 0) return record.subarray(at + 1, end)
    at = end
  }
  return undefined
}

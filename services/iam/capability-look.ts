/**
 * Which imported capabilities still count, looked up for all of one check: each issuer is looked at once, however many links it signed and however
 * often it was rotated, and each link costs a look for each identity above it. So a check costs a few looks a link, and nobody makes it dear for a
 * node. It is thrown away with the check, since the records may be others for the next one.
 */
import { bannedKey, takenBackKey, type HeldCapability, type Records } from './records.ts'
import { heirOfLine, lineOf } from './rotations.ts'

interface Issuer {
  /** The first DID of its line: what it took back stays so when another takes its place, which may take back more. */
  readonly line: string
  readonly banned: boolean
}

export class CapabilityLook {
  readonly #records: Records
  readonly #timeMs: number
  readonly #operator: string | undefined
  readonly #issuers = new Map<string, Issuer>()

  /** `operator`: any DID of the operator's line; `undefined` where there is none. */
  constructor(records: Records, timeMs: number, operator: string | undefined) {
    this.#records = records
    this.#timeMs = timeMs
    this.#operator = operator
  }

  /** Not expired, no link taken back by its issuer, one above it or the operator, nobody in it banned. */
  isLive({ exp, links }: Pick<HeldCapability, 'exp' | 'links'>): boolean {
    if (this.#timeMs >= exp * 1_000) return false
    const above = new Set<string>()
    if (this.#operator !== undefined) above.add(this.#issuer(this.#operator).line)
    for (const { jti, by } of links) {
      const { line, banned } = this.#issuer(by)
      if (banned) return false
      above.add(line)
      for (const each of above) if (this.#records.get(takenBackKey(each, jti)) !== undefined) return false
    }
    return true
  }

  #issuer(did: string): Issuer {
    let issuer = this.#issuers.get(did)
    if (issuer === undefined) {
      const line = lineOf(this.#records, did)
      issuer = { line, banned: this.#records.get(bannedKey(heirOfLine(this.#records, line))) !== undefined }
      this.#issuers.set(did, issuer)
    }
    return issuer
  }
}

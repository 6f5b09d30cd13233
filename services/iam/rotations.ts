/**
 * How rotated identities stand in the system space, and which DID counts for which:
 *
 *     prepared/<did>   {"next", "seq"}                          the digest of the DID that may take its place; never replaced
 *     rotated/<did>    {"to", "seq", "timeMs", "moved"}         it has no rights any more: `to` took its place
 *     rotatedto/<did>  {"from": [did…]}                         whose place it took, the first of the line first
 *     heir/<did>       did                                      which DID counts today for the first of a line, and so for all of it
 *
 * A line never forks, joins another or closes a ring (`rotation-orders.ts` sees to that), so every DID has one heir, and its first DID names it for
 * ever. Neither takes more to find than three records, however long the line: they are asked for with every check of rights. A record that
 * names a DID (an owner, a deployer, a granter, the operator) keeps the name it was made with, since signatures are over it; who compares one with
 * a sender asks for its heir.
 */
import { readRecord, type Records } from './records.ts'

export interface PreparedRecord {
  /** `commitmentTo` the next DID. */
  readonly next: string
  readonly seq: number
}

/** How much of it came to count for the new DID by being moved. */
export interface Moved {
  readonly grants: number
  readonly capabilities: number
  readonly names: number
}

export interface RotatedRecord {
  readonly to: string
  readonly seq: number
  readonly timeMs: number
  readonly moved: Moved
}

export interface LineRecord { readonly from: readonly string[] }

/** Most rotations of one line: what bounds its record, and what a rotation writes. */
export const MAX_ROTATIONS = 16

const ROTATED = 'rotated/'

export const preparedKey = (did: string): string => `prepared/${did}`
export const rotatedKey = (did: string): string => `${ROTATED}${did}`
export const rotatedToKey = (did: string): string => `rotatedto/${did}`
/** `first`: of the line. */
export const heirKey = (first: string): string => `heir/${first}`

/** The DID whose end a key holds. */
export function rotatedDid(key: string): string | undefined {
  return key.startsWith(ROTATED) ? key.slice(ROTATED.length) : undefined
}

export function isRotated(records: Records, did: string): boolean {
  return records.get(rotatedKey(did)) !== undefined
}

/** The first DID of the line that this one is of, rotated or not: the same for all of it, for ever. */
export function lineOf(records: Records, did: string): string {
  return predecessorsOf(records, did)[0] ?? did
}

/** The DID that counts for this one today: itself, unless it was rotated. */
export function heirOf(records: Records, did: string): string {
  return isRotated(records, did) ? heirOfLine(records, lineOf(records, did)) : did
}

/** The DID that counts today for a line, by its first. */
export function heirOfLine(records: Records, first: string): string {
  const heir = records.get(heirKey(first))
  return heir === undefined ? first : Buffer.from(heir).toString('latin1')
}

/** Whose place it took, the first of the line first. */
export function predecessorsOf(records: Records, did: string): readonly string[] {
  return readRecord<LineRecord>(records, rotatedToKey(did))?.from ?? []
}

/** What the mesh knows of a DID's rotation: the answer to `0xI:rotation`. */
export interface RotationStatus {
  readonly did: string
  /** What it committed to; `null` where it did not. */
  readonly next: string | null
  /** Which DID counts for it today; `null` where it was not rotated. */
  readonly rotatedTo: string | null
  readonly rotatedFrom: readonly string[]
}

export function rotationStatus(records: Records, did: string): RotationStatus {
  return {
    did, next: readRecord<PreparedRecord>(records, preparedKey(did))?.next ?? null, rotatedTo: isRotated(records, did) ? heirOf(records, did) : null,
    rotatedFrom: predecessorsOf(records, did),
  }
}

/**
 * What the entries of a batch reply at `full` have in common, told once behind them: the root records that their leaves stand under, with what all
 * of their paths need, and the heads of their layers parts (`full-part.ts`), since entries that one execution answers have the same. Each entry
 * says where its own is; who reads it puts together the very layers part that a reply alone would have. Layouts are normative in `SPEC.md`, section 7.
 */
import { CMeshError } from '../errors.ts'
import { HASH_BYTES } from '../frame.ts'
import { LIMITS } from '../limits.ts'
import { Reader } from '../reader.ts'
import { malformed } from '../wire.ts'
import { layersPart } from './full-part.ts'
import { leafHash } from './merkle.ts'
import { MerklePaths } from './merkle-paths.ts'
import { CERTIFICATE_BYTES } from './bare-certificate.ts'
import { ROOT_RECORD_BYTES, rootNumbers } from './root.ts'

/** A batch of the audit log. */
export interface SharedRoot {
  /** The root record. */
  readonly record: Uint8Array
  /** Of the node, as it stands in a receipt; empty where its key is the mesh's. */
  readonly certificate: Uint8Array
  /** `hashesBeside` of the entries' leaves. */
  readonly besides: Uint8Array
}

/** Where an entry has its own. */
export interface EntryPart {
  /** Which head is its. */
  readonly head: number
  /** Which root; `undefined` where nothing is recorded. */
  readonly root: number | undefined
  /** Of its leaf, under that root. */
  readonly index: number
}

/** What members of the mesh say of an entry that is a write. */
export interface SharedEvidence {
  /** Which entry. */
  readonly entry: number
  /** Of a receipt: which evidence it is. */
  readonly flags: number
  readonly bytes: Uint8Array
}

/** The part of an entry as it is told. */
export const ENTRY_PART_BYTES = 8
const INDEX_AT = 4
/** What it takes with nothing in it. */
export const SHARED_PART_BYTES = 6
/** What the evidence of an entry takes beside its own bytes. */
export const SHARED_EVIDENCE_BYTES = 7
/** What a root takes, but for the hashes of paths. */
export const SHARED_ROOT_BYTES = ROOT_RECORD_BYTES + 1 + CERTIFICATE_BYTES + 4
/** What a head takes beside its own bytes. */
export const SHARED_HEAD_BYTES = 4
const NO_ROOT = 0xffff
const HAS_CERTIFICATE = 1
const HAS_LINKS = 2
const HAS_OUTCOME = 4
/** Most bytes that a batch reply may stand for more than once, each counted for each entry that has it: headers and bodies of repetitions, and heads. */
export const MOST_REPEATED_BYTES = 64 * LIMITS.frameBytes
const EMPTY = Buffer.alloc(0)

/*
 * entry part:  head 2 · root 2 · index 4
 * shared part: count of roots 2 · roots · count of heads 2 · heads · count of evidence 2 · evidence
 * root:        record 253 · certificate 1 · [certificate 72] · hashes 4 · hash 32 each
 * head:        length 4 · head
 * evidence:    entry 2 · flags 1 · length 4 · evidence
 */
export function putEntryPart(target: Buffer, start: number, { head, root = NO_ROOT, index }: EntryPart): void {
  target.writeUInt16BE(head, start)
  target.writeUInt16BE(root, start + 2)
  target.writeUInt32BE(index, start + INDEX_AT)
}

/** The part of an entry with another index. */
export function withEntryIndex(part: Uint8Array, index: number): Buffer {
  const other = Buffer.from(part)
  other.writeUInt32BE(index, INDEX_AT)
  return other
}

export function encodeSharedPart(roots: readonly SharedRoot[], heads: readonly Uint8Array[], evidence: readonly SharedEvidence[]): Buffer {
  const parts: Uint8Array[] = [count16(roots.length)]
  for (const { record, certificate, besides } of roots) {
    parts.push(record, Buffer.of(certificate.length === 0 ? 0 : 1), certificate, count32(besides.length / HASH_BYTES), besides)
  }
  parts.push(count16(heads.length))
  for (const head of heads) parts.push(count32(head.length), head)
  parts.push(count16(evidence.length))
  for (const { entry, flags, bytes } of evidence) parts.push(count16(entry), Buffer.of(flags), count32(bytes.length), bytes)
  return Buffer.concat(parts)
}

/** An entry whose layers part is put together. */
export interface SharingEntry {
  readonly id: Uint8Array
  /** 32 bytes. */
  readonly final: Uint8Array
  /** As it is told; empty where the entry has none. */
  readonly part: Buffer
}

export class SharedPart {
  readonly #roots: readonly SharedRoot[]
  readonly #heads: readonly Buffer[]
  readonly #evidence: ReadonlyMap<number, Pick<SharedEvidence, 'flags' | 'bytes'>>
  readonly #base: number
  /** By root: the paths of the entries under it, or why there are none. */
  readonly #paths = new Map<number, MerklePaths | CMeshError>()
  /** By root, the entries under it; what they come to together was looked at then. */
  #under: ReadonlyMap<number, readonly (readonly [number, SharingEntry])[]> | undefined

  /** The shared part at the end of a frame of so many entries, its bounds checked; `base`: where it begins. Throws `CMESH_FRAME_MALFORMED`. */
  constructor(bytes: Buffer, base: number, entries: number) {
    const reader = new Reader(bytes.subarray(base), base, malformed)
    const countOf = (what: string): number => {
      const count = reader.take(2, `a number of ${what}`).readUInt16BE(0)
      if (count > entries) throw reader.fault(`no more ${what} than entries`, 2)
      return count
    }
    this.#roots = Array.from({ length: countOf('roots') }, () => {
      const record = reader.take(ROOT_RECORD_BYTES, 'a root record')
      const certified = reader.byte('0 or 1')
      if (certified > 1) throw reader.fault('0 or 1', 1)
      const certificate = certified === 1 ? reader.take(CERTIFICATE_BYTES, 'a certificate') : EMPTY
      return { record, certificate, besides: reader.take(reader.take(4, 'a number of hashes').readUInt32BE(0) * HASH_BYTES, 'hashes') }
    })
    this.#heads = Array.from({ length: countOf('heads') }, () => (
      reader.take(reader.take(4, 'a length of a head').readUInt32BE(0), 'a head')
    ))
    let last = -1
    this.#evidence = new Map(Array.from({ length: countOf('evidence') }, () => {
      const entry = reader.take(2, 'an entry').readUInt16BE(0)
      if (entry <= last || entry >= entries) throw reader.fault('an entry behind the one before', 2)
      last = entry
      const flags = reader.byte('flags')
      if (flags !== HAS_LINKS && flags !== HAS_OUTCOME) throw reader.fault('one flag of evidence', 1)
      return [entry, { flags, bytes: reader.take(reader.take(4, 'a length of evidence').readUInt32BE(0), 'evidence') }]
    }))
    this.#base = base
    reader.end()
  }

  /** Entries that evidence is of. */
  get evident(): Iterable<number> {
    return this.#evidence.keys()
  }

  /** The layers part of the entry at `nth` of all those that share this, as a reply alone has it. Throws `CMESH_FRAME_MALFORMED`. */
  layersPart(nth: number, entries: readonly SharingEntry[]): Buffer {
    const entry = entries[nth] as SharingEntry
    if (entry.part.length === 0) return EMPTY
    const { head: at, root: under, index } = this.#read(entry)
    this.#under ??= this.#sorted(entries)
    const head = this.#heads[at]
    if (head === undefined) throw malformed(this.#base, `a head ${at}`)
    if (under === undefined) return layersPart(head)
    const root = this.#roots[under]
    if (root === undefined) throw malformed(this.#base, `a root ${under}`)
    const { record, certificate } = root
    const { flags, bytes: evidence } = this.#evidence.get(nth) ?? { flags: 0, bytes: EMPTY }
    return layersPart(head, {
      id: entry.id, final: entry.final, index, path: this.#pathsUnder(under, root).path(index), root: record,
      flags: flags | (certificate.length === 0 ? 0 : HAS_CERTIFICATE), certificate, evidence,
    })
  }

  /** The entries by their roots. Throws where all of their layers would be more than a frame of honest ones could stand for. */
  #sorted(entries: readonly SharingEntry[]): ReadonlyMap<number, readonly (readonly [number, SharingEntry])[]> {
    const sorted = new Map<number, (readonly [number, SharingEntry])[]>()
    let bytes = 0
    for (const entry of entries) {
      if (entry.part.length === 0) continue
      const { head, root, index } = this.#read(entry)
      bytes += this.#heads[head]?.length ?? 0
      if (bytes > MOST_REPEATED_BYTES) throw malformed(this.#base, `heads of at most ${MOST_REPEATED_BYTES} bytes, each counted for each entry that has it`)
      if (root === undefined) continue
      const under = sorted.get(root) ?? []
      sorted.set(root, under)
      under.push([index, entry])
    }
    return sorted
  }

  #pathsUnder(under: number, { record, besides }: SharedRoot): MerklePaths {
    let paths = this.#paths.get(under)
    if (paths === undefined) {
      const entries = this.#under?.get(under) ?? []
      try {
        const leaves = new Map(entries.map(([index, { id, final }]) => [index, leafHash(id, final)]))
        if (leaves.size < entries.length) throw new RangeError('two entries are the same leaf')
        paths = new MerklePaths(leaves, rootNumbers(record).count, besides)
      } catch (cause) {
        paths = malformed(this.#base, 'roots, and the hashes that the paths of the entries need', cause)
      }
      this.#paths.set(under, paths)
    }
    if (paths instanceof CMeshError) throw paths
    return paths
  }

  #read({ part }: SharingEntry): EntryPart {
    if (part.length !== ENTRY_PART_BYTES) throw malformed(this.#base, `${ENTRY_PART_BYTES} bytes of an entry's layers`)
    const root = part.readUInt16BE(2)
    return { head: part.readUInt16BE(0), root: root === NO_ROOT ? undefined : root, index: part.readUInt32BE(4) }
  }
}

function count16(count: number): Buffer {
  return Buffer.of(count >> 8, count & 0xff)
}

function count32(count: number): Buffer {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeUInt32BE(count)
  return bytes
}

/**
 * Writes the receipts of a stretch of time to files, from what a node keeps in its data directory, whether it runs there or not. In memory is
 * a batch at a time, and the texts of one segment.
 *
 * Invariants: a file that is there is left as it is, whatever it holds, and one that is written is there whole or not at all; what is written
 * depends on the log alone, so that the same export again writes what is missing and nothing else.
 */
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { parseCertificate } from '../../cmtp/identity/certificate.ts'
import { bareCertificate, certificateFault, type BareCertificate } from '../../cmtp/receipt/bare-certificate.ts'
import { LEAF_BYTES, leafHashes, MerkleTree } from '../../cmtp/receipt/merkle.ts'
import { decodeSealing } from '../../cmtp/receipt/receipt.ts'
import { encodeRecorded } from '../../cmtp/receipt/recorded.ts'
import { decodeRootRecord, ROOT_RECORD_BYTES, type AuditRoot } from '../../cmtp/receipt/root.ts'
import { asBuffer } from '../../cmtp/wire.ts'
import { segmentsIn } from '../../providers/registry.ts'
import {
  NOTE_KEY_BYTES, NOTE_OF_REPEAT, NOTE_OF_REQUEST, NOTE_OF_RUN, NOTE_OF_TEXT, notesOfRun, readNote, repeated, type Note,
} from '../../services/audit/messages.ts'
import { withAuditLog, type AuditCopy } from './audit-copy.ts'
import type { OnProgress } from './source.ts'

export interface ExportAsk {
  /** Data directory of the node. */
  readonly dir: string
  /** Where to; made with mode 0700 when missing. */
  readonly out: string
  /** When the batches were recorded, ms since 1970: the first that counts, and the first that does not. */
  readonly fromMs: number
  readonly toMs: number
  /** Text of the node's certificate, which a receipt needs where the node's key is not the mesh's. */
  readonly certificate?: string
}

export interface Exported {
  readonly mesh: string
  readonly node: string
  /** Hex of the log's key. */
  readonly log: string
  /** Requests of the stretch: those written now, those that were there, and those of which only the leaf is kept. */
  readonly requests: number
  readonly written: number
  readonly there: number
  readonly pruned: number
  /** When the first and the last batch of the whole log were recorded; 0 for an empty log. */
  readonly firstMs: number
  readonly lastMs: number
}

/** The batches of a stretch. */
interface Stretch {
  readonly from: number
  readonly to: number
  readonly requests: number
  readonly firstMs: number
  readonly lastMs: number
  readonly last: AuditRoot | undefined
}

/** The note of a request, and what was sealed of it. */
interface Found {
  readonly note: Note
  readonly record: Buffer
}

const PROGRESS_BATCHES = 1_024
/** Where the place stands in a layer. */
const PLACE_AT = 26

/** Rejects with `CMESH_STATE_NO_LOG`, `CMESH_AUDIT_CORRUPT`, `CMESH_RECEIPT_TARGET`, and `CMESH_IAM_CERTIFICATE` where one is needed and it is not that. */
export function exportReceipts(ask: ExportAsk, onProgress: OnProgress): Promise<Exported> {
  const { dir, fromMs, toMs } = ask
  return withAuditLog(dir, async log => {
    const { last, requests, firstMs, lastMs, ...stretch } = await stretchOf(log, fromMs, toMs, onProgress)
    const { mesh = '', node = '' } = last ?? {}
    const target = new Target(ask.out, last === undefined ? undefined : certificateOf(ask.certificate, last))
    const segments = await segmentsIn(path.join(dir, 'audit'))
    for (const [i, segment] of segments.entries()) {
      if (requests === 0 || segment.first > stretch.to || (segments[i + 1]?.first ?? Infinity) <= stretch.from) continue
      const texts = new Map<string, Buffer>()
      for await (const { batch, notes } of segment.frames()) {
        const found = notesOf(notes, texts)
        if (batch < stretch.from || batch > stretch.to) continue
        const block = await blockOf(log, batch)
        if (!counts(decodeRootRecord(block.subarray(0, ROOT_RECORD_BYTES)), fromMs, toMs)) continue
        target.write(block, found, texts, () => new CMeshError('CMESH_AUDIT_CORRUPT', { path: log.path, batch, reason: 'its leaves and the notes beside it are not of the same requests' }))
        onProgress(target.written + target.there, requests)
      }
    }
    const { written, there } = target
    return { mesh, node, log: Buffer.from(log.key).toString('hex'), requests, written, there, pruned: requests - written - there, firstMs, lastMs }
  })
}

/** Clocks are set: each batch is looked at. */
async function stretchOf(log: AuditCopy, fromMs: number, toMs: number, onProgress: OnProgress): Promise<Stretch> {
  let [from, to, requests, firstMs, lastMs] = [Infinity, -1, 0, 0, 0]
  let last: AuditRoot | undefined
  await log.read((bytes, batch) => {
    try {
      last = decodeRootRecord(bytes.subarray(0, ROOT_RECORD_BYTES))
    } catch (cause) {
      throw new CMeshError('CMESH_AUDIT_CORRUPT', { path: log.path, batch, reason: 'it is no root record' }, { cause })
    }
    lastMs = Math.floor(last.timeUs / 1_000)
    if (batch === 0) firstMs = lastMs
    if (batch % PROGRESS_BATCHES === 0) onProgress(0, log.length)
    if (!counts(last, fromMs, toMs)) return
    from = Math.min(from, batch)
    to = batch
    requests += last.count
  })
  return { from, to, requests, firstMs, lastMs, last }
}

function counts({ timeUs }: AuditRoot, fromMs: number, toMs: number): boolean {
  return timeUs >= fromMs * 1_000 && timeUs < toMs * 1_000
}

async function blockOf(log: AuditCopy, batch: number): Promise<Buffer> {
  let block: Buffer = Buffer.alloc(0)
  await log.read(bytes => { block = bytes }, batch, batch + 1)
  return block
}

function certificateOf(text: string | undefined, { node, mesh }: AuditRoot): BareCertificate | undefined {
  if (node === mesh) return undefined
  const certificate = text === undefined ? undefined : parseCertificate(text)
  const bare = certificate && bareCertificate(certificate)
  const fault = certificateFault(bare, node, mesh, 'node')
  if (fault !== undefined) throw new CMeshError('CMESH_IAM_CERTIFICATE', { reason: `${fault}, whose key is not the mesh's; --certificate names its file` })
  return bare
}

/** The notes of requests in a batch, and what each request of it was sealed to; texts are put where those of the segment are. */
function notesOf(bytes: Buffer, texts: Map<string, Buffer>): Found[] {
  const records = new Map<string, Buffer>()
  const found: Found[] = []
  for (let note = readNote(bytes, 0); note !== undefined; note = readNote(bytes, note.end)) {
    const key = note.key.toString('latin1')
    if (note.kind === NOTE_OF_TEXT) texts.set(key, Buffer.from(note.payload))
    else if (note.kind === NOTE_OF_REQUEST) {
      records.set(key, note.payload)
      found.push({ note, record: note.payload })
    } else if (note.kind === NOTE_OF_REPEAT || note.kind === NOTE_OF_RUN) {
      for (const each of note.kind === NOTE_OF_RUN ? notesOfRun(note) : [note]) {
        const of = records.get(each.payload.toString('latin1'))
        if (of !== undefined) found.push({ note: each, record: repeated(of, each.key) })
      }
    }
  }
  return found
}

/** The key of a layer's texts. */
function placeOf(layer: Uint8Array): string {
  return asBuffer(layer).toString('latin1', PLACE_AT, PLACE_AT + NOTE_KEY_BYTES)
}

/** The directory that receipts go to. */
class Target {
  written = 0
  there = 0
  readonly #dir: string
  readonly #part: string
  readonly #certificate: BareCertificate | undefined

  constructor(dir: string, certificate: BareCertificate | undefined) {
    this.#dir = dir
    this.#part = path.join(dir, '.receipt.part')
    this.#certificate = certificate
    this.#trying(() => {
      mkdirSync(dir, { recursive: true, mode: 0o700 })
      writeFileSync(this.#part, '', { mode: 0o600 })
      rmSync(this.#part)
    })
  }

  /** The receipts of a batch. */
  write(block: Buffer, found: readonly Found[], texts: ReadonlyMap<string, Buffer>, corrupt: () => CMeshError): void {
    const root = block.subarray(0, ROOT_RECORD_BYTES)
    const leaves = block.subarray(ROOT_RECORD_BYTES)
    const tree = new MerkleTree(leafHashes(leaves))
    const { first, merkleRoot } = decodeRootRecord(root)
    if (!tree.root.equals(merkleRoot)) throw corrupt()
    for (const { note: { index, key }, record } of found) {
      const leaf = leaves.subarray(index * LEAF_BYTES, (index + 1) * LEAF_BYTES)
      if (Buffer.compare(leaf.subarray(0, key.length), key) !== 0) throw corrupt()
      const places = decodeSealing(record).layers.map(placeOf)
      this.#put(key.toString('hex'), first + index, encodeRecorded({
        record, texts: places.map(place => texts.get(place)), final: leaf.subarray(key.length), index, path: tree.path(index), root,
        certificate: this.#certificate, evidence: undefined,
      }))
    }
  }

  /** Under its id; where another request of that id has the name, with its number on the log. */
  #put(id: string, request: number, receipt: Buffer): void {
    this.#trying(() => {
      for (const name of [`${id}.receipt`, `${id}-${request}.receipt`]) {
        const file = path.join(this.#dir, name)
        if (!existsSync(file)) {
          writeFileSync(this.#part, receipt, { mode: 0o600 })
          renameSync(this.#part, file)
          this.written++
          return
        }
        if (readFileSync(file).equals(receipt)) {
          this.there++
          return
        }
      }
      throw new Error(`${id}-${request}.receipt is there already, and is another file`)
    })
  }

  #trying(work: () => void): void {
    try {
      work()
    } catch (cause) {
      throw new CMeshError('CMESH_RECEIPT_TARGET', { path: this.#dir, reason: (cause as Error).message }, { cause })
    }
  }
}

/**
 * The form of a backup file: what it says of itself, the blocks, files of the node where they were asked for, and a hash over all of it.
 *
 *   backup  'CMESHBK1' · header (u32 LE length, canonical JSON) · count of files (u32 LE) · file… · block… · audit… · SHA-256 of what is before
 *   file    u32 LE length of the name · name (UTF-8) · u32 LE length · bytes
 *   block   u32 LE length · bytes
 *   audit   an audit log: count of batches (u32 LE) · entry… · u32 LE 0
 *   entry   u32 LE length of the name, not 0 · name (UTF-8) · part… · u32 LE 0
 *   part    u32 LE length, not 0 · bytes
 *
 * Reader and writer stand here side by side. The reader is total: it believes no length that its bounds do not allow, and what it
 * gives is only to be used once `end` has resolved.
 */
import { createHash, type Hash } from 'node:crypto'
import { fsyncSync, writeSync } from 'node:fs'
import type { FileHandle } from 'node:fs/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import { canonicalJson, parseCanonicalJson } from '../../cmtp/identity/canonical-json.ts'
import { BLOCK_BYTES } from '../../services/state/block.ts'

export interface BackupHeader {
  /** Form of the header: 2 where there are audit logs in it. */
  readonly v: 1 | 2
  /** DID of the mesh. */
  readonly mesh: string
  readonly blocks: number
  /** Where the log ends. */
  readonly epoch: number
  readonly seq: number
  readonly timeMs: number
  /** Hex of the chain value there, of the hash over the tree of the blocks, and of the public half of the key that signed the log. */
  readonly chain: string
  readonly root: string
  readonly logKey: string
  /** Whether files of the node are in it that are secret. */
  readonly keys: boolean
  /** How many audit logs are in it, 1 and up; missing where none is. */
  readonly audits?: number
  readonly createdMs: number
  /** Of the CMesh that made it. */
  readonly version: string
}

export interface KeptFile {
  /** Below the data directory, with `/`. */
  readonly name: string
  readonly bytes: Uint8Array
}

const MAGIC = Buffer.from('CMESHBK1')
const HEADER_BYTES = 65_536
const FILES = 64
const NAME_BYTES = 256
const FILE_BYTES = 16 * 1024 * 1024
const PART_BYTES = 4 * 1024 * 1024
const AUDITS = 1_000
const HASH_BYTES = 32
const BUFFER_BYTES = 1024 * 1024

/** Writes synchronously: who makes a backup does nothing else meanwhile, and is never ahead of the disk. */
export class BackupWriter {
  readonly #file: number
  readonly #hash: Hash = createHash('sha256')
  #waiting: Uint8Array[] = []
  #waitingBytes = 0

  /** `file` is an open descriptor, which stays the caller's. */
  constructor(file: number) {
    this.#file = file
  }

  begin(header: BackupHeader, files: readonly KeptFile[]): void {
    this.#put(MAGIC)
    this.#piece(Buffer.from(canonicalJson({ ...header })))
    this.#put(u32(files.length))
    for (const { name, bytes } of files) {
      this.#piece(Buffer.from(name))
      this.#piece(bytes)
    }
  }

  block(bytes: Uint8Array): void {
    this.part(bytes)
  }

  /** Of the batches of an audit log. */
  count(batches: number): void {
    this.#put(u32(batches))
  }

  /** Begins an entry; an empty one ends the log. */
  name(name: string): void {
    this.#piece(Buffer.from(name))
  }

  /** An empty one ends the entry. */
  part(bytes: Uint8Array): void {
    this.#piece(bytes)
    if (this.#waitingBytes >= BUFFER_BYTES) this.#write()
  }

  /** Returns when all of it is on the disk. */
  end(): void {
    this.#waiting.push(this.#hash.digest())
    this.#write()
    fsyncSync(this.#file)
  }

  #piece(bytes: Uint8Array): void {
    this.#put(u32(bytes.length))
    this.#put(bytes)
  }

  #put(bytes: Uint8Array): void {
    this.#hash.update(bytes)
    this.#waiting.push(bytes)
    this.#waitingBytes += bytes.length
  }

  #write(): void {
    const bytes = Buffer.concat(this.#waiting)
    this.#waiting = []
    this.#waitingBytes = 0
    for (let at = 0; at < bytes.length;) at += writeSync(this.#file, bytes, at)
  }
}

export class BackupReader {
  readonly #path: string
  readonly #file: FileHandle
  readonly #hash: Hash = createHash('sha256')
  #bytes: Buffer = Buffer.alloc(0)
  #at = 0

  /** Reads `file` from where it stands; `path` is for the errors, all of them `CMESH_BACKUP_FILE`. */
  constructor(path: string, file: FileHandle) {
    this.#path = path
    this.#file = file
  }

  async header(): Promise<BackupHeader> {
    if (!MAGIC.equals(await this.#take(MAGIC.length, 'its start'))) throw this.#refused('it does not start as a backup of CMesh does')
    const bytes = await this.#piece(HEADER_BYTES, 'its header')
    let value: unknown
    try {
      value = parseCanonicalJson(bytes)
    } catch {
      throw this.#refused('its header is not canonical JSON')
    }
    if (!isHeader(value)) throw this.#refused('its header is not one of version 1 or 2')
    return value
  }

  async files(): Promise<KeptFile[]> {
    const count = (await this.#take(4, 'the count of files')).readUInt32LE()
    if (count > FILES) throw this.#refused('its count of files is out of bounds')
    const files: KeptFile[] = []
    for (let i = 0; i < count; i++) {
      const name = (await this.#piece(NAME_BYTES, 'the name of a file')).toString('utf8')
      files.push({ name, bytes: await this.#piece(FILE_BYTES, 'a file') })
    }
    return files
  }

  block(index: number): Promise<Buffer> {
    return this.#piece(BLOCK_BYTES, `block ${index}`)
  }

  async count(): Promise<number> {
    return (await this.#take(4, 'a count of batches')).readUInt32LE()
  }

  async name(): Promise<string> {
    return (await this.#piece(NAME_BYTES, 'the name of an entry')).toString('utf8')
  }

  part(): Promise<Buffer> {
    return this.#piece(PART_BYTES, 'a part of an entry')
  }

  /** Resolves when the hash has been found to be right, and that nothing comes behind it. */
  async end(): Promise<void> {
    const hash = this.#hash.digest()
    if (!hash.equals(await this.#next(HASH_BYTES, 'its hash'))) throw this.#refused('its hash is not that of its contents: it was changed or damaged')
    if (await this.#fill(1) > 0) throw this.#refused('something comes behind its end')
  }

  async #piece(most: number, what: string): Promise<Buffer> {
    const length = (await this.#take(4, what)).readUInt32LE()
    if (length > most) throw this.#refused(`the length of ${what} is out of bounds`)
    return this.#take(length, what)
  }

  async #take(length: number, what: string): Promise<Buffer> {
    const bytes = await this.#next(length, what)
    this.#hash.update(bytes)
    return bytes
  }

  async #next(length: number, what: string): Promise<Buffer> {
    if (await this.#fill(length) < length) throw this.#refused(`it ends within ${what}`)
    // A copy: what is given out outlives the buffer.
    const bytes = Buffer.from(this.#bytes.subarray(this.#at, this.#at + length))
    this.#at += length
    return bytes
  }

  /** How many bytes are there, up to `wanted` or a little more. */
  async #fill(wanted: number): Promise<number> {
    while (this.#bytes.length - this.#at < wanted) {
      const more = Buffer.allocUnsafe(Math.max(BUFFER_BYTES, wanted))
      const { bytesRead } = await this.#file.read(more, 0, more.length).catch((error: unknown) => { throw this.#refused((error as Error).message) })
      if (bytesRead === 0) break
      this.#bytes = Buffer.concat([this.#bytes.subarray(this.#at), more.subarray(0, bytesRead)])
      this.#at = 0
    }
    return this.#bytes.length - this.#at
  }

  #refused(reason: string): CMeshError {
    return new CMeshError('CMESH_BACKUP_FILE', { path: this.#path, reason })
  }
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}

const HEX_32 = /^[0-9a-f]{64}$/

function isHeader(value: unknown): value is BackupHeader {
  const { v, mesh, blocks, epoch, seq, timeMs, chain, root, logKey, keys, audits, createdMs, version } = (
    typeof value === 'object' && value !== null ? value : {}
  ) as Partial<Record<keyof BackupHeader, unknown>>
  const counted = v === 1 ? audits === undefined : v === 2 && Number.isSafeInteger(audits) && (audits as number) >= 1 && (audits as number) <= AUDITS
  return counted && [mesh, version].every(text => typeof text === 'string') && typeof keys === 'boolean'
    && [blocks, epoch, seq, timeMs, createdMs].every(count => Number.isSafeInteger(count) && (count as number) >= 0)
    && [chain, root, logKey].every(hex => typeof hex === 'string' && HEX_32.test(hex))
}

/**
 * Feeds the audit log: every request's final hash, in batches. What arrives while one batch is appended is the next; one that nobody waits
 * for is at most `LATEST_MS` old when it is hashed, signed and appended.
 *
 * Invariants: (1) batches are appended one after another, and each root record holds the hash of the one before it; (2) who waits is told once,
 * when the batch is as durable as the log says, or why it never will be; (3) `refusal` is asked before a request is begun: past the bounds, and
 * after the log failed, nothing new is taken on, so that what is answered has been recorded; (4) what was taken on before is always recorded,
 * whatever the bounds, and adds no more than is in flight.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import type { Certificate } from '../../cmtp/identity/certificate.ts'
import type { Layer } from '../../cmtp/layer.ts'
import { LEAF_BYTES, leafHashes, MerkleTree } from '../../cmtp/receipt/merkle.ts'
import { ROOT_RECORD_BYTES, rootRecordHash, RootWriter } from '../../cmtp/receipt/root.ts'
import type { Clock } from '../clock.ts'
import { ownRoot } from './own-root.ts'
import type { AuditLog } from './provider.ts'
import { Recording, type Marked, type Noted } from './recording.ts'

/** The oldest that a request gets before its batch is closed, in ms. */
const LATEST_MS = 5
/** Requests, and bytes of notes, that may wait for the append under way before new requests are refused. */
const MOST_LEAVES = 16_384
const MOST_NOTES = 16 * 1024 * 1024
/** Past it a batch is closed at once. */
const FULL_LEAVES = 8_192
/** Notes, and bytes of them, that go together before a batch begins anew. */
const VOLUME_NOTES = 65_536
const VOLUME_BYTES = 32 * 1024 * 1024
const RETRY_AFTER_MS = 50

export interface BatcherParts {
  readonly log: AuditLog
  readonly mesh: string
  readonly node: string
  readonly certificate: Certificate | undefined
  readonly sign: (bytes: Uint8Array) => Uint8Array
  readonly clock: Pick<Clock, 'nowUs'>
  /** Told each root record once it is on the log. Must not throw. */
  readonly onRoot: (record: Buffer) => void
  /** The log takes no more: the node must stop. Called once. */
  readonly onFailed: (error: CMeshError) => void
}

/** A batch that is on the log. */
export interface Rooted {
  readonly tree: MerkleTree
  readonly record: Buffer
}

type Settled = (rooted: Rooted | CMeshError) => void

export interface BatcherStats {
  batches: number
  requests: number
  refused: number
}

export class Batcher {
  readonly stats: BatcherStats = { batches: 0, requests: 0, refused: 0 }
  readonly #parts: BatcherParts
  #filling = new Recording()
  #spare: Recording | undefined = new Recording()
  #waiting: Settled[] = []
  /** Notes of one volume are in one segment; the texts that were noted in it. */
  #volume: object = {}
  #texts = new Set<string>()
  #volumeNotes = 0
  #volumeBytes = 0
  /** There once the log is open. */
  #roots: RootWriter | undefined
  #next = 0
  #first = 0
  #previous: Uint8Array = new Uint8Array(32)
  #failure: CMeshError | undefined
  #timer: NodeJS.Timeout | undefined
  #soon = false
  #running: Promise<void> | undefined

  constructor(parts: BatcherParts) {
    this.#parts = parts
  }

  /** Requests that are not on the log yet, those of the append under way left out. */
  get pending(): number {
    return this.#filling.count
  }

  /** Number of the batch that is being filled. */
  get filling(): number {
    return this.#filling.batch
  }

  /** Opens the log and goes on behind it. Rejects as `AuditLog.open` does, with `CMESH_AUDIT_OTHER` for another node's, and with `CMESH_AUDIT_CORRUPT`. */
  async start(): Promise<void> {
    const { log, mesh, node, certificate, sign } = this.#parts
    const { length, last } = await log.open()
    this.#roots = new RootWriter({ mesh, node, log: log.id }, sign)
    this.#next = length
    if (last !== undefined) {
      const record = last.subarray(0, ROOT_RECORD_BYTES)
      try {
        const root = ownRoot(record, { path: log.path, id: log.id, length, mesh, node, certificate })
        this.#first = root.first + root.count
      } catch (error) {
        await log.close()
        throw error
      }
      this.#previous = rootRecordHash(record)
    }
    this.#filling.clear(this.#next, true)
  }

  /** Why no request may be begun just now; `undefined` where one may. */
  get refusal(): CMeshError | undefined {
    const { failure } = this.#parts.log
    if (failure !== undefined && this.#failure === undefined) this.#fail(failure, [])
    if (this.#failure === undefined && this.#filling.count < MOST_LEAVES && this.#filling.noteBytes < MOST_NOTES) return undefined
    this.stats.refused++
    return this.#failure ?? new CMeshError('CMESH_AUDIT_BUSY', { waiting: this.#filling.count, retryAfterMs: RETRY_AFTER_MS })
  }

  /**
   * Takes a request that is answered: its id, its final hash as 32 latin1 characters, what else is kept of it, its layers. All but `layers` may be
   * reused after the call. Gives its index in the batch that is being filled; what comes of that is told to who asks for it (`wait`).
   */
  add(id: Uint8Array, final: string, source: Noted, layers: readonly Layer[], marked?: Marked): number {
    if (this.#failure !== undefined) return 0
    const recording = this.#filling
    const index = recording.add(id, final, source, layers, this.#volume, this.#texts, marked)
    this.stats.requests++
    if (this.#running !== undefined) return index
    if (recording.count >= FULL_LEAVES) this.#runSoon()
    else if (index === 0) this.#timer = setTimeout(this.#run, LATEST_MS)
    return index
  }

  /**
   * Takes requests that were each answered as one which was added in this turn of the event loop, and differ from it in their id alone: entries
   * `first` and those behind it of the batch frame with the id `frame`, their final hashes, and the ids of those they repeat. Gives the index of the first.
   */
  repeat(frame: Uint8Array, first: number, finals: Uint8Array, repeated: readonly Uint8Array[]): number {
    if (this.#failure !== undefined) return 0
    const index = this.#filling.repeat(frame, first, finals, repeated)
    this.stats.requests += repeated.length
    // Those that they repeat have seen to it that the batch is closed.
    if (this.#running === undefined && this.#filling.count >= FULL_LEAVES) this.#runSoon()
    return index
  }

  /** Calls back once the batch that is being filled, which has a request, is on the log, or never will be; that is then seen to at once. */
  wait(settled: Settled): void {
    if (this.#failure !== undefined) {
      settled(this.#failure)
      return
    }
    this.#waiting.push(settled)
    if (this.#running === undefined) this.#runSoon()
  }

  /** Resolves when what was added is on the log, or never will be. */
  async flush(): Promise<void> {
    while (this.#failure === undefined && (this.#filling.count > 0 || this.#running !== undefined)) {
      this.#run()
      await this.#running
    }
  }

  /** Puts what was added on the log and closes it. From here on whoever asks is refused. */
  async stop(): Promise<void> {
    await this.flush()
    this.#failure ??= new CMeshError('CMESH_AUDIT_FULL', { reason: 'the log is closed' })
    clearTimeout(this.#timer)
    await this.#parts.log.close()
  }

  /** What came in the same turn goes along. */
  #runSoon(): void {
    if (this.#soon) return
    this.#soon = true
    setImmediate(this.#run)
  }

  readonly #run = (): void => {
    clearTimeout(this.#timer)
    this.#timer = undefined
    this.#soon = false
    if (this.#running !== undefined || this.#filling.count === 0 || this.#failure !== undefined) return
    const recording = this.#filling
    const waiting = this.#waiting
    this.#turnOver(recording)
    this.#running = this.#append(recording).then(rooted => {
      this.#running = undefined
      this.#spare = recording
      // The next one is on its way while those that waited for this one are told.
      this.#goOn()
      for (const settled of waiting) settled(rooted)
      this.#parts.onRoot(rooted.record)
    }, (thrown: unknown) => { this.#fail(CMeshError.from(thrown, 'the audit log'), waiting) })
      .catch((thrown: unknown) => { this.#fail(CMeshError.from(thrown, 'the audit log'), []) })
  }

  /** What came while the last batch was appended is the next. */
  #goOn(): void {
    if (this.#failure !== undefined || this.#filling.count === 0) return
    if (this.#waiting.length > 0 || this.#filling.count >= FULL_LEAVES) this.#run()
    else this.#timer = setTimeout(this.#run, LATEST_MS)
  }

  /** From here on requests are of the next batch. */
  #turnOver(recording: Recording): void {
    this.#volumeNotes += recording.noteCount
    this.#volumeBytes += recording.noteBytes
    const apart = this.#volumeNotes >= VOLUME_NOTES || this.#volumeBytes >= VOLUME_BYTES
    if (apart) {
      this.#volume = {}
      this.#texts = new Set()
      this.#volumeNotes = this.#volumeBytes = 0
    }
    this.#filling = this.#spare ?? new Recording()
    this.#spare = undefined
    this.#filling.clear(++this.#next, apart)
    this.#waiting = []
  }

  async #append({ batch, apart, count, leaves, notes }: Recording): Promise<Rooted> {
    const { log, clock } = this.#parts
    const tree = new MerkleTree(leafHashes(leaves))
    const record = (this.#roots as RootWriter).write({
      batch, first: this.#first, count, merkleRoot: tree.root, previous: this.#previous, timeUs: clock.nowUs(),
    })
    const block = Buffer.allocUnsafe(ROOT_RECORD_BYTES + count * LEAF_BYTES)
    block.set(record)
    block.set(leaves, ROOT_RECORD_BYTES)
    await log.append({ number: batch, block, notes, apart })
    this.#first += count
    this.#previous = rootRecordHash(record)
    this.stats.batches++
    return { tree, record }
  }

  /** May be called again, by the append that was under way when the log was found to have failed. */
  #fail(error: CMeshError, waiting: readonly Settled[]): void {
    const known = this.#failure !== undefined
    this.#failure ??= error
    const all = [...waiting, ...this.#waiting]
    this.#waiting = []
    for (const settled of all) settled(error)
    if (!known) this.#parts.onFailed(error)
  }
}

/**
 * The thread that sorts, hashes and writes a snapshot: what would hold the main thread for seconds. It gets chunks of entries, of which a
 * later one takes the place of an earlier one of the same key, and at the end the header. The file appears whole and on the disk, or not at all.
 */
import { Worker } from 'node:worker_threads'
import { SNAPSHOT_MAGIC } from './snapshot-file.ts'

/** A source text, since a worker cannot load TypeScript where the sources run untranslated. */
const WRITER = `
const { closeSync, fsyncSync, openSync, renameSync, writeSync } = require('node:fs')
const { createHash } = require('node:crypto')
const { parentPort, workerData: { file, magic } } = require('node:worker_threads')
const entries = new Map()
parentPort.on('message', message => {
  if (typeof message !== 'string') return take(Buffer.from(message.buffer, message.byteOffset, message.length))
  try {
    write(Buffer.from(message))
    parentPort.postMessage({ entries: entries.size })
  } catch (error) {
    parentPort.postMessage({ error: String(error.message) })
  }
  parentPort.close()
})
function take(bytes) {
  for (let at = 0; at < bytes.length;) {
    const valueAt = at + 10 + bytes.readUInt16LE(at) + bytes.readUInt32LE(at + 2)
    const valueBytes = bytes.readInt32LE(at + 6)
    const order = bytes.latin1Slice(at, at + 2) + bytes.latin1Slice(at + 10, valueAt)
    const end = valueAt + Math.max(0, valueBytes)
    if (valueBytes < 0) entries.delete(order)
    else entries.set(order, bytes.subarray(at, end))
    at = end
  }
}
function write(header) {
  const hash = createHash('sha256')
  const out = openSync(file + '.part', 'w', 0o600)
  try {
    let waiting = []
    let size = 0
    const flush = () => {
      const bytes = Buffer.concat(waiting)
      waiting = []
      size = 0
      hash.update(bytes)
      for (let at = 0; at < bytes.length;) at += writeSync(out, bytes, at)
    }
    const put = bytes => {
      waiting.push(bytes)
      size += bytes.length
      if (size > 1048576) flush()
    }
    const u32 = value => { const bytes = Buffer.alloc(4); bytes.writeUInt32LE(value); return bytes }
    put(Buffer.from(magic))
    put(u32(header.length))
    put(header)
    put(u32(entries.size))
    for (const order of [...entries.keys()].sort()) put(entries.get(order))
    flush()
    writeSync(out, hash.digest())
    fsyncSync(out)
  } finally {
    closeSync(out)
  }
  renameSync(file + '.part', file)
}
`

export class SnapshotThread {
  readonly #worker: Worker
  readonly #done: Promise<number>

  /** `file` is where the snapshot goes; its directory is there. */
  constructor(file: string) {
    this.#worker = new Worker(WRITER, { eval: true, execArgv: [], workerData: { file, magic: SNAPSHOT_MAGIC } })
    this.#worker.unref()
    this.#done = new Promise((resolve, reject) => {
      this.#worker.once('message', ({ entries, error }: { readonly entries?: number, readonly error?: string }) => {
        if (entries === undefined) reject(new Error(error))
        else resolve(entries)
      })
      this.#worker.once('error', reject)
      this.#worker.once('exit', () => { reject(new Error('its thread ended')) })
    })
    this.#done.catch(() => undefined)
  }

  /** Takes a copy. A buffer that is handed over, the first of them, makes V8 throw away all code that counts on none ever being: nearly all that works on bytes. */
  take(chunk: Uint8Array): void {
    this.#worker.postMessage(chunk)
  }

  /** Resolves with the count of entries once the file is there. */
  finish(header: string): Promise<number> {
    this.#worker.postMessage(header)
    return this.#done
  }

  async stop(): Promise<void> {
    await this.#worker.terminate()
  }
}

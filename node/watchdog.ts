/**
 * The backstop behind contract execution: a thread that halts the process when the main thread stays inside one contract
 * call for too long. Nothing on the stuck thread can do that, and a call that never returns must never become a result: the
 * process ends by SIGKILL, after one line on stderr, and its replacement replays the log.
 *
 * The main thread counts calls in shared memory, odd while it is inside one; it reads no clock. The watching thread looks four
 * times in `limitMs` and counts looks, so that a process that was suspended as a whole is not halted when it wakes.
 */
import { Worker } from 'node:worker_threads'
import { CMeshError } from '../cmtp/errors.ts'

export interface WatchdogOptions {
  /** Longest one call may take in ms, 20 to 600,000; default 2,000. It is noticed within a quarter more. */
  readonly limitMs?: number
}

const DEFAULT_LIMIT_MS = 2_000
const LOOKS = 4

/** Index of each shared cell: the count, and which contract runs. */
const COUNT = 0
const CONTRACT = 1

/**
 * A source text, since a worker cannot load TypeScript where the sources run untranslated. Writes by file descriptor: a
 * worker's own stderr passes through the main thread. Names of contracts come as messages, each before its first call.
 */
const WATCHER = `
const { writeSync } = require('node:fs')
const { parentPort, workerData: { cells, limitMs, looks } } = require('node:worker_threads')
const contracts = new Map()
let seen = 0
let same = 0
parentPort.on('message', ([number, address]) => contracts.set(number, address))
setInterval(() => {
  const count = Atomics.load(cells, ${COUNT})
  same = count === seen && count % 2 !== 0 ? same + 1 : 0
  seen = count
  if (same < looks) return
  const call = 'a call of contract ' + contracts.get(Atomics.load(cells, ${CONTRACT}))
  try { writeSync(2, 'cmesh: halted by the watchdog: ' + call + ' did not return within ' + limitMs + ' ms\\n') }
  finally { process.kill(process.pid, 'SIGKILL') }
}, limitMs / looks)
`

export class Watchdog {
  readonly #limitMs: number
  readonly #cells = new Int32Array(new SharedArrayBuffer(2 * Int32Array.BYTES_PER_ELEMENT))
  /** Number of each contract that was ever entered. */
  readonly #numbers = new Map<string, number>()
  #last: string | undefined
  #worker: Worker | undefined

  /** Throws `CMESH_CONFIG_INVALID` for a limit out of range. */
  constructor(options: WatchdogOptions = {}) {
    this.#limitMs = options.limitMs ?? DEFAULT_LIMIT_MS
    if (!(this.#limitMs >= 20 && this.#limitMs <= 600_000)) {
      throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'limitMs', reason: 'it is not a number of ms from 20 to 600,000' })
    }
  }

  /** The main thread goes into a call of this contract. Calls do not nest. */
  readonly enter = (address: string): void => {
    if (address !== this.#last) this.#name(address)
    Atomics.add(this.#cells, COUNT, 1)
  }

  /** The main thread is back. */
  readonly leave = (): void => {
    Atomics.add(this.#cells, COUNT, 1)
  }

  /** Starts watching. Idempotent. The thread does not keep the process alive. */
  start(): void {
    if (this.#worker !== undefined) return
    this.#worker = new Worker(WATCHER, {
      eval: true, execArgv: [], workerData: { cells: this.#cells, limitMs: this.#limitMs, looks: LOOKS },
    })
    this.#worker.unref()
    for (const [address, number] of this.#numbers) this.#worker.postMessage([number, address])
  }

  /** Resolves when nobody watches any more. Idempotent; `start` may follow. */
  async stop(): Promise<void> {
    const worker = this.#worker
    this.#worker = undefined
    await worker?.terminate()
  }

  #name(address: string): void {
    let number = this.#numbers.get(address)
    if (number === undefined) {
      number = this.#numbers.size
      this.#numbers.set(address, number)
      this.#worker?.postMessage([number, address])
    }
    this.#last = address
    Atomics.store(this.#cells, CONTRACT, number)
  }
}

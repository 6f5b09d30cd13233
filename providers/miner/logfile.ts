/**
 * Requests from a log file of `<id>;<FQMN>` lines (see `lines.ts`), followed as it grows and is rotated (see `tail.ts`).
 * The position is kept in the data directory (see `checkpoint.ts`), so that a new process resumes where the last left off.
 *
 * Invariants: at least once, plainly: after a crash the entries since the last checkpoint come again, at most a second's
 * worth and those under way; never more than `maxInFlight` entries lie between the position and what was read, and nothing
 * is read while they do; an entry that cannot be carried out is given up after `maxTries` and reported, so that one line
 * never holds up the rest for good.
 */
import { setMaxListeners } from 'node:events'
import path from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import type { MinerEntry, MinerHandler, MinerOutcome, MinerSource, MinerSourceStats } from '../../services/miner/provider.ts'
import { CheckpointFile } from './checkpoint.ts'
import { reasonOf } from './file-errors.ts'
import { Garbage } from './garbage.ts'
import { LineSplitter, parseLine, type Line } from './lines.ts'
import { Progress } from './progress.ts'
import { Tail, type TailedFile, type TailStep } from './tail.ts'
import { Wake } from './wake.ts'

export interface LogfileSourceOptions {
  /** The log file. It may not exist yet. */
  readonly path: string
  /** Where the checkpoint is kept, in `miner/` below it. */
  readonly dataDir: string
  /** Entries under way, 1 to 1,024. Default 128. */
  readonly maxInFlight?: number
  /** How often the file is looked at beside what the system tells of it, in ms, 10 to 60,000. Default 500. */
  readonly pollMs?: number
  /** How long a file that was rotated away must be quiet before the next one is read, in ms. Default 1,000. */
  readonly rotateWaitMs?: number
  /** How often the position is written down, in ms. Default 1,000. */
  readonly checkpointMs?: number
  /** How often an entry is tried before it is given up, 1 and up. Default 8. */
  readonly maxTries?: number
  /** Wait after the first failed try, in ms; doubled after each further one, at most 5,000. Default 100. */
  readonly retryDelayMs?: number
}

export interface LogfileSourceParts {
  readonly onFailure: (failure: CMeshError) => void
  /** Monotonic, in ms. Default `performance.now`. */
  readonly now?: () => number
  /** Calls back every so many ms until what it returns is called. Default `setInterval`, which does not hold the process. */
  readonly every?: (ms: number, callback: () => void) => () => void
  /** Whether to have the system tell of changes. Where it cannot, looking now and then is enough. Default true. */
  readonly watch?: boolean
}

const RETRY_DELAY_MOST_MS = 5_000
const GONE = 'the file that was being read is gone; the one there now is read from its beginning'

export class LogfileSource implements MinerSource {
  readonly name = 'logfile'
  readonly #options: Required<LogfileSourceOptions>
  readonly #parts: Required<LogfileSourceParts>
  readonly #garbage: Garbage
  readonly #checkpoint: CheckpointFile
  readonly #tail: Tail
  readonly #lines = new LineSplitter()
  readonly #stopping = new AbortController()
  readonly #underWay = new Set<Promise<void>>()
  readonly #undo: (() => void)[] = []
  readonly #wake: Wake
  #file: TailedFile | undefined
  #progress: Progress<TailedFile> | undefined
  #saved = ''
  #saving: Promise<void> = Promise.resolve()
  #running: Promise<void> = Promise.resolve()
  #started: Promise<void> | undefined
  #stopped: Promise<void> | undefined
  #done = 0
  #retried = 0
  #abandoned = 0

  constructor(parts: LogfileSourceParts, options: LogfileSourceOptions) {
    this.#options = {
      maxInFlight: 128, pollMs: 500, rotateWaitMs: 1_000, checkpointMs: 1_000, maxTries: 8, retryDelayMs: 100,
      ...options, path: path.resolve(options.path),
    }
    this.#parts = { now: () => performance.now(), every: everyByTimer, watch: true, ...parts }
    const { now, onFailure } = this.#parts
    this.#wake = new Wake(this.#options.path, this.#parts.watch)
    // As many listeners as there are waits under way, which is bounded elsewhere.
    setMaxListeners(0, this.#stopping.signal)
    this.#garbage = new Garbage({ source: 'log file', onFailure, now })
    this.#checkpoint = new CheckpointFile(options.dataDir, this.#options.path)
    this.#tail = new Tail({ path: this.#options.path, rotateWaitMs: this.#options.rotateWaitMs, now })
  }

  /** Where the position is kept. */
  get checkpointPath(): string {
    return this.#checkpoint.path
  }

  /** Resolves when the file is followed, or waited for. Rejects with `CMESH_CONFIG_INVALID` when it cannot be taken up again. */
  start(handler: MinerHandler): Promise<void> {
    this.#started ??= this.#start(handler)
    return this.#started
  }

  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  stats(): MinerSourceStats {
    const position = this.#progress?.position
    // While entries of a file rotated away are under way, all of the new one waits.
    const behind = position === undefined ? 0 : this.#tail.size - (position.file === this.#file ? position.offset : 0)
    return {
      done: this.#done,
      retried: this.#retried,
      abandoned: this.#abandoned,
      garbage: this.#garbage.count,
      inFlight: this.#underWay.size,
      lag: Math.max(0, behind),
      lagUnit: 'bytes',
      reports: this.#garbage.reports,
    }
  }

  async #start(handler: MinerHandler): Promise<void> {
    try {
      const checkpoint = await this.#checkpoint.read()
      const resumed = checkpoint === undefined ? undefined : await this.#tail.resume(checkpoint)
      if (resumed !== undefined) this.#begin(resumed)
      else if (checkpoint !== undefined) this.#garbage.report(this.#options.path, GONE)
    } catch (thrown) {
      await this.#tail.close()
      const where = `${this.#checkpoint.path}, where its position is kept, or the file itself`
      const reason = `${where} cannot be read: ${reasonOf(thrown)}`
      throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'miner.logFile', reason }, { cause: thrown })
    }
    if (this.#stopping.signal.aborted) {
      await this.#tail.close()
      throw new CMeshError('CMESH_ROUTER_DRAINING')
    }
    this.#undo.push(this.#parts.every(this.#options.pollMs, () => {
      this.#wake.watch()
      this.#wake.wake()
    }))
    this.#undo.push(this.#parts.every(this.#options.checkpointMs, () => { this.#save() }))
    this.#wake.watch()
    this.#running = this.#run(handler)
  }

  async #stop(): Promise<void> {
    this.#stopping.abort()
    this.#wake.wake()
    await this.#started?.catch(() => undefined)
    for (const undo of this.#undo.splice(0)) undo()
    this.#wake.close()
    await this.#running
    await Promise.all([...this.#underWay])
    this.#save()
    await this.#saving
    await this.#tail.close()
  }

  async #run(handler: MinerHandler): Promise<void> {
    while (!this.#stopping.signal.aborted) {
      const step = await this.#step()
      if (step.kind === 'begin') this.#begin(step)
      else if (step.kind === 'bytes') await this.#take(step.bytes, handler)
      else await this.#wake.sleep()
    }
  }

  async #step(): Promise<TailStep> {
    try {
      return await this.#tail.read()
    } catch (thrown) {
      // No reason to stop: permissions are mended, disks come back. It is looked at again at the next poll.
      this.#garbage.report(this.#options.path, `it cannot be read: ${reasonOf(thrown)}`)
      return { kind: 'end' }
    }
  }

  #begin(step: TailStep): void {
    if (step.kind !== 'begin') return
    // Half a line means something else than the whole: it is no entry, and its other half will not come.
    if (this.#lines.unfinished) {
      this.#garbage.add(this.#placeOf(this.#lines.start), `the line does not end, and the file was ${step.because}`)
    }
    this.#file = step.file
    this.#lines.reset(step.offset)
    if (this.#progress === undefined) this.#progress = new Progress<TailedFile>(step)
    else this.#progress.pass(step.file, step.offset)
  }

  async #take(bytes: Uint8Array, handler: MinerHandler): Promise<void> {
    const [progress, file] = [this.#progress, this.#file]
    if (progress === undefined || file === undefined) return
    for (const line of this.#lines.push(bytes)) {
      const parsed = parseLine(line)
      if (parsed.kind === 'entry') {
        while (progress.open >= this.#options.maxInFlight && !this.#stopping.signal.aborted) await this.#wake.sleep()
        if (this.#stopping.signal.aborted) return
        this.#dispatch({ id: parsed.id, fqmn: parsed.fqmn }, line, progress.begin(file, line.end), handler)
      } else {
        if (parsed.kind === 'garbage') this.#garbage.add(this.#placeOf(line.start), parsed.reason)
        progress.pass(file, line.end)
      }
    }
  }

  #dispatch(entry: MinerEntry, line: Line, over: () => void, handler: MinerHandler): void {
    const place = this.#placeOf(line.start)
    const working = this.#work(entry, place, handler).then(ended => {
      this.#underWay.delete(working)
      if (ended) over()
      this.#wake.wake()
    })
    this.#underWay.add(working)
  }

  /** Whether the entry is over; `false` when it must come again with the next process. */
  async #work(entry: MinerEntry, place: string, handler: MinerHandler): Promise<boolean> {
    const { maxTries, retryDelayMs } = this.#options
    for (let tries = 1; ; tries++) {
      const outcome = await this.#try(entry, handler)
      if (outcome === 'done') {
        this.#done++
        return true
      }
      if (outcome !== 'retry') {
        this.#garbage.add(place, outcome.garbage)
        return true
      }
      this.#retried++
      if (this.#stopping.signal.aborted) return false
      if (tries >= maxTries) {
        this.#abandoned++
        this.#garbage.report(place, `given up after ${tries} tries`)
        return true
      }
      const { signal } = this.#stopping
      // Rejects only by the signal, which ends the wait.
      await delay(Math.min(RETRY_DELAY_MOST_MS, retryDelayMs * 2 ** (tries - 1)), undefined, { signal }).catch(() => undefined)
      if (signal.aborted) return false
    }
  }

  async #try(entry: MinerEntry, handler: MinerHandler): Promise<MinerOutcome> {
    try {
      return await handler(entry)
    } catch (thrown) {
      this.#parts.onFailure(CMeshError.from(thrown, 'miner'))
      return 'retry'
    }
  }

  /** Writes the position down if it moved, one write after the other. */
  #save(): void {
    this.#saving = this.#saving.then(async () => {
      const position = this.#progress?.position
      if (position === undefined) return
      const { dev, ino, fingerprint } = position.file
      const key = `${dev} ${ino} ${position.offset} ${fingerprint.sha256}`
      if (key === this.#saved) return
      await this.#checkpoint.write({ version: 1, path: this.#options.path, dev, ino, offset: position.offset, fingerprint })
      this.#saved = key
    }).catch((thrown: unknown) => {
      // The next time comes soon; until then a crash means reading more of the file again.
      this.#garbage.report(this.#checkpoint.path, `the position cannot be written: ${reasonOf(thrown)}`)
    })
  }

  #placeOf(offset: number): string {
    return `byte ${offset} of ${this.#options.path}`
  }
}

function everyByTimer(ms: number, callback: () => void): () => void {
  const timer = setInterval(callback, ms).unref()
  return () => { clearInterval(timer) }
}

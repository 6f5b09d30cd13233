/**
 * What was revoked, one JSON line an entry: `<data.dir>/iam/revoked.jsonl`. A line that was torn by a kill is skipped; what nothing can
 * match any more is left out when the file is read, which rewrites it, and after every 10,000 entries.
 */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { appendFile } from 'node:fs/promises'
import path from 'node:path'
import { isRevocationEntry } from '../services/iam/feed-message.ts'
import type { RevocationEntry, RevocationLog } from '../services/iam/revocation-log.ts'

const FILE = 'revoked.jsonl'
/** Entries that are appended before the file is rewritten without what is too old. */
const COMPACT_AFTER = 10_000

export class RevocationFile implements RevocationLog {
  readonly #file: string
  readonly #keepMs: number
  readonly #now: () => number
  /** The last append: one at a time, so that lines never mix. */
  #tail: Promise<void> = Promise.resolve()
  #appended = 0
  /** The last append failed, perhaps half-way: the next begins on a line of its own. */
  #torn = false

  /** `keepMs`: the longest life of a token; `now`: ms since 1970. `dir` is made when it is first needed. */
  constructor(dir: string, keepMs: number, now: () => number) {
    this.#file = path.join(dir, FILE)
    this.#keepMs = keepMs
    this.#now = now
  }

  load(): readonly RevocationEntry[] {
    let text: string
    try {
      text = readFileSync(this.#file, 'utf8')
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    }
    const after = this.#now() - this.#keepMs
    const entries = text.split('\n').map(parse).filter(entry => entry !== undefined).filter(({ atMs }) => atMs >= after)
    const beside = `${this.#file}.${process.pid}`
    writeFileSync(beside, entries.map(line).join(''), { mode: 0o600, flush: true })
    renameSync(beside, this.#file)
    return entries
  }

  append(entry: RevocationEntry): Promise<void> {
    const write = this.#tail.then(async () => {
      mkdirSync(path.dirname(this.#file), { recursive: true, mode: 0o700 })
      const text = this.#torn ? `\n${line(entry)}` : line(entry)
      this.#torn = true
      await appendFile(this.#file, text, { mode: 0o600 })
      this.#torn = false
    })
    this.#tail = write.then(() => {
      // What is too old only takes room: where it cannot be left out now, it is at the next start.
      if (++this.#appended % COMPACT_AFTER === 0) this.load()
    }).catch(() => undefined)
    return write
  }
}

function line(entry: RevocationEntry): string {
  return `${JSON.stringify(entry)}\n`
}

function parse(text: string): RevocationEntry | undefined {
  try {
    const value: unknown = JSON.parse(text)
    return isRevocationEntry(value) ? value : undefined
  } catch {
    return undefined
  }
}

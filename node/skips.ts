/**
 * Skips in a data directory: `skips/*.json` are those that the node takes up when it starts, put there by `cmesh consensus skip`; `halted.json`
 * says where it halted, until its log goes further. A file that cannot be used is told of and left.
 */
import { closeSync, existsSync, fsyncSync, mkdirSync, openSync, readdirSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs'
import path from 'node:path'
import { checkHalt, checkSkip, HALT_FILE, SKIP_DIRECTORY, type Halt, type Skip } from '../cmtp/skip.ts'
import type { Log } from '../services/log.ts'
import type { KeptSkips } from '../services/state/skips.ts'

export class FileSkips implements KeptSkips {
  readonly all: readonly Skip[]
  readonly #dir: string
  readonly #log: Pick<Log, 'error'>

  constructor(dir: string, log: Pick<Log, 'error'>) {
    this.#dir = dir
    this.#log = log
    const skips = path.join(dir, SKIP_DIRECTORY)
    const names = existsSync(skips) ? readdirSync(skips).filter(name => name.endsWith('.json')).sort() : []
    this.all = names.flatMap(name => {
      const file = path.join(skips, name)
      try {
        return [checkSkip(JSON.parse(readFileSync(file, 'utf8')))]
      } catch (error) {
        log.error({ err: error, file }, 'a file of skips cannot be used')
        return []
      }
    })
  }

  halted(halt: Halt): void {
    const file = path.join(this.#dir, HALT_FILE)
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 })
    const handle = openSync(`${file}.new`, 'w', 0o600)
    try {
      writeSync(handle, `${JSON.stringify(halt)}\n`)
      fsyncSync(handle)
    } finally {
      closeSync(handle)
    }
    renameSync(`${file}.new`, file)
  }

  passed(seq: number): void {
    const file = path.join(this.#dir, HALT_FILE)
    if (!existsSync(file)) return
    try {
      if (checkHalt(JSON.parse(readFileSync(file, 'utf8'))).seq <= seq) rmSync(file)
    } catch (error) {
      this.#log.error({ err: error, file }, 'what was noted of a halt cannot be used')
    }
  }
}

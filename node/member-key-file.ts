/** The keys that other nodes sign tokens with, in one file that is replaced whole: `<data.dir>/iam/members.json`. No secrets: whatever it holds is verified again. */
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { isMemberKeySet } from '../services/iam/feed-message.ts'
import type { MemberKeySet, MemberKeyStore } from '../services/iam/member-keys.ts'

const FILE = 'members.json'

export class MemberKeyFile implements MemberKeyStore {
  readonly #file: string

  /** `dir` is made when something is first saved. */
  constructor(dir: string) {
    this.#file = path.join(dir, FILE)
  }

  /** Nothing where the file cannot be read: the others are asked again. */
  load(): readonly MemberKeySet[] {
    let value: unknown
    try {
      value = JSON.parse(readFileSync(this.#file, 'utf8'))
    } catch (error) {
      if (error instanceof SyntaxError || (error as NodeJS.ErrnoException).code === 'ENOENT') return []
      throw error
    }
    const { version, members } = (typeof value === 'object' && value !== null ? value : {}) as { version?: unknown, members?: unknown }
    return version === 1 && Array.isArray(members) ? members.filter(isMemberKeySet) : []
  }

  save(members: readonly MemberKeySet[]): void {
    mkdirSync(path.dirname(this.#file), { recursive: true, mode: 0o700 })
    const beside = `${this.#file}.${process.pid}`
    writeFileSync(beside, `${JSON.stringify({ version: 1, members })}\n`, { mode: 0o600, flush: true })
    renameSync(beside, this.#file)
  }
}

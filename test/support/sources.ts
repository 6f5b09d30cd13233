/** The project's own sources, for tests that hold a catalogue to its use. */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const ROOMS = ['cmtp', 'services', 'providers', 'node', 'client']

export interface Source {
  /** Relative to the root. */
  readonly file: string
  readonly text: string
}

/** Every source that is no test. */
export function sources(): Source[] {
  return ROOMS.flatMap(room => readdirSync(path.join(ROOT, room), { recursive: true, withFileTypes: true }))
    .filter(entry => entry.isFile() && /\.(ts|mjs)$/.test(entry.name))
    .map(entry => path.join(entry.parentPath, entry.name))
    .map(file => ({ file: path.relative(ROOT, file), text: readFileSync(file, 'utf8') }))
}

/** The text of every source that is no test, save `except` (relative to the root). */
export function sourceText(except: string): string {
  return sources().filter(({ file }) => file !== except).map(({ text }) => text).join('\n')
}

/** A file of the project as text. */
export function projectFile(file: string): string {
  return readFileSync(path.join(ROOT, file), 'utf8')
}

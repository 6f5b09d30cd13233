/** The project's own sources, for tests that hold a catalogue to its use. */
import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'

export const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const ROOMS = ['cmtp', 'services', 'providers', 'node', 'client']

/** The text of every source that is no test, save `except` (relative to the root). */
export function sourceText(except: string): string {
  return ROOMS.flatMap(room => readdirSync(path.join(ROOT, room), { recursive: true, withFileTypes: true }))
    .filter(entry => entry.isFile() && /\.(ts|mjs)$/.test(entry.name))
    .map(entry => path.join(entry.parentPath, entry.name))
    .filter(file => path.relative(ROOT, file) !== except)
    .map(file => readFileSync(file, 'utf8')).join('\n')
}

/** A file of the project as text. */
export function projectFile(file: string): string {
  return readFileSync(path.join(ROOT, file), 'utf8')
}

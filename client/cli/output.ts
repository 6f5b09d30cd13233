/** Files that a command writes because it was told to. */
import { writeFile } from 'node:fs/promises'
import { resolve } from 'node:path'
import { usage } from '../options.ts'

/** Writes a file for its owner alone and gives where it is. Throws `CMESH_CLIENT_USAGE`. */
export async function writeOutput(file: string, bytes: Uint8Array): Promise<string> {
  const path = resolve(file)
  try {
    await writeFile(path, bytes, { mode: 0o600 })
  } catch (cause) {
    throw usage(`${file} cannot be written: ${cause instanceof Error ? cause.message : String(cause)}.`)
  }
  return path
}

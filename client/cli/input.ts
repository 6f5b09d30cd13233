/** What a command reads besides its arguments: a file, or standard input. */
import { readFile } from 'node:fs/promises'
import { buffer } from 'node:stream/consumers'
import { usage } from '../options.ts'

/** The bytes of a file, or of standard input for `-`. Throws `CMESH_CLIENT_USAGE`. */
export async function readInput(file: string): Promise<Uint8Array> {
  try {
    return file === '-' ? await buffer(process.stdin) : await readFile(file)
  } catch (cause) {
    throw usage(`${file === '-' ? 'Standard input' : file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.`)
  }
}

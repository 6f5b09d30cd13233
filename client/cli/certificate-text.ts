/** The certificate by which a node speaks for a mesh whose key is another's, as the commands that read its data directory need it. */
import { existsSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { readInput } from './input.ts'

/** The text of a node's certificate: of the file named, or of the one that a cluster keeps in the data directory. */
export async function certificateText(dir: string, named: string | undefined): Promise<string | undefined> {
  const file = named === undefined ? join(dir, 'certificate') : resolve(named)
  return named !== undefined || existsSync(file) ? Buffer.from(await readInput(file)).toString('utf8') : undefined
}

/** What a load consists of: addresses in turn, from a list or from a log of requests (`<id>;<FQMN>` a line). */
import { readFile } from 'node:fs/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import { parseFqmn } from '../../cmtp/fqmn.ts'
import type { MeshClient } from '../mesh-client.ts'
import { usage } from '../options.ts'

/** A view, a view by name, and the newest event of a contract: what a mesh is asked most. */
export const DEFAULT_MIX: readonly string[] = Object.freeze([
  '0xS:0x001:blah_blah', '0xR:helloWorldExample.mcom', '0xE:events.state.contracts.0x001.blah_blah:read',
])

/** The name in the default mix, and what it is to stand for where nobody has claimed it yet. */
const MIX_NAME = { name: 'helloWorldExample.mcom', target: '0xS:0x001:hello_world' }

/** Claims the name that the default mix asks for, unless it is taken. Resolves with whether it did. Rejects like `register`. */
export async function claimMixName(client: Pick<MeshClient, 'register' | 'resolve'>): Promise<boolean> {
  try {
    await client.resolve(MIX_NAME.name)
    return false
  } catch (error) {
    if (!(error instanceof CMeshError) || error.code !== 'CMESH_REGISTRAR_NOT_FOUND') throw error
  }
  await client.register(MIX_NAME.name, MIX_NAME.target)
  return true
}

/** Most addresses read from a log. */
const LOG_LINES = 1_000_000

/** Checks every address, so that a typing error is not found thirty thousand times. Throws `CMESH_FQMN_*`, `CMESH_CLIENT_USAGE`. */
export function checkMix(mix: readonly string[]): readonly string[] {
  if (mix.length === 0) throw usage('A mix has at least one address.')
  for (const fqmn of mix) parseFqmn(fqmn)
  return mix
}

/** The addresses of a request log, in its order. Lines that are none are counted, not sent. */
export async function readLog(file: string): Promise<{ readonly mix: readonly string[], readonly skipped: number }> {
  let text: string
  try {
    text = await readFile(file, 'utf8')
  } catch (cause) {
    throw usage(`The request log ${file} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}.`)
  }
  const mix: string[] = []
  let skipped = 0
  for (const line of text.split('\n')) {
    if (line === '') continue
    const fqmn = line.slice(line.indexOf(';') + 1).trimEnd()
    if (!line.includes(';') || !isFqmn(fqmn)) skipped++
    else if (mix.length < LOG_LINES) mix.push(fqmn)
  }
  if (mix.length === 0) throw usage(`The request log ${file} has no line <id>;<FQMN>.`)
  return { mix, skipped }
}

function isFqmn(text: string): boolean {
  try {
    parseFqmn(text)
    return true
  } catch {
    return false
  }
}

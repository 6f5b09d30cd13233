/**
 * Roots that others hold of a node's log: those on the channel `audit`, which nodes publish as they make them and every replica of the events
 * keeps, and those in files that somebody kept. They go into one file, record behind record, for the process that has the log.
 */
import { open } from 'node:fs/promises'
import { CMeshError } from '../../cmtp/errors.ts'
import { decodeReceipt } from '../../cmtp/receipt/receipt.ts'
import { ROOT_RECORD_BYTES } from '../../cmtp/receipt/root.ts'
import { usage } from '../options.ts'
import type { MeshClient } from '../mesh-client.ts'
import type { ChannelEvent } from '../subscription.ts'

const CHANNEL = 'audit'
/** Events asked for at once; as many come as fit into a reply. */
const PAGE = 1_000

/** Adds all roots that are on the channel now to a file. `onProgress` is told how many events of how many were read. */
export async function writeRoots(client: MeshClient, file: string, signal: AbortSignal, onProgress: (done: number, of: number) => void): Promise<void> {
  const out = await open(file, 'a', 0o600)
  try {
    const newest = await newestOf(client, signal)
    for (let from = 1; from <= newest;) {
      const events = await client.range(CHANNEL, { from, to: newest, limit: PAGE }, { signal })
      const last = events.at(-1)
      if (last === undefined) return
      await out.write(Buffer.concat(events.flatMap(recordsOf)))
      from = last.seq + 1
      onProgress(last.seq, newest)
    }
  } finally {
    await out.close()
  }
}

/** The root records in what somebody kept: a receipt, or events of the channel as `cmesh events` prints them with `--json`. Throws `CMESH_CLIENT_USAGE`. */
export function keptRecords(bytes: Uint8Array, file: string): Buffer {
  const text = Buffer.from(bytes)
  if (text.toString('latin1', 0, 4) === 'CMRC') return Buffer.from(decodeReceipt(bytes).root)
  try {
    const events = text.toString('utf8').split('\n').filter((line) => line !== '').flatMap((line) => JSON.parse(line) as ChannelEvent | ChannelEvent[])
    return Buffer.concat(events.flatMap(recordsOf))
  } catch (cause) {
    throw usage(`${file} is neither a receipt nor events as cmesh events tail audit --json prints them: ${cause instanceof Error ? cause.message : String(cause)}.`)
  }
}

/** The sequence of the newest event; 0 where there was none. */
async function newestOf(client: MeshClient, signal: AbortSignal): Promise<number> {
  try {
    return (await client.latest(CHANNEL, { signal })).seq
  } catch (error) {
    if (error instanceof CMeshError && error.code === 'CMESH_EVENTS_NO_CHANNEL') return 0
    throw error
  }
}

/** The root records in an event: none in one that tells of something else. */
function recordsOf({ data }: ChannelEvent): Buffer[] {
  if (typeof data !== 'string' || !data.startsWith('{')) return []
  const { roots } = JSON.parse(data) as { readonly roots?: unknown }
  if (!Array.isArray(roots)) return []
  return (roots as readonly { readonly record?: unknown }[]).map(({ record }) => Buffer.from(String(record), 'base64url')).filter(({ length }) => length === ROOT_RECORD_BYTES)
}

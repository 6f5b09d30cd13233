/**
 * Where the node's nats-server comes from. It turns what the set-up code finds into a binary or a coded error; the looking and
 * the obtaining themselves are shared with `npm run setup`, which runs before this file is compiled.
 */
import { CMeshError } from '../../cmtp/errors.ts'
import { type Environment, locate, type NatsServer } from '../setup/nats-locate.mjs'
import { obtain } from '../setup/nats-obtain.mjs'

export type { NatsServer } from '../setup/nats-locate.mjs'

export interface LocateOptions {
  /** Whether to obtain a server when the machine has none: the official release, then Debian's package. Default true. */
  readonly obtain?: boolean
  /** Told what is being done when a server must be obtained, one line each. */
  readonly log?: (line: string) => void
  /** Default `process.env`: NATS_SERVER_BIN, PATH, HOME and XDG_CACHE_HOME are read. */
  readonly env?: Environment
}

/**
 * Resolves with a nats-server of at least 2.9.0. Rejects with `CMESH_CONFIG_INVALID` when NATS_SERVER_BIN names a binary that
 * cannot be used (there is no fallback then), and with `CMESH_BROKER_NOT_FOUND` when none was found or could be obtained.
 */
export async function locateNatsServer(options: LocateOptions = {}): Promise<NatsServer> {
  const env = options.env ?? process.env
  const located = await locate({ env })
  if (located.found !== undefined) return located.found
  if (located.invalid !== undefined) {
    throw new CMeshError('CMESH_CONFIG_INVALID', { key: 'NATS_SERVER_BIN', reason: located.invalid })
  }
  if (options.obtain === false) throw notFound(located.tried)
  const obtained = await obtain({ env, ...(options.log && { log: options.log }) })
  if (obtained.found !== undefined) return obtained.found
  throw notFound([...located.tried, ...obtained.tried])
}

function notFound(tried: readonly string[]): CMeshError {
  return new CMeshError('CMESH_BROKER_NOT_FOUND', { tried: tried.join('; ') })
}

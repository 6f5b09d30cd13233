/** What the clients on one connection share, and what each has of its own. */
import type { CMeshError } from '../cmtp/errors.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import type { MessageIds } from '../cmtp/message-id.ts'
import type { TraceHeaders } from './call.ts'
import { Coalescer } from './coalescer.ts'
import type { Connection } from './connection.ts'
import { EncodedEntries } from './encoded-entries.ts'
import type { ResolvedRequestDefaults } from './options.ts'
import type { SessionKeeper } from './session.ts'

/** What the clients on one connection have in common. */
export interface SharedParts {
  readonly connection: Connection
  readonly ids: MessageIds
  readonly entries: EncodedEntries
  /** `undefined`: each request has a frame of its own. */
  readonly coalescer: Coalescer | undefined
  /** Session of the client that owns the connection. */
  readonly gateway: SessionKeeper
  /** Clients that were opened on the connection beside its owner, and are not closed. */
  readonly carried: Set<{ close(): Promise<void> }>
  readonly defaults: ResolvedRequestDefaults
  readonly trace: TraceHeaders | undefined
  readonly drainMs: number
  readonly onWarning: (error: CMeshError) => void
}

export interface MeshClientParts extends SharedParts {
  /** The gateway's own, or one that it carries. */
  readonly sessions: SessionKeeper
  readonly identity: KeyPair
  /** Aborted by `close`. */
  readonly closing: AbortController
}

export function shareConnection({ coalesce, ...parts }: Omit<SharedParts, 'entries' | 'coalescer' | 'carried'> & { readonly coalesce: boolean }): SharedParts {
  const entries = new EncodedEntries()
  return { ...parts, entries, carried: new Set(), coalescer: coalesce ? new Coalescer({ ...parts, entries }) : undefined }
}

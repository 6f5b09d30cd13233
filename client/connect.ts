/**
 * From options to a client with a session: finds the mesh, loads the identity, connects and shakes hands. What it started is
 * undone when a later step fails.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { CMeshError } from '../cmtp/errors.ts'
import { KeyPair } from '../cmtp/identity/keys.ts'
import type { LoginOptions } from '../cmtp/identity/login.ts'
import { MessageIds } from '../cmtp/message-id.ts'
import type { TraceHeaders } from './call.ts'
import { Connection } from './connection.ts'
import { locateMesh, type MeshLocation } from './descriptor.ts'
import type { SessionMemory } from './handshakes.ts'
import { configDirectory, DEFAULT_IDENTITY, IdentityStore } from './identity-store.ts'
import { MeshClient } from './mesh-client.ts'
import {
  anything, boolean, checkOptions, CONNECTION_CHECKS, REQUEST_CHECKS, resolveConnectionDefaults, resolveRequestDefaults, text,
  type ConnectionDefaults, type RequestDefaults,
} from './options.ts'
import { pauseBeforeRetry } from './retry.ts'
import { SessionKeeper } from './session.ts'
import { shareConnection } from './shared-connection.ts'

export interface ConnectOptions extends MeshLocation, RequestDefaults, ConnectionDefaults {
  /**
   * Who to act as: a key pair, or the name of an identity under the user's config directory, made when there is none.
   * Default `default`. Sessions are kept beside named identities and taken up again while they are valid.
   */
  readonly identity?: KeyPair | string | undefined
  /** Where named identities are. Default: `CMESH_CONFIG_DIR`, then `cmesh` under `XDG_CONFIG_HOME` or `~/.config`. */
  readonly configDir?: string | undefined
  /** Whether the session of a named identity is kept for the next run. Default true. */
  readonly keepSession?: boolean | undefined
  /** DID of the mesh, to refuse any other. Default: the one in the descriptor, where the mesh was found by it. */
  readonly mesh?: string | undefined
  /**
   * Shown exactly what a new session grants (mesh, DID, permissions, attributes the mesh keeps, lifetime) before it is signed; false
   * declines, and the handshake is refused. The mesh waits 60 s for it. Default: consents.
   */
  readonly approve?: LoginOptions['approve'] | undefined
  /** Makes presentations of credentials for a handshake: at most 4, for `audience`, each bound to `transcript`. Default: none. */
  readonly present?: LoginOptions['present'] | undefined
  /**
   * Where the mesh's identity provider wants a person to act (docs/irma.md): shows the person what they are to open on their phone, and
   * resolves with the four digits that the app then shows. Called at each handshake, also at those after a lost session. What it
   * rejects with, the handshake does. Default: such a mesh refuses this client.
   */
  readonly onChallenge?: LoginOptions['onChallenge'] | undefined
  /**
   * Asked for each request: gives the headers that say which trace it belongs to, such as those of OpenTelemetry's `propagation.inject`. Headers of
   * the request itself win. Default: requests say nothing of a trace but what their own headers say.
   */
  readonly trace?: TraceHeaders | undefined
  /** Gives up connecting; once connected it means nothing. */
  readonly signal?: AbortSignal | undefined
  /** Told of what no caller can be told, such as a handler that threw. It must not throw. Default: a process warning. */
  readonly onWarning?: ((error: CMeshError) => void) | undefined
}

const CHECKS = {
  url: text, dataDir: text, identity: anything, configDir: text, keepSession: boolean, mesh: text,
  approve: anything, present: anything, onChallenge: anything, trace: anything, signal: anything, onWarning: anything,
  ...REQUEST_CHECKS, ...CONNECTION_CHECKS,
}

/**
 * Resolves with a client that holds a session. Rejects with `CMESH_CLIENT_NO_MESH` (not found, its broker takes no newcomers, or
 * nothing answers within `connectTimeoutMs`), `CMESH_CLIENT_ABORTED`, `CMESH_CLIENT_USAGE`, `CMESH_CLIENT_CREDENTIALS`, `CMESH_IAM_HANDSHAKE`,
 * `CMESH_IAM_FORGED`, `CMESH_IAM_UPSTREAM`. Once connected the client reconnects for ever, and shakes hands again when it must. The caller
 * closes it.
 */
export async function connect(options: ConnectOptions = {}): Promise<MeshClient> {
  checkOptions('connect', options, CHECKS)
  const defaults = resolveRequestDefaults(options)
  const { name, connectTimeoutMs, maxInFlight, drainMs, coalesce } = resolveConnectionDefaults(options)
  const onWarning = options.onWarning ?? ((error: CMeshError) => process.emitWarning(error))

  const { url, descriptor } = await locateMesh(options)
  const store = new IdentityStore(options.configDir ?? configDirectory())
  const identityName = typeof options.identity === 'string' ? options.identity : DEFAULT_IDENTITY
  const identity = options.identity instanceof KeyPair ? options.identity : await store.loadOrCreateIdentity(identityName)
  const memory = options.identity instanceof KeyPair || options.keepSession === false ? undefined : memoryOf(store, url, identityName)

  const connection = new Connection({ url, name, connectTimeoutMs, maxInFlight, onWarning })
  const ids = new MessageIds()
  const closing = new AbortController()
  const { approve, present, onChallenge } = options
  const person = { ...(approve !== undefined && { approve }), ...(present !== undefined && { present }), ...(onChallenge !== undefined && { onChallenge }) }
  const sessions = new SessionKeeper({
    connection, ids, identity, mesh: options.mesh ?? descriptor?.did, memory, person, firstStepMs: connectTimeoutMs, onWarning, now: Date.now,
  })
  try {
    await unlessAborted(firstSession(sessions, url, connectTimeoutMs), options.signal)
  } catch (error) {
    sessions.close()
    await connection.close()
    throw error
  }
  const shared = shareConnection({ connection, ids, gateway: sessions, coalesce, defaults, drainMs, trace: options.trace, onWarning })
  return new MeshClient({ ...shared, sessions, identity, closing })
}

/** A broker may be up before its node is: tries until a node answers or the time is up. */
async function firstSession(sessions: SessionKeeper, url: string, withinMs: number): Promise<void> {
  const untilMs = performance.now() + withinMs
  for (let tries = 1; ; tries++) {
    try {
      await sessions.ensure()
      return
    } catch (thrown) {
      const error = CMeshError.from(thrown, 'the handshake')
      // Where no broker answers, or none that takes newcomers, there is nothing to wait for.
      const pauseMs = error.code === 'CMESH_CLIENT_NO_MESH' ? undefined : pauseBeforeRetry(error, tries, untilMs - performance.now())
      if (pauseMs === undefined) throw error.code === 'CMESH_BUS_NO_RESPONDERS' || error.code === 'CMESH_BUS_TIMEOUT' ? silent(url, error) : error
      await delay(pauseMs)
    }
  }
}

/** The work's result, unless the caller gives up first. */
function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      reject(new CMeshError('CMESH_CLIENT_ABORTED', {}, { cause: signal.reason }))
      // A failure that comes now has nobody left to tell.
      work.catch(() => undefined)
    }
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
  })
}

function silent(url: string, cause: CMeshError): CMeshError {
  return new CMeshError('CMESH_CLIENT_NO_MESH', { url, reason: 'the broker is there, but no node answers' }, { cause })
}

function memoryOf(store: IdentityStore, url: string, identity: string): SessionMemory {
  return {
    load: () => store.loadSession(url, identity),
    save: (session) => store.saveSession(url, identity, session),
    forget: () => store.removeSession(url, identity),
  }
}

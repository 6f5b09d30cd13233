/**
 * Makes sure that a stream exists as its owner wants it: made when missing, brought up to date when it differs, refused
 * with a coded error when the broker cannot change what differs. It never deletes a stream or a message.
 */
import { setTimeout as delay } from 'node:timers/promises'
import { JetStreamApiCodes, JetStreamApiError, jetstreamManager } from '@nats-io/jetstream'
import type { JetStreamManager, StreamConfig, StreamInfo } from '@nats-io/jetstream'
import { CMeshError } from '../../cmtp/errors.ts'
import type { JetStreamBus } from './calls.ts'

export type WantedStream = Partial<StreamConfig> & Pick<StreamConfig, 'name'>

/** How long a broker that just started may take until JetStream answers, in ms. */
const READY_MS = 10_000
const RETRY_MS = 50

/** A manager that makes no call of its own: whether JetStream is there shows at the first real call. */
export function managerOf(bus: JetStreamBus): Promise<JetStreamManager> {
  return jetstreamManager(bus.connection, { checkAPI: false, timeout: 2_000 })
}

/**
 * Resolves with the stream's state. While JetStream does not answer it tries again for 10 s, then rejects with
 * `CMESH_BUS_STREAM`, as it does at once when the broker refuses the configuration, or when `signal` is aborted.
 */
export function ensureStream(manager: JetStreamManager, wanted: WantedStream, signal?: AbortSignal): Promise<StreamInfo> {
  return whenReady(wanted.name, () => makeOrUpdate(manager, wanted), signal)
}

/** Resolves with the stream's state, or `undefined` where there is none of that name. Waits and rejects as `ensureStream` does. */
export function findStream(manager: JetStreamManager, name: string, signal?: AbortSignal): Promise<StreamInfo | undefined> {
  return whenReady(name, () => infoOf(manager, name), signal)
}

async function whenReady<T>(name: string, ask: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  const endMs = performance.now() + READY_MS
  for (;;) {
    try {
      return await ask()
    } catch (thrown) {
      const refused = thrown instanceof JetStreamApiError && thrown.code !== 503
      if (refused || signal?.aborted === true || performance.now() > endMs) throw unusable(name, thrown)
    }
    await delay(RETRY_MS)
  }
}

async function makeOrUpdate(manager: JetStreamManager, wanted: WantedStream): Promise<StreamInfo> {
  const found = await infoOf(manager, wanted.name)
  if (found === undefined) return manager.streams.add(wanted)
  const differs = Object.entries(wanted).some(([key, value]) => !same(value, found.config[key as keyof StreamConfig]))
  return differs ? manager.streams.update(wanted.name, wanted) : found
}

async function infoOf(manager: JetStreamManager, name: string): Promise<StreamInfo | undefined> {
  try {
    return await manager.streams.info(name)
  } catch (thrown) {
    if (thrown instanceof JetStreamApiError && thrown.apiError().err_code === JetStreamApiCodes.StreamNotFound) return undefined
    throw thrown
  }
}

/** Configurations are plain data of few levels; the broker adds properties of its own, never to what was given. */
function same(wanted: unknown, found: unknown): boolean {
  if (typeof wanted !== 'object' || wanted === null) return wanted === found
  if (typeof found !== 'object' || found === null) return false
  return Object.entries(wanted).every(([key, value]) => same(value, (found as Record<string, unknown>)[key]))
}

export function unusable(stream: string, cause: unknown): CMeshError {
  const why = cause instanceof Error ? cause.message : String(cause)
  const reason = `${why}. It needs a nats-server of 2.9 or later with JetStream enabled`
  return new CMeshError('CMESH_BUS_STREAM', { stream, reason }, { cause })
}

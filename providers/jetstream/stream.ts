/**
 * Makes sure that a stream exists as its owner wants it: made when missing, brought up to date when it differs, refused
 * with a coded error when the broker cannot change what differs. It never deletes a stream or a message.
 */
import { JetStreamApiCodes, JetStreamApiError, jetstreamManager } from '@nats-io/jetstream'
import type { JetStreamManager, StreamConfig, StreamInfo } from '@nats-io/jetstream'
import { CMeshError } from '../../cmtp/errors.ts'
import { Patience, type PatienceOptions } from '../bus/patience.ts'
import type { JetStreamBus } from './calls.ts'
import { isWithoutRoom, NO_LEADER, passes, refused } from './refusal.ts'

export type WantedStream = Partial<StreamConfig> & Pick<StreamConfig, 'name'>

/** A manager that makes no call of its own: whether JetStream is there shows at the first real call. */
export function managerOf(bus: JetStreamBus): Promise<JetStreamManager> {
  return jetstreamManager(bus.connection, { checkAPI: false, timeout: 2_000 })
}

/** As `patience` is, to wait for JetStream to be ready. */
export function patient(options: Omit<PatienceOptions, 'passes'> = {}): Patience {
  return new Patience({ ...options, passes })
}

/**
 * Resolves with the stream's state. While JetStream has no leader, or does not answer, it tries again for as long as `patience` has, then
 * rejects with `CMESH_BUS_STREAM`, as it does at once when the broker refuses the configuration.
 */
export function ensureStream(manager: JetStreamManager, wanted: WantedStream, patience = patient()): Promise<StreamInfo> {
  return usable(wanted.name, patience.with(`the stream ${wanted.name}`, () => makeOrUpdate(manager, wanted)))
}

/** Resolves with the stream's state, or `undefined` where there is none of that name. Waits and rejects as `ensureStream` does. */
export function findStream(manager: JetStreamManager, name: string, patience = patient()): Promise<StreamInfo | undefined> {
  return usable(name, patience.with(`the stream ${name}`, () => infoOf(manager, name)))
}

async function usable<T>(name: string, asked: Promise<T>): Promise<T> {
  try {
    return await asked
  } catch (thrown) {
    throw unusable(name, thrown)
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
    const info = await manager.streams.info(name)
    // A server that names no leader speaks for itself alone, and may have an old end of the stream.
    if (info.cluster !== undefined && (info.cluster.leader ?? '') === '') throw refused(name, NO_LEADER)
    return info
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

/** What to do about it where the server has less room than the stream may come to take, and else. */
const ROOM = 'Its server has less room than the stream may come to take: free space on that disk, or raise max_file_store there, and start the server again'
const SERVER = 'It needs a nats-server of 2.9 or later with JetStream enabled'

export function unusable(stream: string, cause: unknown): CMeshError {
  const why = cause instanceof Error ? cause.message : String(cause)
  const reason = `${why}. ${isWithoutRoom(cause) ? ROOM : SERVER}`
  return new CMeshError('CMESH_BUS_STREAM', { stream, reason }, { cause })
}

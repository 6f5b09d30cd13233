/**
 * The miner of this node: its sources from the settings, and its way through the front door. Frames of the stream come with
 * their own token; lines of a log file are asked under a session of the node that may only read.
 */
import { CMeshError } from '../cmtp/errors.ts'
import { RequestFrame } from '../cmtp/frame.ts'
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { decodeToken } from '../cmtp/identity/token.ts'
import { formatPermission, NEWCOMER_READ_SET } from '../cmtp/permission.ts'
import type { Log } from '../services/log.ts'
import { MinerService } from '../services/miner/service.ts'
import type { Mesh } from './mesh.ts'
import { OwnSession } from './own-session.ts'
import type { Config } from './settings.ts'

export interface MiningParts {
  readonly config: Config
  readonly log: Log
  readonly mesh: Mesh
  readonly identity: KeyPair
}

export interface MinedCount {
  readonly source: string
  readonly outcome: 'done' | 'retried' | 'abandoned' | 'garbage'
  readonly value: number
}

export class Mining {
  readonly #miner: MinerService

  constructor({ config, log, mesh, identity }: MiningParts) {
    const readOnly = NEWCOMER_READ_SET.filter(({ actions }) => actions === 1).map(formatPermission)
    const session = new OwnSession({ iam: mesh.ownIam, identity, mesh: mesh.node, want: readOnly, now: Date.now, keys: mesh.ring })
    const sources = [
      ...(config['miner.stream'] ? [mesh.provide('miner', 'stream')] : []),
      ...(config['miner.logFile'] === undefined ? [] : [mesh.provide('miner', 'logfile')]),
    ]
    this.#miner = new MinerService({
      sources,
      route: frame => mesh.frontDoor.route(frame, sessionOf(frame)),
      frameFor: async fqmn => (await session.frame(fqmn)).frame,
      publish: (channel, data, options) => mesh.events.publish(channel, data, options),
      onFailure: error => { log.error({ err: error, code: error.code }, 'the miner failed') },
    })
  }

  start(): Promise<void> {
    return this.#miner.start()
  }

  /** Drains, then stops; entries not done by then come again after the next start. */
  async stop(): Promise<void> {
    await this.#miner.drain()
    await this.#miner.stop()
  }

  counts(): readonly MinedCount[] {
    return Object.entries(this.#miner.stats().sources).flatMap(([source, stats]) =>
      (['done', 'retried', 'abandoned', 'garbage'] as const).map(outcome => ({ source, outcome, value: stats[outcome] })))
  }
}

/** The session that a frame's token names; the guard checks that it is the token's own. Empty when there is none to be read. */
function sessionOf(frame: Uint8Array): string {
  try {
    return decodeToken(RequestFrame.decode(frame).token.toString('latin1')).sid
  } catch (error) {
    if (error instanceof CMeshError) return ''
    throw error
  }
}


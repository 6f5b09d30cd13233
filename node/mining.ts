/**
 * The miner of this node: its sources from the settings, and its way through the front door. Frames of the stream come with
 * their own token and are asked under the session that left them there, so that a stolen token is worth nothing here either;
 * lines of a log file are asked under a session of the node that may only read.
 */
import type { KeyPair } from '../cmtp/identity/keys.ts'
import { formatPermission, NEWCOMER_READ_SET } from '../cmtp/permission.ts'
import type { Log } from '../services/log.ts'
import { MineIntake } from '../services/miner/intake.ts'
import { MinerService } from '../services/miner/service.ts'
import type { Buses } from './bus.ts'
import type { Mesh } from './mesh.ts'
import { OwnSession } from './own-session.ts'
import type { Config } from './settings.ts'

export interface MiningParts {
  readonly config: Config
  readonly buses: Pick<Buses, 'mesh' | 'core' | 'sessions'>
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
  readonly #intake: MineIntake | undefined

  constructor({ config, buses, log, mesh, identity }: MiningParts) {
    const readOnly = NEWCOMER_READ_SET.filter(({ actions }) => actions === 1).map(formatPermission)
    const session = new OwnSession({ iam: mesh.ownIam, identity, mesh: mesh.node, want: readOnly, now: Date.now, keys: mesh.ring })
    const sources = [
      ...(config['miner.stream'] ? [mesh.provide('miner', 'stream')] : []),
      ...(config['miner.logFile'] === undefined ? [] : [mesh.provide('miner', 'logfile')]),
    ]
    this.#miner = new MinerService({
      sources,
      route: (frame, sid) => mesh.frontDoor.route(frame, sid),
      frameFor: fqmn => session.frame(fqmn),
      publish: (channel, data, options) => mesh.events.publish(channel, data, options),
      onFailure: error => { log.error({ err: error, code: error.code }, 'the miner failed') },
    })
    // In one account the stream hears what sessions leave for it, and would hear this node's copy too.
    this.#intake = config['miner.stream'] && buses.sessions !== undefined ? new MineIntake({ mesh: buses.mesh, core: buses.core, log }) : undefined
  }

  /** Requests to be mined that were dropped, since their sender wanted the receipt elsewhere. */
  get dropped(): number {
    return this.#intake?.dropped ?? 0
  }

  async start(): Promise<void> {
    await this.#miner.start()
    await this.#intake?.start()
  }

  /** Drains, then stops; entries not done by then come again after the next start. */
  async stop(): Promise<void> {
    await this.#intake?.drain()
    await this.#miner.drain()
    await this.#miner.stop()
  }

  counts(): readonly MinedCount[] {
    return Object.entries(this.#miner.stats().sources).flatMap(([source, stats]) =>
      (['done', 'retried', 'abandoned', 'garbage'] as const).map(outcome => ({ source, outcome, value: stats[outcome] })))
  }
}


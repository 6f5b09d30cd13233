/**
 * Takes a mesh of one node from mock consensus to a stream, with its data: the log stays where and as it is, and the stream that is made goes
 * on behind it in an epoch that was never used. The node is stopped meanwhile. What was interrupted is done again from the beginning.
 */
import { existsSync } from 'node:fs'
import path from 'node:path'
import { CMeshError } from '../../cmtp/errors.ts'
import { OrderMigration, type MigrationPlan } from '../../providers/registry.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { ClaimCheck } from '../../services/state/last-claim.ts'
import type { StateHead } from '../../services/state/provider.ts'
import { closeBuses, openBuses } from '../bus.ts'
import { resolveConfig } from '../config.ts'
import { DataLock } from '../data-lock.ts'
import { nodeCertificate, nodeIdentity } from '../identity.ts'
import { readClaim } from '../last-claim.ts'
import type { LogFacts } from './log-audit.ts'
import { audit, hasLog, noLog, withLog, type OnProgress } from './source.ts'

export interface MigrateAsk {
  readonly dir: string
  /** Settings as `--set` gives them: where the broker is, and how the stream is kept. */
  readonly settings: Readonly<Record<string, string>>
  /** Looks and says what it would do. */
  readonly dryRun: boolean
}

export interface Migrated extends LogFacts {
  readonly stream: string
  /** The epoch in which the stream goes on, behind sequence `base`. */
  readonly newEpoch: number
  readonly base: number
  /** `there`: an earlier try had done it. */
  readonly what: MigrationPlan['what']
}

/**
 * Rejects with `CMESH_BOOT_DATA_IN_USE` while a node runs there, `CMESH_STATE_OTHER_MESH`, as `audit`, `openBuses` and `OrderMigration` do, and
 * with `CMESH_STATE_BEHIND` or `_FORKED` for a log that is not what its node has claimed.
 */
export async function migrate({ dir, settings, dryRun }: MigrateAsk, env: NodeJS.ProcessEnv, onProgress: OnProgress): Promise<Migrated> {
  if (!hasLog(dir)) throw noLog(dir)
  const config = resolveConfig({ arguments: { ...settings, 'data.dir': dir }, env, file: env['CMESH_CONFIG'] })
  const lock = new DataLock(dir)
  await lock.acquire()
  try {
    const wanted = await meshOf(dir, config['mesh.certificate'])
    const buses = await openBuses(config, SILENT_LOG)
    try {
      const migration = await OrderMigration.begin(buses.core, { replicas: config['consensus.replicas'], maxBytes: config['consensus.maxBytes'] })
      const seen = new Seen(dir, migration.base)
      const facts = await withLog(dir, log => audit(log, onProgress, seen))
      seen.check(facts.seq)
      if (facts.mesh !== wanted) throw new CMeshError('CMESH_STATE_OTHER_MESH', { found: facts.mesh, wanted })
      const chain = Buffer.from(facts.chain, 'hex')
      const plan = migration.plan({ epoch: Math.max(facts.epoch, seen.epoch), seq: facts.seq, chain, chainAtBase: seen.chainAtBase })
      if (!dryRun) await migration.run(plan)
      const { what, stream, order: { epoch: newEpoch, base } } = plan
      return { ...facts, stream, newEpoch, base, what }
    } finally {
      await closeBuses(buses)
    }
  } finally {
    await lock.release()
  }
}

/** The mesh that the node of this directory is of. */
async function meshOf(dir: string, certificate: string | undefined): Promise<string> {
  const file = path.join(dir, 'node.key')
  // Looking makes no key.
  if (!existsSync(file)) throw new CMeshError('CMESH_IAM_KEY', { reason: `${file} is missing: nobody can go on as this node` })
  const { did } = await nodeIdentity(dir)
  return (await nodeCertificate(certificate, did))?.mesh ?? did
}

/** What is looked for while the log is read: what the node has claimed, and where an earlier try began a stream. */
class Seen {
  /** The last epoch in which the node has said anything. */
  readonly epoch: number
  readonly #claim: ClaimCheck
  readonly #base: number | undefined
  chainAtBase: string | undefined

  constructor(dir: string, base: number | undefined) {
    const claim = readClaim(dir)
    this.epoch = claim?.epoch ?? 0
    this.#claim = new ClaimCheck(claim)
    this.#base = base
  }

  see(head: StateHead): void {
    this.#claim.see(head)
    if (head.seq === this.#base) this.chainAtBase = Buffer.from(head.chain).toString('hex')
  }

  check(head: number): void {
    this.#claim.check(head)
  }
}

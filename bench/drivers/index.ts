/** What a client process can drive: the table of drivers by name. */
import { openBatches } from './batches.ts'
import { openGuard } from './guard.ts'
import { openGrowth, openReopen } from './growth.ts'
import { openHandshake } from './handshake.ts'
import { openHyperbee } from './hyperbee.ts'
import { openJetStream } from './jetstream.ts'
import { openMix } from './mix.ts'
import { openMoleculer } from './moleculer.ts'
import { openNames } from './names.ts'
import { openPartitions } from './partitions.ts'
import { openRaw } from './raw.ts'
import { openViews } from './views.ts'
import { openWide } from './wide.ts'
import { openWrites } from './writes.ts'

export interface Driver {
  /** One operation, numbered from 0 in each run; resolves when its outcome is checked. */
  readonly operation?: (index: number) => Promise<unknown>
  /** `count` operations without a promise for each, where operations are synchronous or grouped; `way` chooses among several. */
  readonly burst?: (count: number, way: string) => Promise<void>
  close(): Promise<void>
}

export const DRIVERS = {
  batches: openBatches, guard: openGuard, handshake: openHandshake, hyperbee: openHyperbee, jetstream: openJetStream, mix: openMix,
  moleculer: openMoleculer, raw: openRaw, growth: openGrowth, names: openNames, partitions: openPartitions, reopen: openReopen, views: openViews,
  wide: openWide, writes: openWrites,
} as const

export type DriverName = keyof typeof DRIVERS
export type DriverOptions<N extends DriverName> = Parameters<(typeof DRIVERS)[N]>[0]

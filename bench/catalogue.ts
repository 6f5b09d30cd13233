/** Every benchmark there is, in the order in which they are listed and run. */
import { boot } from './boot.ts'
import { catchUp } from './catch-up.ts'
import { cluster } from './cluster.ts'
import { contracts } from './contracts.ts'
import { growth } from './growth.ts'
import type { Bench } from './harness.ts'
import { identity } from './identity.ts'
import { latency } from './latency.ts'
import { names } from './names.ts'
import { reads } from './reads.ts'
import { routing, routingBatch, routingWide } from './routing.ts'
import { scaling } from './scaling.ts'
import { writes } from './writes.ts'

export const BENCHES: readonly Bench[] = [
  routing, routingWide, routingBatch, latency, writes, cluster, reads, boot, catchUp, contracts, identity, growth, names, scaling,
]

/** Drives the mix through the SDK: many requests a message. A request that fails in its batch fails the run. */
import type { BatchEntry } from '../../client/index.ts'
import { inParallel } from '../harness.ts'
import { mixed } from '../mix.ts'
import type { Driver } from './index.ts'
import { meshClient, type MeshAccess } from './mesh.ts'

export interface BatchesOptions extends MeshAccess {
  /** Requests in one message. */
  readonly size: number
  /** Messages in flight. */
  readonly inFlight: number
}

export async function openBatches({ size, inFlight, ...access }: BatchesOptions): Promise<Driver> {
  const client = await meshClient(access)
  return {
    burst: count => inParallel(Math.ceil(count / size), inFlight, async (batch) => {
      // Built anew each time, as a program would that gathers what it has to ask.
      const entries = Array.from({ length: Math.min(size, count - batch * size) }, (_, i): BatchEntry => ({ fqmn: mixed(i) }))
      for (const reply of await client.batch(entries)) {
        const error = reply.error()
        if (error !== undefined) throw error
      }
    }),
    close: () => client.close(),
  }
}

/**
 * Drives writes of several logs side by side: each a stream of its own at one broker, a State service that executes what it orders, a log on
 * disk. So many as this process is given share its one thread; nothing goes from one to another.
 */
import path from 'node:path'
import { connectNats } from '../../providers/bus/nats.ts'
import { JetStreamConsensus } from '../../providers/consensus/jetstream.ts'
import { SILENT_LOG } from '../../services/log.ts'
import { inParallel } from '../harness.ts'
import type { RawLogin } from '../raw/requester.ts'
import { keyOf, valueOf } from '../store-contract.ts'
import type { Driver } from './index.ts'
import { CONTRACT, ownState, type OwnStateOptions } from './own-state.ts'

export interface PartitionsOptions extends Omit<OwnStateOptions, 'consensus'> {
  readonly login: RawLogin
  /** Names the streams: another for each process. */
  readonly name: string
  readonly partitions: number
  /** Keys in use of each. */
  readonly keys: number
  /** Writes under way in all of them. */
  readonly inFlight: number
}

export async function openPartitions({ login: { url, ...login }, dir, name, partitions, keys, inFlight, ...options }: PartitionsOptions): Promise<Driver> {
  const bus = await connectNats({ servers: url, ...login })
  const states = await Promise.all(Array.from({ length: partitions }, async (_, i) => {
    const stream = `${name}_${i}`
    const fail = (error: Error): never => { throw error }
    const consensus = new JetStreamConsensus({ bus, nodeId: stream, log: SILENT_LOG, onFailed: fail }, { stream })
    const { state, start } = ownState({ ...options, dir: path.join(dir, String(i)), consensus })
    await start()
    return state
  }))
  let next = 0
  return {
    burst: async count => {
      await Promise.all(states.map(state => inParallel(count / partitions, inFlight / partitions, () => {
        const index = next++
        return state.orderOwn(`0xSW:${CONTRACT}:put`, [keyOf(index % keys), valueOf(index)])
      })))
    },
    close: async () => {
      await Promise.all(states.map(state => state.stop()))
      await bus.close()
    },
  }
}

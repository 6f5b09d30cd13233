/** The machine that a figure was taken on, and what it was busy with. Figures of two machines are not comparable; ratios nearly are. */
import { availableParallelism, cpus, loadavg, totalmem } from 'node:os'
import { locateNatsServer } from '../node/broker/locate.ts'

export interface Machine {
  readonly cores: number
  readonly model: string
  readonly memoryMb: number
  readonly platform: string
  readonly node: string
  readonly natsServer: string
  /** Over 1, 5 and 15 minutes, when the benchmark began: past the number of cores, figures suffer and ratios waver. */
  readonly load: readonly number[]
}

/** Rejects with `CMESH_BROKER_NOT_FOUND` where there is no nats-server to measure with. */
export async function describeMachine(): Promise<Machine> {
  const { version } = await locateNatsServer()
  return {
    cores: availableParallelism(),
    model: cpus()[0]?.model.trim() ?? 'unknown',
    memoryMb: Math.round(totalmem() / 1_048_576),
    platform: `${process.platform}-${process.arch}`,
    node: process.versions.node,
    natsServer: version.join('.'),
    load: loadavg().map(load => Number(load.toFixed(2))),
  }
}

/**
 * Entry point of a client process: opens the driver that its first message names, then runs as much of it as it is asked to. A
 * process drives one thing only, so that no other client's code shapes its compiled code or fills its memory.
 */
import { inParallel, latencies, quantile } from './harness.ts'
import { DRIVERS, type Driver, type DriverName, type DriverOptions } from './drivers/index.ts'

/** The first message. */
export interface OpenDriver<N extends DriverName = DriverName> {
  readonly driver: N
  readonly options: DriverOptions<N>
}

export interface RunDriver {
  readonly count: number
  /** Operations at a time; 0 runs them one after another and times each. */
  readonly inFlight: number
  /** Which of several things to do, where a driver can do several. */
  readonly way?: string
}

export interface DriverRun {
  readonly perSecond: number
  /** Times of single operations in µs; NaN unless each was timed. */
  readonly p50Us: number
  readonly p99Us: number
}

let driver: Driver | undefined

process.once('message', (message: OpenDriver) => { void open(message) })
process.once('disconnect', () => { void end() })
process.once('SIGTERM', () => { void end() })
// Ctrl-C reaches the whole group; whoever started this process ends it in its own order.
process.on('SIGINT', () => undefined)

async function open({ driver: name, options }: OpenDriver): Promise<void> {
  try {
    driver = await (DRIVERS[name] as (options: unknown) => Promise<Driver>)(options)
    process.on('message', (message: RunDriver) => { void run(message) })
    tell({ ready: true })
  } catch (error) {
    tell({ failed: textOf(error) })
    await end()
  }
}

async function run(asked: RunDriver): Promise<void> {
  try {
    tell(await measure(driver as Driver, asked))
  } catch (error) {
    tell({ failed: textOf(error) })
  }
}

async function measure({ operation, burst }: Driver, { count, inFlight, way = '' }: RunDriver): Promise<DriverRun> {
  const start = performance.now()
  let times: Float64Array = new Float64Array(0)
  if (inFlight === 0) {
    let index = 0
    times = await latencies(count, async () => operation?.(index++))
  } else if (operation !== undefined) {
    await inParallel(count, inFlight, operation)
  } else {
    await burst?.(count, way)
  }
  const seconds = (performance.now() - start) / 1_000
  return { perSecond: count / seconds, p50Us: quantile(times, 0.5), p99Us: quantile(times, 0.99) }
}

async function end(): Promise<void> {
  await driver?.close()
  process.exit()
}

function tell(message: object): void {
  if (process.connected) process.send?.(message)
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.stack ?? error.message : String(error)
}

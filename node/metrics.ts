/** The node's counters as Prometheus text (exposition format 0.0.4). Reads what the parts count; counts nothing itself. */
import { monitorEventLoopDelay, type IntervalHistogram } from 'node:perf_hooks'

export interface Sample {
  readonly labels?: Readonly<Record<string, string>>
  readonly value: number
}

export interface Metric {
  /** `cmesh_…`, in base units, counters ending in `_total`. */
  readonly name: string
  readonly type: 'counter' | 'gauge'
  readonly help: string
  readonly samples: () => Iterable<Sample>
}

export class Metrics {
  readonly #metrics: Metric[] = []
  readonly #delay: IntervalHistogram = monitorEventLoopDelay({ resolution: 20 })

  constructor() {
    this.#delay.enable()
    this.add({ name: 'process_resident_memory_bytes', type: 'gauge', help: 'Resident memory.', samples: () => [{ value: process.memoryUsage.rss() }] })
    this.add({ name: 'process_cpu_seconds_total', type: 'counter', help: 'CPU time used.', samples: () => [{ value: cpuSeconds() }] })
    this.add({ name: 'nodejs_eventloop_delay_p99_seconds', type: 'gauge', help: 'Delay of the event loop since the last scrape, 99th percentile.', samples: () => [{ value: this.#p99() }] })
  }

  add(metric: Metric): void {
    this.#metrics.push(metric)
  }

  text(): string {
    let text = ''
    for (const { name, type, help, samples } of this.#metrics) {
      text += `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`
      for (const { labels, value } of samples()) text += `${name}${labels === undefined ? '' : labelText(labels)} ${numberText(value)}\n`
    }
    return text
  }

  /** Stops measuring. Idempotent. */
  close(): void {
    this.#delay.disable()
  }

  #p99(): number {
    const seconds = this.#delay.percentile(99) / 1e9
    this.#delay.reset()
    return Number.isFinite(seconds) ? seconds : 0
  }
}

function numberText(value: number): string {
  return Math.abs(value) === Infinity ? (value > 0 ? '+Inf' : '-Inf') : String(value)
}

function labelText(labels: Readonly<Record<string, string>>): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`)
  return `{${pairs.join(',')}}`
}

function cpuSeconds(): number {
  const { user, system } = process.cpuUsage()
  return (user + system) / 1e6
}
